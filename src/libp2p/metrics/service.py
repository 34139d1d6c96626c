"""What a host does, as metrics for Prometheus, on a port of its own or in a registry of the program.

    async with Host(...) as host, Metrics(host, listen="127.0.0.1:9464"): ...

    figures of the host and of its services      read when Prometheus asks: see `figures.py`
    what happens: connections, failures, streams counted by events, from when this began
    how long it takes: dials, handshakes, ...    by spans: see `spans.py`
    how late the event loop is                   a timer

Rules:
- All is read in the host's event loop, whoever asks: a scrape that finds the loop busy waits, and fails after a while.
- Every label has a bounded number of values; addresses and peers are no labels.
- Nothing of this is imported, nor counted, where it is not used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..connection import Connection, Service
from ..errors import InvalidInput
from ..figures import Figure, FigureKind, Names
from ..host import Host
from ..spans import End, watch
from ..swarm.events import ConnectionLost, ConnectionOpened, DialFailed, InboundFailed, StreamStarted

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PREFIX = "libp2p_"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Settings of the metrics; times in seconds."""

    lag_interval: float = 0.25
    """Between two looks at how late the event loop is."""
    collect_timeout: float = 5.0
    """A scrape waits so long for the event loop."""
    max_errors: int = 50
    """Kinds of errors that are told apart."""
    max_protocols: int = 100
    """Protocol ids that are told apart, the first ones that were spoken."""


class Metrics(Service):
    """Watches `host`. `registry` is where the metrics are (None: one of its own); with `listen`, `HOST:PORT`, they are
    served over HTTP. Raises `ImportError` without the extra, `InvalidInput` for a malformed `listen`, and `OSError`
    where that can't be listened on.
    """

    def __init__(
        self,
        host: Host,
        *,
        registry: CollectorRegistry | None = None,
        listen: str | None = None,
        config: MetricsConfig | None = None,
    ) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram  # noqa: PLC0415 - an extra

        super().__init__(host)
        self._watched = host
        self.config = config or MetricsConfig()
        self.registry = registry if registry is not None else CollectorRegistry()
        self.address: str | None = None
        """Where the HTTP service listens, `HOST:PORT`; None while it does not."""
        self._listen = None if listen is None else _endpoint(listen)
        self._server: WSGIServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._errors = Names(self.config.max_errors)
        self._protocols = Names(self.config.max_protocols)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=None)

        self._opened = counter(
            "connections_opened", "Connections that were made.", "direction", "transport", "security", "muxer"
        )
        self._lost = counter("connections_closed", "Connections that have ended.", "direction", "by")
        self._dials_failed = counter("dials_failed", "Peers that could not be reached.", "error")
        self._inbound_failed = counter("inbound_failed", "Inbound connections that came to nothing.", "error")
        self._streams = counter("streams_opened", "Streams that have got their protocol.", "protocol", "direction")
        self._spans = Histogram(
            PREFIX + "span_seconds",
            "How long dials, handshakes, opening streams and requests take.",
            ("what", "result"),
            buckets=_SECONDS,
            registry=None,
        )
        self._lag = Histogram(PREFIX + "loop_lag_seconds", "How late the loop is.", buckets=_LAG, registry=None)

    async def start(self) -> None:
        """Count, and listen."""
        from prometheus_client import start_http_server  # noqa: PLC0415

        self._loop = asyncio.get_running_loop()
        self.follow(ConnectionOpened, self._connection_opened)
        self.follow(ConnectionLost, self._connection_lost)
        self.follow(DialFailed, lambda event: self._dials_failed.labels(self._kind(event.error)).inc())
        self.follow(InboundFailed, lambda event: self._inbound_failed.labels(self._kind(event.error)).inc())
        self.follow(StreamStarted, self._stream_started)
        self._undo.append(watch(self))
        self.registry.register(self)
        self._undo.append(lambda: self.registry.unregister(self))
        self.spawn(self._watch_loop(), name="watching the loop")
        if self._listen is not None:
            address, port = self._listen
            self._server, _ = start_http_server(port, address, self.registry)
            name = f"[{address}]" if ":" in address else address
            self.address = f"{name}:{self._server.server_port}"

    def begin(self, name: str, attributes: Mapping[str, object]) -> End | None:
        """See `spans.Watcher`."""
        if attributes.get("host") != self.host.id:
            return None
        began = time.perf_counter()

        def end(error: BaseException | None) -> None:
            if not isinstance(error, asyncio.CancelledError):
                result = "ok" if error is None else self._kind(error)
                self._spans.labels(name, result).observe(time.perf_counter() - began)

        return end

    def describe(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`: nothing is read when this is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All metrics, read in the host's event loop. Raises `TimeoutError` where that is busy for too long."""
        assert self._loop is not None
        with suppress(RuntimeError):  # none runs in this thread
            if asyncio.get_running_loop() is self._loop:
                return self._collect()
        return asyncio.run_coroutine_threadsafe(self._collected(), self._loop).result(self.config.collect_timeout)

    async def _collected(self) -> list[Metric]:
        return self._collect()

    def _collect(self) -> list[Metric]:
        counted = (
            self._opened,
            self._lost,
            self._dials_failed,
            self._inbound_failed,
            self._streams,
            self._spans,
            self._lag,
        )
        metrics = [metric for one in counted for metric in one.collect()]
        return [*metrics, *_families(self._watched.figures(), self._protocols)]

    def _connection_opened(self, event: ConnectionOpened) -> None:
        connection = event.connection
        transport = _transport_of(connection)
        self._opened.labels(connection.direction.value, transport, connection.security, connection.muxer).inc()

    def _connection_lost(self, event: ConnectionLost) -> None:
        self._lost.labels(event.connection.direction.value, event.reason.by).inc()

    def _stream_started(self, event: StreamStarted) -> None:
        self._streams.labels(self._protocols.of(event.stream.protocol), event.stream.direction.value).inc()

    def _kind(self, error: BaseException) -> str:
        return self._errors.of(type(error).__name__)

    async def _watch_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.config.lag_interval
            await asyncio.sleep(self.config.lag_interval)
            self._lag.observe(max(0.0, loop.time() - due))

    async def stop(self) -> None:
        """Serve nobody any more."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()


def _families(figures: Iterable[Figure], protocols: Names) -> list[Metric]:
    """Figures of one name are one metric; those of the protocols beyond the bound are added up."""
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

    first: dict[str, Figure] = {}
    sums: dict[str, dict[tuple[str, ...], float]] = {}
    for figure in figures:
        named = first.setdefault(figure.name, figure)
        values = tuple(
            protocols.of(figure.labels[key]) if key == "protocol" else figure.labels[key] for key in named.labels
        )
        series = sums.setdefault(figure.name, {})
        series[values] = series.get(values, 0.0) + figure.value
    families: list[Metric] = []
    for name, figure in first.items():
        kind = CounterMetricFamily if figure.kind is FigureKind.COUNTER else GaugeMetricFamily
        family = kind(PREFIX + name, figure.help, labels=list(figure.labels))
        for values, value in sums[name].items():
            family.add_metric(values, value)
        families.append(family)
    return families


def _transport_of(connection: Connection) -> str:
    """What the address says of the transport, its most telling word."""
    names = {component.name for component in connection.remote_addr}
    known = ("p2p-circuit", "webtransport", "quic-v1", "wss", "ws", "tcp", "unix", "memory")
    return next((name for name in known if name in names), "other")


def _endpoint(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"metrics are served at HOST:PORT, such as 127.0.0.1:9464: got {text!r}")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - asked for

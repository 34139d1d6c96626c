"""Spans: who is told, and what is told to OpenTelemetry."""

import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.host.ping import PROTOCOL_ID
from libp2p.spans import span, watch
from libp2p.tracing import trace_spans


def test_nobody_watches() -> None:
    assert span("a") is span("b", peer=object())


def test_watchers_are_told_of_beginning_and_end() -> None:
    told: list[object] = []

    class Watching:
        def begin(self, name: str, attributes: object) -> object:
            told.append((name, attributes))
            return told.append

    remove = watch(Watching())  # type: ignore[arg-type]
    with span("a", peer=1):
        pass
    error = ValueError()
    with pytest.raises(ValueError), span("b"):  # noqa: PT011
        raise error
    remove()
    remove()
    with span("c"):
        pass
    assert told == [("a", {"peer": 1}), None, ("b", {}), error]


def test_a_watcher_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def __init__(self, at_once: bool) -> None:
            self.at_once = at_once

        def begin(self, name: str, attributes: object) -> object:
            if self.at_once:
                raise ValueError(name)
            return lambda error: 1 / 0

    removes = [watch(Failing(at_once)) for at_once in (True, False)]  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "libp2p"), span("a"):
        pass
    for remove in removes:
        remove()
    assert [record.getMessage() for record in caplog.records] == [
        "a watcher failed at the beginning of a",
        "a watcher failed at the end of a",
    ]


async def test_open_telemetry() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    remove = trace_spans(provider)
    try:
        async with Host(listen_addrs=["/memory/0"]) as server, Host() as host:
            await host.new_stream(server.addrs[0], PROTOCOL_ID)
            with pytest.raises(DialError):
                await host.connect("/memory/99")
    finally:
        remove()
    spans = exporter.get_finished_spans()
    assert {one.name for one in spans} == {"libp2p.dial", "libp2p.handshake", "libp2p.new_stream"}
    opened = next(one for one in spans if one.name == "libp2p.new_stream")
    assert opened.attributes is not None
    assert opened.attributes["libp2p.host"] == str(host.id)
    assert [one.name for one in spans if one.parent and one.parent.span_id == opened.context.span_id] == ["libp2p.dial"]
    assert [(one.name, one.status.is_ok) for one in spans if one.events] == [("libp2p.dial", False)]

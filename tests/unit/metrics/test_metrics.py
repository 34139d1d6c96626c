"""Metrics: what is counted, where it can be read, and that it costs nothing where nobody asks."""

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from libp2p.connection import Stream
from libp2p.errors import DialError, InvalidInput
from libp2p.figures import Figure, FigureKind, Names
from libp2p.host import Host
from libp2p.metrics import Metrics, MetricsConfig

ECHO = "/echo/1.0.0"


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)


@asynccontextmanager
async def watched(**arguments: object) -> AsyncIterator[tuple[Host, Host, Metrics]]:
    """A host that is watched, and a friend that it is connected to by now."""
    async with Host(listen_addrs=["/memory/0"]) as host, Host(listen_addrs=["/memory/0"]) as friend:
        host.handle(ECHO, echo)
        async with Metrics(host, **arguments) as metrics:  # type: ignore[arg-type]
            await friend.connect(host.addrs[0])
            yield host, friend, metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"libp2p_{name}", labels)


async def test_connections_and_streams() -> None:
    async with watched() as (host, friend, metrics):
        inbound = {"direction": "inbound", "transport": "memory", "security": "/noise", "muxer": "/yamux/1.0.0"}
        assert value(metrics, "connections_opened_total", **inbound) == 1
        assert value(metrics, "connections", direction="inbound", limited="no") == 1
        assert value(metrics, "peers") == 1
        stream = await friend.new_stream(host.addrs[0], ECHO)
        await stream.write(b"12345")
        assert await stream.readexactly(5) == b"12345"
        assert value(metrics, "streams_opened_total", protocol=ECHO, direction="inbound") == 1
        assert value(metrics, "streams", protocol=ECHO, direction="inbound") == 1
        await stream.close()
        await asyncio.sleep(1)
        assert value(metrics, "streams", protocol=ECHO, direction="inbound") is None
        read = value(metrics, "bytes_read_total", protocol=ECHO)
        assert read is not None
        assert read >= 5
        await friend.disconnect(host.id)
        await asyncio.sleep(1)
        assert value(metrics, "connections_closed_total", direction="inbound", by="remote") == 1
        assert value(metrics, "peers") == 0


async def test_what_fails_and_how_long_things_take() -> None:
    async with watched() as (host, friend, metrics):
        with pytest.raises(DialError):
            await host.connect("/memory/99")
        assert value(metrics, "dials_failed_total", error="DialError") == 1
        assert value(metrics, "span_seconds_count", what="dial", result="DialError") == 1
        assert value(metrics, "span_seconds_count", what="handshake", result="ok") == 1
        async with Metrics(friend) as of_friend:  # each has its own
            await asyncio.sleep(1)  # for identify
            before = value(metrics, "span_seconds_count", what="new_stream", result="ok") or 0
            await host.new_stream(friend.addrs[0], ECHO)
            assert value(metrics, "span_seconds_count", what="new_stream", result="ok") == before + 1
            assert value(of_friend, "span_seconds_count", what="new_stream", result="ok") is None


async def test_limits_and_refusals() -> None:
    async with watched() as (host, _, metrics):
        for limit in ("max_connections", "max_handlers", "memory"):
            assert value(metrics, "limit", limit=limit)
            assert value(metrics, "limit_used", limit=limit) is not None
        host.limits.refusals.counts["max_handlers"] += 3
        assert value(metrics, "refusals_total", kind="max_handlers") == 3


async def test_protocols_that_peers_make_up_are_one() -> None:
    async with watched(config=MetricsConfig(max_protocols=3)) as (host, friend, metrics):
        host.handle(match=lambda protocol: protocol.startswith("/made-up/"))(echo)
        for number in range(20):
            stream = await friend.new_stream(host.addrs[0], f"/made-up/{number}")
            await stream.write(b"x")
            await stream.readexactly(1)
        protocols = {
            sample.labels["protocol"]
            for metric in metrics.registry.collect()
            for sample in metric.samples
            if "protocol" in sample.labels
        }
        assert len(protocols) == 4
        assert value(metrics, "streams", protocol="other", direction="inbound") == 18


def test_names_stay_what_they_are() -> None:
    names = Names(2)
    assert [names.of(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]


async def test_services_have_figures_of_their_own() -> None:
    class Part:
        def figures(self) -> list[Figure]:
            return [Figure("things", "Things.", 7, {"kind": "x"}, FigureKind.COUNTER)]

    async with watched() as (host, _, metrics):
        remove = host.measure(Part())
        assert value(metrics, "things_total", kind="x") == 7
        remove()
        remove()
        assert value(metrics, "things_total", kind="x") is None


async def test_a_registry_of_the_program_is_as_it_was_afterwards() -> None:
    registry = CollectorRegistry()
    async with watched(registry=registry):
        assert [metric.name for metric in registry.collect()]
    assert list(registry.collect()) == []


@pytest.mark.parametrize("listen", ["", "9464", "localhost:", "localhost:x", "localhost:65536"])
async def test_where_it_can_not_be_served(listen: str) -> None:
    async with Host() as host:
        with pytest.raises(InvalidInput, match="HOST:PORT"):
            Metrics(host, listen=listen)


@pytest.mark.real
async def test_it_is_served_over_http() -> None:
    async with watched(listen="127.0.0.1:0") as (_, _, metrics):
        url = f"http://{metrics.address}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        assert 'libp2p_connections{direction="inbound",limited="no"} 1.0' in text
        assert "libp2p_loop_lag_seconds_bucket" in text
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(urllib.request.urlopen, url)


@pytest.mark.real
def test_nothing_of_it_is_loaded_without_being_asked_for() -> None:
    code = "import libp2p, sys; print([n for n in sys.modules if 'prometheus' in n or 'opentelemetry' in n])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"

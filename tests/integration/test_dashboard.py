"""The Grafana dashboard of docs/: a real Prometheus scrapes us, and each of its queries finds something."""

import asyncio
import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from interop.cell import free_port

from libp2p.cid import Cid
from libp2p.connection import Stream
from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.metrics import Metrics
from libp2p.protocols.kad import KadConfig, KadDht, Mode
from libp2p.protocols.pubsub import GossipSub
from libp2p.protocols.relay import RelayClient, RelayServer

DASHBOARD = Path(__file__).parents[2] / "docs" / "dashboard.json"
PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(PROMETHEUS is None, reason="there is no `prometheus` (Debian's package) on this machine"),
]


def queries() -> list[tuple[str, str]]:
    """Title and query of each panel, with Grafana's variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        (panel["title"], target["expr"].replace("$instance", ".+").replace("$__rate_interval", "30s"))
        for panel in panels
        for target in panel["targets"]
    ]


@asynccontextmanager
async def a_busy_host() -> AsyncIterator[Metrics]:
    """A host that does a little of everything, all the time."""
    listen = ["/ip4/127.0.0.1/tcp/0"]
    async with AsyncExitStack() as stack:
        host, friend, third, fourth = [await stack.enter_async_context(Host(listen_addrs=listen)) for _ in range(4)]
        metrics = await stack.enter_async_context(Metrics(host, listen="127.0.0.1:0"))
        pubsub, *others = [await stack.enter_async_context(GossipSub(one)) for one in (host, friend, third)]
        kad = KadConfig(protocol="/test/kad/1.0.0", mode=Mode.SERVER)
        dhts = [await stack.enter_async_context(KadDht(one, kad)) for one in (host, friend)]
        await stack.enter_async_context(RelayServer(host))
        client, _ = [await stack.enter_async_context(RelayClient(one)) for one in (friend, third)]

        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)

        for one in (host, friend):
            one.handle("/echo/1.0.0", echo)
        await friend.connect(host.addrs[0])
        await client.listen(host.addrs[0])
        topics = [await one.subscribe("news") for one in (pubsub, *others)]

        circuit = f"{host.addrs[0]}/p2p-circuit/p2p/{friend.id}"
        relayed = await third.new_stream(circuit, "/echo/1.0.0", allow_limited=True)

        await third.connect(friend.listen_addrs[0].with_peer(str(friend.id)))  # three in a ring: messages come twice
        for topic in topics:
            await topic.wait_for_peers(2)

        async def be_busy() -> None:
            while True:
                await others[0].publish("news", b"x")
                await pubsub.publish("news", b"y")
                await dhts[1].closest_peers(b"key")
                await dhts[1].provide(Cid.of(b"x"))
                for stream in (relayed, await third.new_stream(host.addrs[0], "/echo/1.0.0")):
                    await stream.write(b"x")
                    await stream.readexactly(1)
                await host.new_stream(friend.id, "/echo/1.0.0")
                await fourth.connect(host.addrs[0])
                await fourth.disconnect(host.id)
                host.limits.refusals.counts["max_handlers"] += 1
                with pytest.raises(DialError):
                    await host.connect("/ip4/127.0.0.1/tcp/1")
                reader, writer = await asyncio.open_connection("127.0.0.1", host.listen_addrs[0].get("tcp"))
                writer.close()
                await asyncio.sleep(0.3)
                del reader

        busy = asyncio.create_task(be_busy())
        try:
            yield metrics
        finally:
            busy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await busy


async def test_each_query_of_the_dashboard_finds_something(tmp_path: Path) -> None:
    assert PROMETHEUS is not None
    async with a_busy_host() as metrics:
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "libp2p", "static_configs": [{"targets": [metrics.address]}]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # which is YAML too
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            PROMETHEUS,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            missing = queries()
            async with asyncio.timeout(40):
                while missing:
                    await asyncio.sleep(1)
                    missing = [one for one in missing if not await found(port, one[1])]
        except TimeoutError:
            pytest.fail(f"no series for {missing}")
        finally:
            process.terminate()
            await process.wait()


async def found(port: int, query: str) -> list[Any]:
    """What Prometheus answers."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})

    def ask() -> list[Any]:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result: list[Any] = json.load(answer)["data"]["result"]
                return result
        except OSError:  # it has not come up yet
            return []

    return await asyncio.to_thread(ask)

"""Delegated routing over HTTP: what is said and read, filters, and the client against the service on real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web

from libp2p.cid import Cid
from libp2p.discovery.http import HttpRouter, HttpRoutingConfig
from libp2p.discovery.http.core import IPNS_RECORD, NDJSON, filtered, read_key, read_record, record_of
from libp2p.discovery.http.server import HttpServiceConfig, routing_app
from libp2p.errors import InvalidInput, InvalidRecord, RoutingError
from libp2p.host import Host
from libp2p.identity import PeerId, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.records.ipns import IpnsRecord, routing_key
from libp2p.routing import ContentRouting, PeerInfo, PeerRouting, ValueStore

KEY = PrivateKey.generate()
CID = Cid.of(b"content")
TCP, QUIC, PRIVATE = map(Multiaddr, ("/ip4/1.2.3.4/tcp/1", "/ip6/2001:4860::1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1"))


def peer(n: int) -> PeerId:
    return PeerId.from_bytes(b"\x12\x20" + n.to_bytes(32, "big"))


def test_records() -> None:
    info = PeerInfo(peer(1), (TCP, QUIC))
    record = record_of(info)
    assert record == {"Schema": "peer", "ID": str(peer(1)), "Addrs": [str(TCP), str(QUIC)]}
    assert read_record(record) == info
    assert read_record({**record, "Protocols": ["x"], "Other": {}}) == info
    assert read_record({"Schema": "peer", "ID": peer(1).to_cid()}) == PeerInfo(peer(1))
    odd = [f"{TCP}/p2p/{peer(1)}", f"{QUIC}/p2p/{peer(2)}", "nonsense", 7, "/"]
    assert read_record({**record, "Addrs": odd}) == PeerInfo(peer(1), (TCP,))
    assert read_record({**record, "Addrs": "text"}) == PeerInfo(peer(1))


@pytest.mark.parametrize(
    "record", [None, 7, [], {}, {"Schema": "other", "ID": str(peer(1))}, {"Schema": "peer", "ID": "x"}]
)
def test_what_is_no_record(record: object) -> None:
    assert read_record(record) is None


@pytest.mark.parametrize(
    ("addrs", "protocols", "passed"),
    [
        (None, None, (TCP, QUIC)),
        ("tcp", None, (TCP,)),
        ("TCP,quic-v1", None, (TCP, QUIC)),
        ("!ip6", None, (TCP,)),
        ("!ip6,quic-v1", None, None),
        ("ws", None, None),
        ("unknown", None, (TCP, QUIC)),
        (None, "transport-bitswap", None),
        (None, "transport-bitswap,unknown", (TCP, QUIC)),
    ],
)
def test_filters(addrs: str | None, protocols: str | None, passed: tuple[Multiaddr, ...] | None) -> None:
    expected = None if passed is None else PeerInfo(peer(1), passed)
    assert filtered(PeerInfo(peer(1), (TCP, QUIC)), addrs, protocols) == expected


def test_filters_of_a_peer_without_addresses() -> None:
    assert filtered(PeerInfo(peer(1)), "tcp", None) is None
    assert filtered(PeerInfo(peer(1)), "tcp,unknown", None) == PeerInfo(peer(1))


def test_keys() -> None:
    assert read_key(str(peer(1))) == read_key(peer(1).to_cid()) == peer(1).to_bytes()
    assert read_key(str(CID)) == CID.multihash
    with pytest.raises(InvalidInput):
        read_key("nonsense")


class Finder:
    """Knows some things."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.waiting = asyncio.Event()

    async def find_peer(self, wanted: PeerId) -> PeerInfo:
        if wanted != peer(1):
            raise RoutingError("not found")
        return PeerInfo(peer(1), (TCP, PRIVATE))

    async def find_providers(self, cid: Cid, *, limit: int = 20) -> AsyncGenerator[PeerInfo, None]:
        if cid == CID:
            for n in range(limit or 150):
                yield PeerInfo(peer(n), (TCP,))
        elif cid == Cid.of(b"slow"):
            yield PeerInfo(peer(1), (TCP,))
            await self.waiting.wait()

    async def closest_peers(self, key: bytes) -> list[PeerInfo]:
        return [PeerInfo(peer(n), (TCP,)) for n in range(20)]

    async def put_value(self, key: bytes, value: bytes) -> None:
        self.values[key] = value

    async def get_value(self, key: bytes) -> bytes:
        if key not in self.values:
            raise RoutingError("not found")
        return self.values[key]


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.real
async def test_client_and_service() -> None:
    finder = Finder()
    async with served(routing_app(finder)) as url, Host() as host, HttpRouter(url, host=host) as router:
        assert isinstance(router, PeerRouting)
        assert isinstance(router, ValueStore)
        assert not isinstance(router, ContentRouting)  # it only finds
        assert await router.find_peer(peer(1)) == PeerInfo(peer(1), (TCP,))  # no stranger leads us to private addresses
        assert host.peerstore.addrs(peer(1)) == [TCP]
        with pytest.raises(RoutingError, match="does not know"):
            await router.find_peer(peer(2))
        found = [info.peer async for info in router.find_providers(CID, limit=0)]
        assert found == [peer(n) for n in range(150)]
        assert len([info async for info in router.find_providers(CID, limit=3)]) == 3
        assert [info async for info in router.find_providers(Cid.of(b"other"))] == []

        record = IpnsRecord.make(KEY, "/ipfs/x", sequence=1, now=time.time())
        key = routing_key(KEY.peer_id)
        with pytest.raises(RoutingError, match="no IPNS record"):
            await router.get_value(key)
        await router.put_value(key, record.encoded)
        assert await router.get_value(key) == record.encoded
        with pytest.raises(InvalidRecord):
            await router.put_value(key, b"nonsense")
        with pytest.raises(InvalidRecord, match="IPNS records only"):
            await router.get_value(b"/pk/x")


@pytest.mark.real
async def test_providers_come_as_they_are_found() -> None:
    finder = Finder()
    async with served(routing_app(finder)) as url, HttpRouter(url) as router:
        providers = router.find_providers(Cid.of(b"slow"))
        async with asyncio.timeout(10):
            assert (await anext(providers)).peer == peer(1)
        await providers.aclose()


@pytest.mark.real
async def test_answers_of_the_service() -> None:
    finder = Finder()
    async with served(routing_app(finder, HttpServiceConfig(timeout=0.2))) as url, ClientSession() as session:

        async def get(path: str, **headers: str) -> tuple[int, Any, Any]:
            async with session.get(f"{url}/routing/v1{path}", headers=headers) as response:
                return response.status, response.headers, await response.read()

        status, headers, body = await get(f"/providers/{CID}")
        assert (status, headers["Content-Type"].split(";")[0]) == (200, "application/json")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "max-age=300" in headers["Cache-Control"]
        assert len(json.loads(body)["Providers"]) == 100
        status, headers, body = await get(f"/providers/{Cid.of(b'none')}")
        assert (status, json.loads(body)) == (200, {"Providers": []})
        assert "max-age=15" in headers["Cache-Control"]
        status, headers, body = await get(f"/providers/{Cid.of(b'slow')}", Accept=NDJSON)
        assert (status, headers["Content-Type"], body.count(b"\n")) == (200, NDJSON, 1)  # until time is up
        assert (await get(f"/providers/{CID}?filter-addrs=ws"))[2] == b'{"Providers": []}'
        assert len(json.loads((await get(f"/dht/closest/peers/{CID}"))[2])["Peers"]) == 20
        assert [(await get(path))[0] for path in ("/providers/x", "/peers/x", "/dht/closest/peers/x")] == [422] * 3
        name = KEY.peer_id.to_cid("base36")
        assert (await get(f"/ipns/{name}", Accept="text/html"))[0] == 406
        assert (await get(f"/ipns/{name}", Accept=IPNS_RECORD))[1]["Content-Type"].startswith("text/plain")
        async with session.put(f"{url}/routing/v1/ipns/{name}", data=b"x") as response:
            assert response.status == 406
        async with session.put(
            f"{url}/routing/v1/ipns/{name}", data=b"x", headers={"Content-Type": IPNS_RECORD}
        ) as response:
            assert response.status == 400
        async with session.options(f"{url}/routing/v1/providers/{CID}") as response:
            assert response.headers["Access-Control-Allow-Methods"].startswith("GET")


@pytest.mark.real
async def test_requests_at_a_time_are_bounded() -> None:
    finder = Finder()
    async with (
        served(routing_app(finder, HttpServiceConfig(max_requests=1))) as url,
        HttpRouter(url) as router,
    ):
        slow = router.find_providers(Cid.of(b"slow"))
        await anext(slow)
        with pytest.raises(RoutingError, match="429"):
            await router.find_peer(peer(1))
        await slow.aclose()


@pytest.mark.real
async def test_what_services_may_send() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        match request.match_info["peer"]:
            case one if one == peer(1).to_cid("base36"):
                return web.Response(text='{"Peers": 7}', content_type="application/json")
            case one if one == peer(2).to_cid("base36"):
                return web.Response(text="nonsense", content_type="application/json")
            case one if one == peer(3).to_cid("base36"):
                return web.Response(text="x" * 200_000, content_type=NDJSON)
            case one if one == peer(4).to_cid("base36"):
                await asyncio.sleep(5)
            case _:
                return web.Response(status=404)
        return web.Response()

    app = web.Application()
    app.router.add_get("/routing/v1/peers/{peer}", answer)
    config = HttpRoutingConfig(timeout=0.5)
    async with served(app) as url, HttpRouter(url, config=config) as router:
        for n, reason in enumerate(("does not know", "no JSON", "limits", "time", "does not know"), 1):
            with pytest.raises(RoutingError, match=reason):
                await router.find_peer(peer(n))
    with pytest.raises(RoutingError, match="not open"):
        await router.find_peer(peer(1))
    async with HttpRouter("http://127.0.0.1:1") as router:
        with pytest.raises(RoutingError, match="Cannot connect"):
            await router.find_peer(peer(1))

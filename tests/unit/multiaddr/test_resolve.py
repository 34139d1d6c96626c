"""Resolving names in multiaddrs: over a table of records, and once over real sockets."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from libp2p.errors import InvalidMultiaddr, ResolveError
from libp2p.multiaddr import Multiaddr, Resolver, ResolverConfig, SystemLookup

PEER = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"
OTHER = "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV"
PEER_CID = "k2k4r8oqamigqdo6o7hsbfwd45y70oyynp98usk7zmyfrzpqxh1pohl7"


@dataclass
class Table:
    """A `NameLookup` that knows `hosts` and `txt`, fails for `broken` names and takes `delay` seconds."""

    hosts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    txt: Mapping[str, Sequence[str]] = field(default_factory=dict)
    broken: Sequence[str] = ()
    delay: Mapping[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def addresses(self, name: str, family: str) -> Sequence[str]:
        return await self._answer(name, self.hosts)

    async def texts(self, name: str) -> Sequence[str]:
        return await self._answer(name, self.txt)

    async def _answer(self, name: str, table: Mapping[str, Sequence[str]]) -> Sequence[str]:
        self.asked.append(name)
        await asyncio.sleep(self.delay.get(name, 0))
        if name in self.broken:
            raise ResolveError(f"server failure for {name}")
        return table.get(name, ())


def records(**names: list[str]) -> dict[str, list[str]]:
    return {f"_dnsaddr.{name}": [f"dnsaddr={text}" for text in texts] for name, texts in names.items()}


async def resolve(table: Table, address: str, *, peer: str | None = None, **config: float) -> list[str]:
    resolver = Resolver(ResolverConfig(**config), table)  # type: ignore[arg-type]
    return [str(found) for found in await resolver.resolve(Multiaddr(address), peer_id_text=peer)]


HOSTS = {"example.com": ["192.0.2.1", "2001:db8::a3", "192.0.2.2", "2001:db8::a4"], "4.example": ["192.0.2.4"]}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/ip4/1.2.3.4/tcp/1", ["/ip4/1.2.3.4/tcp/1"]),
        ("/dns4/example.com/tcp/1", ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1"]),
        ("/dns6/example.com", ["/ip6/2001:db8::a3", "/ip6/2001:db8::a4"]),
        (
            "/dns/example.com/udp/1",
            [f"/{ip}/udp/1" for ip in ("ip6/2001:db8::a3", "ip6/2001:db8::a4", "ip4/192.0.2.1", "ip4/192.0.2.2")],
        ),
        ("/dns4/4.example/tcp/1/tls/ws", ["/ip4/192.0.2.4/tcp/1/tls/sni/4.example/ws"]),
        (f"/dns4/4.example/tcp/1/wss/p2p/{PEER}", [f"/ip4/192.0.2.4/tcp/1/tls/sni/4.example/ws/p2p/{PEER}"]),
        ("/dns4/4.example/tcp/1/tls/sni/other.example/ws", ["/ip4/192.0.2.4/tcp/1/tls/sni/other.example/ws"]),
        ("/dns4/4.example/tcp/1/tls", ["/ip4/192.0.2.4/tcp/1/tls"]),
        (
            f"/dns4/4.example/tcp/1/p2p/{PEER}/p2p-circuit/dns4/4.example/tcp/2/wss",
            [f"/ip4/192.0.2.4/tcp/1/p2p/{PEER}/p2p-circuit/dns4/4.example/tcp/2/wss"],
        ),
    ],
)
async def test_host_names(address: str, expected: list[str]) -> None:
    assert await resolve(Table(HOSTS), address) == expected


async def test_zone_of_a_link_local_answer() -> None:
    assert await resolve(Table({"a": ["fe80::1%3"]}), "/dns6/a/tcp/1") == ["/ip6zone/3/ip6/fe80::1/tcp/1"]


async def test_dnsaddr_records_are_matched_by_their_suffix() -> None:
    table = Table(
        txt={
            "_dnsaddr.matching.com": [
                "dnsaddr=/ip4/192.0.2.1/tcp/123/http",
                "not a dnsaddr",
                "dnsaddr=/foobar",
                "dnsaddr=/ip4/192.0.2.1/tcp/123",
                "dnsaddr=/ip4/192.0.2.1/tcp/789/http",
                "dnsaddr=/tcp/123",
                "dnsaddr=/ip4/192.0.2.1/tcp/123",
            ]
        }
    )
    assert await resolve(table, "/dnsaddr/matching.com/tcp/123/http") == ["/ip4/192.0.2.1/tcp/123/http"]
    assert await resolve(table, "/dnsaddr/matching.com/tcp/123") == ["/ip4/192.0.2.1/tcp/123"]
    assert len(await resolve(table, "/dnsaddr/matching.com")) == 4
    with pytest.raises(ResolveError, match="ends in /quic") as caught:
        await resolve(table, "/dnsaddr/matching.com/quic")
    assert "cannot resolve /dnsaddr/matching.com/quic" in str(caught.value)
    assert isinstance(caught.value.__cause__, InvalidMultiaddr)


async def test_nested_dnsaddr_keeps_the_order_of_the_records() -> None:
    table = Table(
        {"c": ["192.0.2.9"]},
        records(
            root=[f"/dnsaddr/b/p2p/{PEER}", f"/ip4/192.0.2.5/tcp/1/p2p/{OTHER}", f"/dnsaddr/a/tcp/1/p2p/{PEER}"],
            a=[f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}", f"/ip4/192.0.2.1/tcp/2/p2p/{PEER}"],
            b=[f"/dns4/c/tcp/7/p2p/{PEER}", f"/ip6/::1/tcp/8/p2p/{OTHER}", f"/ip4/192.0.2.2/tcp/1/p2p/{PEER}"],
        ),
        delay={"_dnsaddr.b": 3, "_dnsaddr.a": 1},
    )
    found = await resolve(table, "/dnsaddr/root")
    assert found == [
        f"/ip4/192.0.2.9/tcp/7/p2p/{PEER}",
        f"/ip4/192.0.2.2/tcp/1/p2p/{PEER}",
        f"/ip4/192.0.2.5/tcp/1/p2p/{OTHER}",
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}",
    ]
    assert await resolve(table, f"/dnsaddr/root/p2p/{OTHER}") == [f"/ip4/192.0.2.5/tcp/1/p2p/{OTHER}"]


async def test_peer_filter() -> None:
    table = Table(
        txt=records(
            root=[f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}", f"/ip4/192.0.2.2/tcp/1/p2p/{OTHER}", "/ip4/192.0.2.3/tcp/1"]
        )
    )
    expected = [f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}", "/ip4/192.0.2.3/tcp/1"]
    assert await resolve(table, "/dnsaddr/root", peer=PEER) == expected
    assert await resolve(table, "/dnsaddr/root", peer=PEER_CID) == expected
    with pytest.raises(ResolveError, match="lead to other peers"):
        await resolve(table, f"/dnsaddr/root/p2p/{OTHER}", peer=PEER)
    with pytest.raises(InvalidMultiaddr, match="no value of /p2p"):
        await resolve(table, "/dnsaddr/root", peer="nobody")


async def test_circles_end_at_the_depth_limit() -> None:
    table = Table(txt=records(a=["/dnsaddr/b", "/dnsaddr/a"], b=["/dnsaddr/a"]))
    with pytest.raises(ResolveError, match="nested deeper than 4 levels"):
        await resolve(table, "/dnsaddr/a")
    assert table.asked == ["_dnsaddr.a", "_dnsaddr.b"]


async def test_depth_limit() -> None:
    chain = records(**{f"n{i}": [f"/dnsaddr/n{i + 1}"] for i in range(8)}) | records(n3=["/dns4/example.com/tcp/1"])
    assert len(await resolve(Table(HOSTS, chain), "/dnsaddr/n0", max_depth=4)) == 2
    with pytest.raises(ResolveError, match="/dnsaddr/n3 is nested deeper than 3 levels"):
        await resolve(Table(HOSTS, chain), "/dnsaddr/n0", max_depth=3)


async def test_count_limits() -> None:
    many = Table(txt=records(a=[f"/ip4/1.2.3.{i}/tcp/1" for i in range(255)]))
    assert await resolve(many, "/dnsaddr/a", max_addresses=10) == [f"/ip4/1.2.3.{i}/tcp/1" for i in range(10)]
    assert len(await resolve(many, "/dnsaddr/a")) == 100
    wide = Table(txt=records(a=[f"/dnsaddr/n{i}" for i in range(90)], n1=["/ip4/1.2.3.4/tcp/1"]))
    assert await resolve(wide, "/dnsaddr/a") == ["/ip4/1.2.3.4/tcp/1"]
    assert len(wide.asked) == 64


async def test_time_limit_keeps_what_came_in() -> None:
    txt = records(a=["/dnsaddr/slow", "/dnsaddr/fast"], fast=["/ip4/1.2.3.4/tcp/1"])
    table = Table(txt=txt, delay={"_dnsaddr.slow": 60})
    started = asyncio.get_running_loop().time()
    assert await resolve(table, "/dnsaddr/a", timeout=5) == ["/ip4/1.2.3.4/tcp/1"]
    assert asyncio.get_running_loop().time() - started == pytest.approx(5)
    with pytest.raises(ResolveError, match="no answer for 'slow' within 5 s"):
        await resolve(table, "/dnsaddr/slow", timeout=5)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/dns4/none.example/tcp/1", "'none.example' has no records for /dns4"),
        ("/dns6/4.example/tcp/1", "'4.example' has no records for /dns6"),
        ("/dnsaddr/none.example", "'none.example' has no records for /dnsaddr"),
        ("/dns4/broken.example/tcp/1", "server failure for broken.example"),
        ("/dns4/odd.example/tcp/1", "addresses of 'odd.example': 'no ip' is no value of /ip4"),
        ("/dnsaddr/text.example", "'text.example' has no dnsaddr= record"),
    ],
)
async def test_errors_name_the_address_and_the_reason(address: str, reason: str) -> None:
    table = Table({**HOSTS, "odd.example": ["no ip"]}, {"_dnsaddr.text.example": ["v=spf1"]}, broken=["broken.example"])
    with pytest.raises(ResolveError) as caught:
        await resolve(table, address)
    assert f"cannot resolve {address}: " in str(caught.value)
    assert reason in str(caught.value)


async def test_one_failure_does_not_spoil_the_rest() -> None:
    table = Table(txt=records(a=["/dns4/broken/tcp/1", "/ip4/1.2.3.4/tcp/1"]), broken=["broken"])
    assert await resolve(table, "/dnsaddr/a") == ["/ip4/1.2.3.4/tcp/1"]


class DnsServer(asyncio.DatagramProtocol):
    """Answers TXT queries for _dnsaddr.here.test; no other name exists, and for fail.test it fails."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        import dns.message
        import dns.rcode
        import dns.rrset

        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text()
        response = dns.message.make_response(query)
        if name == "_dnsaddr.here.test.":
            text = '"dnsaddr=/ip4/192.0.2.1" "/tcp/4001" '
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", text))
        else:
            response.set_rcode(dns.rcode.REFUSED if "fail" in name else dns.rcode.NXDOMAIN)
        self.transport.sendto(response.to_wire(), addr)


@pytest.mark.real
async def test_txt_records_over_dns() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    try:
        lookup = SystemLookup(nameservers=["127.0.0.1"], port=transport.get_extra_info("sockname")[1])
        found = await Resolver(lookup=lookup).resolve(Multiaddr("/dnsaddr/here.test"))
        assert found == [Multiaddr("/ip4/192.0.2.1/tcp/4001")]
        assert await lookup.texts("gone.test") == []
        with pytest.raises(ResolveError, match=r"TXT records of 'fail\.test'"):
            await lookup.texts("fail.test")
        with pytest.raises(ResolveError, match="TXT records"):
            await lookup.texts("a..b")
    finally:
        transport.close()


@pytest.mark.real
async def test_host_names_of_the_system() -> None:
    found = await Resolver().resolve(Multiaddr("/dns4/localhost/tcp/80"))
    assert found == [Multiaddr("/ip4/127.0.0.1/tcp/80")]
    lookup = SystemLookup()
    assert await lookup.addresses("192.0.2.1", "dns") == ["192.0.2.1"]
    with pytest.raises(ResolveError, match=r"cannot look up 'a\.\.b'"):
        await lookup.addresses("a..b", "dns")

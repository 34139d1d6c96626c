"""Hosts, ports and kinds of addresses. The public and private vectors are those of go-multiaddr, and more."""

from typing import Literal

import pytest

from libp2p.errors import InvalidMultiaddr
from libp2p.multiaddr import (
    HostPort,
    Multiaddr,
    from_ip,
    from_socket_address,
    host_port,
    ip_of,
    is_link_local,
    is_loopback,
    is_private,
    is_public,
    is_relayed,
    is_unspecified,
)

PEER = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/1.2.3.4/tcp/80/ws", HostPort("1.2.3.4", 80, "ip4", "tcp")),
        ("/ip6/::1/udp/4001/quic-v1", HostPort("::1", 4001, "ip6", "udp")),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/0", HostPort("fe80::1%eth0", 0, "ip6", "tcp")),
        ("/dns/example.com/tcp/443", HostPort("example.com", 443, "dns", "tcp")),
        ("/dns4/example.com/udp/443", HostPort("example.com", 443, "dns4", "udp")),
        ("/dns6/example.com/tcp/443", HostPort("example.com", 443, "dns6", "tcp")),
    ],
)
def test_host_port(text: str, expected: HostPort) -> None:
    assert host_port(Multiaddr(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/1.2.3.4",
        "/tcp/80/ip4/1.2.3.4",
        "/ip4/1.2.3.4/sctp/80",
        "/dnsaddr/example.com/tcp/80",
        "/ip6zone/eth0",
        "/ip6zone/eth0/ip4/1.2.3.4/tcp/80",
        "/memory/1",
        f"/p2p/{PEER}",
    ],
)
def test_no_host_port(text: str) -> None:
    with pytest.raises(InvalidMultiaddr, match="begins with no host"):
        host_port(Multiaddr(text))


@pytest.mark.parametrize(
    ("host", "proto", "scope_id", "expected"),
    [
        ("1.2.3.4", "tcp", 0, "/ip4/1.2.3.4/tcp/80"),
        ("::1", "udp", 0, "/ip6/::1/udp/80"),
        ("fe80::1%eth0", "tcp", 3, "/ip6zone/eth0/ip6/fe80::1/tcp/80"),
        ("fe80::1", "tcp", 3, "/ip6zone/3/ip6/fe80::1/tcp/80"),
        ("::ffff:1.2.3.4", "tcp", 0, "/ip6/::ffff:1.2.3.4/tcp/80"),
    ],
)
def test_from_socket_address(host: str, proto: Literal["tcp", "udp"], scope_id: int, expected: str) -> None:
    address = from_socket_address(host, 80, proto, scope_id=scope_id)
    assert str(address) == expected
    assert host_port(address)[1:] == (80, "ip6" if ":" in host else "ip4", proto)


@pytest.mark.parametrize(("host", "port"), [("example.com", 80), ("", 80), ("1.2.3.4", 65536), ("1.2.3.4", -1)])
def test_no_socket_address(host: str, port: int) -> None:
    with pytest.raises(InvalidMultiaddr):
        from_socket_address(host, port)


@pytest.mark.parametrize(
    ("text", "public", "private"),
    [
        ("/ip4/192.168.1.1/tcp/80", False, True),
        ("/ip4/10.0.0.1/tcp/80", False, True),
        ("/ip4/100.64.0.1/tcp/80", False, True),
        ("/ip4/172.31.255.255/tcp/80", False, True),
        ("/ip4/172.32.0.0/tcp/80", True, False),
        ("/ip4/169.254.1.1/tcp/80", False, True),
        ("/ip4/127.0.0.1/tcp/80", False, True),
        ("/ip4/1.1.1.1/tcp/80", True, False),
        ("/ip4/0.0.0.0/tcp/80", False, False),
        ("/ip4/198.51.100.1/tcp/80", False, False),
        ("/ip4/224.0.0.1/udp/80", False, False),
        ("/tcp/80/ip4/1.1.1.1", False, False),
        ("/dns/node.libp2p.io/udp/1/quic-v1", True, False),
        ("/dnsaddr/node.libp2p.io/udp/1/quic-v1", True, False),
        ("/dns/node.libp2p.local/udp/1/quic-v1", False, False),
        ("/dns/localhost/udp/1/quic-v1", False, True),
        ("/dns4/A.Localhost./tcp/1", False, True),
        ("/dns4/notlocalhost/tcp/1", True, False),
        ("/ip6/2400::1/tcp/10", True, False),
        ("/ip6/2001:db8::42/tcp/10", False, False),
        ("/ip6/64:ff9b::1.1.1.1/tcp/10", True, False),
        ("/ip6/64:ff9b:1::1/tcp/10", True, False),
        ("/ip6/::1/tcp/10", False, True),
        ("/ip6/fd00::1/tcp/10", False, True),
        ("/ip6/::ffff:10.0.0.1/tcp/10", False, True),
        ("/ip6/::ffff:1.1.1.1/tcp/10", True, False),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/10", False, True),
        ("/memory/1", False, False),
        (f"/ip4/1.1.1.1/tcp/1/p2p/{PEER}/p2p-circuit", True, False),
    ],
)
def test_public_and_private(text: str, public: bool, private: bool) -> None:
    address = Multiaddr(text)
    assert (is_public(address), is_private(address)) == (public, private)


@pytest.mark.parametrize(
    ("text", "loopback", "unspecified", "link_local"),
    [
        ("/ip4/127.9.9.9/tcp/1", True, False, False),
        ("/ip6/::1", True, False, False),
        ("/ip6/::ffff:127.0.0.1", True, False, False),
        ("/ip6zone/lo/ip6/::1/tcp/1", True, False, False),
        ("/ip4/0.0.0.0/tcp/1", False, True, False),
        ("/ip6/::/tcp/1", False, True, False),
        ("/ip4/169.254.7.7/tcp/1", False, False, True),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", False, False, True),
        ("/ip6/fe80::1", False, False, True),
        ("/dns4/localhost/tcp/1", False, False, False),
        ("/ip6zone/eth0", False, False, False),
        ("/ip6zone/eth0/ip4/127.0.0.1", False, False, False),
    ],
)
def test_kinds(text: str, loopback: bool, unspecified: bool, link_local: bool) -> None:
    address = Multiaddr(text)
    assert (is_loopback(address), is_unspecified(address), is_link_local(address)) == (
        loopback,
        unspecified,
        link_local,
    )


def test_the_empty_address_is_of_no_kind() -> None:
    empty = Multiaddr("/tcp/1")[1:]
    assert not any(f(empty) for f in (is_loopback, is_unspecified, is_link_local, is_private, is_public, is_relayed))
    assert ip_of(empty) is None


def test_relayed() -> None:
    assert is_relayed(Multiaddr(f"/ip4/1.1.1.1/tcp/1/p2p/{PEER}/p2p-circuit"))
    assert not is_relayed(from_ip("1.1.1.1"))

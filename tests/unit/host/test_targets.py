"""Whom a target names; `dial=False`; and what callers are told who gave something else."""

from __future__ import annotations

from typing import Any

import pytest

from libp2p.connection import Connection
from libp2p.errors import DialError, InvalidInput, InvalidMultiaddr, InvalidPeerId
from libp2p.host import Host
from libp2p.host.targets import whom
from libp2p.identity import KeyType, PrivateKey
from libp2p.multiaddr import Multiaddr

ALICE, BOB = (PrivateKey.generate().peer_id for _ in range(2))
TCP, QUIC = Multiaddr("/ip4/192.0.2.1/tcp/1"), Multiaddr("/ip4/192.0.2.1/udp/1/quic-v1")


def test_what_targets_name() -> None:
    named = TCP.with_peer(str(ALICE))
    for target, peer, addrs in (
        (ALICE, ALICE, []),
        (str(ALICE), ALICE, []),
        (f"/p2p/{ALICE}", ALICE, []),
        (TCP, None, [TCP]),
        (str(named), ALICE, [TCP]),
        ([named, QUIC], ALICE, [TCP, QUIC]),
        ((str(QUIC), named), ALICE, [QUIC, TCP]),
        ([TCP, QUIC], None, [TCP, QUIC]),
    ):
        assert whom(target) == (peer, addrs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        ([TCP.with_peer(str(ALICE)), QUIC.with_peer(str(BOB))], InvalidInput, "addresses of several"),
        ([], InvalidInput, "without any address"),
        ([str(ALICE)], InvalidMultiaddr, "12D3"),
        ([ALICE], TypeError, "Multiaddr or text in it"),
        (b"/ip4/192.0.2.1/tcp/1", TypeError, "addresses of a peer"),
        (7, TypeError, "addresses of a peer"),
        ("nobody", InvalidPeerId, "nobody"),
    ],
)
def test_what_is_no_target(target: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        whom(target)


async def test_several_addresses_of_one_peer_are_a_target(pair: Any) -> None:
    async with pair() as (listener, dialer, connection), Host() as other:
        dead = Multiaddr("/memory/12345")
        assert await other.connect([dead, *listener.addrs])
        assert await dialer.connect([dead, *listener.addrs]) is connection
        with pytest.raises(DialError) as failed:
            await other.connect([dead.with_peer(str(ALICE)), Multiaddr("/memory/12346")])
        assert len(failed.value.attempts) == 2


async def test_without_dialing(pair: Any) -> None:
    async with pair() as (listener, dialer, connection), Host() as other:
        assert isinstance(connection, Connection)
        assert await dialer.connect(listener.id, dial=False) is connection
        assert await dialer.connect(listener.addrs[0], dial=False) is connection
        stream = await dialer.new_stream(listener.id, "/ipfs/ping/1.0.0", dial=False)
        assert await stream.agreed()
        for call in (
            other.connect(listener.addrs[0], dial=False),
            other.connect(listener.listen_addrs[0], dial=False),
            other.new_stream(listener.addrs[0], "/ipfs/ping/1.0.0", dial=False),
        ):
            with pytest.raises(DialError, match="none was to be made"):
                await call
        assert not other.connections


# Plain words


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: Host(["/ip4/127.0.0.1/tcp/0"]), TypeError, r"not list: .* Host\(listen_addrs="),  # type: ignore[arg-type]
        (lambda: Host("0a" * 32), TypeError, r"not str: .*bytes.fromhex"),  # type: ignore[arg-type]
        (lambda: Host(bytes(32)), TypeError, r"not bytes: .*load_private_key"),  # type: ignore[arg-type]
        (lambda: PrivateKey(KeyType.SECP256K1, "0a" * 32), TypeError, r"bytes.fromhex"),  # type: ignore[arg-type]
        (lambda: Host(listen_addrs="/ip4/127.0.0.1/tcp/0"), TypeError, r"in a list, \['/ip4/127.0.0.1/tcp/0'\]"),
        (lambda: Host(listen_addrs=TCP), TypeError, "in a list"),  # type: ignore[arg-type]
        (lambda: Host(listen_addrs=4001), TypeError, "in a list, not 4001"),  # type: ignore[arg-type]
        (lambda: Host(listen_addrs=["4001"]), InvalidMultiaddr, "4001"),
        (lambda: Host().connections_to(str(ALICE)), TypeError, r"PeerId.from_string\('12D3"),  # type: ignore[arg-type]
        (lambda: Host().connections_to(TCP), TypeError, "not Multiaddr"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_told_what_was_expected(wrong: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        wrong()


async def test_wrong_protocols_are_told_what_was_expected() -> None:
    async with Host() as host:
        for protocols, error, says in (
            ((["/p"],), TypeError, r"one by one: new_stream\(peer, \*protocols\)"),
            ((b"/p",), TypeError, "text, not bytes"),
            ((), ValueError, "at least one"),
        ):
            with pytest.raises(error, match=says):
                await host.new_stream(ALICE, *protocols)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="PeerId is expected"):
            await host.disconnect("12D3")  # type: ignore[arg-type]

"""Stateless resets: a peer that has lost its connections says so, is believed, and nobody else is."""

from __future__ import annotations

import asyncio
import os

import pytest

from libp2p.connection import Connection
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.testing.conformance.connections import Side
from libp2p.testing.conformance.tools import ends
from libp2p.testing.conformance.transports import DIALER, LISTENER, Reports
from libp2p.testing.network import Link, Network, Node
from libp2p.testing.transports import context
from libp2p.transports.quic import Quic
from libp2p.transports.quic.ports import QuicPorts
from libp2p.transports.quic.stateless_reset import (
    MAX_RESETS,
    MIN_SIZE,
    TOKEN_SIZE,
    StatelessResets,
    is_reset,
    reset_secret,
)

ADDR = ("10.0.0.2", 4001)
LISTEN = Multiaddr("/ip4/10.0.0.2/udp/4001/quic-v1")


def quic(key: PrivateKey, node: Node) -> Quic:
    return Quic(open_socket=node.udp()).use(context(key))


async def connected(dialer: Quic, listener: Quic) -> tuple[Connection, Connection]:
    reports = Reports()
    listening = await listener.listen(LISTEN, reports)
    dialed = await ends(dialer.dial(LISTEN, LISTENER.public_key.peer_id))
    accepted = await ends(reports.opened.get())
    await listening.close()
    return dialed, accepted


def test_the_token_survives_a_restart_and_belongs_to_key_socket_and_id() -> None:
    key, cid = reset_secret(PrivateKey.generate()), os.urandom(8)
    token = StatelessResets(key, ADDR).token(cid)
    assert token == StatelessResets(key, ADDR).token(cid)
    assert len(token) == TOKEN_SIZE
    others = [
        StatelessResets(reset_secret(PrivateKey.generate()), ADDR).token(cid),
        StatelessResets(key, ("10.0.0.2", 4002)).token(cid),
        StatelessResets(key, ("10.0.0.3", 4001)).token(cid),
        StatelessResets(key, ADDR).token(os.urandom(8)),
    ]
    assert token not in others


def test_answers_are_smaller_than_what_they_answer_and_few() -> None:
    resets, cid = StatelessResets(reset_secret(DIALER), ADDR), os.urandom(8)
    for size in range(1500):
        answer = resets.answer(cid, size, float(2 * size))
        assert answer is None or MIN_SIZE <= len(answer) < size
        assert answer is None or answer[0] >> 6 == 1
    assert resets.answer(cid, len(answer or b""), 1e6) is None, "two strangers would go on for ever"
    answers = [resets.answer(cid, 1200, 2e6) for _ in range(2 * MAX_RESETS)]
    assert sum(answer is not None for answer in answers) == MAX_RESETS
    assert resets.answer(cid, 1200, 2e6 + 1) is not None


def test_only_the_token_is_believed() -> None:
    token = os.urandom(16)
    assert is_reset(bytes(5) + token, token)
    assert not is_reset(bytes(4) + token, token), "too small"
    assert not is_reset(bytes(5) + token[:-1] + b"\0", token) or token.endswith(b"\0")
    assert not is_reset(bytes(21), b""), "a peer that has given no token"


async def test_a_peer_that_has_lost_everything_ends_the_connection_at_once() -> None:
    async with Network(link=Link(latency=0.01)) as network:
        a, b = network.node("10.0.0.1"), network.node("10.0.0.2")
        dialed, accepted = await connected(quic(DIALER, a), quic(LISTENER, b))
        side = Side(dialed)
        stream = await dialed.open_stream()
        await stream.write(b"before")
        await asyncio.sleep(0.1)
        network.on_datagram = lambda data, source, target: False  # the goodbye of the old process is lost, too
        accepted.abort()
        network.on_datagram = None
        again = await quic(LISTENER, b).listen(LISTEN, Reports())
        start = asyncio.get_running_loop().time()
        await stream.write(b"behind the restart" * 10)
        reason = await ends(dialed.wait_closed())
        assert asyncio.get_running_loop().time() - start < 1.0
        assert reason.by == "remote"
        assert "stateless reset" in reason.reason
        assert side.closed == [reason]
        await again.close()


async def test_so_does_a_dialer_that_has() -> None:
    """Although the connection id that it began with bears no token."""
    async with Network(link=Link(latency=0.01)) as network:
        a, b = network.node("10.0.0.1"), network.node("10.0.0.2")
        dialing, back = quic(DIALER, a), Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1")
        await dialing.listen(back, Reports())  # it dials from there, and will be there again
        dialed, accepted = await connected(dialing, quic(LISTENER, b))
        stream = await accepted.open_stream()
        await stream.write(b"before")
        await asyncio.sleep(0.1)
        network.on_datagram = lambda data, source, target: False
        dialed.abort()
        dialing.context.shared(QuicPorts)._endpoints[("0.0.0.0", 4001)].close("killed")
        network.on_datagram = None
        again = await quic(DIALER, a).listen(back, Reports())
        start = asyncio.get_running_loop().time()
        await stream.write(b"behind the restart" * 10)
        reason = await ends(accepted.wait_closed())
        assert asyncio.get_running_loop().time() - start < 0.1
        assert "stateless reset" in reason.reason
        await again.close()


async def test_what_comes_to_a_dialer_s_other_connection_id_is_taken_as_fast() -> None:
    async with Network(link=Link(latency=0.01)) as network:
        a, b = network.node("10.0.0.1"), network.node("10.0.0.2")
        dialed, accepted = await connected(quic(DIALER, a), quic(LISTENER, b))
        near, far = Side(dialed), Side(accepted)
        theirs, ours = await far.stream_to(near)
        await theirs.write(bytes(200_000))
        await ends(ours.readexactly(200_000))
        engine = dialed._engine  # type: ignore[attr-defined]
        assert engine.host_cid == accepted._engine._peer_cid.cid  # type: ignore[attr-defined]
        assert engine.host_cid != engine._host_cids[0].cid or engine._host_cids[0].sequence_number
        for connection in (dialed, accepted):
            connection.abort()
            await ends(connection.close())


@pytest.mark.parametrize("forged", ["wrong token", "another address"])
async def test_a_forged_reset_ends_nothing(forged: str) -> None:
    async with Network(link=Link(latency=0.01)) as network:
        a, b = network.node("10.0.0.1"), network.node("10.0.0.2")
        dialed, accepted = await connected(quic(DIALER, a), quic(LISTENER, b))
        one, other = Side(dialed), Side(accepted)
        ours, theirs = await one.stream_to(other)
        token = dialed._engine.peer_reset_token  # type: ignore[attr-defined]
        assert len(token) == TOKEN_SIZE
        source, tail = (("10.0.0.9", 4001), token) if forged == "another address" else (ADDR, os.urandom(16))
        target = dialed._driver._endpoint.socket.addr  # type: ignore[attr-defined]
        for size in (5, 26, 1000):
            network.inject(b"\x40" + os.urandom(size - 1) + tail, source, (("10.0.0.1"), target[1]))
        await asyncio.sleep(0.1)
        await ours.write(b"alive")
        assert await ends(theirs.readexactly(5)) == b"alive"
        for connection in (dialed, accepted):
            connection.abort()
            await ends(connection.close())

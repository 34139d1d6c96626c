"""The pure parts of QUIC: windows, the size of datagrams, codes in words, goodbyes, settings, addresses."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from aioquic.quic.events import ConnectionTerminated

from libp2p.errors import By, ConnectionClosed, HandshakeError
from libp2p.multiaddr import Multiaddr
from libp2p.transports.quic import QuicConfig
from libp2p.transports.quic.address import from_socket, is_quic, to_socket
from libp2p.transports.quic.closing import explain, handshake_failure, reason_of
from libp2p.transports.quic.farewells import MAX_FAREWELLS, Farewells
from libp2p.transports.quic.flow_control import ReceiveWindow
from libp2p.transports.quic.path_mtu import _AGAIN, PathMtu

PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


# The receive window


@pytest.mark.parametrize(
    ("rtt", "steps"),  # (n read, at, whether the limit moves, limit, size)
    [
        pytest.param(0.1, [(249, 0, False, 1000, 1000), (1, 9, True, 1250, 1000)], id="a quarter, slowly: moves"),
        pytest.param(0.1, [(250, 0.19, True, 2250, 2000)], id="a quarter within two round trips: doubles"),
        pytest.param(0.1, [(250, 0.2, True, 1250, 1000)], id="a quarter in two round trips: does not"),
        pytest.param(None, [(500, 0, True, 1500, 1000)], id="round trip not known: does not"),
        pytest.param(0.1, [(1000, 0, True, 3000, 2000), (1000, 0, True, 6000, 4000)], id="doubles again"),
        pytest.param(1.0, [(1000, 0, True, 3000, 2000), (2000, 0, True, 7000, 4000), (4000, 0, True, 11000, 4000)]),
        pytest.param(0.1, [(0, 0, False, 1000, 1000)], id="nothing read"),
        pytest.param(
            0.1,
            [(500, 0, True, 2500, 2000), (1000, 9, True, 3500, 2000), (1000, 18, True, 4500, 2000)],
            id="never shrinks",
        ),
    ],
)
def test_receive_window(rtt: float | None, steps: list[tuple[int, float, bool, int, int]]) -> None:
    window = ReceiveWindow(1000, maximum=4000, now=0.0)
    for n, now, moves, limit, size in steps:
        assert window.consume(n, now, rtt) is moves
        assert (window.limit, window.size) == (limit, size)
    assert window.read == sum(step[0] for step in steps)


# The size of datagrams


def test_probe_that_arrives_raises_the_size() -> None:
    path = PathMtu(1280, 1452)
    assert (path.size, path.probe(0.0), path.probe(0.0)) == (1280, 1452, None)  # one at a time
    path.on_probe(True, 0.1)
    assert (path.size, path.probe(9.0)) == (1452, None)


def test_three_lost_probes_are_enough_for_ten_minutes() -> None:
    path = PathMtu(1280, 1452)
    for now in (0.0, 1.0, 2.0):
        assert path.probe(now) == 1452
        path.on_probe(False, now)
    assert (path.size, path.probe(2.0), path.probe(2.0 + _AGAIN - 1)) == (1280, None, None)
    assert path.probe(2.0 + _AGAIN) == 1452
    path.on_probe(False, 2.0 + _AGAIN)
    assert path.probe(2.0 + _AGAIN) == 1452  # again one of three
    path.on_probe(True, 2.0 + _AGAIN)
    assert path.size == 1452


def test_probe_that_arrives_after_lost_ones() -> None:
    path = PathMtu(1280, 1452)
    for acked in (False, False, True):
        path.probe(0.0)
        path.on_probe(acked, 0.0)
    assert path.size == 1452


def test_black_hole() -> None:
    path = PathMtu(1280, 1452)
    path.on_timeouts(9, 0.0)
    assert path.probe(0.0) == 1452  # nothing to be taken back
    path.on_probe(True, 0.0)
    for count, size in ((0, 1452), (2, 1452), (3, 1280)):
        path.on_timeouts(count, 5.0)
        assert path.size == size
    assert (path.probe(5.0), path.probe(5.0 + _AGAIN)) == (None, 1452)


@pytest.mark.parametrize(
    ("maximum", "full", "size"),
    [(65_527, 1452, 1280), (1452, 1452, 1280), (1400, 1400, 1280), (1280, None, 1280), (1200, None, 1200)],
)
def test_peer_limits_the_size(maximum: int, full: int | None, size: int) -> None:
    path = PathMtu(1280, 1452)
    path.limit(maximum)
    assert (path.probe(0.0), path.size) == (full, size)


def test_equal_sizes_need_no_probe() -> None:
    assert PathMtu(1280, 1280).probe(0.0) is None


# Codes in words


def ended(code: int, frame_type: int | None, reason: str = "") -> ConnectionTerminated:
    return ConnectionTerminated(error_code=code, frame_type=frame_type, reason_phrase=reason)


@pytest.mark.parametrize(
    ("code", "frame_type", "reason", "words"),
    [
        (0, None, "", "no reason given"),
        (0, None, "bye", "bye"),
        (0x1002, None, "", "resource limit exceeded"),
        (0x1002, None, "too many", "resource limit exceeded: too many"),
        (0x99, None, "", "application error 0x99"),
        (0x99, None, "x", "application error 0x99: x"),
        (0, 0, "", "no error"),
        (1, 0, "Idle timeout", "internal error: Idle timeout"),
        (2, 0, "", "connection refused"),
        (3, 8, "", "flow control error"),
        (10, 0, "what", "protocol violation: what"),
        (0x77, 0, "", "transport error 0x77"),
        (0x12A, 6, "libp2p: no", "TLS alert bad certificate: libp2p: no"),
        (0x174, 6, "", "TLS alert certificate required"),
        (0x178, 6, "", "TLS alert no application protocol"),
        (0x1FE, 6, "", "TLS alert 254"),
        (0x12A, None, "", "application error 0x12a"),
    ],
)
def test_explain(code: int, frame_type: int | None, reason: str, words: str) -> None:
    assert explain(ended(code, frame_type, reason)) == words


@pytest.mark.parametrize("by", ["local", "remote"])
def test_reason(by: By) -> None:
    reason = reason_of(ended(0x1003, None, "too many"), by)
    assert (reason.by, reason.code) == (by, 0x1003)
    assert "too many" in str(reason)


@pytest.mark.parametrize(
    ("code", "frame_type", "by", "kind", "words"),
    [
        (0x12A, 6, "remote", HandshakeError, "quic: the peer refused us: TLS alert bad certificate"),
        (0x174, 6, "local", HandshakeError, "quic: the peer failed: TLS alert certificate required"),
        (0x100, 6, "remote", HandshakeError, "TLS alert close notify"),
        (0x1FF, 6, "remote", HandshakeError, "TLS alert 255"),
        (0x200, 6, "remote", ConnectionClosed, "transport error 0x200"),
        (2, 0, "remote", ConnectionClosed, "connection refused"),
        (0x12A, None, "remote", ConnectionClosed, "application error 0x12a"),
        (1, 0, "local", ConnectionClosed, "internal error"),
    ],
)
def test_failure_of_a_handshake(code: int, frame_type: int | None, by: By, kind: type[Exception], words: str) -> None:
    failure = handshake_failure(ended(code, frame_type), by)
    assert type(failure) is kind
    assert words in str(failure)


# Goodbyes


async def test_goodbye_is_said_ever_more_seldom() -> None:
    farewells = Farewells()
    farewells.keep([b"one", b"two"], b"bye", 1.0)
    cids = [b"one", b"two"] * 9
    answers = [number for number, cid in enumerate(cids[:17], 1) if farewells.answer(cid) == b"bye"]
    assert answers == [1, 2, 4, 8, 16]
    assert farewells.answer(b"three") is None
    farewells.clear()


async def test_goodbye_is_forgotten_in_time() -> None:
    farewells = Farewells()
    farewells.keep([b"one", b"two"], b"bye", 1.0)
    farewells.keep([b"three"], b"farewell", 3.0)
    await asyncio.sleep(0.9)
    assert farewells.answer(b"one") == b"bye"
    await asyncio.sleep(0.2)
    assert [farewells.answer(cid) for cid in (b"one", b"two", b"three")] == [None, None, b"farewell"]
    farewells.clear()
    assert farewells.answer(b"three") is None


async def test_goodbyes_are_bounded() -> None:
    farewells = Farewells()
    for number in range(MAX_FAREWELLS + 5):
        farewells.keep([number.to_bytes(2, "big")], b"bye", 1.0)
    kept = [farewells.answer(number.to_bytes(2, "big")) is not None for number in range(MAX_FAREWELLS + 5)]
    assert kept == [True] * MAX_FAREWELLS + [False] * 5
    await asyncio.sleep(2)
    farewells.keep([b"one"], b"bye", 1.0)
    assert farewells.answer(b"one") == b"bye"
    farewells.clear()


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"max_datagram_size": 1279},
        {"max_datagram_size": 16_384},
        {"stream_window": 0},
        {"stream_window": -1},
        {"stream_window": 1 << 24},
        {"max_stream_window": 1 << 25},
        {"max_stream_window": 1000},
        {"connection_window": 1000},
        {"max_streams": 0},
        {"handshake_timeout": 0},
        {"handshake_timeout": -1.0},
        {"idle_timeout": 0},
        {"keep_alive": -1.0},
        {"keep_alive": 0},
        {"linger": -1.0},
        {"max_pending_inbound": 0},
    ],
)
def test_bad_settings_raise(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        QuicConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_datagram_size": 1280},
        {"max_datagram_size": 16_383},
        {"stream_window": 1, "max_stream_window": 1, "connection_window": 1},
        {"max_streams": 1},
        {"keep_alive": None},
        {"linger": 0},
        {"max_unvalidated_inbound": 0},
    ],
)
def test_good_settings(settings: dict[str, Any]) -> None:
    config = QuicConfig(**settings)
    with pytest.raises(FrozenInstanceError):
        config.max_streams = 5  # type: ignore[misc]


# Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/1.2.3.4/udp/1/quic-v1", True),
        ("/ip6/::1/udp/1/quic-v1", True),
        ("/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1", True),
        (f"/ip4/1.2.3.4/udp/1/quic-v1/p2p/{PEER}", True),
        ("/ip4/1.2.3.4/udp/1/quic", False),  # draft-29
        ("/ip4/1.2.3.4/udp/1", False),
        ("/ip4/1.2.3.4/tcp/1", False),
        ("/ip4/1.2.3.4/tcp/1/quic-v1", False),
        ("/dns4/example.com/udp/1/quic-v1", False),  # resolved before
        ("/ip4/1.2.3.4/udp/1/quic-v1/webtransport", False),
        (f"/ip4/1.2.3.4/udp/1/quic-v1/p2p/{PEER}/p2p-circuit", False),
        (f"/ip4/9.9.9.9/udp/9/quic-v1/p2p/{PEER}/p2p-circuit/ip4/1.2.3.4/udp/1/quic-v1", False),
        ("/ip6zone/eth0/ip4/1.2.3.4/udp/1/quic-v1", False),
    ],
)
def test_addresses_of_quic(text: str, expected: bool) -> None:
    assert is_quic(Multiaddr(text)) is expected


@pytest.mark.parametrize(
    ("text", "socket"),
    [
        ("/ip4/1.2.3.4/udp/4001/quic-v1", ("1.2.3.4", 4001)),
        ("/ip4/0.0.0.0/udp/0/quic-v1", ("0.0.0.0", 0)),
        ("/ip6/::1/udp/65535/quic-v1", ("::1", 65535, 0, 0)),
    ],
)
def test_sockets(text: str, socket: tuple[str, int]) -> None:
    assert to_socket(Multiaddr(text)) == socket
    assert from_socket(socket) == Multiaddr(text)
    assert to_socket(Multiaddr(f"{text}/p2p/{PEER}")) == socket


def test_zone_of_a_link_local_address() -> None:
    addr = from_socket(("fe80::1", 4001, 0, 1))
    assert is_quic(addr)
    assert to_socket(addr) == ("fe80::1", 4001, 0, 1)

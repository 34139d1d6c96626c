"""UDP sockets in batches: what arrives, from where, and what becomes of what can't be sent."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.transports.quic import udp
from libp2p.transports.quic.datagrams import DatagramSocket, Received, SocketAddress
from libp2p.transports.quic.udp import READ_CALLS, EndpointSocket, SystemSocket, open_udp

pytestmark = pytest.mark.real

LINUX = sys.platform == "linux"
ANY4: SocketAddress = ("127.0.0.1", 0)
ANY6: SocketAddress = ("::1", 0)
OPENED = {"offload": SystemSocket, "singly": SystemSocket, "endpoint": EndpointSocket}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(ANY6)
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
each_kind = pytest.mark.parametrize("kind", OPENED)


class Receiver:
    """Notes what a socket reports."""

    def __init__(self) -> None:
        self.batches: list[list[Received]] = []
        self.writable_calls = 0
        self.fault: Exception | None = None
        self.deaths: list[Exception] = []
        self.refusals: list[tuple[SocketAddress, OSError]] = []
        self.dead = asyncio.Event()
        self._reported = asyncio.Event()

    def datagrams_received(self, batch: Sequence[Received]) -> None:
        self.batches.append(list(batch))
        self._reported.set()
        if self.fault is not None:
            raise self.fault

    def refused(self, addr: SocketAddress, error: OSError) -> None:
        self.refusals.append((addr, error))

    def lost(self, error: Exception) -> None:
        self.deaths.append(error)
        self.dead.set()

    def writable(self) -> None:
        self.writable_calls += 1
        self._reported.set()

    @property
    def received(self) -> list[Received]:
        return [received for batch in self.batches for received in batch]

    @property
    def datagrams(self) -> list[bytes]:
        return [r.data[at : at + r.size] for r in self.received for at in range(0, len(r.data), r.size)]

    async def until(self, *, datagrams: int = 0, writable: int = 0) -> None:
        while len(self.datagrams) < datagrams or self.writable_calls < writable:
            self._reported.clear()
            await self._reported.wait()


class Scripted(socket.socket):
    """A socket whose next sends fail as told, None being no failure."""

    script: deque[OSError | None]
    calls: int

    def _next(self) -> None:
        self.calls += 1
        if self.script and (error := self.script.popleft()) is not None:
            raise error

    def sendmsg(self, *args: Any) -> int:
        self._next()
        return super().sendmsg(*args)

    def sendto(self, *args: Any) -> int:
        self._next()
        return super().sendto(*args)


async def opened(kind: str, addr: SocketAddress, monkeypatch: pytest.MonkeyPatch) -> DatagramSocket:
    if kind == "singly":
        monkeypatch.setattr(udp, "can_segment", lambda sock: False)
        monkeypatch.setattr(udp, "coalesce", lambda sock: False)
    if kind == "endpoint":
        monkeypatch.setattr(asyncio, "ProactorEventLoop", type(asyncio.get_running_loop()), raising=False)
    found = await open_udp(addr)
    assert type(found) is OPENED[kind]
    return found


async def pair(
    kind: str, monkeypatch: pytest.MonkeyPatch, addr: SocketAddress = ANY4
) -> tuple[DatagramSocket, DatagramSocket, Receiver]:
    """Sender, receiver, and what is received."""
    sender, target = await opened(kind, addr, monkeypatch), await opened(kind, addr, monkeypatch)
    receiver = Receiver()
    target.attach(receiver)
    return sender, target, receiver


async def scripted() -> tuple[Scripted, SystemSocket, Receiver, DatagramSocket, Receiver]:
    """A scripted socket below a sender, the sender, who it reports to; a receiver, and who that reports to."""
    sock = Scripted(socket.AF_INET, socket.SOCK_DGRAM)
    sock.script, sock.calls = deque(), 0
    sock.setblocking(False)
    sock.bind(ANY4)
    sender, target = SystemSocket(sock), await open_udp(ANY4)
    reports, receiver = Receiver(), Receiver()
    sender.attach(reports)
    target.attach(receiver)
    return sock, sender, reports, target, receiver


def batch_of(count: int, size: int, last: int | None = None) -> list[bytes]:
    sizes = [size] * (count - 1) + [size if last is None else last]
    return [number.to_bytes(2, "big") + os.urandom(length - 2) for number, length in enumerate(sizes)]


def close(*sockets: DatagramSocket) -> None:
    for each in sockets:
        each.close()


@each_kind
@pytest.mark.parametrize("addr", [ANY4, pytest.param(ANY6, marks=needs_ipv6)])
@pytest.mark.parametrize(
    "batch",
    [
        batch_of(1, 1200),
        batch_of(44, 1452),
        batch_of(44, 1452, last=33),
        batch_of(150, 1200, last=1199),  # more bytes than one call takes
        batch_of(130, 40),  # more datagrams than one call takes
        batch_of(3, 40_000),  # no two fit into one call
    ],
    ids=lambda batch: f"{len(batch)}x{len(batch[0])}-{len(batch[-1])}",
)
async def test_a_batch_arrives_whole_and_in_order(
    kind: str, addr: SocketAddress, batch: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, target, receiver = await pair(kind, monkeypatch, addr)
    assert sender.send(batch, target.addr)
    await receiver.until(datagrams=len(batch))
    assert receiver.datagrams == batch
    assert {(r.addr, r.local_ip) for r in receiver.received} == {(sender.addr, None)}
    assert max(map(len, receiver.batches)) <= READ_CALLS
    close(sender, target)


@pytest.mark.parametrize(("count", "size", "last", "calls"), [(44, 1452, 100, 1), (150, 1200, 7, 3), (130, 40, 40, 3)])
async def test_one_call_carries_many_datagrams(count: int, size: int, last: int, calls: int) -> None:
    sock, sender, _, target, receiver = await scripted()
    if not sender._segments:
        close(sender, target)
        pytest.skip("no segmentation offload here")
    sender.send(batch_of(count, size, last), target.addr)
    await receiver.until(datagrams=count)
    assert sock.calls == calls
    assert [type(r.data) for r in receiver.received] == [bytes] * calls
    assert {r.size for r in receiver.received} == {size}
    assert sum(len(r.data) for r in receiver.received) == (count - 1) * size + last
    close(sender, target)


async def test_one_turn_of_the_loop_reads_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "READ_BYTES", 1000)
    sender, target, receiver = await pair("singly", monkeypatch)
    sender.send(batch_of(10, 400), target.addr)
    await receiver.until(datagrams=10)
    assert [len(batch) for batch in receiver.batches] == [3, 3, 3, 1]
    close(sender, target)


@each_kind
async def test_empty_datagrams_are_not_handed_over(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, target, receiver = await pair(kind, monkeypatch)
    assert sender.send([b""], target.addr)
    assert sender.send([], target.addr)
    sender.send([b"", b"", b"behind"], target.addr)
    await receiver.until(datagrams=1)
    assert receiver.datagrams == [b"behind"]
    close(sender, target)


@pytest.mark.skipif(not LINUX, reason="needs a second loopback address")
@each_kind
async def test_wildcard_sockets_tell_and_choose_the_local_address(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client, answers = await pair(kind, monkeypatch)
    close(server)
    server, asked = await opened(kind, ("0.0.0.0", 0), monkeypatch), Receiver()
    server.attach(asked)
    at = server.addr[1]
    client.send([b"to the second"], ("127.0.0.2", at))
    client.send([b"to the first"], ("127.0.0.1", at), "127.0.0.9")  # bound to one: nothing to choose
    await asked.until(datagrams=2)
    told = [r.local_ip for r in asked.received]
    assert told == ([None, None] if kind == "endpoint" else ["127.0.0.2", "127.0.0.1"])
    assert {r.addr for r in asked.received} == {client.addr}
    for local_ip in ("127.0.0.2", None):
        server.send([b"one", b"two"], client.addr, local_ip)
        server.send([b"alone"], client.addr, local_ip)
    await answers.until(datagrams=6)
    sources = [r.addr for r in answers.received for _ in range(0, len(r.data), r.size)]
    chosen = "127.0.0.1" if kind == "endpoint" else "127.0.0.2"
    assert sources == [(chosen, at)] * 3 + [("127.0.0.1", at)] * 3
    close(server, client)


@needs_ipv6
@each_kind
async def test_ipv6_wildcard_sockets_do_too_and_carry_no_ipv4(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server, asked = await pair(kind, monkeypatch, ("::", 0))
    four = await opened(kind, ("0.0.0.0", server.addr[1]), monkeypatch)  # the same port
    answers = Receiver()
    client.attach(answers)
    client.send([b"a", b"b"], ("::1", server.addr[1], 0, 0), "::1")
    await asked.until(datagrams=2)
    assert {r.local_ip for r in asked.received} == {None if kind == "endpoint" else "::1"}
    server.send([b"c"], asked.received[0].addr, asked.received[0].local_ip)
    await answers.until(datagrams=1)
    assert answers.received[0].addr == ("::1", server.addr[1], 0, 0)
    close(client, server, four)


@each_kind
async def test_a_port_belongs_to_one_socket(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await opened(kind, ANY4, monkeypatch)
    with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)) as caught:
        await opened(kind, first.addr, monkeypatch)
    assert caught.value.errno == errno.EADDRINUSE
    close(first)
    close(await opened(kind, first.addr, monkeypatch))


@each_kind
@pytest.mark.parametrize("count", [1, 3])
async def test_too_large_datagrams_are_lost_without_harm(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, target, receiver = await pair(kind, monkeypatch)
    assert sender.send([bytes(65_508)] * count, target.addr)
    assert sender.send([b"fits", b"fits"], target.addr)
    await receiver.until(datagrams=2)
    assert receiver.datagrams == [b"fits", b"fits"]
    close(sender, target)


@pytest.mark.skipif(not LINUX, reason="the option's number")
@pytest.mark.parametrize(
    ("addr", "level", "option"),
    [(ANY4, socket.IPPROTO_IP, 10), pytest.param(ANY6, socket.IPPROTO_IPV6, 23, marks=needs_ipv6)],
)
async def test_datagrams_are_never_fragmented(addr: SocketAddress, level: int, option: int) -> None:
    opened = await open_udp(addr)
    assert isinstance(opened, SystemSocket)
    assert opened._sock.getsockopt(level, option) == 3
    close(opened)


@each_kind
async def test_a_receiver_that_raises_gets_the_next_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, target, receiver = await pair(kind, monkeypatch)
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    receiver.fault = RuntimeError("in the receiver")
    for number in range(1, 3):
        sender.send([b"x"], target.addr)
        await receiver.until(datagrams=number)
        await asyncio.sleep(0)
    assert [context["exception"] for context in raised] == [receiver.fault] * 2
    close(sender, target)


@each_kind
async def test_closing_is_immediate_and_final(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, target, receiver = await pair(kind, monkeypatch)
    sender.send([b"on its way"], target.addr)
    for _ in range(2):
        close(target, sender)
        assert sender.send([b"late"] * 3, target.addr)
    again = await opened(kind, target.addr, monkeypatch)
    await asyncio.sleep(0)
    assert receiver.batches == []
    close(again)


async def test_what_the_system_does_not_take_waits_in_order() -> None:
    sock, sender, reports, target, receiver = await scripted()
    first, second = batch_of(50, 1400), batch_of(4, 900)  # the first in two calls
    sock.script.extend([None, BlockingIOError(), BlockingIOError()])
    assert not sender.send(first, target.addr)
    assert not sender.send(second, target.addr)
    await reports.until(writable=1)
    assert sender.send([b"behind"], target.addr)
    await receiver.until(datagrams=55)
    assert receiver.datagrams == [*first, *second, b"behind"]
    await asyncio.sleep(0)
    assert reports.writable_calls == 1
    close(sender, target)


async def test_single_datagrams_wait_too() -> None:
    sock, sender, reports, target, receiver = await scripted()
    sender._segments = False
    batch = batch_of(5, 100)
    sock.script.extend([None, None, BlockingIOError(), BlockingIOError(), None, BlockingIOError()])
    assert not sender.send(batch, target.addr)
    await reports.until(writable=1)
    await receiver.until(datagrams=5)
    assert receiver.datagrams == batch
    close(sender, target)


async def test_what_waits_is_bounded_and_dropped_by_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "MAX_WAITING", 1000)
    sock, sender, reports, target, receiver = await scripted()
    for attempt in range(2):  # the second time the count starts anew
        sock.script.append(BlockingIOError())
        for name in (b"a", b"b", b"c"):
            assert not sender.send([name * 200, name * 200], target.addr)
        await reports.until(writable=attempt + 1)
    sender.send([b"last"], target.addr)
    await receiver.until(datagrams=9)
    assert receiver.datagrams == [b"a" * 200, b"a" * 200, b"b" * 200, b"b" * 200] * 2 + [b"last"]
    sock.script.append(BlockingIOError())
    assert not sender.send([b"dropped"], target.addr)
    close(sender)
    calls = sock.calls
    assert sender.send([b"late"], target.addr)
    await asyncio.sleep(0)
    assert sock.calls == calls
    assert reports.writable_calls == 2
    close(target)


@pytest.mark.parametrize("refusal", [errno.EIO, errno.EINVAL])
async def test_segmenting_refused_is_given_up_and_nothing_lost(refusal: int) -> None:
    sock, sender, _, target, receiver = await scripted()
    sender._segments = True
    batch = batch_of(5, 500, last=20)
    sock.script.append(OSError(refusal, "no"))
    assert sender.send(batch, target.addr)
    assert sock.calls == 6
    assert sender.send(batch, target.addr)
    assert sock.calls == 11  # not tried again
    await receiver.until(datagrams=10)
    assert receiver.datagrams == batch * 2
    close(sender, target)


@pytest.mark.parametrize("refusal", [errno.EMSGSIZE, errno.EINVAL])
async def test_a_batch_too_large_for_the_path_does_not_end_segmenting(refusal: int) -> None:
    sock, sender, _, target, receiver = await scripted()
    if not sender._segments:
        close(sender, target)
        pytest.skip("no segmentation offload here")
    too_large = OSError(errno.EMSGSIZE, "too long")
    sock.script.extend([OSError(refusal, "no"), too_large, too_large, None])
    assert sender.send(batch_of(3, 500, last=20), target.addr)
    await receiver.until(datagrams=1)  # the last one fits
    assert len(receiver.datagrams[0]) == 20
    assert sender.send(batch_of(3, 500), target.addr)
    await receiver.until(datagrams=4)
    assert sock.calls == 5
    close(sender, target)


@pytest.mark.parametrize(
    "error", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.ENOBUFS]
)
@pytest.mark.parametrize("count", [1, 3])
async def test_errors_lose_datagrams_not_the_socket(error: int, count: int) -> None:
    sock, sender, _, target, receiver = await scripted()
    sock.script.append(OSError(error, "lost"))
    assert sender.send([b"lost"] * count, target.addr)
    assert sender.send([b"next"], target.addr)
    await receiver.until(datagrams=1)
    assert receiver.datagrams[-1] == b"next"
    close(sender, target)


async def test_asyncio_endpoint_stops_the_sender_and_starts_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "_WAITING_HIGH", 1000)
    monkeypatch.setattr(udp, "MAX_WAITING", 2000)
    sender, target, receiver = await pair("endpoint", monkeypatch)
    assert isinstance(sender, EndpointSocket)
    reports, choked = Receiver(), deque([BlockingIOError()])
    sender.attach(reports)
    transport_sock = sender._transport._sock
    sender._transport._sock = Choke(transport_sock, choked)
    assert not sender.send([b"a" * 600, b"b" * 600], target.addr)
    assert not sender.send([b"c" * 900], target.addr)  # too much: dropped
    await reports.until(writable=1)
    sender.error_received(OSError("refused"))
    await asyncio.sleep(0)
    assert reports.writable_calls == 1
    assert sender.send([b"d"], target.addr)
    await receiver.until(datagrams=3)
    assert [datagram[:1] for datagram in receiver.datagrams] == [b"a", b"b", b"d"]
    for stopped in (False, True):  # at an error the Proactor's transport waits for more
        if stopped:
            choked.append(BlockingIOError())
            assert not sender.send([b"e" * 1001], target.addr)
        sender.error_received(OSError("refused"))
        await asyncio.sleep(0)
        assert reports.writable_calls == 1 + stopped
    close(sender, target)


class Choke:
    """Around a socket: the next sends fail as told."""

    def __init__(self, sock: socket.socket, errors: deque[BlockingIOError]) -> None:
        self._sock, self._errors = sock, errors

    def sendto(self, data: bytes, addr: Any) -> int:
        if self._errors:
            raise self._errors.popleft()
        return self._sock.sendto(data, addr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Taken(socket.socket):
    """A socket that the system takes away."""

    def recvmsg(self, *args: Any) -> Any:
        raise OSError(errno.ENOTCONN, "taken away")

    recvfrom = recvmsg


async def test_a_socket_that_the_system_takes_away_is_closed_and_reported() -> None:
    receiver, sock = Receiver(), Taken(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(ANY4)
    taken = udp.SystemSocket(sock)
    taken.attach(receiver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"wake up", taken.addr)
        await receiver.dead.wait()
    assert isinstance(receiver.deaths[0], OSError)
    assert sock.fileno() == -1
    taken.close()
    assert len(receiver.deaths) == 1


async def test_so_is_asyncio_s(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, found = Receiver(), await opened("endpoint", ANY4, monkeypatch)
    assert isinstance(found, udp.EndpointSocket)
    found.attach(receiver)
    found._transport.abort()
    await asyncio.sleep(0.01)
    assert len(receiver.deaths) == 1
    other = await opened("endpoint", ANY4, monkeypatch)
    other.attach(receiver)
    other.close()
    await asyncio.sleep(0.01)
    assert len(receiver.deaths) == 1


async def test_a_dial_that_the_system_refuses_fails_at_once() -> None:
    async with Host() as host:
        started = asyncio.get_running_loop().time()
        with pytest.raises(DialError) as caught:
            await host.connect("/ip4/255.255.255.255/udp/4001/quic-v1")  # broadcasting takes an option of the socket
        assert asyncio.get_running_loop().time() - started < 5
    (error,) = caught.value.attempts.values()
    assert isinstance(error, OSError)

"""The TCP transport over real sockets: options, ports, refusals, and how connections end."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libp2p.connection import Direction, RawConnection
from libp2p.errors import LimitExceeded, ListenError, StageTimeout
from libp2p.multiaddr import Multiaddr, host_port, is_loopback
from libp2p.testing.transports import AcceptAll, RawUpgrader, context
from libp2p.transports.tcp import Tcp, TcpConfig
from libp2p.transports.tcp.acceptor import Acceptor, _last_descriptor

pytestmark = pytest.mark.real

ANY4, ANY6 = Multiaddr("/ip4/127.0.0.1/tcp/0"), Multiaddr("/ip6/::1/tcp/0")


class Stuck(RawUpgrader):
    """Its handshakes with who dials in never end, and tidy up when cancelled, as the real one's do."""

    async def upgrade(self, raw: RawConnection, direction: Direction, **_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raw.abort()
            raise


class Accepted(AcceptAll):
    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Queue[Any] = asyncio.Queue()
        self.failed: list[Exception] = []

    def connection_opened(self, connection: Any, scope: Any) -> None:
        self.opened.put_nowait(connection)

    def connection_failed(self, local_addr: Multiaddr, remote_addr: Multiaddr, error: Exception) -> None:
        self.failed.append(error)


def tcp(config: TcpConfig | None = None, upgrader: Any = None) -> Any:
    return Tcp(config).use(context(upgrader=upgrader or RawUpgrader()))


def sock_of(connection: Any) -> socket.socket:
    return connection._transport.get_extra_info("socket")  # type: ignore[no-any-return]


def port(addr: Multiaddr) -> int:
    return host_port(addr).port


def end(*connections: Any) -> None:
    for connection in connections:
        connection.abort()


@asynccontextmanager
async def connected(addr: Multiaddr = ANY4, transport: Any = None) -> AsyncIterator[tuple[Any, Any]]:
    """Both ends of a connection; the listener is closed already."""
    accepted = Accepted()
    listener = await tcp().listen(addr, accepted)
    dialed = await (transport or tcp()).dial(listener.addrs[0], None)
    inbound = await accepted.opened.get()
    await listener.close()
    try:
        yield dialed, inbound
    finally:
        end(dialed, inbound)


@pytest.mark.parametrize("addr", [ANY4, ANY6])
async def test_small_writes_are_sent_at_once_on_both_sides(addr: Multiaddr) -> None:
    async with connected(addr) as both:
        for connection in both:
            assert sock_of(connection).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_wildcard_address_is_resolved_to_those_of_the_machine() -> None:
    for wildcard, loopback in (("/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1"), ("/ip6/::/tcp/0", "/ip6/::1")):
        accepted, transport = Accepted(), tcp()
        listener = await transport.listen(Multiaddr(wildcard), accepted)
        (number,) = {port(addr) for addr in listener.addrs}
        assert number
        assert Multiaddr(f"{loopback}/tcp/{number}") in listener.addrs
        for addr in listener.addrs:
            if is_loopback(addr):
                end(await tcp().dial(addr, None), await accepted.opened.get())
        await listener.close()


async def test_ip4_and_ip6_share_no_port_state() -> None:
    transport = tcp()
    first = await transport.listen(Multiaddr("/ip4/0.0.0.0/tcp/0"), Accepted())
    second = await transport.listen(Multiaddr(f"/ip6/::/tcp/{port(first.addrs[0])}"), Accepted())
    assert {port(addr) for addr in (*first.addrs, *second.addrs)} == {port(first.addrs[0])}
    await first.close()
    await second.close()


@pytest.mark.parametrize("reuse", [True, False])
async def test_a_port_that_somebody_has_is_refused(reuse: bool) -> None:
    config = TcpConfig(reuse_port=reuse)
    listener = await tcp(config).listen(ANY4, Accepted())
    taken = listener.addrs[0]
    for transport in (tcp(config), tcp()):
        with pytest.raises(ListenError, match="in use") as caught:
            await transport.listen(taken, Accepted())
        assert isinstance(caught.value.__cause__, OSError)
        assert str(taken) in str(caught.value)
    await listener.close()


async def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ListenError, match="203\\.0\\.113\\.7"):
        await tcp().listen(Multiaddr("/ip4/203.0.113.7/tcp/0"), Accepted())


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system can't share ports")
async def test_dials_come_from_the_port_of_the_listener() -> None:
    for reuse in (True, False):
        transport = tcp(TcpConfig(reuse_port=reuse))
        listener = await transport.listen(ANY4, Accepted())
        async with connected(transport=transport) as (dialed, inbound):
            assert (port(inbound.remote_addr) == port(listener.addrs[0])) is reuse
            assert dialed.local_addr == inbound.remote_addr
        async with connected(ANY6, transport=transport) as (_, inbound):
            assert port(inbound.remote_addr) != port(listener.addrs[0]), "of the other family"
        await listener.close()
        async with connected(transport=transport) as (_, inbound):
            assert port(inbound.remote_addr) != port(listener.addrs[0]), "the listener is gone"


async def test_a_second_dial_to_one_address_takes_another_port() -> None:
    target, accepted, transport = tcp(), Accepted(), tcp()
    listener, own = await target.listen(ANY4, accepted), await transport.listen(ANY4, Accepted())
    dialed = [await transport.dial(listener.addrs[0], None) for _ in range(3)]
    ports = [port(connection.local_addr) for connection in dialed]
    assert ports[0] == port(own.addrs[0])
    assert len(set(ports)) == 3
    end(*dialed, *[await accepted.opened.get() for _ in dialed])
    await listener.close()
    await own.close()


async def test_a_port_can_be_had_again_at_once() -> None:
    """In spite of connections in TIME_WAIT, and of one that is still open and shares the port."""
    accepted, transport = Accepted(), tcp()
    listener = await transport.listen(ANY4, accepted)
    addr = listener.addrs[0]
    lasting, lasting_inbound = await tcp().dial(addr, None), await accepted.opened.get()
    for _ in range(3):
        dialed, inbound = await tcp().dial(addr, None), await accepted.opened.get()
        await asyncio.gather(inbound.close(), dialed.close())
        await listener.close()
        listener = await transport.listen(addr, accepted)
        assert listener.addrs == (addr,)
    await lasting.write(b"still there")
    assert await lasting_inbound.readexactly(11) == b"still there"
    end(lasting, lasting_inbound)
    await listener.close()


async def test_nobody_listens() -> None:
    listener = await tcp().listen(ANY4, Accepted())
    (addr,) = listener.addrs
    await listener.close()
    with pytest.raises(ConnectionRefusedError):
        await tcp().dial(addr, None)


async def test_who_does_not_answer_costs_the_connect_timeout() -> None:
    """A listener whose backlog is full drops what comes next."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        addr = Multiaddr(f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}")
        async with connected():
            dials = [tcp(TcpConfig(connect_timeout=0.1)).dial(addr, None) for _ in range(4)]
            outcomes = await asyncio.gather(*dials, return_exceptions=True)
        timeouts = [outcome for outcome in outcomes if isinstance(outcome, StageTimeout)]
        assert timeouts
        assert timeouts[0].stage == "TCP connect"
        end(*(outcome for outcome in outcomes if not isinstance(outcome, BaseException)))


async def test_unfinished_handshakes_are_bounded() -> None:
    accepted = Accepted()
    listener = await tcp(TcpConfig(max_pending_inbound=3), Stuck()).listen(ANY4, accepted)
    dialed = [await tcp().dial(listener.addrs[0], None) for _ in range(4)]
    outcome = await asyncio.gather(dialed[3].read(1), return_exceptions=True)
    assert outcome == [b""] or isinstance(outcome[0], OSError)
    assert [type(error) for error in accepted.failed] == [LimitExceeded]
    assert "max_pending_inbound of 3" in str(accepted.failed[0])
    await listener.close()
    for connection in dialed[:3]:
        with pytest.raises((OSError, EOFError)):
            await asyncio.wait_for(connection.readexactly(1), 5)
    end(*dialed)


async def test_closing_a_listener_at_any_step_leaves_no_connection_open() -> None:
    for step in range(12):
        accepted = Accepted()
        listener = await tcp(upgrader=Stuck()).listen(ANY4, accepted)
        with socket.create_connection(("127.0.0.1", port(listener.addrs[0]))) as peer:
            for _ in range(step):
                await asyncio.sleep(0)
            await listener.close()
            peer.setblocking(False)
            try:
                left = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 1), 2)
            except ConnectionResetError:
                left = b""
            except TimeoutError:
                pytest.fail(f"still open when closed after {step} steps")
            assert left == b""


async def test_a_cancelled_listen_frees_the_port() -> None:
    for step in range(6):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = probe.getsockname()[1]
        listening = asyncio.ensure_future(tcp().listen(Multiaddr(f"/ip4/127.0.0.1/tcp/{number}"), Accepted()))
        for _ in range(step):
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening])
        if not listening.cancelled():
            await listening.result().close()
        await asyncio.sleep(0)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", number)) == errno.ECONNREFUSED, f"after {step} steps"


async def test_a_cancelled_dial_leaves_no_socket() -> None:
    accepted = Accepted()
    listener = await tcp().listen(ANY4, accepted)
    for step in range(10):
        dialing = asyncio.ensure_future(tcp().dial(listener.addrs[0], None))
        for _ in range(step):
            await asyncio.sleep(0)
        dialing.cancel()
        await asyncio.wait([dialing])
        if not dialing.cancelled():
            end(dialing.result())
    await asyncio.sleep(0.05)
    while not accepted.opened.empty():
        connection = accepted.opened.get_nowait()
        with pytest.raises((OSError, EOFError)):
            await asyncio.wait_for(connection.readexactly(1), 5)
        end(connection)
    await listener.close()


async def test_close_waits_for_a_slow_reader_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written gets there even where that takes longer than the peer is given to say goodbye."""
    monkeypatch.setattr("libp2p.transports.tcp.connection._LINGER", 0.05)
    accepted = Accepted()
    listener = await tcp().listen(ANY4, accepted)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", port(listener.addrs[0])))
        peer.setblocking(False)
        inbound = await accepted.opened.get()
        sock_of(inbound).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        inbound.send((bytes(150_000),))
        closing = asyncio.ensure_future(inbound.close())
        got = 0
        while data := await asyncio.get_running_loop().sock_recv(peer, 40_000):
            got += len(data)
            await asyncio.sleep(0.01)
        assert got == 150_000
    await closing
    await listener.close()


async def test_close_does_not_wait_for_a_reader_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p.transports.tcp.connection._LINGER", 0.1)
    async with connected() as (dialed, inbound):
        inbound.pause_reading()
        dialed.send((bytes(20_000_000),))
        await asyncio.wait_for(dialed.close(), 5)


async def test_close_of_a_connection_that_the_peer_has_just_reset() -> None:
    async with connected() as (dialed, accepted):
        sock_of(accepted).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
        accepted.abort()
        await asyncio.sleep(0)  # now it has closed; the dialer's loop has not noticed
        await dialed.close()
        assert sock_of(dialed).fileno() == -1


async def test_without_descriptors_accepting_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("libp2p.transports.tcp.acceptor._PAUSE", 0.05)
    full = True
    asked = 0

    class Full(socket.socket):
        def accept(self) -> Any:
            nonlocal asked
            asked += 1
            if full:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    made = asyncio.Event()

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set()
            transport.abort()  # type: ignore[attr-defined]

    sock = Full()
    sock.bind(("127.0.0.1", 0))
    acceptor = Acceptor(sock, Told, pytest.fail)
    acceptor.start(8)
    with socket.create_connection(sock.getsockname()):
        await asyncio.sleep(0.2)
        assert 1 <= asked <= 5
        assert len(caplog.records) == 1, "one line, however many pauses"
        assert not made.is_set()
        full = False
        await asyncio.wait_for(made.wait(), 5)
    full = True
    with socket.create_connection(sock.getsockname()):
        await asyncio.sleep(0.02)
        acceptor.close()
        acceptor.close()
        asked = 0
        await asyncio.sleep(0.1)
        assert not asked, "closed within the pause"


async def test_accepting_pauses_before_the_descriptors_run_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("libp2p.transports.tcp.acceptor._PAUSE", 0.05)
    made = asyncio.Event()

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set()
            transport.abort()  # type: ignore[attr-defined]

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    acceptor = Acceptor(sock, Told, pytest.fail)
    monkeypatch.setattr("libp2p.transports.tcp.acceptor._last_descriptor", sock.fileno)
    acceptor.start(8)
    with socket.create_connection(sock.getsockname()) as refused:
        refused.setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(refused, 1), 5) == b""
        assert not made.is_set()
        assert ["descriptors" in text for text in caplog.messages] == [True]
    monkeypatch.setattr("libp2p.transports.tcp.acceptor._last_descriptor", lambda: 1 << 20)
    with socket.create_connection(sock.getsockname()):
        await asyncio.wait_for(made.wait(), 5)
    acceptor.close()


async def test_who_has_no_chance_is_closed_before_anything_is_made_of_it() -> None:
    made, asked = asyncio.Event(), list[Any]()

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set()
            transport.abort()  # type: ignore[attr-defined]

    def screen(addr: Any) -> bool:
        asked.append(addr)
        return len(asked) > 1

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    acceptor = Acceptor(sock, Told, pytest.fail, screen)
    acceptor.start(8)
    with socket.create_connection(sock.getsockname()) as refused:
        refused.setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(refused, 1), 5) == b""
        assert asked == [refused.getsockname()]
        assert not made.is_set()
    with socket.create_connection(sock.getsockname()):
        await asyncio.wait_for(made.wait(), 5)
    acceptor.close()


def test_some_descriptors_are_kept_for_other_things() -> None:
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft * 3 // 4 < _last_descriptor() < soft


@pytest.mark.parametrize("code", [errno.EBADF, errno.EINVAL])
async def test_a_socket_that_is_none_any_more_ends_its_listener_which_says_so(code: int) -> None:
    class Dying(Accepted):
        died: tuple[Any, Exception] | None = None

        def listener_died(self, listener: Any, error: Exception) -> None:
            self.died = listener, error

    accepted = Dying()
    listener = await tcp().listen(ANY4, accepted)
    acceptor = listener._lease._port._server

    class Gone:
        def __init__(self, sock: socket.socket) -> None:
            self.fileno, self.close = sock.fileno, sock.close

        def accept(self) -> Any:
            raise OSError(code, "gone")

    acceptor._sock = Gone(acceptor._sock)
    acceptor._accept()
    assert accepted.died is not None
    assert accepted.died[0] is listener
    await listener.close()


async def test_an_error_of_one_connection_ends_no_listener() -> None:
    accepted = Accepted()
    listener = await tcp().listen(ANY4, accepted)
    acceptor = listener._lease._port._server
    sock = acceptor._sock

    class Refusing:
        def accept(self) -> Any:
            raise OSError(errno.EPROTO, "the network is odd")

    acceptor._sock = Refusing()
    acceptor._accept()
    acceptor._sock = sock
    end(await tcp().dial(listener.addrs[0], None), await accepted.opened.get())
    await listener.close()

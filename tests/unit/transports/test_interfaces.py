"""The list of this machine's addresses: kept, read again after a change, and there while the system does not answer."""

import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest

from libp2p.host import Host
from libp2p.host.events import AddrsChanged
from libp2p.multiaddr import Multiaddr
from libp2p.swarm.events import ListenAddrAdded
from libp2p.transports.interfaces import Interfaces


class System:
    """A machine whose addresses change."""

    def __init__(self) -> None:
        self.ips = ["127.0.0.1", "10.0.0.7", "::1", "fe80::1", "2001:db8::7"]
        self.error: OSError | None = None
        self.reads = 0

    def read(self) -> list[str]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return list(self.ips)


@pytest.fixture
def system() -> System:
    return System()


async def polled(system: System, changes: list[int]) -> Interfaces:
    subject = Interfaces(read=system.read, open_changes=lambda: None, clock=asyncio.get_running_loop().time)
    subject.on_change = lambda: changes.append(system.reads)
    return subject


async def test_the_list_is_read_once_between_changes(system: System) -> None:
    changes: list[int] = []
    subject = await polled(system, changes)
    for _ in range(100):
        assert subject.ips("ip4") == ("127.0.0.1", "10.0.0.7")
        assert subject.ips("ip6") == ("::1", "2001:db8::7")  # no link-local one
    assert system.reads == 1
    system.ips.append("10.0.0.8")
    await asyncio.sleep(30)
    assert subject.ips("ip4")[-1] == "10.0.0.8"
    assert len(changes) == 1
    subject.close()
    reads = system.reads
    await asyncio.sleep(100)
    assert system.reads == reads


async def test_the_list_stays_while_the_system_does_not_answer(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    subject = await polled(system, [])
    before = subject.ips("ip4")
    system.error = OSError(24, "Too many open files")
    for _ in range(100):
        await asyncio.sleep(0.5)
        assert subject.ips("ip4") == before
    assert system.reads < 60
    assert "Too many open files" in caplog.text
    system.error = None
    system.ips = ["10.9.9.9"]
    await asyncio.sleep(11)
    assert subject.ips("ip4") == ("10.9.9.9",)
    subject.close()


async def test_unwatched_it_is_read_again_when_it_is_old(system: System) -> None:
    subject = Interfaces(read=system.read, clock=asyncio.get_running_loop().time)
    subject.ips("ip4")
    system.ips = ["10.9.9.9"]
    await asyncio.sleep(9)
    assert subject.ips("ip4") == ("127.0.0.1", "10.0.0.7")
    await asyncio.sleep(2)
    assert subject.ips("ip4") == ("10.9.9.9",)


@pytest.fixture
def news() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setblocking(False)
    yield left, right
    left.close()
    right.close()


@pytest.mark.real
async def test_a_burst_of_news_is_one_reading(system: System, news: tuple[socket.socket, socket.socket]) -> None:
    subject = Interfaces(read=system.read, open_changes=lambda: news[0])
    changed = asyncio.Event()
    subject.on_change = changed.set
    subject.ips("ip4")
    system.ips = ["10.9.9.9"]
    for _ in range(100):
        news[1].send(b"something has changed")
    await asyncio.wait_for(changed.wait(), 10)
    assert subject.ips("ip4") == ("10.9.9.9",)
    assert system.reads == 2
    subject.close()
    assert news[0].fileno() == -1


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
async def test_a_host_is_told_of_the_machines_new_address() -> None:
    async with Host(listen_addrs=["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"]) as host:
        changed = asyncio.Event()
        added: list[Multiaddr] = []

        def note(event: AddrsChanged) -> None:
            added.extend(event.added)
            changed.set()

        host.events.on(AddrsChanged, note)
        listened: list[ListenAddrAdded] = []
        host.events.on(ListenAddrAdded, listened.append)
        interfaces = host._interfaces
        before = host.addrs
        real = interfaces._read
        interfaces._read = lambda: [*real(), "10.77.77.77"]
        assert host.addrs == before
        interfaces._told()  # what the netlink socket's reader calls
        await asyncio.wait_for(changed.wait(), 10)
        await asyncio.sleep(0)
        assert {addr[0].value for addr in added} == {"10.77.77.77"}
        assert len(host.addrs) == len(before) + 2
        assert {event.addr for event in listened} == set(added)
        assert host.listen_addrs == [addr.without_peer() for addr in host.addrs]
    assert interfaces._changes is None

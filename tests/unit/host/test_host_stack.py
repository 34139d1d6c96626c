"""What a host is made of: transports, security, muxers, a private network."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from libp2p.connection import Accept, Connection, DialOptions, Listener, Muxer, SecurityProtocol, Stream, Transport
from libp2p.errors import DialError, HandshakeError, Libp2pError, LocalProtocolError, StageTimeout
from libp2p.host import Host
from libp2p.identity import PeerId, PrivateKey
from libp2p.multiaddr import Multiaddr
from libp2p.muxers.mplex import Mplex
from libp2p.muxers.yamux import Yamux
from libp2p.security.noise import Noise
from libp2p.security.plaintext import InsecurePlaintext
from libp2p.security.pnet import PrivateNetwork
from libp2p.security.tls import Tls
from libp2p.transports.memory import MemoryTransport

OURS, THEIRS = PrivateNetwork(bytes(range(32))), PrivateNetwork(bytes(31) + b"\1")


class SecureFromBirth(Transport):
    """A transport that asks nobody for an upgrade."""

    def can_dial(self, addr: Multiaddr) -> bool:
        raise NotImplementedError

    def can_listen(self, addr: Multiaddr) -> bool:
        raise NotImplementedError

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        raise NotImplementedError

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        raise NotImplementedError


async def talk(listener: Host, dialer: Host) -> Connection:
    """One question and its answer; the connection they went over."""

    @listener.handle("/echo/1.0.0")
    async def echo(stream: Stream) -> None:
        async for chunk in stream:
            await stream.write(chunk)

    async with await dialer.new_stream(listener.addrs[0], "/echo/1.0.0") as stream:
        await stream.write(b"hello")
        await stream.close_write()
        assert await stream.read() == b"hello"
        return stream.connection


@pytest.mark.parametrize(
    ("dialers", "listeners", "security", "muxer"),
    [
        (([Noise(), Tls()], [Yamux()]), ([Tls(), Noise()], [Yamux()]), "/noise", "/yamux/1.0.0"),
        (([Tls(), Noise()], [Mplex(), Yamux()]), ([Noise(), Tls()], [Yamux(), Mplex()]), "/tls/1.0.0", "/mplex/6.7.0"),
        (([Noise()], [Mplex()]), ([Tls(), Noise()], [Yamux(), Mplex()]), "/noise", "/mplex/6.7.0"),
        (([Tls()], [Yamux()]), ([Noise(), Tls()], [Yamux()]), "/tls/1.0.0", "/yamux/1.0.0"),
        (([InsecurePlaintext()], [Yamux()]), ([InsecurePlaintext()], [Yamux()]), "/plaintext/2.0.0", "/yamux/1.0.0"),
    ],
)
async def test_the_dialer_s_first_choice_that_the_listener_has_is_taken(
    dialers: tuple[Sequence[SecurityProtocol], Sequence[Muxer]],
    listeners: tuple[Sequence[SecurityProtocol], Sequence[Muxer]],
    security: str,
    muxer: str,
) -> None:
    async with (
        Host(listen_addrs=["/memory/0"], security=listeners[0], muxers=listeners[1]) as listener,
        Host(security=dialers[0], muxers=dialers[1]) as dialer,
    ):
        connection = await talk(listener, dialer)
        assert (connection.security, connection.muxer) == (security, muxer)


async def test_plaintext_is_no_default() -> None:
    async with Host(listen_addrs=["/memory/0"]) as listener, Host(security=[InsecurePlaintext()]) as dialer:
        with pytest.raises(DialError, match="supports none of: /plaintext"):
            await dialer.connect(listener.addrs[0])


async def test_members_of_a_private_network_talk() -> None:
    async with (
        Host(listen_addrs=["/memory/0"], private_network=OURS) as listener,
        Host(private_network=PrivateNetwork(bytes(range(32)))) as dialer,
    ):
        assert (await talk(listener, dialer)).security == "/noise"


@pytest.mark.parametrize(
    ("one", "other", "error"),
    [
        (OURS, THEIRS, HandshakeError),
        (OURS, None, (Libp2pError, OSError)),  # what it reads is noise to it, if it comes to reading
        (None, OURS, (HandshakeError, StageTimeout)),  # to a stranger our greeting is noise, which it may sit out
    ],
)
async def test_nobody_else_does(
    one: PrivateNetwork | None, other: PrivateNetwork | None, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    async with Host(listen_addrs=["/memory/0"], private_network=one) as listener, Host(private_network=other) as dialer:
        with pytest.raises(DialError) as caught:
            await dialer.connect(listener.addrs[0])
        (attempt,) = caught.value.attempts.values()
        assert isinstance(attempt, error)
        assert not listener.connections


def test_a_private_network_refuses_what_it_cannot_hide() -> None:
    with pytest.raises(ValueError, match="SecureFromBirth has no raw connections"):
        Host(transports=[SecureFromBirth()], private_network=OURS)


@pytest.mark.real
async def test_hosts_meet_on_every_default_transport(tmp_path: Path) -> None:
    addrs = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", f"/unix{tmp_path}/one.sock", "/memory/0"]
    async with Host(listen_addrs=addrs) as listener:

        @listener.handle("/hello/1.0.0")
        async def hello(stream: Stream) -> None:
            await stream.write(b"hello")

        assert [addr.peer_id_text or "none" for addr in listener.addrs].count(str(listener.id)) == len(addrs) - 1
        for addr in listener.addrs:
            async with Host() as dialer, await dialer.new_stream(addr, "/hello/1.0.0") as stream:
                assert await stream.read() == b"hello"
                assert stream.connection.remote_peer == listener.id


async def test_a_transport_serves_one_host() -> None:
    transport: Any = MemoryTransport()
    with pytest.raises(LocalProtocolError, match="no host's yet"):
        await transport.listen(Multiaddr("/memory/0"), None)
    Host(transports=[transport])
    with pytest.raises(LocalProtocolError, match="another host's already"):
        Host(transports=[transport])


async def test_what_a_host_knows_of_peers_expires_by_the_time_of_its_loop() -> None:
    host = Host(transports=[])
    peer = PrivateKey.generate().public_key.peer_id
    host.peerstore.add_addrs(peer, [Multiaddr("/ip4/192.0.2.1/tcp/1")], 60)
    await asyncio.sleep(59)
    assert host.peerstore.addrs(peer)
    await asyncio.sleep(2)
    assert not host.peerstore.addrs(peer)


def test_a_host_can_be_told_of_peers_where_no_loop_runs() -> None:
    host = Host(transports=[])
    peer = PrivateKey.generate().public_key.peer_id
    host.peerstore.add_addrs(peer, [Multiaddr("/ip4/192.0.2.1/tcp/1")], 60)
    assert host.peerstore.addrs(peer)

"""The networking of a consensus node: who is on our chain stays, who is not is told goodbye.

python consensus_node.py HEX_KEY FORK PORT [ADDRESS...]     the addresses, QUIC and TCP, of one static peer
"""

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import IntEnum

from libp2p import (
    Connection,
    ConnectionOpened,
    Direction,
    Host,
    KeyType,
    Libp2pError,
    PeerDisconnected,
    PeerId,
    PrivateKey,
    RemoteProtocolError,
    Stream,
)
from libp2p.protocols.pubsub.snappy import compress, decompress
from libp2p.transports.quic import Quic, QuicConfig
from libp2p.transports.tcp import Tcp

PROTOCOL = "/eth2/beacon_chain/req/{}/1/ssz_snappy"
PATIENCE, MAX_CHUNK = 10.0, 10 << 20
OK, INVALID_REQUEST = b"\0", b"\1"  # what stands before each chunk of a response
Goodbye = IntEnum("Goodbye", {"SHUTDOWN": 1, "IRRELEVANT_NETWORK": 2, "FAULT": 3, "TOO_MANY_PEERS": 129})


async def read_ssz(stream: Stream, limit: int) -> bytes:
    """At most `limit` bytes: what is more, or unpacks to more, is refused before it is in memory."""
    return decompress(await stream.read_message(limit=32 + limit + limit // 6), limit=limit)


class Node:
    def __init__(self, hex_key: str, fork: str, listen: list[str], *, max_peers: int = 50) -> None:
        key = PrivateKey(KeyType.SECP256K1, bytes.fromhex(hex_key))
        # QUIC is dialed first, TCP a moment later. Over QUIC a peer that is silent for 6 s is gone.
        self.host = Host(key, listen, transports=[Quic(QuicConfig(idle_timeout=6, keep_alive=2)), Tcp()])
        self.fork, self.head, self.max_peers = bytes.fromhex(fork), 0, max_peers
        self.peers: dict[PeerId, int] = {}  # those on our chain, and the slots of their heads
        self.serve("status", self.on_status, limit=12)
        self.serve("goodbye", self.on_goodbye, limit=8)
        self.host.events.on(ConnectionOpened, lambda event: self.host.spawn(self.greet(event.connection), name="greet"))
        self.host.events.on(PeerDisconnected, lambda event: self.peers.pop(event.peer, None))

    # Requests, and responses of any number of chunks

    def serve(self, name: str, handler: Callable[[PeerId, bytes], Awaitable[list[bytes]]], *, limit: int) -> None:
        async def answer(stream: Stream) -> None:
            async with asyncio.timeout(PATIENCE):
                try:
                    ssz = await read_ssz(stream, limit)
                    chunks = [OK + chunk for chunk in await handler(stream.connection.remote_peer, ssz)]
                except (RemoteProtocolError, ValueError) as error:
                    chunks = [INVALID_REQUEST + str(error).encode()[:256]]
                for chunk in chunks:
                    await stream.write(chunk[:1])
                    await stream.write_message(compress(chunk[1:]))

        self.host.handle(PROTOCOL.format(name), answer)

    async def request(self, peer: PeerId, name: str, ssz: bytes, limit: int = MAX_CHUNK) -> list[bytes]:
        """The chunks of the response. Never dials: who is not connected is not asked."""
        chunks: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            async with await self.host.new_stream(peer, PROTOCOL.format(name), dial=False) as stream:
                await stream.write_message(compress(ssz))
                await stream.close_write()
                while code := await stream.read(1):
                    chunks.append(await read_ssz(stream, limit if code == OK else 256))
                    if code != OK:
                        raise RemoteProtocolError(f"{name}: {chunks[-1].decode(errors='replace')}")
        return chunks

    # Status and goodbye

    async def greet(self, connection: Connection) -> None:
        """Who has dialed tells its status; who does not, within a while, is no node of ours."""
        peer = connection.remote_peer
        try:
            if len(self.host.peers) > self.max_peers:
                await self.leave(peer, Goodbye.TOO_MANY_PEERS)
            elif connection.direction is Direction.OUTBOUND:
                for status in await self.request(peer, "status", self.status(), limit=12):
                    self.judge(peer, status)
            else:
                await asyncio.sleep(PATIENCE)
        except (Libp2pError, TimeoutError, ValueError) as error:
            print("no status:", peer, error)
        if peer not in self.peers:
            await self.leave(peer, Goodbye.FAULT)

    def status(self) -> bytes:
        return struct.pack("<4sQ", self.fork, self.head)

    def judge(self, peer: PeerId, status: bytes) -> None:
        fork, head = struct.unpack("<4sQ", status)
        if fork != self.fork:
            self.host.spawn(self.leave(peer, Goodbye.IRRELEVANT_NETWORK), name="leave")
        else:
            print("on our chain:", peer)
            self.peers[peer] = head

    async def on_status(self, peer: PeerId, ssz: bytes) -> list[bytes]:
        self.judge(peer, ssz)
        return [self.status()]

    async def on_goodbye(self, peer: PeerId, ssz: bytes) -> list[bytes]:
        print("goodbye:", peer, Goodbye(*struct.unpack("<Q", ssz)).name)
        return []

    async def leave(self, peer: PeerId, code: Goodbye) -> None:
        with suppress(Libp2pError, TimeoutError):
            await self.request(peer, "goodbye", struct.pack("<Q", code))
        await self.host.disconnect(peer, code.name)


async def main(hex_key: str, fork: str, port: str, *static: str) -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    node = Node(hex_key, fork, [f"/ip4/127.0.0.1/udp/{port}/quic-v1", f"/ip4/127.0.0.1/tcp/{port}"])
    async with node.host as host:
        print(*host.addrs)
        kept = host.keep(static) if static else None  # dialed again for as long as we live
        await asyncio.to_thread(sys.stdin.readline)
        if kept:
            kept.close()
        await asyncio.gather(*(node.leave(peer, Goodbye.SHUTDOWN) for peer in host.peers))
        for protocol, traffic in host.traffic.items():
            print(f"{protocol}: {traffic.bytes_read} bytes in, {traffic.bytes_written} out")


asyncio.run(main(*sys.argv[1:]))

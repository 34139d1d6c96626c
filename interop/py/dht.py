"""A server of the older Python's DHT that does what it is told on stdin, one command a line, and ends with it.

../README.md has the commands. Called with where to listen. The protocol is always `/ipfs/kad/1.0.0`: this library has
no way to speak another.
"""

from __future__ import annotations

import sys

import trio
from libp2p.abc import IHost
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID as PeerID  # noqa: N811
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.records.validator import Validator
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.quic.config import QUICTransportConfig
from multiaddr import Multiaddr
from peer import running_host

PATIENCE = 20  # seconds for what one command does


class Largest(Validator):  # type: ignore[misc]
    """Any value under /v/, the largest is the best."""

    def validate(self, key: str, value: bytes) -> None:
        pass

    def select(self, key: str, values: list[bytes]) -> int:  # noqa: ARG002
        return values.index(max(values))


async def obey(host: IHost, dht: KadDHT, words: list[str]) -> list[str]:
    match words:
        case ["connect", addr]:
            info = info_from_p2p_addr(Multiaddr(addr))
            await host.connect(info)
            await dht.add_peer(info.peer_id)
            return []
        case ["provide", cid, _]:
            if not await dht.provide(cid):
                raise ConnectionError("nobody took it")
            return []
        case ["find-providers", cid, _]:
            return [str(info.peer_id) for info in await dht.find_providers(cid, 1)]
        case ["put", key, value]:
            await dht.put_value(bytes.fromhex(key).decode(), bytes.fromhex(value))
            return []
        case ["get", key]:
            found = await dht.get_value(bytes.fromhex(key).decode())
            return [] if found is None else [found.hex()]
        case ["find-peer", peer]:
            info = await dht.find_peer(PeerID.from_string(peer))
            return [] if info is None else [str(addr) for addr in info.addrs]
    raise ValueError(f"what is {words}?")


async def main(listen: str) -> None:
    options = {"enable_quic": True, "quic_transport_opt": QUICTransportConfig()} if "quic" in listen else {}
    async with running_host(listen, **options) as host:
        dht = KadDHT(host, DHTMode.SERVER)
        dht.register_validator("v", Largest())
        async with background_trio_service(dht):
            print(host.get_addrs()[0], flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                try:
                    with trio.fail_after(PATIENCE):
                        for answer in await obey(host, dht, line.split()):
                            print(answer)
                except Exception as error:
                    print(f"error {type(error).__name__}: {error}".replace("\n", "; "))
                print("done", flush=True)


trio.run(main, sys.argv[1])

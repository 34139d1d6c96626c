"""What a host keeps from one run to the next: `Host(data_dir=...)`.

    <data_dir>/key            the private key: made at the first start, read only where nobody else can read it
    <data_dir>/peers.sqlite   the peer store
    <data_dir>/ports.json     the ports of addresses to listen on that leave them open: {"/ip4/.../tcp/0": 40123}

Rules:
- The directory is made where it is missing, for its owner only. One process at a time uses it.
- A port that somebody else has by now is given up for another.
- The peers that were connected last are dialed at the start, a few at a time; who does not answer is tried again after
  pauses, some times only: they may be gone for good.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..errors import Libp2pError, ListenError
from ..identity import PeerId, PrivateKey, load_or_create_private_key
from ..multiaddr import Multiaddr
from ..peerstore import PeerStore, SqlitePeerStore
from ..swarm import Swarm
from .keeping import RedialBackoff

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
"""Dials of a peer from before, at the start."""
_PARALLEL = 4
"""Of these at a time."""


class DataDir:
    """The directory `path`. Raises `OSError` where it can't be made."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def key(self) -> PrivateKey:
        """The host's key. Raises what `load_or_create_private_key` does."""
        return load_or_create_private_key(self.path / "key")

    def peerstore(self, clock: Callable[[], float], wall_clock: Callable[[], float] = time.time) -> PeerStore:
        """The peer store, to be opened and closed."""
        return SqlitePeerStore(self.path / "peers.sqlite", clock=clock, wall_clock=wall_clock)

    async def listen(self, swarm: Swarm, addr: Multiaddr) -> None:
        """Listen on `addr`, at the port that it had before where it leaves that open. Raises `ListenError`."""
        if (transport := _open_port(addr)) is None:
            await swarm.listen(addr)
            return
        ports = await asyncio.to_thread(self._ports)
        if (port := ports.get(str(addr))) is not None:
            try:
                await swarm.listen(_with_port(addr, transport, port))
            except ListenError as error:
                logger.debug("%s gets a new port: %s", addr, error)
            else:
                return
        listener = await swarm.listen(addr)
        if listener.addrs and (value := listener.addrs[0].get(transport)) is not None:
            ports[str(addr)] = int(value)
            await asyncio.to_thread(self._keep_ports, ports)

    def _ports(self) -> dict[str, int]:
        try:
            found = json.loads((self.path / "ports.json").read_text())
        except (OSError, ValueError):
            return {}
        return {key: port for key, port in found.items() if isinstance(port, int)} if isinstance(found, dict) else {}

    def _keep_ports(self, ports: dict[str, int]) -> None:
        new = self.path / "ports.json.new"
        new.write_text(json.dumps(ports))
        new.replace(self.path / "ports.json")


async def dial_again(
    peerstore: PeerStore,
    dial: Callable[[PeerId], Awaitable[object]],
    *,
    count: int,
    backoff: RedialBackoff,
    dice: Callable[[], float],
) -> None:
    """Dial the `count` peers that were connected last before this start."""
    gate = asyncio.Semaphore(_PARALLEL)

    async def one(peer: PeerId) -> None:
        for failures in range(1, _ATTEMPTS + 1):
            try:
                async with gate:
                    await dial(peer)
            except (Libp2pError, OSError) as error:
                logger.debug("%s, connected before, is not reached: %s", peer.short, error)
            else:
                return
            await asyncio.sleep(backoff.wait(failures, dice()))

    async with asyncio.TaskGroup() as group:
        for peer in await peerstore.recent(count):
            group.create_task(one(peer), name=f"dial {peer.short} again")


def _open_port(addr: Multiaddr) -> str | None:
    """The protocol whose port is left open: `tcp` or `udp`."""
    return next((part.name for part in addr if part.name in ("tcp", "udp") and part.value == "0"), None)


def _with_port(addr: Multiaddr, transport: str, port: int) -> Multiaddr:
    return Multiaddr(str(addr).replace(f"/{transport}/0", f"/{transport}/{port}", 1))

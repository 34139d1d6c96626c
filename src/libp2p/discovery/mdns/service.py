"""mDNS: peers of the local network find each other. Spec: libp2p/specs, discovery/mdns.md. Needs the extra `mdns`.

Rules:
- `zeroconf` speaks DNS: it answers queries for the service (our own too), the list of services, and each record.
- Each peer found is a `PeerDiscovered` event, its addresses are in the peer store for a while; nobody is dialed.
- An address that changes is told again.
- A peer's answer comes with its TXT records, one or several (rust-libp2p: one for each address), and under a name that
  may lie outside the service (rust-libp2p: another one in each answer). Where none came they are asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING

from ...connection import Service, ServiceHost
from ...identity import PeerId
from ...multiaddr import Multiaddr, Reach, ip_of, is_unspecified
from ...peerstore import RECENTLY_CONNECTED_ADDR_TTL
from ...routing import PeerDiscovered, PeerInfo
from ...swarm.events import ListenAddrAdded, ListenAddrRemoved
from .core import decode, encode, instance_name, service_name

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

logger = logging.getLogger(__name__)

_DEFAULT_PORT = 4001
_TXT, _IN = 16, 1
"""Type and class of TXT records (RFC 1035, 3.2)."""
_LOOKUP_TIMEOUT = 3000
"""Milliseconds for asking a peer for its TXT record."""


@dataclass(frozen=True, slots=True)
class MdnsConfig:
    """Settings of mDNS."""

    interfaces: Sequence[str] | None = None
    """IP addresses of the interfaces to speak on; None: all."""
    network: bytes | None = None
    """The fingerprint of a private network: its peers don't meet others."""
    max_peers: int = 1000
    """Peers that are remembered; one that was forgotten is told of again when it is seen again."""
    max_lookups: int = 32
    """Peers whose records are asked for at a time; further ones are dropped, and seen again later."""


class Mdns(Service):
    """Tells the local network of this peer, and finds the others there. Raises `ImportError` without the extra."""

    def __init__(self, host: ServiceHost, config: MdnsConfig | None = None) -> None:
        from zeroconf import asyncio as _  # noqa: F401, PLC0415 - an extra, and slow to load

        super().__init__(host)
        self.config = config or MdnsConfig()
        self._service = service_name(self.config.network)
        self._instance = instance_name(SystemRandom())
        self._zeroconf: AsyncZeroconf | None = None
        self._told: AsyncServiceInfo | None = None
        self._changed = asyncio.Event()
        self._peers: OrderedDict[PeerId, tuple[Multiaddr, ...]] = OrderedDict()
        self._lookups = 0

    async def start(self) -> None:
        """Speak on the local network."""
        from zeroconf import InterfaceChoice  # noqa: PLC0415
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf  # noqa: PLC0415

        interfaces = self.config.interfaces
        self._zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All if interfaces is None else list(interfaces))
        self.follow(ListenAddrAdded, lambda _: self._changed.set())
        self.follow(ListenAddrRemoved, lambda _: self._changed.set())
        self._changed.set()
        self.spawn(self._tell(), name="telling")
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, self._service, handlers=[self._seen])

    async def stop(self) -> None:
        """Say goodbye, so that others forget us at once."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            await zeroconf.async_close()

    @property
    def peers(self) -> list[PeerInfo]:
        """The peers found lately."""
        return [PeerInfo(peer, addrs) for peer, addrs in self._peers.items()]

    async def _tell(self) -> None:
        """Register what we are, and again whenever our addresses change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            zeroconf = self._zeroconf
            info = self._info()
            if zeroconf is None or info is None:
                continue
            before, self._told = self._told, info
            if before is None:
                await (await zeroconf.async_register_service(info, strict=False))
            else:
                await (await zeroconf.async_update_service(info))

    def _info(self) -> AsyncServiceInfo | None:
        """Our records; None while there is no address to tell of."""
        from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

        addrs = [addr for addr in self.host.listen_addrs if not is_unspecified(addr)]
        text = encode(self.host.id, addrs)
        if not text:
            return None
        ips = [ip.packed for addr in addrs if (ip := ip_of(addr)) is not None and not ip.is_loopback]
        return AsyncServiceInfo(
            self._service,
            f"{self._instance}.{self._service}",
            port=_DEFAULT_PORT,
            properties=text,
            server=f"{self._instance}.local.",
            addresses=list(dict.fromkeys(ips))[:8],
        )

    def _seen(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        # It is there for all to use, only not in the list of names.
        from zeroconf import DNSText, ServiceStateChange  # type: ignore[attr-defined]  # noqa: PLC0415

        if name.startswith(self._instance) or state_change is ServiceStateChange.Removed:
            return
        records = zeroconf.cache.async_all_by_details(name, _TXT, _IN)
        if records:
            self._take(b"".join(record.text for record in records if isinstance(record, DNSText)))
            return
        if self._lookups >= self.config.max_lookups or not name.endswith(service_type):
            return
        self._lookups += 1
        if self.spawn(self._look_up(zeroconf, service_type, name), name="looking up a peer") is None:
            self._lookups -= 1

    async def _look_up(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo  # noqa: PLC0415

        try:
            info = AsyncServiceInfo(service_type, name)
            await info.async_request(zeroconf, _LOOKUP_TIMEOUT)
            if info.text:
                self._take(info.text)
        finally:
            self._lookups -= 1

    def _take(self, text: bytes) -> None:
        found = decode(text)
        if found is None or found[0] == self.host.id or not found[1]:
            return
        peer, addrs = found
        # Whoever is on the link may have said so: it is as far away as a neighbour.
        self.host.peerstore.add_addrs(peer, addrs, RECENTLY_CONNECTED_ADDR_TTL, told=Reach.LINK)
        if self._peers.get(peer) == addrs:
            return
        self._peers[peer] = addrs
        self._peers.move_to_end(peer)
        if len(self._peers) > self.config.max_peers:
            self._peers.popitem(last=False)
        self.host.events.emit(PeerDiscovered(PeerInfo(peer, addrs), "mdns"))

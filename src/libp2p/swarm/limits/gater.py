"""Who may connect, and be dialed: asked at the checkpoints that go-libp2p has.

    we dial     peer dial -> address dial -> (handshake) -> secured -> upgraded
    they dial                      accept -> (handshake) -> secured -> upgraded

Rules:
- A checkpoint refuses by raising; everything else passes. What is no `Libp2pError` is a fault of the gater's own: it is
  logged, and refuses too.
- Rules may change at any time; what is connected already stays.
- A relayed address is refused where its relay is, by address or peer, and where its target is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network

from ...callbacks import at_once, plain
from ...connection import Connection, Direction
from ...errors import Gated, Libp2pError
from ...identity import PeerId
from ...multiaddr import Multiaddr, ip_of

logger = logging.getLogger(__name__)


class Gater:
    """Who may connect, and be dialed: everybody, unless a subclass raises a `Libp2pError` that says why not."""

    def check_peer_dial(self, peer: PeerId) -> None:
        """May `peer` be dialed at all? Asked before its addresses are looked at."""

    def check_dial(self, peer: PeerId | None, addr: Multiaddr) -> None:
        """May `peer` (None: whoever is there) be dialed at `addr`?"""

    def check_accept(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:
        """May who connects from `remote_addr` begin a handshake?"""

    def check_peer(self, peer: PeerId, direction: Direction, remote_addr: Multiaddr) -> None:
        """May `peer`, which is proven, be connected?"""

    def check_upgraded(self, connection: Connection) -> None:
        """May the finished `connection` be used?"""


class RuleGater(Gater):
    """Refuses peers, networks, and what a function of yours refuses. All may be changed while the host runs.

    `allow` says whether a peer (None: not known yet) may be talked to at an address.
    """

    def __init__(self, allow: Callable[[PeerId | None, Multiaddr], bool] | None = None) -> None:
        self.allow = None if allow is None else plain(allow, "`allow`")
        self._peers: set[PeerId] = set()
        self._networks: set[IPv4Network | IPv6Network] = set()

    @property
    def blocked_peers(self) -> frozenset[PeerId]:
        """Peers that are refused."""
        return frozenset(self._peers)

    @property
    def blocked_networks(self) -> frozenset[IPv4Network | IPv6Network]:
        """Networks that are refused."""
        return frozenset(self._networks)

    def block_peer(self, peer: PeerId) -> None:
        """Refuse `peer`."""
        self._peers.add(peer)

    def unblock_peer(self, peer: PeerId) -> None:
        """Refuse it no longer."""
        self._peers.discard(peer)

    def block_network(self, network: str) -> None:
        """Refuse addresses in `network`, such as `198.51.100.0/24`. Raises `ValueError`."""
        self._networks.add(ip_network(network))

    def unblock_network(self, network: str) -> None:
        """Refuse it no longer. Raises `ValueError`."""
        self._networks.discard(ip_network(network))

    def check_peer_dial(self, peer: PeerId) -> None:
        self._check_peers((peer,))

    def check_dial(self, peer: PeerId | None, addr: Multiaddr) -> None:
        self._check(peer, addr)

    def check_accept(self, local_addr: Multiaddr, remote_addr: Multiaddr) -> None:  # noqa: ARG002
        self._check(None, remote_addr)

    def check_peer(self, peer: PeerId, direction: Direction, remote_addr: Multiaddr) -> None:  # noqa: ARG002
        self._check(peer, remote_addr)

    def _check(self, peer: PeerId | None, addr: Multiaddr) -> None:
        named = [PeerId.from_bytes(component.raw) for component in addr.components if component.name == "p2p"]
        self._check_peers(named if peer is None else (peer, *named))
        ip = ip_of(addr)
        if ip is not None and (network := next((one for one in self._networks if ip in one), None)) is not None:
            raise Gated(f"{addr}: the network {network} is blocked")
        if self.allow is not None and not at_once(self.allow(peer, addr), "`allow`"):
            raise Gated(f"{addr}: not allowed")

    def _check_peers(self, peers: tuple[PeerId, ...] | list[PeerId]) -> None:
        for peer in peers:
            if peer in self._peers:
                raise Gated(f"the peer {peer} is blocked")


def ask(checkpoint: Callable[[], object]) -> None:
    """Pass a checkpoint. Raises a `Libp2pError` in any case where it raises."""
    try:
        at_once(checkpoint(), "a gater's check")
    except Libp2pError:
        raise
    except Exception as error:
        logger.exception("a gater failed, which refuses")
        raise Gated(f"the gater failed: {error!r}") from error

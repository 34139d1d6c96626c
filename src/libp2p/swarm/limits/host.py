"""The limits of one host, as `host.limits`: what is in use, who is protected, what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from ...identity import PeerId
from ...io import MemoryAccount
from .config import SwarmConfig
from .connections import ConnectionLimits
from .explain import Explanation, Use
from .gater import Gater
from .refusals import Refusals
from .streams import StreamLimits
from .trim import PeerTags


class HostLimits:
    """What peers may take of a host. `clock` tells the time in seconds; `memory` is the host's account; `later` has
    something called after some seconds.
    """

    def __init__(
        self,
        config: SwarmConfig,
        gater: Gater,
        clock: Callable[[], float],
        memory: MemoryAccount,
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._memory = memory
        self._tags = PeerTags()
        self.refusals = Refusals()
        """What was refused, counted."""
        self.connections = ConnectionLimits(config, gater, self.refusals, clock, later)
        self.streams = StreamLimits(config, self.refusals, clock)

    @property
    def memory(self) -> int:
        """Bytes that are held for peers: see `MemoryAccount`."""
        return self._memory.used

    # What peers are worth

    def protect(self, peer: PeerId, tag: str) -> None:
        """Never close a connection to `peer` to make room, until every tag is taken back by `unprotect`."""
        self._tags.protect(peer, tag)

    def unprotect(self, peer: PeerId, tag: str) -> bool:
        """Take back one tag; whether others still protect `peer`."""
        return self._tags.unprotect(peer, tag)

    def protections(self, peer: PeerId) -> frozenset[str]:
        """The tags that protect `peer`."""
        return self._tags.protections(peer)

    def is_protected(self, peer: PeerId) -> bool:
        """Whether any tag protects `peer`."""
        return bool(self._tags.protections(peer))

    def tag(self, peer: PeerId, tag: str, value: float, *, half_life: float | None = None) -> None:
        """Connections to `peer` are worth `value` more, halved every `half_life` seconds (None: never): those worth the
        least are closed first. A tag that it has already is replaced. Raises `LimitExceeded` above 32 tags of a peer.
        """
        self._tags.tag(peer, tag, value, self._clock(), half_life=half_life)

    def untag(self, peer: PeerId, tag: str) -> None:
        """Take a tag away, if `peer` has it."""
        self._tags.untag(peer, tag)

    def value(self, peer: PeerId) -> float:
        """What the connections to `peer` are worth."""
        return self._tags.value(peer, self._clock())

    # What is in use

    def explain(self, *, most: int = 5) -> Explanation:
        """Who uses what: of prefixes, peers and protocols the `most` that use the most."""
        return Explanation(tuple(self._uses(most)), dict(self.refusals.counts))

    def _uses(self, most: int) -> Iterator[Use]:
        config, connections, streams = self._config, self.connections, self.streams
        yield Use("host", "max_connections", connections.established, config.max_connections)
        yield Use("host", "max_inbound_connections", connections.inbound, config.inbound)
        yield Use("host", "max_inbound_descriptors", connections.descriptors, config.descriptors)
        yield Use("host", "max_pending_inbound", connections.pending, config.max_pending_inbound)
        yield Use("host", "handshakes that wait for their turn", connections.pace.waiting, None)
        yield Use("host", "max_handlers", streams.total, config.max_handlers)
        yield Use("host", "memory", self._memory.used, self._memory.limit)
        for source in connections.sources.busiest(most):
            limit = None if source.is_unlimited else config.max_pending_per_prefix * source.scale
            yield Use(f"prefix {source.name}", "max_pending_per_prefix", source.pending, limit)
            yield Use(f"prefix {source.name}", "inbound connections", source.established, None)
        for peer, used in connections.of_peer.most_common(most):
            yield Use(f"peer {peer}", "max_connections_per_peer", used, config.max_connections_per_peer)
        yield from _most(streams.of_peer, most, "peer", "max_handlers_per_peer", config.max_handlers_per_peer)
        per_protocol = config.max_handlers_per_protocol
        yield from _most(streams.of_protocol, most, "protocol", "max_handlers_per_protocol", per_protocol)


def _most(counts: Counter[PeerId] | Counter[str], most: int, kind: str, limit: str, value: int) -> Iterator[Use]:
    for key, used in counts.most_common(most):
        yield Use(f"{kind} {key}", limit, used, value)

"""The settings of a swarm: one page, all that bounds connections and handlers."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from ...identity import PeerId
from ...io.descriptors import max_descriptors
from ..race import DialerConfig


@dataclass(frozen=True, slots=True)
class SwarmConfig:
    """Limits of connections, and of the handlers that serve their streams."""

    max_connections: int = 4096
    """Connections at a time, in all. Inbound ones above it are closed; dials raise `LimitExceeded`."""
    max_inbound_connections: int | None = None
    """Inbound ones among them; the others are kept for our own dials. None: seven eighths of `max_connections`. At the
    limit the prefix with the most connections loses its youngest idle one, for who comes from another prefix."""
    max_inbound_descriptors: int | None = None
    """Descriptors of the process that inbound connections may take, their handshakes too. None: three quarters of those
    that it may have. At the limit the prefix with the most loses its oldest handshake, else its youngest idle
    connection, for who comes from another prefix."""
    max_connections_per_peer: int = 8
    """Connections to one peer at a time. Inbound ones above it are closed; dials raise `LimitExceeded`."""
    max_pending_inbound: int = 1024
    """Inbound connections of all listeners that may be in the handshake at a time. At the limit the prefix with the
    most of them loses its oldest, for who comes from another prefix; others are closed at once."""
    max_pending_per_prefix: int = 256
    """The same, of one prefix: an IPv4 address, or an IPv6 /56; twice as many of a /48."""
    handshakes_per_second: int = 200
    """Handshakes that one prefix may begin each second, in the long run; twice as many from an IPv6 /48."""
    handshake_burst: int = 2048
    """Those that it may begin at once."""
    max_handshakes_per_second: int = 500
    """Handshakes with who connects that begin each second, of all prefixes together; more wait, prefix by prefix."""
    max_handshake_burst: int = 256
    """Those that may begin without that."""
    upgrade_timeout: float = 15.0
    """Seconds from an inbound connection to its being finished, all stages together; they have their own limits too."""
    unlimited_prefixes: tuple[str, ...] = ()
    """Networks, such as `10.0.0.0/8`, for which the limits of prefixes don't hold."""
    allowed_prefixes: tuple[str, ...] = ()
    """Networks whose connections are let in when all is full, and never closed to make room."""
    allowed_peers: tuple[PeerId, ...] = ()
    """Peers for which the same holds once they are proven."""
    high_water: int | None = None
    """Connections above which those least worth keeping are closed, until `low_water` are left. None: three quarters of
    `max_connections`."""
    low_water: int | None = None
    """None: five eighths of `max_connections`."""
    trim_grace: float = 20.0
    """Seconds for which a new connection is not closed to come down to the low water."""
    max_handlers: int = 32768
    """Handlers of peers' streams that may run at a time, in all. A stream above it is reset, code
    `RESOURCE_LIMIT_EXCEEDED`. A handler counts until it ends, also when its stream has been reset before."""
    max_handlers_per_protocol: int = 16384
    """The same, for one protocol."""
    max_handlers_per_peer: int = 1024
    """The same, for all connections of one peer."""
    max_handlers_per_connection: int = 1024
    """The same, for one connection. Some streams above it wait, since handlers end behind their streams."""
    handler_grace: float = 5.0
    """Seconds that handlers may still run when their connection has ended; then they are cancelled."""
    duplicate_grace: float = 5.0
    """Seconds between looks at a peer that has several connections with us: those that both sides hold to be too many
    are closed once they carry no stream."""
    dialer: DialerConfig = field(default_factory=DialerConfig)
    """Limits of dialing."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what makes no sense."""
        networks(self.unlimited_prefixes)
        networks(self.allowed_prefixes)
        if not 0 <= self.low <= self.high:
            raise ValueError(f"low_water {self.low} is above high_water {self.high}")

    @property
    def inbound(self) -> int:
        """`max_inbound_connections`, worked out."""
        if self.max_inbound_connections is not None:
            return self.max_inbound_connections
        return self.max_connections - self.max_connections // 8

    @property
    def descriptors(self) -> int | None:
        """`max_inbound_descriptors`, worked out; None where the process has no limit."""
        if self.max_inbound_descriptors is not None:
            return self.max_inbound_descriptors
        limit = max_descriptors()
        return None if limit is None else limit - limit // 4

    @property
    def high(self) -> int:
        """`high_water`, worked out."""
        return self.max_connections * 3 // 4 if self.high_water is None else self.high_water

    @property
    def low(self) -> int:
        """`low_water`, worked out."""
        return min(self.high, self.max_connections * 5 // 8) if self.low_water is None else self.low_water


def networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that `texts` name. Raises `ValueError`, which names the one that is none."""
    return tuple(ip_network(text) for text in texts)

"""Settings of the DHT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ...multiaddr import Multiaddr
from .lookup import LookupConfig
from .request_time import RequestTimeConfig
from .scope import Scope
from .table import TableConfig
from .validators import Validator

AMINO = "/ipfs/kad/1.0.0"
"""The protocol of the public network of IPFS. A network of its own needs a protocol of its own: two networks that
speak the same one merge as soon as one peer knows both."""

AMINO_LAN = "/ipfs/lan/kad/1.0.0"
"""The same among the peers of a local network."""


class Mode(Enum):
    """Whether this peer answers requests. Who does not, a client, is in nobody's table."""

    CLIENT = "client"
    SERVER = "server"
    AUTO = "auto"
    """Server while this peer is known to be reachable: see `KadDht`."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Limits of answering; times in seconds."""

    max_request_size: int = 128 * 1024
    """Bytes of a request."""
    max_value_size: int = 64 * 1024
    """Bytes of a value that is kept, or put."""
    max_streams: int = 4096
    """Streams of all peers that are served; one more is reset."""
    max_streams_per_peer: int = 32
    """Streams of one peer that are served, as many as rust-libp2p opens; one more is reset."""
    idle_timeout: float = 60.0
    """A stream on which no whole request came for so long is reset, as go-libp2p does it."""
    rate: float = 50.0
    """Requests a second of one peer, in the long run; further ones wait."""
    burst: int = 200
    """Requests of one peer that are answered at once before `rate` holds."""


@dataclass(frozen=True, slots=True)
class KadConfig:
    """Settings of a DHT; times in seconds."""

    protocol: str = AMINO
    """The protocol id, which is what makes a network."""
    mode: Mode = Mode.AUTO
    """Whether this peer answers requests."""
    scope: Scope = Scope.ANY
    """Which addresses the network deals in."""
    bootstrap: tuple[Multiaddr | str, ...] = ()
    """Peers to begin with, addresses with /p2p at their end."""
    validators: Mapping[str, Validator] = field(default_factory=dict)
    """Rules of namespaces for values, by name, besides `pk` and `ipns`."""
    table: TableConfig = field(default_factory=TableConfig)
    lookup: LookupConfig = field(default_factory=LookupConfig)
    request_time: RequestTimeConfig = field(default_factory=RequestTimeConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    query_timeout: float = 60.0
    """A lookup ends after so long with what it has."""
    max_lookups: int = 64
    """Lookups at a time; further ones wait."""
    max_requests: int = 256
    """Requests under way at a time, of all lookups; further ones wait."""
    max_stragglers: int = 64
    """Requests to peers of the table that go on behind the end of their lookup: those that never answer leave it."""
    max_answer_size: int = 4 * 1024 * 1024
    """Bytes of an answer that is read (go-libp2p's limit)."""
    max_peers_per_group_in_answer: int = 3
    """An answer with more closer peers of one group of public addresses loses them; 0: any number."""
    refresh_interval: float = 600.0
    """Between two refreshes of the table."""
    min_peers: int = 10
    """With fewer peers in the table the bootstrap peers are asked again..."""
    bootstrap_interval: float = 120.0
    """...after so long."""
    max_silence: float = 2580.0
    """A peer in the table that has not answered for so long is asked for life."""
    max_checks: int = 8
    """Peers that are asked a question at a time before the table takes them; those beyond `max_waiting_checks` that
    wait for it are forgotten."""
    max_waiting_checks: int = 256
    stream_idle: float = 10.0
    """A stream of ours is kept so long for the next request to the same peer."""
    connection_idle: float = 60.0
    """A connection that a lookup opened is closed when it was of no use for so long, unless others use it."""
    provide_interval: float = 22 * 3600.0
    """Our own providing is announced again within so long (Amino)."""
    republish_interval: float = 4 * 3600.0
    """Values that we put are put again after so long, while they are valid."""
    expire_interval: float = 600.0
    """Between two looks for expired records."""

"""The settings of a host."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..io import MemoryConfig
from ..swarm import SwarmConfig
from ..upgrader import UpgraderConfig
from .addrs import AddrsConfig
from .identify import IdentifyConfig
from .keeping import RedialBackoff
from .ping import PingConfig
from .requests import RequestsConfig


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Settings of a host, each part with its own."""

    negotiation_timeout: float = 10.0
    """Seconds for agreeing on the protocol of a stream. An open stream has no time limit."""
    routing_timeout: float = 60.0
    """Seconds for finding a peer through routers, and connecting to it."""
    upgrader: UpgraderConfig = field(default_factory=UpgraderConfig)
    addrs: AddrsConfig = field(default_factory=AddrsConfig)
    swarm: SwarmConfig = field(default_factory=SwarmConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    identify: IdentifyConfig = field(default_factory=IdentifyConfig)
    ping: PingConfig = field(default_factory=PingConfig)
    requests: RequestsConfig = field(default_factory=RequestsConfig)
    redial: RedialBackoff = field(default_factory=RedialBackoff)
    reconnect: int = 16
    """Peers, those connected last, that a host with a `data_dir` dials at its start."""

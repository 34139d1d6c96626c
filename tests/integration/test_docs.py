"""The table of limits in docs/architecture.md is the truth: every setting is there, with its default."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from libp2p.discovery import BootstrapConfig, MdnsConfig
from libp2p.discovery.http import HttpRoutingConfig
from libp2p.discovery.http.server import HttpServiceConfig
from libp2p.host import HostConfig, RedialBackoff
from libp2p.host.addrs import AddrsConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.host.ping import PingConfig
from libp2p.host.requests import RequestsConfig
from libp2p.io import MemoryConfig
from libp2p.metrics import MetricsConfig
from libp2p.multiaddr import ResolverConfig
from libp2p.muxers.mplex import MplexConfig
from libp2p.muxers.yamux import YamuxConfig
from libp2p.peerstore import PeerStoreConfig, SqlitePeerStoreConfig
from libp2p.protocols.autonat import AutoNatConfig, AutoNatServerConfig, AutoNatV1Config
from libp2p.protocols.dcutr import HolePunchConfig
from libp2p.protocols.fetch import FetchConfig
from libp2p.protocols.kad import (
    CrawlConfig,
    FullTableConfig,
    KadConfig,
    LookupConfig,
    RequestTimeConfig,
    ServerConfig,
    StoreConfig,
    TableConfig,
)
from libp2p.protocols.observed import ObservedConfig
from libp2p.protocols.perf import PerfConfig
from libp2p.protocols.portmap import PortMapConfig
from libp2p.protocols.pubsub import GossipSubConfig, PeerGaterParams
from libp2p.protocols.relay import AutoRelayConfig, CircuitConfig, RelayConfig
from libp2p.protocols.rendezvous import RendezvousConfig
from libp2p.swarm import SwarmConfig
from libp2p.swarm.race import DialerConfig
from libp2p.testing.cheap import CheapConfig
from libp2p.transports.quic import QuicConfig
from libp2p.transports.tcp import TcpConfig
from libp2p.transports.unix import UnixConfig
from libp2p.transports.websocket import WebSocketConfig
from libp2p.upgrader import UpgraderConfig

DOCS = Path(__file__).parents[2] / "docs"
CONFIGS: list[type[Any]] = [
    HostConfig,
    UpgraderConfig,
    MemoryConfig,
    SwarmConfig,
    DialerConfig,
    TcpConfig,
    WebSocketConfig,
    QuicConfig,
    UnixConfig,
    YamuxConfig,
    MplexConfig,
    PeerStoreConfig,
    SqlitePeerStoreConfig,
    ResolverConfig,
    AddrsConfig,
    IdentifyConfig,
    PingConfig,
    RequestsConfig,
    RedialBackoff,
    PerfConfig,
    GossipSubConfig,
    PeerGaterParams,
    RelayConfig,
    CircuitConfig,
    AutoRelayConfig,
    ObservedConfig,
    PortMapConfig,
    HolePunchConfig,
    AutoNatConfig,
    AutoNatServerConfig,
    AutoNatV1Config,
    CheapConfig,
    KadConfig,
    ServerConfig,
    LookupConfig,
    TableConfig,
    RequestTimeConfig,
    StoreConfig,
    RendezvousConfig,
    FetchConfig,
    BootstrapConfig,
    MdnsConfig,
    MetricsConfig,
    HttpRoutingConfig,
    HttpServiceConfig,
    CrawlConfig,
    FullTableConfig,
]
COUNTS = (
    "max_provider_records",
    "max_registrations",
    "max_peers",
    "max_handlers",
    "max_handlers_per_protocol",
    "useless_frames_burst",
)
"""Large numbers that are no bytes."""
FACTORS = ("gossip_factor", "factor", "jitter", "renew_at", "threshold", "decay_to_zero")


def shown(name: str, value: object) -> str:
    """The default of a setting as the table writes it."""
    if isinstance(value, float):
        return f"{value:g}" if name in FACTORS or name.endswith(("_weight", "_decay")) else f"{value:g} s"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value) is int:
        if name == "mode":
            return oct(value)
        if name in COUNTS:
            return str(value)
        return f"{value >> 20} MiB" if value >= 1 << 20 else f"{value >> 10} KiB" if value >= 1 << 14 else str(value)
    return str(value)


def test_every_setting_is_listed_with_its_default() -> None:
    listed = dict(
        re.findall(r"^\| `([A-Z]\w+\.\w+)` \| ([^|]+) \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    )
    actual = {
        f"{config.__name__}.{field.name}": shown(field.name, field.default)
        for config in CONFIGS
        for field in fields(config)
        if field.default is not MISSING
    }
    assert listed == actual


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/architecture.md",
        "docs/dht.md",
        "docs/from-here-to-a-program.md",
        "docs/how-libp2p-works.md",
        "docs/pubsub.md",
        "docs/robustness.md",
        "docs/security.md",
        "docs/testing.md",
        "CHANGELOG.md",
    ],
)
def test_links_lead_somewhere(name: str) -> None:
    page = DOCS.parent / name
    text = page.read_text()
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if not target.startswith("http"):
            assert (page.parent / path).exists(), target
            assert path or anchor in headings, target


@pytest.mark.real
def test_readme_example() -> None:
    [program] = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'steak recipes, please'\n", "")


@pytest.mark.real
def test_from_here_to_a_program() -> None:
    [program] = re.findall(r"```python\n(.*?)```", (DOCS / "from-here-to-a-program.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[:2] == ["b'STEAK'", "b'42'"]
    assert done.stdout.splitlines()[2].startswith("refused: ")

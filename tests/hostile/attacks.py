"""What is tried on a host, and what must hold meanwhile. The figures are those of the first survey's criteria."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attack:
    """One kind."""

    kind: str
    what: str
    amount: int
    via: str = "tcp"
    """How honest peers, and the attacker, come: "tcp", "ws", "quic"."""
    attacked: str = ""
    """How the attacker comes, where that is another way."""
    max_connections: int = 4096
    descriptors: int = 0
    within: dict[str, float] = field(default_factory=dict)
    """The most that each figure may be: counts and memory."""
    in_time: dict[str, float] = field(default_factory=dict)
    """The same, of times: not judged with `--tenth`."""
    is_held: bool = False
    """Whether honest peers come when the attacker says that all is in place, which holds it until they have."""
    tenth: int = 0
    """The amount with `--tenth`, where that is no tenth."""


FAIR = {"p99 ms": 100.0, "slowest ms": 1000.0}
"""What a flood may do to others: a ping's p99, a newcomer's dial."""

BUSY = {"p99 ms": 30.0, "slowest ms": 1000.0}
"""And a flood of handshakes."""

ATTACKS = [
    Attack("silent", "silent connections of one address", 10_000, within={"pending": 257, "grown": 100}),
    Attack("silent", "the same, on a port shared with WebSocket", 10_000, "shared", within={"grown": 100}),
    Attack("drip", "connections that begin to speak", 3000, within={"pending": 257, "grown": 100}),
    Attack("heads", "unfinished WebSocket heads of one address", 3000, via="ws", within={"grown": 100}),
    Attack(
        "silent",
        "silent connections, `ulimit -n 256`",
        10_000,
        descriptors=256,
        within={"lines": 99, "grown": 100, "shut out": 0},
        in_time={"cpu %": 10},
    ),
    Attack("handshakes", "Noise handshakes of 16 addresses", 10_000, within={"grown": 100}, in_time=BUSY),
    Attack("first_messages", "first messages of Noise, 16 addresses", 10_000, within={"grown": 100}, in_time=BUSY),
    Attack("tls_handshakes", "TLS handshakes of 16 addresses", 5000, within={"grown": 100}, in_time=BUSY),
    Attack("quic_handshakes", "QUIC handshakes of 16 addresses", 3000, "quic", within={"grown": 100}, in_time=BUSY),
    Attack("quic_halves", "QUIC handshakes begun, 16 addresses", 6000, "quic", within={"pending": 1025, "grown": 128}),
    Attack("resets", "SYN and RST", 100_000, within={"grown": 100}, in_time={"gap ms": 50}),
    Attack(
        "slow",
        "streams of a slow handler, reset",
        100_000,
        within={"handlers": 1024, "grown": 100},
    ),
    Attack("unnegotiated", "streams on which nothing is asked", 8192, within={"grown": 100}, in_time=FAIR),
    Attack("pings", "pings of each of 50 connections", 20_000, within={"grown": 100}, in_time=FAIR),
    Attack("updates", "window updates of each of 50 connections", 20_000, within={"grown": 100}, in_time=FAIR),
    Attack("empty_messages", "empty Noise messages", 300_000, within={"grown": 50}, in_time=FAIR),
    Attack("tiny_messages", "Noise messages of a byte", 300_000, within={"grown": 50}, in_time=FAIR),
    Attack("ws_pings", "WebSocket pings of each of 50", 20_000, "ws", within={"grown": 100}, in_time=FAIR),
    Attack("ws_empty", "empty WebSocket frames", 300_000, "ws", within={"grown": 50}, in_time=FAIR),
    Attack("ws_tiny", "WebSocket frames of a byte", 300_000, "ws", within={"grown": 50}, in_time=FAIR),
    Attack("quic_tiny", "QUIC packets of STREAM frames of a byte", 30_000, "quic", within={"grown": 50}, in_time=FAIR),
    Attack("quic_acks", "QUIC packets that acknowledge nothing", 100_000, "quic", within={"grown": 50}, in_time=FAIR),
    Attack("quic_pings", "QUIC packets of PINGs", 100_000, "quic", within={"grown": 50}, in_time=FAIR),
    Attack("quic_strays", "packets of no connection", 300_000, "quic", within={"grown": 50}, in_time=FAIR),
    Attack("quic_garbage", "unreadable first packets", 100_000, "quic", within={"grown": 50}, in_time=FAIR),
    Attack("quic_moves", "moves of a QUIC connection to another port", 10_000, "quic", within={"grown": 50}),
    Attack(
        "unread",
        "bytes on 8 connections of one key, 1,024 streams each, unread",
        1 << 30,
        within={"held": 64, "grown": 160, "still held": 0, "handlers left": 0},
        in_time=FAIR,
    ),
    Attack("asking_who", "questions who the victim is", 50_000, within={"grown": 50}, in_time=FAIR),
    Attack("pushes", "fat identify pushes of 20 peers", 2000, within={"grown": 64}, in_time={"slowest ms": 1000}),
    Attack("identities", "fat identities", 10_000, within={"grown": 64}),
    Attack(
        "strangers",
        "idle strangers of 64 addresses",
        4096,
        within={"connections": 4096, "lost": 0, "not dialed": 0},
        in_time={"slowest ms": 1000},
        is_held=True,
        tenth=400,
    ),
    Attack("strangers", "idle connections", 10_000, max_connections=20_000, within={"KiB each": 20}, is_held=True),
]

"""Which implementation has what; hence which cells there are.

A cell is a dialer, a listener, a transport and (where the transport brings none of its own) a secure channel and a
muxer. To add one, add its line or its implementation's name here, and the word to that peer's program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Stack: TypeAlias = tuple[str, str | None, str | None]
"""Transport, secure channel and muxer."""

IMPLEMENTATIONS = ("us", "go", "rust", "js", "py")

TRANSPORTS = {
    "tcp": "us go rust js py",
    "ws": "us go rust js py",
    "wss": "us go",
    "quic-v1": "us go rust js py",
    "webtransport": "go",
    "webrtc-direct": "go",
}
SECURITY = {
    "noise": "us go rust js py",
    "tls": "us go rust js py",
}
MUXERS = {
    "yamux": "us go rust js py",
    "mplex": "us rust js",
}
STANDALONE = {"quic-v1", "webtransport", "webrtc-direct"}  # bring their own security and muxer

CHECKS = (
    "identify",
    "echo",
    "streams",
    "half-close",
    "reset",
    "unsupported",
    "refusals",
    "identify-at-once",
    "wrong-peer",
    "slow-listener",
    "slow-dialer",
    "pubsub",
)

ABSENT = {
    ("go", "mplex"): "go-libp2p has dropped it",
    ("js", "wss"): "its listener needs a certificate file; its program has none",
    ("js", "webtransport"): "js-libp2p dials it from browsers only",
    ("py", "mplex"): "as a dialer it breaks its own connection, with js-libp2p and itself too",
    ("rust", "wss"): "its listener needs certificates that other peers accept; the peer program has none",
    ("rust", "webtransport"): "rust-libp2p dials it from browsers only",
    ("rust", "webrtc-direct"): "a crate of its own, in alpha, which the peer program leaves out",
}
"""Why an implementation, or its peer program, has not got something."""

LACKS = {
    ("", "py", "", "pubsub"): "not in its program of the matrix; interop.pubsub asks it",
    ("", "rust", "quic-v1", "reset"): "rust-libp2p has no way to reset a QUIC stream: dropped, it just ends",
    ("listener", "js", "quic-v1", "refusals"): "it resets behind a refusal, without a code, and that may come first",
    ("listener", "py", "ws", "identify"): "it says no observed address",
    ("listener", "py", "quic-v1", "identify"): "it says a TCP port where it sees a UDP port",
    ("listener", "py", "quic-v1", "streams"): "of streams that come all at once it loses some, with go-libp2p too",
}
"""What a peer cannot do: (`dialer`, `listener` or "" for both, implementation, a word of the stack, check) -> why.
Listed, and not asked of it."""


OURS = {"refusals", "identify-at-once"}
"""Checks that only our own program asks for."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One conversation."""

    dialer: str
    listener: str
    transport: str
    security: str | None
    muxer: str | None

    @property
    def name(self) -> str:
        return f"{self.dialer} x {self.listener} ({', '.join(filter(None, self.stack))})"

    @property
    def stack(self) -> Stack:
        return self.transport, self.security, self.muxer

    @property
    def key(self) -> str:
        """The framework's: the first 8 hexadecimal digits of the SHA-256 of the test's name."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:8]

    def lacking(self) -> dict[str, str]:
        """The checks that one of the two peers cannot do, and why."""
        foreign = {check: "not in the dialer's program" for check in OURS if self.dialer != "us"}
        return foreign | {
            check: why
            for (role, who, part, check), why in LACKS.items()
            if (not part or part in self.stack)
            and ((role != "listener" and who == self.dialer) or (role != "dialer" and who == self.listener))
        }


def pairs(peers: set[str], *, among_others: bool) -> Iterator[tuple[str, str]]:
    """Us with each peer in both roles, us with us; and every pair of `peers`, without us too, where asked for."""
    for dialer in IMPLEMENTATIONS:
        for listener in IMPLEMENTATIONS:
            if {dialer, listener} <= peers | {"us"} and ("us" in {dialer, listener} or among_others):
                yield dialer, listener


def stacks(pair: tuple[str, str]) -> Iterator[Stack]:
    """Everything that both of a pair have."""

    def common(table: dict[str, str]) -> list[str]:
        return [name for name, who in table.items() if set(pair) <= set(who.split())]

    for transport in common(TRANSPORTS):
        if transport in STANDALONE:
            yield transport, None, None
        else:
            yield from ((transport, security, muxer) for security in common(SECURITY) for muxer in common(MUXERS))


def absent(implementation: str) -> dict[str, str]:
    """What of all that anybody has this one has not, and why."""
    everything = {**TRANSPORTS, **SECURITY, **MUXERS}
    missing = [name for name, who in everything.items() if implementation not in who.split()]
    return {name: ABSENT.get((implementation, name), "not in its peer program") for name in missing}

"""Which implementations there are, how each is started, and what it cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from interop.build import Command, build
from libp2p.protocols.kad.config import AMINO, AMINO_LAN

from .kubo import PACKAGE, Kubo
from .peers import LISTEN, Program, Us, build_go

AnyNode: TypeAlias = Us | Program | Kubo

OTHERS = ("go", "kubo", "rust", "js", "py")
PROTOCOLS = {"kubo": AMINO_LAN, "py": AMINO}
"""The protocol of a network with this implementation in it, where it cannot choose."""
OWN = "/interop/kad/1.0.0"
"""The protocol of all other networks."""

_SHA256_ONLY = "it reads the keys of providers as CIDs, and takes no other multihash than sha2-256 for one"

LACKS = {
    ("kubo", "", "values"): "it takes values under /ipns and /pk only",
    (
        "js",
        "",
        "sha2-512",
    ): _SHA256_ONLY,
    ("js", "", "blake3"): _SHA256_ONLY,
    ("py", "", "ipns-ed25519"): "it reads keys as UTF-8, which those of IPNS are not",
    ("py", "", "ipns-rsa"): "it reads keys as UTF-8, which those of IPNS are not",
    ("py", "quic-v1", "peers"): "over QUIC it loses the answer of identify now and then, and with it the addresses",
    ("py", "", "names"): "it reads keys as UTF-8, which those of IPNS are not",
}
"""What a node cannot do, in any part: (implementation, transport or "" for all, check) -> why. Listed, and not asked
of it."""


def lacks(kinds: Sequence[str], transport: str, check: str) -> bool:
    """Whether one of these implementations can't do what `check` asks."""
    return any((kind, over, check) in LACKS for kind in kinds for over in ("", transport))


def start(kind: str, transport: str, protocol: str) -> AnyNode:
    """A node, to be entered. Raises `BuildError`."""
    match kind:
        case "us":
            return Us(transport, protocol)
        case "kubo":
            return Kubo(build_go("kubo", PACKAGE), transport)
    return Program(command(kind, LISTEN[transport], protocol), transport)


def command(kind: str, listen: str, protocol: str) -> Command:
    """What runs a program that does what it is told. Raises `BuildError`."""
    match kind:
        case "go":
            return (build_go(), listen)
        case "rust":
            return (*build("rust"), "kad", listen, protocol)
    *interpreter, script = build(kind)
    beside = Path(script).with_name("dht" + Path(script).suffix)
    return (*interpreter, str(beside), listen, protocol)

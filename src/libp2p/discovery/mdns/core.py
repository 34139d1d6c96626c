"""What mDNS says of a peer, as TXT records, and back. Pure. Spec: libp2p/specs, discovery/mdns.md.

    service    _p2p._udp.local, or _p2p-<network's fingerprint in base 16>._udp.local
    instance   <32 random letters and digits>.<service>          never the peer id
    TXT        (<length byte> "dnsaddr=" <multiaddr with /p2p>)+      the attribute is repeated

Rules:
- Told are addresses that neighbours can dial: none of the loopback interface, none through a relay, no names except in
  .local, none that browsers only speak. Those that fit into one packet of 1,500 bytes, the first ones first.
- Taken is what names one peer; who sent the packet is not proven, so the addresses are those of a private network's.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from ...errors import InvalidInput
from ...identity import PeerId
from ...multiaddr import Multiaddr, Reach, is_loopback, is_relayed, may_share

SERVICE = "_p2p._udp.local."

MAX_TXT_SIZE = 1000
"""Bytes of TXT in one packet: with the other records of an answer it stays below 1,500."""

MAX_ADDRS = 32
"""Addresses that are taken of one peer."""

_PREFIX = b"dnsaddr="
_NAME_LENGTH = 32
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_FOR_BROWSERS = ("webtransport", "webrtc-direct", "webrtc", "ws", "wss")
_NAMES = ("dns", "dns4", "dns6", "dnsaddr")


def service_name(fingerprint: bytes | None = None) -> str:
    """The service of the public network, or of the private one with that fingerprint.

    A label has 63 characters at most, and a name of a service with an underscore fewer: a longer fingerprint is cut.
    """
    return SERVICE if fingerprint is None else f"_p2p-{fingerprint.hex()[:57]}._udp.local."


def instance_name(dice: Random) -> str:
    """A name that no other peer has."""
    return "".join(dice.choices(_ALPHABET, k=_NAME_LENGTH))


def encode(peer: PeerId, addrs: Iterable[Multiaddr]) -> bytes:
    """The TXT data that tells of `peer`; those of `addrs` that neighbours have no use for are left out."""
    encoded = b""
    for addr in addrs:
        if not _is_useful(addr):
            continue
        text = _PREFIX + str(addr.with_peer(str(peer))).encode()
        if len(text) <= 255 and len(encoded) + len(text) < MAX_TXT_SIZE:
            encoded += bytes((len(text),)) + text
    return encoded


def decode(data: bytes) -> tuple[PeerId, tuple[Multiaddr, ...]] | None:
    """The peer that TXT data tells of, and its addresses; None where it tells of none, or of several."""
    addrs: dict[Multiaddr, None] = {}
    peers: set[str] = set()
    offset = 0
    while offset < len(data) and len(addrs) < MAX_ADDRS:
        size = data[offset]
        text = data[offset + 1 : offset + 1 + size]
        offset += 1 + size
        # "key=value" attributes have keys in any case (RFC 6763, 6.4).
        if len(text) < size or text[: len(_PREFIX)].lower() != _PREFIX:
            continue
        try:
            addr = Multiaddr(text[len(_PREFIX) :].decode("ascii"))
        except (InvalidInput, UnicodeDecodeError):
            continue
        if addr.peer_id_text is None:
            continue
        peers.add(addr.peer_id_text)
        if may_share(bare := addr.without_peer(), Reach.LINK) and not is_loopback(bare):
            addrs[bare] = None
    if len(peers) != 1:
        return None
    return PeerId.from_string(peers.pop()), tuple(addrs)


def _is_useful(addr: Multiaddr) -> bool:
    names = [component.name for component in addr]
    if is_loopback(addr) or is_relayed(addr) or any(name in names for name in _FOR_BROWSERS):
        return False
    head = addr.head
    if head is None or head.name not in ("ip4", "ip6", *_NAMES):
        return False
    return head.name not in _NAMES or (head.value or "").lower().rstrip(".").endswith(".local")

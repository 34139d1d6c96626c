"""What the HTTP routing API says, as values and back. Pure. Spec: ipfs/specs, routing/http-routing-v1.md; IPIP-484.

    GET /routing/v1/providers/{cid}            {"Providers": [record, ...]}, or a record a line (NDJSON)
    GET /routing/v1/peers/{peer id}            {"Peers": [record, ...]}, or a record a line
    GET /routing/v1/dht/closest/peers/{key}    the same
    GET, PUT /routing/v1/ipns/{name}           a signed record, as it is
    record                                     {"Schema": "peer", "ID": ..., "Addrs": [...], "Protocols": [...], ...}

Rules: records of other schemas and what cannot be read in one is left out; unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...cid import Cid
from ...errors import InvalidInput
from ...identity import PeerId
from ...multiaddr import Multiaddr
from ...routing import PeerInfo

JSON = "application/json"
NDJSON = "application/x-ndjson"
IPNS_RECORD = "application/vnd.ipfs.ipns-record"

MAX_RECORDS = 100
"""Records in an answer that is no stream ("SHOULD be limited to 100")."""

MAX_ADDRS = 32
"""Addresses that are taken of one record."""

_UNKNOWN = "unknown"


def record_of(info: PeerInfo) -> dict[str, Any]:
    """The record of a peer."""
    return {"Schema": "peer", "ID": str(info.peer), "Addrs": [str(addr) for addr in info.addrs]}


def read_record(record: object) -> PeerInfo | None:
    """The peer that a record is of; None for what is none, or of a schema that we don't know.

    The "bitswap" schema is an older form of the same.
    """
    if not isinstance(record, Mapping) or record.get("Schema") not in ("peer", "bitswap"):
        return None
    try:
        peer = PeerId.from_string(str(record.get("ID")))
    except InvalidInput:
        return None
    texts = record.get("Addrs")
    addrs: dict[Multiaddr, None] = {}
    for text in texts[:MAX_ADDRS] if isinstance(texts, list) else ():
        try:
            addr = Multiaddr(text) if isinstance(text, str) else None
        except InvalidInput:
            continue
        if addr is not None and addr.peer_id_text in (None, str(peer)) and len(bare := addr.without_peer()):
            addrs[bare] = None
    return PeerInfo(peer, tuple(addrs))


def filtered(info: PeerInfo, filter_addrs: str | None, filter_protocols: str | None) -> PeerInfo | None:
    """`info` with the addresses that pass the filters of IPIP-484; None where the peer is to be left out.

    Which transfer protocols a peer speaks is not known here: it passes where "unknown" is asked for.
    """
    protocols = _names(filter_protocols)
    if protocols and _UNKNOWN not in protocols:
        return None
    wanted = _names(filter_addrs)
    if not wanted:
        return info
    if not info.addrs:
        return info if _UNKNOWN in wanted else None
    excluded = [name[1:] for name in wanted if name.startswith("!")]
    included = [name for name in wanted if not name.startswith("!") and name != _UNKNOWN]
    addrs = tuple(addr for addr in info.addrs if _passes(addr, included, excluded))
    return PeerInfo(info.peer, addrs) if addrs else None


def read_key(text: str) -> bytes:
    """The key that a CID or a peer id stands for in the DHT. Raises `InvalidInput`."""
    try:
        return PeerId.from_string(text).to_bytes()
    except InvalidInput:
        return Cid.parse(text).multihash


def _names(text: str | None) -> Sequence[str]:
    return [name for name in (text or "").lower().split(",") if name][:32]


def _passes(addr: Multiaddr, included: Iterable[str], excluded: Iterable[str]) -> bool:
    names = {component.name for component in addr}
    included = list(included)
    return not names.intersection(excluded) and (not included or bool(names.intersection(included)))

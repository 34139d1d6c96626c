"""A peer as a row of a database, and back. Times in a row are Unix time: clocks of processes begin anywhere.

    addrs      (<expiry f64> <told u8: 0 none, else the reach> <length u16> <address>)*      big-endian
    record     the signed envelope, which is verified again when it is read
    key        protobuf, for peers whose id does not embed it
    protocols  JSON list        metadata   JSON object; bytes are {"base64": ...}
    checksum   CRC-32 of all other fields

Whether an address is the peer's own word is not stored: the record says it.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..identity import PeerId, PublicKey
from ..multiaddr import Multiaddr, Reach
from ..records import PeerRecord
from .entry import PeerEntry, StoredAddr
from .interface import CONNECTED_ADDR_TTL, PERMANENT_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL, MetadataValue

_HEAD = struct.Struct(">dBH")
_REACHES = list(Reach)


class Row(NamedTuple):
    """What is stored of a peer."""

    peer: bytes
    seen: float
    """When it was last written."""
    connected: float | None
    """When a connection that we made was last there."""
    expires: float
    """When its last address expires."""
    addrs: bytes
    record: bytes | None
    key: bytes | None
    protocols: str
    metadata: str
    checksum: int = 0
    """CRC-32 of the rest: whether the disk has kept it."""

    def sealed(self) -> Row:
        """The row with its checksum."""
        return self._replace(checksum=zlib.crc32(repr(self[:-1]).encode()))

    @property
    def size(self) -> int:
        """Bytes of its fields, about."""
        blobs = (self.peer, self.addrs, self.record or b"", self.key or b"", self.protocols, self.metadata)
        return sum(map(len, blobs)) + 64


def encode(peer: PeerId, entry: PeerEntry, *, now: float, offset: float) -> Row:
    """The row of an entry; `now` is the Unix time, and `offset` what it is ahead of the entry's clock."""
    addrs, best = [], 0.0
    for encoded, addr in entry.addrs.items():
        # A connection that is there now will have ended.
        expiry = now + RECENTLY_CONNECTED_ADDR_TTL if addr.ttl == CONNECTED_ADDR_TTL else addr.expiry + offset
        best = max(best, expiry)
        told = 0 if addr.told is None else 1 + _REACHES.index(addr.told)
        addrs.append(_HEAD.pack(expiry, told, len(encoded)) + encoded)
    is_connected = any(addr.ttl == CONNECTED_ADDR_TTL for addr in entry.addrs.values())
    row = Row(
        peer.to_bytes(),
        now,
        now if is_connected else entry.connected,
        best,
        b"".join(addrs),
        entry.record,
        entry.key.to_protobuf() if entry.key is not None else None,
        json.dumps(entry.protocols),
        json.dumps({key: _plain(value) for key, value in (entry.metadata or {}).items()}),
    )
    return row.sealed()


def merge(row: Row, peer: PeerId, entry: PeerEntry, *, now: float, offset: float, limit: int) -> None:
    """Add to `entry` what the row knows besides, at most `limit` addresses in all. Raises `ValueError` where the row is
    damaged, with `entry` as it was.
    """
    try:
        if row != row.sealed():
            raise InvalidInput("it is not what was written")
        addrs = list(_addrs(row.addrs))
        record = PeerRecord.open(row.record, expected_peer=peer) if row.record is not None else None
        key = PublicKey.from_protobuf(row.key) if row.key is not None else None
        protocols, metadata = _texts(json.loads(row.protocols)), _values(json.loads(row.metadata))
        if key is not None and not peer.matches(key):
            raise InvalidInput(f"the key of {key.peer_id} was stored for {peer}")
    except (ValueError, KeyError, TypeError, struct.error, InvalidInput) as error:
        raise ValueError(f"what is stored of {peer} is damaged: {error}") from error
    certified: frozenset[bytes] = frozenset()
    if record is not None and record.seq > entry.seq:
        entry.record, entry.seq = row.record, record.seq
        certified = frozenset(addr.without_peer().to_bytes() for addr in record.addrs)
    for expiry, told, encoded in addrs:
        if expiry > now and encoded not in entry.addrs:
            ttl = PERMANENT_ADDR_TTL if math.isinf(expiry) else expiry - now
            entry.put(encoded, StoredAddr(ttl, expiry - offset, encoded in certified, told), limit)
    if not entry.addrs:
        entry.record = None
    entry.key = entry.key or key
    entry.protocols = entry.protocols or protocols
    if metadata:
        entry.metadata = metadata | (entry.metadata or {})
    entry.connected = entry.connected if row.connected is None else max(row.connected, entry.connected or 0.0)


def _addrs(data: bytes) -> Iterator[tuple[float, Reach | None, bytes]]:
    offset = 0
    while offset < len(data):
        expiry, told, size = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        encoded = data[offset : offset + size]
        offset += size
        if len(encoded) < size or told > len(_REACHES) or math.isnan(expiry):
            raise ValueError("an address is cut off, or its marks are none")
        Multiaddr.from_bytes(encoded)
        yield expiry, None if told == 0 else _REACHES[told - 1], encoded


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("protocols are no list of texts")
    return tuple(value)


def _plain(value: MetadataValue) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _values(value: Any) -> dict[str, MetadataValue]:
    if not isinstance(value, dict) or not all(isinstance(one, str | int | float | dict) for one in value.values()):
        raise ValueError("metadata is no object of values")
    return {
        key: base64.b64decode(one["base64"], validate=True) if isinstance(one, dict) else one
        for key, one in value.items()
    }


def peers_of(rows: Iterable[Row]) -> dict[PeerId, Row]:
    """Rows by peer; without those whose peer is none."""
    found = {}
    for row in rows:
        try:
            found[PeerId.from_bytes(row.peer)] = row
        except InvalidInput:
            continue
    return found

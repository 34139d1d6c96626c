"""IPNS records: what a name, which is a key, points to now. Spec: ipfs/specs, ipns/ipns-record.md.

    IpnsEntry (protobuf)   8 signature_v2   9 data   7 public_key where the name does not embed it
                           1-6              copies of data for readers of before 2021 ("V1"), never trusted
    data (DAG-CBOR map)    TTL (ns)   Value   Sequence   Validity (RFC 3339, ns)   ValidityType (0: end of life)
    signed bytes           "ipns-signature:" data
    key in a DHT           "/ipns/" <binary peer id>

Rules:
- `open` checks in the order of the spec's "Record Verification", and returns a record only if all of it holds: its
  size, its signature by the key that the name stands for, that V1's copies say the same, that it has not expired.
- Of two records the higher sequence is better, then the later end, then the larger bytes, as everywhere.
- Times are wall-clock time: Unix nanoseconds in records, Unix seconds where `now` is passed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError

from ...errors import InvalidKey, InvalidRecord
from ...identity import PeerId, PrivateKey, PublicKey
from . import dag_cbor
from .ipns_pb2 import IpnsEntry

NAMESPACE = b"/ipns/"

MAX_SIZE = 10 * 1024
"""Bytes of the largest record ("IPNS implementations MUST support [...] less than or equal to 10 KiB")."""

DEFAULT_LIFETIME = 48 * 3600.0
"""Seconds until a record expires: as long as a DHT keeps it."""

DEFAULT_TTL = 300.0
"""Seconds for which a record may be cached (the spec's suggestion)."""

_DOMAIN = b"ipns-signature:"
_MAX_UINT64 = (1 << 64) - 1
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def routing_key(name: PeerId) -> bytes:
    """The key under which a DHT keeps the record of `name`."""
    return NAMESPACE + name.to_bytes()


def parse_name(text: str) -> PeerId:
    """The name that text stands for: `k51...`, `12D3...`, `bafz...`; `/ipns/` and `ipns://` in front don't count.

    Raises `InvalidPeerId`.
    """
    return PeerId.from_string(text.removeprefix("/ipns/").removeprefix("ipns://"))


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """A record whose signature holds: made by `make` or `open`."""

    name: PeerId
    value: bytes
    """A content path, such as `/ipfs/bafy...`."""
    sequence: int
    expires: int
    """Unix time in nanoseconds."""
    ttl: int
    """Nanoseconds for which it may be cached."""
    encoded: bytes
    """The record as it travels."""

    @classmethod
    def make(
        cls,
        key: PrivateKey,
        value: str | bytes,
        *,
        sequence: int,
        now: float,
        lifetime: float = DEFAULT_LIFETIME,
        ttl: float = DEFAULT_TTL,
        legacy: bool = True,
    ) -> IpnsRecord:
        """Sign a record; `lifetime` and `ttl` are in seconds. `legacy`: with the copies that old readers need.

        `sequence` must be higher than that of the record before. Raises `InvalidRecord` where the record would be too
        large or its numbers are out of range.
        """
        value = value.encode() if isinstance(value, str) else value
        expires, ttl_ns = round((now + lifetime) * 1e9), round(ttl * 1e9)
        if not 0 <= sequence <= _MAX_UINT64 or not 0 <= ttl_ns <= _MAX_UINT64:
            raise InvalidRecord(f"sequence {sequence} or TTL {ttl} s of an IPNS record is no uint64")
        validity = format_time(expires)
        data = dag_cbor.encode_map(
            {"TTL": ttl_ns, "Value": value, "Sequence": sequence, "Validity": validity, "ValidityType": 0}
        )
        entry = IpnsEntry(signature_v2=key.sign(_DOMAIN + data), data=data)
        if key.peer_id.to_bytes()[0] != 0:  # the name does not embed the key
            entry.public_key = key.public_key.to_protobuf()
        if legacy:
            entry.value, entry.validity, entry.validity_type = value, validity, 0
            entry.sequence, entry.ttl = sequence, ttl_ns
            entry.signature_v1 = key.sign(value + validity + b"EOL")
        encoded = entry.SerializeToString(deterministic=True)
        if len(encoded) > MAX_SIZE:
            raise InvalidRecord(f"IPNS record of {len(encoded)} bytes, the limit is {MAX_SIZE}")
        return cls(key.peer_id, value, sequence, expires, ttl_ns, encoded)

    @classmethod
    def open(cls, encoded: bytes, name: PeerId, now: float) -> IpnsRecord:
        """Read and check the record of `name`. Raises `InvalidRecord`, which says what does not hold."""
        if len(encoded) > MAX_SIZE:
            raise InvalidRecord(f"IPNS record of {len(encoded)} bytes, the limit is {MAX_SIZE}")
        entry = IpnsEntry()
        try:
            entry.ParseFromString(encoded)
        except DecodeError as error:
            raise InvalidRecord(f"malformed IPNS record: {error}") from error
        if not entry.signature_v2 or not entry.data:
            raise InvalidRecord("the IPNS record has no V2 signature, or nothing that it signs")
        key = _key_of(entry, name)
        fields = dag_cbor.decode(entry.data)
        if not key.verify(_DOMAIN + entry.data, entry.signature_v2):
            raise InvalidRecord(f"the IPNS record is not validly signed by {name}")
        record = _record(fields, name, encoded)
        _check_legacy(entry, fields)
        if record.expires <= now * 1e9:
            raise InvalidRecord(f"the IPNS record of {name} has expired")
        return record

    @property
    def order(self) -> tuple[int, int, bytes]:
        """Of two records the one with the larger order is better."""
        return self.sequence, self.expires, self.encoded


def format_time(nanoseconds: int) -> bytes:
    """Unix nanoseconds as RFC 3339 with nanoseconds. Raises `InvalidRecord` for years that it has no form for."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise InvalidRecord(f"an IPNS record can't end at {seconds} s") from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09}Z".encode()


def parse_time(text: bytes) -> int:
    """Unix nanoseconds of RFC 3339 text. Raises `InvalidRecord`."""
    match = _TIME.fullmatch(text[:64].decode("ascii", "replace"))
    if match is None:
        raise InvalidRecord(f"{text[:64]!r} is no time of RFC 3339")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise InvalidRecord(f"{text[:64]!r} is no time of RFC 3339: {error}") from error
    whole = (moment - _EPOCH) // timedelta(seconds=1)
    return whole * 10**9 + int((fraction or "").ljust(9, "0"))


def _key_of(entry: IpnsEntry, name: PeerId) -> PublicKey:
    try:
        key = PublicKey.from_protobuf(entry.public_key) if entry.public_key else name.extract_public_key()
    except InvalidKey as error:
        raise InvalidRecord(f"public key of the IPNS record: {error}") from error
    if key is None:
        raise InvalidRecord(f"the name {name} does not embed its key, and the IPNS record holds none")
    if key.peer_id != name:
        raise InvalidRecord(f"the IPNS record holds the key of {key.peer_id}, not of {name}")
    return key


def _record(fields: dag_cbor.Value, name: PeerId, encoded: bytes) -> IpnsRecord:
    if not isinstance(fields, dict):
        raise InvalidRecord("the data of the IPNS record is no map")
    value, validity = fields.get("Value"), fields.get("Validity")
    sequence, ttl, kind = fields.get("Sequence"), fields.get("TTL", 0), fields.get("ValidityType")
    if not isinstance(value, bytes) or not isinstance(validity, bytes) or not _is_uint(sequence) or not _is_uint(ttl):
        raise InvalidRecord("the data of the IPNS record lacks a field, or one is of the wrong kind")
    if kind != 0 or not _is_uint(kind):
        raise InvalidRecord(f"the IPNS record has the unknown validity type {kind!r}")
    assert isinstance(sequence, int)
    assert isinstance(ttl, int)
    return IpnsRecord(name, value, sequence, parse_time(validity), ttl, encoded)


def _is_uint(value: dag_cbor.Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_UINT64


def _check_legacy(entry: IpnsEntry, fields: dag_cbor.Value) -> None:
    """ "If signatureV1 or value is present, confirm the values in IpnsEntry protobuf match deserialized ones." """
    if not (entry.signature_v1 or entry.value):
        return
    assert isinstance(fields, dict)
    copies = {
        "Value": entry.value,
        "Validity": entry.validity,
        "ValidityType": entry.validity_type,
        "Sequence": entry.sequence,
        "TTL": entry.ttl,
    }
    for field, copy in copies.items():
        if fields.get(field, 0) != copy:
            raise InvalidRecord(f"the V1 copy of {field} in the IPNS record differs from what is signed")

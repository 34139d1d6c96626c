"""CIDs: names of content, made of its hash. Specs: multiformats/cid, multiformats/multihash.

    CIDv1      01 <codec varint> <multihash>       text: multibase, by default base32 (bafy..., bafk...)
    CIDv0      <multihash of sha2-256>             text: base58btc without a prefix (Qm...); its codec is dag-pb
    multihash  <code varint> <length varint> <digest>

Rules:
- Strict and small: shortest varints, the digest as long as announced, one text for each base. What is read is written
  back to the same bytes.
- The hash function is not looked at: any is a name. Two are known by name here, to make CIDs with.
- A DHT knows content by its multihash alone: CIDs of two versions or codecs share their providers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from hashlib import sha256

from . import multibase
from .ground_errors import InvalidCid, InvalidInput, InvalidVarint
from .varint import decode_varint, encode_varint

RAW = 0x55
"""Codec: plain bytes."""
DAG_PB = 0x70
"""Codec: the nodes of IPFS files and directories."""
LIBP2P_KEY = 0x72
"""Codec: a peer id, or an IPNS name."""

SHA2_256 = 0x12

MAX_DIGEST_SIZE = 128
"""Bytes of the longest digest that is accepted, as in go-multihash."""

MAX_TEXT_LENGTH = 512
"""Characters of the longest text that is looked at."""


def multihash_of(data: bytes) -> bytes:
    """The multihash of `data` by sha2-256."""
    return bytes((SHA2_256, 32)) + sha256(data).digest()


def check_multihash(data: bytes) -> None:
    """Raise `InvalidCid` unless `data` is exactly one multihash."""
    try:
        code, offset = decode_varint(data)
        size, offset = decode_varint(data, offset)
    except InvalidVarint as error:
        raise InvalidCid(f"multihash: {error}") from error
    if size > MAX_DIGEST_SIZE:
        raise InvalidCid(f"multihash with a digest of {size} bytes, the limit is {MAX_DIGEST_SIZE}")
    if len(data) - offset != size:
        raise InvalidCid(f"the multihash announces {size} bytes of digest and holds {len(data) - offset}")
    if code == SHA2_256 and not 20 <= size <= 32:  # go-multihash takes one cut to 20 bytes or more
        raise InvalidCid(f"a sha2-256 digest has 32 bytes, or is cut to 20 at least, not {size}")


@total_ordering
@dataclass(frozen=True, slots=True)
class Cid:
    """A content id: `version` 0 or 1, `codec` of the content, `multihash`. Made by `parse`, `from_bytes` or `of`."""

    version: int
    codec: int
    multihash: bytes

    def __post_init__(self) -> None:
        if self.version not in (0, 1):
            raise InvalidCid(f"CIDs have the version 0 or 1, not {self.version}")
        check_multihash(self.multihash)
        if self.version == 0 and (self.codec != DAG_PB or self.multihash[:2] != b"\x12\x20"):
            raise InvalidCid("a CIDv0 is a sha2-256 hash of 32 bytes, of the codec dag-pb")

    @classmethod
    def of(cls, data: bytes, codec: int = RAW) -> Cid:
        """The CIDv1 of `data` by sha2-256."""
        return cls(1, codec, multihash_of(data))

    @classmethod
    def from_bytes(cls, data: bytes) -> Cid:
        """Read a binary CID of either version. Raises `InvalidCid`."""
        if data[:2] == b"\x12\x20":
            return cls(0, DAG_PB, bytes(data))
        try:
            version, offset = decode_varint(data)
            codec, offset = decode_varint(data, offset)
        except InvalidVarint as error:
            raise InvalidCid(f"CID: {error}") from error
        if version != 1:
            raise InvalidCid(f"a binary CID begins with 1 or with a sha2-256 multihash, not with {version}")
        return cls(1, codec, bytes(data[offset:]))

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read text: `Qm...`, or multibase; `/ipfs/` and `ipfs://` in front don't count. Raises `InvalidCid`."""
        bare = text.removeprefix("/ipfs/").removeprefix("ipfs://")
        if len(bare) > MAX_TEXT_LENGTH:
            raise InvalidCid(f"{len(bare)} characters are too many for a CID")
        try:
            if len(bare) == 46 and bare.startswith("Qm"):
                return cls(0, DAG_PB, multibase.b58decode(bare))
            data = multibase.decode(bare)
            # "If the first byte is 0x12, return an error. CIDv0 CIDs may not be multibase encoded."
            if data[:1] == b"\x12":
                raise InvalidCid("a CIDv0 stands in base58btc without a multibase prefix")
            return cls.from_bytes(data)
        except InvalidInput as error:
            raise InvalidCid(f"{text[:80]!r} is no CID: {error}") from error

    def to_bytes(self) -> bytes:
        """The binary form."""
        return self.multihash if self.version == 0 else b"\x01" + encode_varint(self.codec) + self.multihash

    def encode(self, base: str = "base32") -> str:
        """The text in that multibase; a CIDv0 has one text only. Raises `InvalidInput` for an unknown base."""
        return multibase.b58encode(self.multihash) if self.version == 0 else multibase.encode(base, self.to_bytes())

    def to_v1(self) -> Cid:
        """The same content by the newer name."""
        return Cid(1, self.codec, self.multihash)

    def __str__(self) -> str:
        return self.encode()

    def __lt__(self, other: Cid) -> bool:
        return self.to_bytes() < other.to_bytes() if isinstance(other, Cid) else NotImplemented

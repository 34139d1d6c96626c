"""Public keys, and the peer ids that name them: the hash of a key, as bytes and in its two text forms (peer-ids spec,
"Keys" and "Peer Ids"; RFC 0001).

    bytes   multihash   00 <length> <key message>     keys of up to 42 bytes, embedded whole (Ed25519, secp256k1)
                        12 20 <32 bytes of SHA-256>   longer ones (RSA, ECDSA)
    text    base58btc   12D3KooW..., Qm...            the multihash itself; what `str()` gives
            CIDv1       <multibase of 01 72 multihash>, by default base32: bafz...

Rules here: a key object always holds a valid key, checked when it was made; its raw bytes and its message are the one
canonical encoding, so equal keys have equal peer ids. Other hash functions are refused: the spec knows these two only.
"""

from __future__ import annotations

from functools import lru_cache, total_ordering
from hashlib import sha256
from typing import Any

from .. import multibase
from ..ground_errors import InvalidInput, InvalidKey, InvalidPeerId
from .algorithm import algorithm_for
from .wire import KeyType, decode_key, encode_key

MAX_INLINE_KEY_SIZE = 42
"""Bytes of the longest public key message that is embedded instead of hashed."""

MAX_TEXT_LENGTH = 128
"""Characters of the longest text that is looked at; a CID in base 16, the longest form, has 93."""

_IDENTITY, _SHA2_256, _SHA2_256_SIZE = 0x00, 0x12, 32
_CID_PREFIX = b"\x01\x72"  # CIDv1, multicodec libp2p-key


def _check_multihash(multihash: bytes) -> None:
    if len(multihash) < 3:
        raise InvalidPeerId(f"{len(multihash)} bytes are too few for a peer id")
    code, size = multihash[0], multihash[1]
    if code not in (_IDENTITY, _SHA2_256):
        raise InvalidPeerId(f"a peer id is a multihash of identity (0x00) or sha2-256 (0x12), not 0x{code:02x}")
    if len(multihash) - 2 != size:
        raise InvalidPeerId(f"the peer id's multihash announces {size} bytes and holds {len(multihash) - 2}")
    if code == _SHA2_256 and size != _SHA2_256_SIZE:
        raise InvalidPeerId(f"a sha2-256 hash has {_SHA2_256_SIZE} bytes, the peer id's has {size}")
    if code == _IDENTITY and size > MAX_INLINE_KEY_SIZE:
        raise InvalidPeerId(f"a peer id embeds at most {MAX_INLINE_KEY_SIZE} bytes, not {size}")


@total_ordering
class PeerId:
    """The identity of a peer. Immutable, hashable, ordered by its bytes."""

    __slots__ = ("_multihash", "_text")

    def __init__(self, multihash: bytes) -> None:
        """Take the bytes of a multihash. Raises `InvalidPeerId`."""
        multihash = bytes(multihash)
        _check_multihash(multihash)
        self._multihash = multihash
        self._text: str | None = None

    @classmethod
    def from_public_key(cls, key: PublicKey) -> PeerId:
        """The peer id of a key: embedded up to `MAX_INLINE_KEY_SIZE` bytes of its message, hashed above."""
        message = key.to_protobuf()
        # "Keys that serialize to more than 42 bytes must be hashed using sha256 multihash, keys that serialize to at
        # most 42 bytes must be hashed using the 'identity' multihash codec."
        if len(message) <= MAX_INLINE_KEY_SIZE:
            return cls(bytes((_IDENTITY, len(message))) + message)
        return cls(bytes((_SHA2_256, _SHA2_256_SIZE)) + sha256(message).digest())

    @classmethod
    def from_bytes(cls, data: bytes) -> PeerId:
        """Take the bytes of a multihash. Raises `InvalidPeerId`."""
        return cls(data)

    @classmethod
    @lru_cache(maxsize=1024)
    def from_string(cls, text: str) -> PeerId:
        """Parse either text form, the CID in any base that `libp2p.multibase` knows. Raises `InvalidPeerId`."""
        if len(text) > MAX_TEXT_LENGTH:
            raise InvalidPeerId(f"{len(text)} characters are too many for a peer id")
        try:
            # "If it starts with `1` or `Qm`, it's a bare base58btc encoded multihash. [...] If it starts with a
            # multibase prefix, it's a CIDv1 CID."
            if text.startswith(("1", "Qm")):
                return cls(multibase.b58decode(text))
            cid = multibase.decode(text)
            # "Once decoded, verify that the CIDs multicodec is `libp2p-key`."
            if not cid.startswith(_CID_PREFIX):
                raise InvalidPeerId("not a CIDv1 (0x01) of the multicodec libp2p-key (0x72)")
            return cls(cid[len(_CID_PREFIX) :])
        except InvalidInput as error:
            raise InvalidPeerId(f"{text!r} is no peer id: {error}") from error

    def to_bytes(self) -> bytes:
        """The multihash."""
        return self._multihash

    def to_cid(self, base: str = "base32") -> str:
        """The CIDv1 text form, in that multibase."""
        return multibase.encode(base, _CID_PREFIX + self._multihash)

    @property
    def short(self) -> str:
        """A short form for logs, as go-libp2p writes it: the first two and the last six characters."""
        text = str(self)
        return f"{text[:2]}*{text[-6:]}"

    def extract_public_key(self) -> PublicKey | None:
        """The key that the peer id embeds, None where it is a hash.

        Raises `InvalidKey` where what it embeds is no key, or a key that has another peer id.
        """
        if self._multihash[0] != _IDENTITY:
            return None
        key = PublicKey.from_protobuf(self._multihash[2:])
        if key.peer_id != self:
            raise InvalidKey(f"peer id {self} embeds a public key that is not in canonical form")
        return key

    def matches(self, key: PublicKey) -> bool:
        """Whether this is the peer id of `key`."""
        return key.peer_id == self

    def __str__(self) -> str:
        if self._text is None:
            self._text = multibase.b58encode(self._multihash)
        return self._text

    def __reduce__(self) -> tuple[object, ...]:
        return PeerId, (self._multihash,)

    def __repr__(self) -> str:
        return f"PeerId({str(self)!r})"

    def __hash__(self) -> int:
        return hash(self._multihash)

    def __eq__(self, other: object) -> bool:
        return self._multihash == other._multihash if isinstance(other, PeerId) else NotImplemented

    def __lt__(self, other: PeerId) -> bool:
        return self._multihash < other._multihash if isinstance(other, PeerId) else NotImplemented


class PublicKey:
    """A public key. Immutable, hashable."""

    __slots__ = ("_algorithm", "_handle", "_peer_id", "_raw", "_type")

    def __init__(self, key_type: KeyType, raw: bytes) -> None:
        """Take a key's bytes in the format of its type. Raises `InvalidKey`."""
        self._set(key_type, algorithm_for(key_type).load_public(bytes(raw)))

    def _set(self, key_type: KeyType, handle: Any) -> None:
        self._type = key_type
        self._algorithm = algorithm_for(key_type)
        self._handle = handle
        self._raw: bytes = self._algorithm.dump_public(handle)
        self._peer_id: PeerId | None = None

    @classmethod
    def from_handle(cls, key_type: KeyType, handle: Any) -> PublicKey:
        """Wrap a key object of the `cryptography` package that is known to be of that type."""
        key = cls.__new__(cls)
        key._set(key_type, handle)
        return key

    @classmethod
    def from_protobuf(cls, message: bytes) -> PublicKey:
        """Decode a `PublicKey` message of at most `MAX_PUBLIC_KEY_SIZE` bytes. Raises `InvalidKey`."""
        return cls(*decode_key(bytes(message), private=False))

    def to_protobuf(self) -> bytes:
        """Encode as a `PublicKey` message, deterministically."""
        return encode_key(self._type, self._raw)

    @property
    def type(self) -> KeyType:
        return self._type

    @property
    def raw(self) -> bytes:
        """The key in the format of its type, canonical."""
        return self._raw

    @property
    def peer_id(self) -> PeerId:
        if self._peer_id is None:
            self._peer_id = PeerId.from_public_key(self)
        return self._peer_id

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's signature of `data`. A malformed signature is just a wrong one."""
        return self._algorithm.verify(self._handle, data, signature)

    def __reduce__(self) -> tuple[object, ...]:
        return PublicKey, (self._type, self._raw)

    def __repr__(self) -> str:
        return f"<PublicKey {self._type.name} of {self.peer_id}>"

    def __hash__(self) -> int:
        return hash(self._raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self._type == other._type and self._raw == other._raw

"""Private keys of every type: make, parse, sign, encode (peer-ids spec, "Keys").

Rules here: a key object always holds a valid key, checked when it was made; its raw bytes and its message are the one
canonical encoding; a private key shows its secret only where it is asked to.
"""

from __future__ import annotations

from typing import Any

from .algorithm import algorithm_for
from .public_key import PeerId, PublicKey
from .wire import KeyType, decode_key, encode_key


class PrivateKey:
    """A private key. Immutable, hashable; equal to another where their public keys are equal."""

    __slots__ = ("_algorithm", "_handle", "_public", "_type")

    def __init__(self, key_type: KeyType, raw: bytes) -> None:
        """Take a key's bytes in the format of its type. Raises `InvalidKey`, and `TypeError` for text."""
        given: object = raw
        if isinstance(given, str):
            raise TypeError("a key is made of bytes, not of text: of hex digits by bytes.fromhex(digits)")
        self._set(key_type, algorithm_for(key_type).load_private(bytes(raw)))

    def _set(self, key_type: KeyType, handle: Any) -> None:
        self._type = key_type
        self._algorithm = algorithm_for(key_type)
        self._handle = handle
        self._public = PublicKey.from_handle(key_type, self._algorithm.public_of(handle))

    @classmethod
    def from_handle(cls, key_type: KeyType, handle: Any) -> PrivateKey:
        """Wrap a key object of the `cryptography` package that is known to be of that type."""
        key = cls.__new__(cls)
        key._set(key_type, handle)
        return key

    @classmethod
    def generate(cls, key_type: KeyType = KeyType.ED25519, *, rsa_bits: int = 2048) -> PrivateKey:
        """Make a new key. `rsa_bits` matters for RSA only. Raises `InvalidKey` for sizes outside 2048 to 8192."""
        return cls.from_handle(key_type, algorithm_for(key_type).generate(rsa_bits))

    @classmethod
    def from_protobuf(cls, message: bytes) -> PrivateKey:
        """Decode a `PrivateKey` message of at most `MAX_PRIVATE_KEY_SIZE` bytes. Raises `InvalidKey`."""
        return cls(*decode_key(bytes(message), private=True))

    def to_protobuf(self) -> bytes:
        """Encode as a `PrivateKey` message, deterministically. Holds the secret."""
        return encode_key(self._type, self.raw)

    @property
    def type(self) -> KeyType:
        return self._type

    @property
    def raw(self) -> bytes:
        """The key in the format of its type. Holds the secret."""
        return self._algorithm.dump_private(self._handle)

    @property
    def handle(self) -> Any:
        """The key object of the `cryptography` package. Holds the secret."""
        return self._handle

    @property
    def public_key(self) -> PublicKey:
        return self._public

    @property
    def peer_id(self) -> PeerId:
        return self._public.peer_id

    def sign(self, data: bytes) -> bytes:
        """Sign `data` by the rules of the key's type."""
        return self._algorithm.sign(self._handle, data)

    def __repr__(self) -> str:
        return f"<PrivateKey {self._type.name} of {self.peer_id}>"

    def __hash__(self) -> int:
        return hash(self._public)

    def __eq__(self, other: object) -> bool:
        return self._public == other._public if isinstance(other, PrivateKey) else NotImplemented

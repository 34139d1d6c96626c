"""What each key type has to do: one `Algorithm` per module, chosen by `algorithm_for`, loaded when first used.

What `cryptography` raises for a malformed key is not documented, and changes: besides `ValueError` there are
`UnsupportedAlgorithm`, `TypeError` and `InternalError`. So whatever its parsers raise is an `InvalidKey`.

A handle is the `cryptography` object of a key. Raw bytes are those of the peer-ids spec, "Key Types".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from .wire import KeyType

Public = TypeVar("Public")
Private = TypeVar("Private")


class Algorithm(ABC, Generic[Public, Private]):
    """Keys and signatures of one type. All that reads raw bytes raises `InvalidKey`."""

    @abstractmethod
    def generate(self, rsa_bits: int) -> Private:
        """Make a key. `rsa_bits` is the size of an RSA modulus."""

    @abstractmethod
    def public_of(self, private: Private) -> Public:
        """The public half."""

    @abstractmethod
    def load_public(self, raw: bytes) -> Public:
        """Read the public key's raw bytes."""

    @abstractmethod
    def dump_public(self, public: Public) -> bytes:
        """Write the one canonical form of a public key."""

    @abstractmethod
    def load_private(self, raw: bytes) -> Private:
        """Read the private key's raw bytes."""

    @abstractmethod
    def dump_private(self, private: Private) -> bytes:
        """Write the private key's raw bytes."""

    @abstractmethod
    def sign(self, private: Private, data: bytes) -> bytes:
        """Sign `data`."""

    @abstractmethod
    def verify(self, public: Public, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is one of `data`."""


_MODULES = {
    KeyType.RSA: ".rsa",
    KeyType.ED25519: ".ed25519",
    KeyType.SECP256K1: ".secp256k1",
    KeyType.ECDSA: ".ecdsa",
}


@cache
def algorithm_for(key_type: KeyType) -> Algorithm[Any, Any]:
    """The algorithm of a key type."""
    return cast(Algorithm[Any, Any], import_module(_MODULES[key_type], __package__).ALGORITHM)

"""The errors of values: what keys, peer ids, addresses and all below them raise, without knowing any of these.

Everybody else takes them from `libp2p.errors`, which draws the whole tree.
"""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=Exception)


class Libp2pError(Exception):
    """Base of all errors of this package. They can be copied, and pickled for another process."""

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args), self.__dict__


class InvalidInput(Libp2pError, ValueError):
    """Malformed text or bytes."""


class InvalidVarint(InvalidInput):
    """Truncated, too long, not the shortest form, or out of range."""


class InvalidMultiaddr(InvalidInput):
    """Text or bytes that are no multiaddr; the message names the part at fault."""


class InvalidPeerId(InvalidInput):
    """Text or bytes that are no peer id."""


class InvalidKey(InvalidInput):
    """A key that is malformed, of an unknown type, or weaker than this package accepts."""


class InvalidCid(InvalidInput):
    """Text or bytes that are no CID, or no multihash."""


class InvalidRecord(InvalidInput):
    """A signed envelope, peer record, or record of a DHT that is malformed, forged, expired, or for another peer."""


class ResolveError(Libp2pError):
    """A name could not be resolved, or led to more records or deeper than the limits allow."""


def _again(kind: type[E], args: tuple[object, ...]) -> E:
    """An error with these `args`, which its `__init__` has made of others."""
    error = kind.__new__(kind)
    error.args = args
    return error

"""Which values a DHT keeps, and which of several is the best: by the namespace of the key, `/<namespace>/...`.
Spec: kad-dht/README.md, "Entry validation".

    /pk/<peer id>     the public key of that peer
    /ipns/<peer id>   its IPNS record

A key whose namespace nobody knows the rules of is refused: a DHT without rules keeps what anybody writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ...errors import InvalidInput, InvalidRecord
from ...identity import PeerId, PublicKey
from ...records.ipns import NAMESPACE as IPNS_NAMESPACE
from ...records.ipns import IpnsRecord

PK_NAMESPACE = b"/pk/"


class Validator(Protocol):
    """The rules of a namespace. Both methods are pure and quick: they run on the event loop."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Raise `InvalidRecord` where `value` must not stand under `key` at the Unix time `now`."""
        ...

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """The index of the best of `values`, which are all valid: the same whatever their order."""
        ...


class PublicKeyValidator:
    """The rules of `/pk/`."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:  # noqa: ARG002 - a key never expires
        try:
            peer = PeerId.from_bytes(key.removeprefix(PK_NAMESPACE))
            owner = PublicKey.from_protobuf(value).peer_id
        except InvalidInput as error:
            raise InvalidRecord(f"record of a public key: {error}") from error
        if owner != peer:
            raise InvalidRecord(f"record of a public key: holds the key of {owner}, not of {peer}")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:  # noqa: ARG002
        return min(range(len(values)), key=lambda index: values[index])


class IpnsValidator:
    """The rules of `/ipns/`."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        try:
            name = PeerId.from_bytes(key.removeprefix(IPNS_NAMESPACE))
        except InvalidInput as error:
            raise InvalidRecord(f"key of an IPNS record: {error}") from error
        IpnsRecord.open(value, name, now)

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        name = PeerId.from_bytes(key.removeprefix(IPNS_NAMESPACE))
        # Expired ones were sorted out by `validate`: which is the newest does not depend on the time.
        orders = [IpnsRecord.open(value, name, now=0.0).order for value in values]
        return orders.index(max(orders))


class Validators:
    """The rules of all namespaces that a DHT knows. `extra` adds to, or replaces, `pk` and `ipns`."""

    def __init__(self, extra: Mapping[str, Validator] | None = None) -> None:
        self._rules: dict[bytes, Validator] = {b"pk": PublicKeyValidator(), b"ipns": IpnsValidator()}
        self._rules.update({name.encode(): rules for name, rules in (extra or {}).items()})

    def check_key(self, key: bytes) -> None:
        """Raise `InvalidRecord` where nobody knows the rules of the key's namespace."""
        self._of(key)

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Raise `InvalidRecord` where `value` must not stand under `key`, or the namespace has no rules."""
        self._of(key).validate(key, value, now)

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """The index of the best of `values`, which are valid. Raises `InvalidRecord` as `validate` does."""
        return self._of(key).select(key, values)

    def is_better(self, key: bytes, value: bytes, than: bytes) -> bool:
        """Whether `value` replaces `than`."""
        return value != than and self.select(key, [than, value]) == 1

    def _of(self, key: bytes) -> Validator:
        parts = key.split(b"/", 2)
        rules = self._rules.get(parts[1]) if len(parts) == 3 and not parts[0] and parts[2] else None
        if rules is None:
            raise InvalidRecord(f"no rules are known for the namespace of the key {key[:64]!r}")
        return rules

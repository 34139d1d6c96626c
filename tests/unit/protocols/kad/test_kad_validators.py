"""Which values are kept, and which of several."""

from collections.abc import Sequence

import pytest

from libp2p.errors import InvalidRecord
from libp2p.identity import KeyType, PrivateKey
from libp2p.protocols.kad.validators import Validators
from libp2p.records.ipns import IpnsRecord, routing_key

NOW = 1_750_000_000.0
KEY, OTHER = PrivateKey.generate(KeyType.RSA), PrivateKey.generate()


class Largest:
    """Values without an x, the largest is the best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        if b"x" in value:
            raise InvalidRecord("an x")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        return list(values).index(max(values))


def test_public_keys() -> None:
    rules = Validators()
    key = b"/pk/" + KEY.peer_id.to_bytes()
    rules.validate(key, KEY.public_key.to_protobuf(), NOW)
    for wrong in (OTHER.public_key.to_protobuf(), b"", b"nonsense"):
        with pytest.raises(InvalidRecord):
            rules.validate(key, wrong, NOW)
    with pytest.raises(InvalidRecord):
        rules.validate(b"/pk/nonsense", KEY.public_key.to_protobuf(), NOW)


def test_ipns_records() -> None:
    rules = Validators()
    key = routing_key(KEY.peer_id)
    records = [IpnsRecord.make(KEY, "/x", sequence=n, now=NOW, lifetime=60).encoded for n in (2, 5, 3)]
    for record in records:
        rules.validate(key, record, NOW)
    assert rules.select(key, records) == 1
    assert rules.is_better(key, records[1], records[0])
    assert not rules.is_better(key, records[0], records[1])
    assert not rules.is_better(key, records[0], records[0])
    for wrong, now in ((records[0], NOW + 60), (records[0][:-1] + b"?", NOW), (b"", NOW)):
        with pytest.raises(InvalidRecord):
            rules.validate(key, wrong, now)
    with pytest.raises(InvalidRecord):
        rules.validate(routing_key(OTHER.peer_id), records[0], NOW)


def test_a_users_namespace() -> None:
    rules = Validators({"v": Largest()})
    rules.validate(b"/v/a", b"b", NOW)
    assert rules.select(b"/v/a", [b"a", b"c", b"b"]) == 1
    with pytest.raises(InvalidRecord, match="an x"):
        rules.validate(b"/v/a", b"x", NOW)


@pytest.mark.parametrize("key", [b"", b"/", b"/v", b"/v/", b"v/a", b"/w/a", b"//a", b"\xff"])
def test_a_key_without_known_rules_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidRecord, match="no rules"):
        Validators({"v": Largest()}).validate(key, b"b", NOW)

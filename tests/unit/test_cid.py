"""CIDs: both versions, every base, strictness."""

import pytest

from libp2p import multibase
from libp2p.cid import DAG_PB, RAW, Cid, check_multihash, multihash_of
from libp2p.errors import InvalidCid

V0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"  # the empty directory of many a tutorial
V1 = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def test_the_two_versions_of_one_name() -> None:
    old, new = Cid.parse(V0), Cid.parse(V1)
    assert (old.version, old.codec) == (0, DAG_PB)
    assert old.to_v1() == new
    assert old.multihash == new.multihash
    assert (str(old), str(new)) == (V0, V1)


@pytest.mark.parametrize("base", ["base16", "base32", "base32upper", "base36", "base58btc", "base64url"])
def test_every_base_leads_back(base: str) -> None:
    cid = Cid.of(b"hello")
    assert Cid.parse(cid.encode(base)) == cid
    assert Cid.from_bytes(cid.to_bytes()) == cid


def test_known_raw_cid() -> None:
    assert str(Cid.of(b"hello world\n")) == "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"


@pytest.mark.parametrize(("code", "size"), [(0x13, 64), (0x1E, 32), (0xB220, 32), (0x00, 5)])
def test_other_hash_functions_are_names_too(code: int, size: int) -> None:
    from libp2p.varint import encode_varint

    cid = Cid(1, RAW, encode_varint(code) + encode_varint(size) + bytes(size))
    assert Cid.parse(str(cid)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Qm",
        V0[:-1],
        V0 + "1",
        V1[:-2],
        "z" + V0,  # "CIDv0 CIDs may not be multibase encoded"
        multibase.encode("base32", b"\x02\x55" + multihash_of(b"")),
        multibase.encode("base32", b"\x01\x55\x12\x20" + bytes(31)),
        multibase.encode("base32", b"\x01\x55\x12\x20" + bytes(33)),
        multibase.encode("base32", b"\x01\xd5\x00" + multihash_of(b"")),  # not the shortest varint
        multibase.encode("base32", b"\x01\x55\x00\x81\x01" + bytes(129)),
        multibase.encode("base32", b"\x01\x55\x12\x08" + bytes(8)),
        "b" + "a" * 600,
    ],
)
def test_what_is_no_cid(text: str) -> None:
    with pytest.raises(InvalidCid):
        Cid.parse(text)


def test_prefixes_of_paths_do_not_count() -> None:
    assert Cid.parse(f"/ipfs/{V1}") == Cid.parse(f"ipfs://{V1}") == Cid.parse(V1)


def test_a_multihash_is_exactly_one() -> None:
    check_multihash(multihash_of(b"x"))
    with pytest.raises(InvalidCid, match="announces"):
        check_multihash(multihash_of(b"x") + b"\0")

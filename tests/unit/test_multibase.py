import pytest

from libp2p.errors import InvalidInput
from libp2p.multibase import MAX_LENGTH, MAX_RADIX_LENGTH, b58decode, b58encode, decode, encode

# The multibase repository's test vectors for "yes mani !" and, in bases with leading zeros, "\0yes mani !".
YES = {
    "base16": "f796573206d616e692021",
    "base16upper": "F796573206D616E692021",
    "base32": "bpfsxgidnmfxgsibb",
    "base32upper": "BPFSXGIDNMFXGSIBB",
    "base36": "k2lcpzo5yikidynfl",
    "base36upper": "K2LCPZO5YIKIDYNFL",
    "base58btc": "z7paNL19xttacUY",
    "base64": "meWVzIG1hbmkgIQ",
    "base64pad": "MeWVzIG1hbmkgIQ==",
    "base64url": "ueWVzIG1hbmkgIQ",
    "base64urlpad": "UeWVzIG1hbmkgIQ==",
}


@pytest.mark.parametrize("base", YES)
def test_vectors(base):
    assert encode(base, b"yes mani !") == YES[base]
    assert decode(YES[base]) == b"yes mani !"
    for data in (b"", b"\0", b"\0\0\1\0", bytes(range(256))):
        assert decode(encode(base, data)) == data


def test_leading_zeros():
    assert b58encode(b"\0\0yes mani !") == "117paNL19xttacUY"
    assert b58decode("117paNL19xttacUY") == b"\0\0yes mani !"
    assert encode("base36", b"\0yes mani !") == "k02lcpzo5yikidynfl"


@pytest.mark.parametrize("text", [YES["base16"], YES["base32"], YES["base36"]])
def test_case_is_free_where_the_table_says_so(text):
    assert decode(text[0] + text[1:].upper()) == decode(text.upper()) == b"yes mani !"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Qm",
            "\0abc",
            "f0",
            "fzz",
            "f 00",
            "b7",
            "bab1",
            "bmZ",
            "bmzxw6===",
            "b\u212a",
            "zz0",
            "z l",
            "k-1",
            "k_",
        ),
        *("mAB", "mA A", "mA-_A", "uAB=", "UAA", "bé", "z" + "2" * (MAX_RADIX_LENGTH + 1), "f" + "0" * MAX_LENGTH),
    ],
)
def test_malformed(text):
    with pytest.raises(InvalidInput):
        decode(text)


def test_limits_and_names():
    with pytest.raises(InvalidInput, match="unknown multibase 'base57'"):
        encode("base57", b"")
    for base in ("base58btc", "base36"):
        with pytest.raises(InvalidInput, match="too many"):
            encode(base, bytes(MAX_RADIX_LENGTH + 1))
    with pytest.raises(InvalidInput, match="too many"):
        encode("base32", bytes(MAX_LENGTH + 1))

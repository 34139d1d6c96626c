"""RPCs as bytes: those of go-libp2p-pubsub, both ways; splitting; limits; frames; signatures; ids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import MessageTooLarge, RemoteProtocolError
from libp2p.identity import KeyType, PeerId, PrivateKey
from libp2p.protocols.pubsub import SignaturePolicy, ids
from libp2p.protocols.pubsub.frames import FrameReader
from libp2p.protocols.pubsub.signing import Fault, author_message, check_fields, check_signature
from libp2p.protocols.pubsub.wire import (
    MAX_CONTROL_SIZE,
    Extensions,
    IHave,
    Partial,
    Prune,
    PxPeer,
    Rpc,
    SubOpts,
    WireMessage,
    decode_rpc,
    encode_rpc,
    frame,
    split,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "pubsub"
GO, RUST, JS = (json.loads((VECTORS / f"{who}_rpcs.json").read_text()) for who in ("go", "rust", "js"))

MEANT = {
    "subscriptions": Rpc(subscriptions=[SubOpts("topi"), SubOpts("topi", subscribe=False)]),
    "partial subscription": Rpc(subscriptions=[SubOpts("topi", True, True, True)]),
    "message": Rpc(messages=[WireMessage("topi", b"data", b"\x01\x02", bytes(7) + b"\x07", b"\x09", b"\x08")]),
    "empty data": Rpc(messages=[WireMessage("topi", b"")]),
    "no data": Rpc(messages=[WireMessage("topi", None)]),
    "ihave": Rpc(ihave=[IHave("topi", (b"a", b"b"))]),
    "iwant": Rpc(iwant=[b"a", b""]),
    "graft": Rpc(graft=["topi"]),
    "prune 1.0": Rpc(prune=[Prune("topi")]),
    "prune": Rpc(prune=[Prune("topi", 60, (PxPeer(b"\xaa", b"\xbb"), PxPeer(b"\xcc")))]),
    "endless prune": Rpc(prune=[Prune("topi", 2**64 - 1)]),
    "idontwant": Rpc(idontwant=[b"a", b"b"]),
    "extensions": Rpc(extensions=Extensions(partial_messages=True, test=True)),
    "partial": Rpc(partial=Partial("topi", b"g", b"p", b"m")),
    "test": Rpc(test_extension=True),
}


@pytest.mark.parametrize("name", list(GO["rpcs"]))
def test_the_same_bytes_as_go(name: str) -> None:
    golden = bytes.fromhex(GO["rpcs"][name])
    assert decode_rpc(golden, max_entries=2) == MEANT[name]
    assert encode_rpc(MEANT[name]) == golden


UNKNOWN = {
    "rust": {"extensions": Rpc(extensions=Extensions(partial_messages=True)), "test": Rpc()},
    "js": {
        "partial subscription": Rpc(subscriptions=[SubOpts("topi")]),
        "extensions": Rpc(),
        "partial": Rpc(),
        "test": Rpc(),
        "endless prune": None,
    },
}
"""What is left of an RPC where others don't know all of its fields; None: they refuse it."""


@pytest.mark.parametrize("name", list(GO["rpcs"]))
@pytest.mark.parametrize(("who", "theirs"), [("rust", RUST), ("js", JS["rpcs"])])
def test_what_rust_and_js_read_of_ours_and_wrote(who: str, theirs: dict[str, str | None], name: str) -> None:
    """They have read what we write, by their own code; what they then wrote by it means the same to us."""
    meant = UNKNOWN[who].get(name, MEANT[name])
    written = theirs[name]
    if meant is None or written is None:
        assert meant is written
        return
    assert decode_rpc(bytes.fromhex(written), max_entries=2) == meant
    if meant is MEANT[name] and name != "test":
        assert encode_rpc(meant).hex() == written


@pytest.mark.parametrize("key_type", list(KeyType))
def test_what_go_signed(key_type: KeyType) -> None:
    encoded = bytes.fromhex(GO["signed"][key_type.name])
    [message] = decode_rpc(encoded, max_entries=1).messages
    assert check_fields(message, SignaturePolicy.STRICT_SIGN) is None
    assert check_signature(message) is None
    assert encode_rpc(Rpc(messages=[message])) == encoded
    for forged in (
        message._replace(data=b"date"),
        message._replace(data=None),
        message._replace(topic="topo"),
        message._replace(seqno=bytes(8)),
        message._replace(key=PrivateKey.generate().public_key.to_protobuf()),
        message._replace(key=b"no key"),
        message._replace(sender=b"no peer"),
        message._replace(sender=None),
        message._replace(signature=b""),
    ):
        assert check_signature(forged) is Fault.INVALID_SIGNATURE


@pytest.mark.parametrize("key_type", [KeyType.ED25519, KeyType.SECP256K1, KeyType.RSA])  # it has no ECDSA peers
def test_what_js_signed_and_how_it_judged(key_type: KeyType) -> None:
    """Of what go signed, as we would: it is valid, not when it is forged, and not where messages are anonymous."""
    assert JS["valid"][key_type.name] == [True, False, False]
    [message] = decode_rpc(bytes.fromhex(JS["signed"][key_type.name]), max_entries=1).messages
    assert check_fields(message, SignaturePolicy.STRICT_SIGN) is None
    assert check_signature(message) is None
    assert check_signature(message._replace(data=b"date")) is Fault.INVALID_SIGNATURE
    assert check_fields(message, SignaturePolicy.STRICT_NO_SIGN) is not None


def test_what_js_did_not_sign() -> None:
    [message] = decode_rpc(bytes.fromhex(JS["unsigned"]), max_entries=1).messages
    assert message == WireMessage("topi", b"data")
    assert check_fields(message, SignaturePolicy.STRICT_NO_SIGN) is None
    assert check_fields(message, SignaturePolicy.STRICT_SIGN) is not None


def test_a_hashed_peer_id_needs_the_key() -> None:
    [message] = decode_rpc(bytes.fromhex(GO["signed"]["RSA"]), max_entries=1).messages
    assert check_signature(message._replace(key=None)) is Fault.INVALID_SIGNATURE


@pytest.mark.parametrize("key_type", list(KeyType))
@pytest.mark.parametrize("policy", list(SignaturePolicy))
def test_our_own_messages_meet_their_policy(key_type: KeyType, policy: SignaturePolicy) -> None:
    key = PrivateKey.generate(key_type)
    message = author_message("topi", b"data", author=key.peer_id, key=key, seqno=2**64 + 7, policy=policy)
    assert check_fields(message, policy) is None
    assert check_signature(message) is None
    assert message.seqno in (None, bytes(7) + b"\x07")
    assert (message.signature is not None) == policy.signs
    assert (message.key is not None) == (policy.signs and key_type in (KeyType.RSA, KeyType.ECDSA))


SIGNED = WireMessage("topi", b"data", b"me", bytes(8), b"signature")


@pytest.mark.parametrize(
    ("policy", "message", "fault"),
    [
        (SignaturePolicy.STRICT_SIGN, SIGNED._replace(signature=None), Fault.MISSING_SIGNATURE),
        (SignaturePolicy.STRICT_SIGN, SIGNED._replace(seqno=None), Fault.INVALID_SIGNATURE),
        (SignaturePolicy.STRICT_SIGN, SIGNED._replace(seqno=bytes(9)), Fault.INVALID_SIGNATURE),
        (SignaturePolicy.STRICT_SIGN, SIGNED._replace(sender=b""), Fault.INVALID_SIGNATURE),
        (SignaturePolicy.STRICT_NO_SIGN, SIGNED, Fault.UNEXPECTED_SIGNATURE),
        (SignaturePolicy.STRICT_NO_SIGN, SIGNED._replace(signature=None), Fault.UNEXPECTED_AUTH_INFO),
        (SignaturePolicy.STRICT_NO_SIGN, WireMessage("topi", b"", key=b""), Fault.UNEXPECTED_AUTH_INFO),
        (SignaturePolicy.LAX_SIGN, SIGNED._replace(signature=None), None),
        (SignaturePolicy.LAX_NO_SIGN, SIGNED._replace(seqno=b"7", signature=None), Fault.INVALID_SIGNATURE),
    ],
)
def test_fields_that_a_policy_forbids(policy: SignaturePolicy, message: WireMessage, fault: Fault | None) -> None:
    assert check_fields(message, policy) is fault


def test_unknown_fields_are_not_passed_on() -> None:
    message = WireMessage("topi", b"data")
    encoded = message.encode() + b"\xc2\x3e\x03new"  # field 1000
    [read] = decode_rpc(b"\x12" + bytes([len(encoded)]) + encoded + b"\xc2\x3e\x03new", max_entries=1).messages
    assert read == message
    assert read.encode() == message.encode()


def test_topics_may_be_any_bytes() -> None:
    encoded = b"\x0a\x06\x08\x01\x12\x02\xff\xfe"
    rpc = decode_rpc(encoded, max_entries=1)
    assert encode_rpc(rpc) == encoded


@pytest.mark.parametrize(
    ("encoded", "what"),
    [
        (b"\x0a\x00" * 11, "11 subscriptions"),
        (b"\x12\x00" * 11, "11 messages"),
        (b"\x1a\x16" + b"\x0a\x00" * 11, "11 IHAVEs"),
        (b"\x1a\x16" + b"\x12\x00" * 11, "11 IWANTs"),
        (b"\x1a\x16" + b"\x1a\x00" * 11, "11 GRAFTs"),
        (b"\x1a\x16" + b"\x22\x00" * 11, "11 PRUNEs"),
        (b"\x1a\x16" + b"\x2a\x00" * 11, "11 IDONTWANTs"),
        (b"\x1a\x18\x12\x16" + b"\x0a\x00" * 11, "11 ids of IWANTs"),
        (b"\x1a\x18\x22\x16" + b"\x12\x00" * 11, "11 peers of PRUNEs"),
        (b"\x0a\x01", "malformed"),
    ],
)
def test_too_many_entries(encoded: bytes, what: str) -> None:
    with pytest.raises(RemoteProtocolError, match=what):
        decode_rpc(encoded, max_entries=10)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_rpc_or_an_error(data: bytes) -> None:
    try:
        rpc = decode_rpc(data, max_entries=100)
    except RemoteProtocolError:
        return
    assert decode_rpc(encode_rpc(rpc), max_entries=100) == rpc


def test_splitting_keeps_all_and_its_order() -> None:
    ids_ = [b"%020d" % n for n in range(4000)]
    whole = Rpc(
        subscriptions=[SubOpts(f"topic {n}") for n in range(1000)],
        messages=[WireMessage("a", bytes(5000)) for _ in range(30)],
        ihave=[IHave("a", tuple(ids_)), IHave("b", (b"1",))],
        iwant=ids_[:2000],
        graft=["a", "b"],
        prune=[Prune("c", 60, (PxPeer(b"peer", bytes(1000)),))],
        idontwant=ids_[:35],
        extensions=Extensions(),
        partial=Partial("a", b"g"),
    )
    parts = list(split(whole, max_size=40_000))
    assert [bool(part.extensions) for part in parts].index(True) == 0
    assert sum(part.extensions is not None for part in parts) == 1
    for part in parts:
        control = encode_rpc(replace(part, messages=[], partial=None))
        assert len(control) <= MAX_CONTROL_SIZE
        assert len(encode_rpc(part)) <= 40_000
        assert len(part.idontwant) <= 10
    for name in ("subscriptions", "messages", "iwant", "graft", "prune", "idontwant"):
        assert [entry for part in parts for entry in getattr(part, name)] == getattr(whole, name)
    told = [(have.topic, mid) for part in parts for have in part.ihave for mid in have.ids]
    assert told == [("a", mid) for mid in ids_] + [("b", b"1")]
    assert [part.partial for part in parts if part.partial] == [whole.partial]
    assert not list(split(Rpc(), max_size=1000))


@given(st.lists(st.binary(max_size=300), max_size=10), st.lists(st.integers(1, 50), max_size=40))
def test_frames_in_any_pieces(rpcs: list[bytes], sizes: list[int]) -> None:
    data = b"".join(frame(rpc) for rpc in rpcs)
    reader, got = FrameReader(limit=300), []
    for size in sizes:
        chunk, data = data[:size], data[size:]
        got += reader.feed(chunk)
    got += reader.feed(data)
    assert got == rpcs
    assert reader.unfinished == 0


def test_a_frame_too_large_is_refused_before_it_comes() -> None:
    with pytest.raises(MessageTooLarge, match="pubsub RPC: 301 bytes"):
        FrameReader(limit=300).feed(b"\xad\x02")
    with pytest.raises(RemoteProtocolError, match="length of a pubsub RPC"):
        FrameReader(limit=300).feed(b"\xff" * 20)
    with pytest.raises(RemoteProtocolError, match="shortest"):
        FrameReader(limit=300).feed(b"\x80\x00")


def test_default_ids_of_others() -> None:
    author = PeerId.from_string("12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj")
    message = WireMessage("topi", b"data", author.to_bytes(), (258).to_bytes(8, "big"))
    key = author.extract_public_key()
    assert key is not None
    assert ids.author_and_seqno(message, b"data") == author.to_bytes() + bytes(6) + b"\x01\x02"
    assert ids.rust_default(message, b"data") == f"{author}258".encode()
    assert ids.js_default(message, b"data") == key.to_protobuf() + bytes(6) + b"\x01\x02"
    assert ids.nim_default(message, b"data") == f"0000000000000102{author}".encode()
    anonymous = WireMessage("topi", b"data")
    for function in (ids.js_default, ids.nim_default, ids.sha256_of_data):
        assert function(anonymous, b"data").hex().startswith("3a6eb0790f39ac87")
    for function in (ids.rust_default, ids.js_default, ids.nim_default):
        assert function(message._replace(sender=bytes(100_000)), None)  # never raises


def test_ethereum_ids() -> None:
    """By the formula of altair/p2p-interface.md, written out."""
    from hashlib import sha256

    message = WireMessage("topi", b"packed")
    assert ids.ethereum(message, b"data") == sha256(b"\1\0\0\0\4\0\0\0\0\0\0\0topidata").digest()[:20]
    assert ids.ethereum(message, None) == sha256(b"\0\0\0\0\4\0\0\0\0\0\0\0topipacked").digest()[:20]

"""The handshake's state machine: the published test vectors, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from libp2p.errors import HandshakeError, LocalProtocolError
from libp2p.security.noise.core import KeyPair, NoiseHandshake, nonce

OF_LOW_ORDER = [bytes(32), (1).to_bytes(32, "little"), ((1 << 255) - 19).to_bytes(32, "little")]


@dataclass(frozen=True)
class Vector:
    """A conversation: messages as (payload, ciphertext), the initiator's and the responder's in turn."""

    prologue: str
    initiator: tuple[str, str]  # static and ephemeral private key
    responder: tuple[str, str]
    messages: list[tuple[str, str]]
    handshake_hash: str | None


CACOPHONY = Vector(
    prologue="4a6f686e2047616c74",
    initiator=(
        "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    ),
    responder=(
        "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
    ),
    messages=[
        (
            "4c756477696720766f6e204d69736573",
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
        ),
        (
            "4d757272617920526f746862617264",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285e08d6b68"
            "aaa3629a5a8639392490e5b9bd5269c2f1e4f488ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f8814c7194e83f23d"
            "bd8d162c9326ad",
        ),
        (
            "462e20412e20486179656b",
            "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9df0f169ae80a89be0865b57f58c9fea0"
            "d4ec82a286427402f113e4b6ae769a1d95941d49b25030",
        ),
        ("4361726c204d656e676572", "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df"),
        (
            "4a65616e2d426170746973746520536179",
            "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5",
        ),
        (
            "457567656e2042f6686d20766f6e2042617765726b",
            "eb3f3515110702e047a6c9da4478b6ead94873c11c0f2d710ddb3f09fce024b3a58502ae3f",
        ),
    ],
    handshake_hash="c8e5f64e846193be2a834104c2a009868d6c9f3bd3c186299888b488b2f1f58e",
)

SNOW = Vector(
    prologue="5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773206f6e6c792066756e20616e6420626f"
    "72696e672e",
    initiator=(
        "7dec208517a3b81a2861d7a71266d5d6dc944c5a8816634a86fe63198a0148ee",
        "a32daf21e93c0131495ce1d903181fde81cc46937daaeb990bae7c992709421e",
    ),
    responder=(
        "4d0aed5098e3b4ef20357e9f686ce66204c792b358da2e475017d6c485304881",
        "4eece0f195d026db035ff987597c429d3ad3bcc2944df37d649528951b2a27c5",
    ),
    messages=[
        (
            "d03c489139e645d0711a3c9e810d776b46a84912463fafa87b884eebf242dc34",
            "f9fa868ba97ab8a2686deccfaad5a484ee10a5bb85e3d1dce015a84797f92818d03c489139e645d0711a3c9e810d776b46a84912"
            "463fafa87b884eebf242dc34",
        ),
        (
            "d8190a92f7dc0c93dbea9118ba8055751fb7c6590c416ffbd419964132b99a85",
            "8c4e6fdb7d09d501a86f7eca5c234522751706ed409182c05cdf5f827d4dae47b81c6c5f43b025692c24391eefee725c17d8cb0f"
            "be3e4abb8aedf42c4fd2592d4ea48ac08989d6ae8b4adae08b2c34087c808c7aa55a63c02b0fab9e930612336bd43eaea04d3c67"
            "0a0a146691aa9cc9d357872320dc735dbc48580cffb553db",
        ),
        (
            "77891b19dcb92ef7c055b672c4a5aa7fdf1c84146b8b303459022729473ce254",
            "933ca6b5ed60df3df66121f0ab49a09e49efa45c613a86a3cecbf4c535cef2f83f72b42837b18e3572f2fdc2b74c331e2368a545"
            "cef54bdca081678ab0e9dd5348122459e0c034c851984d88ce610963d43cde6cfe73a67fbd5a63e8bfca96d0",
        ),
        (
            "d7efdf988072881941db045a42882433817555128fbf5663e56081712ec7d212",
            "54ef0ff0629e1aaa7685a2806ab111cba76b52331f2642276736f415868eacb69ab2577f3bda0cbf72f879685f6ed25f",
        ),
        (
            "dd7bf01a588bafb52c6cfba952e5d8fe35cc2b3f92b4730ae2474615157345ce",
            "356be70f110306d5c699bb834bb9d58d909e325924dfbec972e406e6f294dc63e1daebefe8a62a334facc8048ab4ad66",
        ),
    ],
    handshake_hash=None,
)


def key_pair(private: str) -> KeyPair:
    return KeyPair(X25519PrivateKey.from_private_bytes(bytes.fromhex(private)))


def both_sides(vector: Vector = CACOPHONY) -> tuple[NoiseHandshake, NoiseHandshake]:
    initiator, responder = (
        NoiseHandshake(
            initiator=keys is vector.initiator,
            static=key_pair(keys[0]),
            ephemeral=key_pair(keys[1]),
            prologue=bytes.fromhex(vector.prologue),
        )
        for keys in (vector.initiator, vector.responder)
    )
    return initiator, responder


@pytest.mark.parametrize("vector", [CACOPHONY, SNOW], ids=["cacophony", "snow"])
def test_published_vectors(vector: Vector) -> None:
    initiator, responder = both_sides(vector)
    writer, reader = initiator, responder
    messages = [(bytes.fromhex(payload), bytes.fromhex(sealed)) for payload, sealed in vector.messages]
    for payload, sealed in messages[:3]:
        assert writer.write_message(payload) == sealed
        assert reader.read_message(sealed) == payload
        writer, reader = reader, writer

    assert initiator.finished
    assert responder.finished
    assert initiator.remote_static == key_pair(vector.responder[0]).public
    assert responder.remote_static == key_pair(vector.initiator[0]).public
    assert initiator.handshake_hash == responder.handshake_hash
    assert vector.handshake_hash in (None, initiator.handshake_hash.hex())
    initiator_key, responder_key = responder.split()[::-1]
    assert initiator.split() == (initiator_key, responder_key)
    for index, (payload, sealed) in enumerate(messages[3:]):
        key = initiator_key if index % 2 else responder_key
        assert ChaCha20Poly1305(key).encrypt(nonce(index // 2), payload, None) == sealed


def test_nonce_is_four_zero_bytes_and_the_little_endian_counter() -> None:
    assert nonce(0x0102) == bytes.fromhex("000000000201000000000000")
    assert nonce(2**64 - 1) == bytes.fromhex("00000000ffffffffffffffff")


def after_messages(count: int) -> tuple[NoiseHandshake, NoiseHandshake, bytes]:
    """The writer and the reader of the next message, and that message."""
    writer, reader = both_sides()
    for _ in range(count):
        reader.read_message(writer.write_message(b"payload"))
        writer, reader = reader, writer
    return writer, reader, writer.write_message(b"payload")


@pytest.mark.parametrize(
    ("passed", "damage", "says"),
    [
        (0, lambda message: message[:31], "message 1: 31 bytes, too short for the ephemeral key"),
        (1, lambda message: message[:31], "message 2: 31 bytes, too short for the ephemeral key"),
        (1, lambda message: message[:79], "message 2: 79 bytes, too short for the static key"),
        (1, lambda message: message[:80], "message 2: the payload failed authentication"),
        (1, lambda message: message + b"x", "message 2: the payload failed authentication"),
        (2, lambda message: message[:47], "message 3: 47 bytes, too short for the static key"),
        (2, lambda message: message[:48], "message 3: the payload failed authentication"),
        (2, lambda message: b"", "message 3: 0 bytes, too short for the static key"),
        *(
            (1, lambda message, key=key: key + message[32:], r"message 2: the peer's key gives no secret \(ee\)")
            for key in OF_LOW_ORDER
        ),
    ],
)
def test_damaged_messages(passed: int, damage: object, says: str) -> None:
    _, reader, message = after_messages(passed)
    assert callable(damage)
    with pytest.raises(HandshakeError, match=says):
        reader.read_message(damage(message))


@pytest.mark.parametrize("passed", [1, 2])
def test_every_flipped_byte_is_noticed(passed: int) -> None:
    size = len(after_messages(passed)[2])
    for position in range(size):
        _, reader, message = after_messages(passed)
        damaged = bytearray(message)
        damaged[position] ^= 0x40
        with pytest.raises(HandshakeError, match=f"message {passed + 1}: the (static key|payload) failed"):
            reader.read_message(bytes(damaged))


@pytest.mark.parametrize("key", OF_LOW_ORDER)
def test_responder_refuses_an_ephemeral_key_of_low_order(key: bytes) -> None:
    _, responder = both_sides()
    responder.read_message(key)
    with pytest.raises(HandshakeError, match=r"message 2: the peer's key gives no secret \(ee\)"):
        responder.write_message(b"")


def test_other_prologue_fails() -> None:
    initiator, _ = both_sides()
    _, responder = both_sides(SNOW)
    responder.read_message(initiator.write_message(b""))
    with pytest.raises(HandshakeError, match="message 2: the static key failed authentication"):
        initiator.read_message(responder.write_message(b""))


def test_out_of_turn() -> None:
    initiator, responder = both_sides()
    with pytest.raises(LocalProtocolError, match="not the moment to send"):
        responder.write_message(b"")
    with pytest.raises(LocalProtocolError, match="not the moment to receive"):
        initiator.read_message(bytes(96))
    with pytest.raises(LocalProtocolError, match="not finished, 0"):
        initiator.split()


def test_message_is_bounded() -> None:
    initiator, _ = both_sides()
    with pytest.raises(LocalProtocolError, match="65536 bytes"):
        initiator.write_message(bytes(65536 - 32))

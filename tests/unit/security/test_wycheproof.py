"""Wycheproof's vectors, which aim at what implementations got wrong, through our own keys and channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from libp2p.errors import HandshakeError
from libp2p.identity import KeyType, PublicKey
from libp2p.security.noise import core
from libp2p.security.noise.core import KeyPair, NoiseHandshake

VECTORS = Path(__file__).parents[2] / "vectors" / "wycheproof"


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["groups"]
    assert found
    return found


def cases(name: str) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    for group in groups(name):
        for test in group["tests"]:
            yield group, test


@pytest.mark.parametrize(
    ("name", "key_type"),
    [
        ("ed25519", KeyType.ED25519),
        ("ecdsa_p256", KeyType.ECDSA),
        ("ecdsa_p384", KeyType.ECDSA),
        ("secp256k1", KeyType.SECP256K1),
        ("rsa_2048", KeyType.RSA),
    ],
)
def test_signatures(name: str, key_type: KeyType) -> None:
    outcomes = {True: 0, False: 0}
    for group, (number, message, signature, result) in cases(name):
        key = PublicKey(key_type, bytes.fromhex(group["key"]))
        verified = key.verify(bytes.fromhex(message), bytes.fromhex(signature))
        assert result == "acceptable" or verified is (result == "valid"), f"{name}, case {number}"
        outcomes[verified] += 1
    assert min(outcomes.values()) > 5


def test_x25519() -> None:
    """Through the key pair of a handshake. A shared secret of zeros, which anybody knows, is refused."""
    refused = 0
    for _, (number, private, public, shared, result) in cases("x25519"):
        pair = KeyPair(X25519PrivateKey.from_private_bytes(bytes.fromhex(private)))
        if not any(bytes.fromhex(shared)):
            assert result == "acceptable"
            refused += 1
            with pytest.raises(ValueError, match="shared key"):
                pair.exchange(bytes.fromhex(public))
        else:
            assert pair.exchange(bytes.fromhex(public)).hex() == shared, f"case {number}"
    assert refused > 5


def test_keys_of_small_order_end_a_noise_handshake() -> None:
    points = {public for _, (_, _, public, shared, _) in cases("x25519") if not any(bytes.fromhex(shared))}
    for public in points:
        pairs = [KeyPair(X25519PrivateKey.generate()) for _ in range(2)]
        responder = NoiseHandshake(initiator=False, static=pairs[0], ephemeral=pairs[1])
        responder.read_message(bytes.fromhex(public))
        with pytest.raises(HandshakeError, match="gives no secret"):
            responder.write_message(b"")


def test_chacha20_poly1305(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the cipher of a handshake."""
    opened = 0
    for _, (number, key, nonce, associated, message, sealed, result) in cases("chacha20_poly1305"):
        state = core._SymmetricState(b"")
        state._cipher = core.ChaCha20Poly1305(bytes.fromhex(key))
        state.hash = bytes.fromhex(associated)
        monkeypatch.setattr(core, "nonce", lambda _, nonce=nonce: bytes.fromhex(nonce))
        try:
            plain = state.decrypt(bytes.fromhex(sealed)).hex()
        except InvalidTag:
            plain = None
        assert plain == (message if result == "valid" else None), f"case {number}"
        opened += plain is not None
    assert opened > 100

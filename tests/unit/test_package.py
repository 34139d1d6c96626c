"""The package as a whole."""

import subprocess
import sys

import pytest

import libp2p


def test_what_is_exported_is_there() -> None:
    assert [name for name in libp2p.__all__ if not hasattr(libp2p, name)] == []


@pytest.mark.real
def test_heavy_parts_load_when_used() -> None:
    code = "import sys, libp2p; libp2p.PrivateKey.generate().public_key.peer_id; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "libp2p.identity.ed25519" in loaded
    heavy = {"cryptography.hazmat.primitives.serialization", "libp2p.identity.rsa", "libp2p.identity.ecdsa", "dns"}
    assert not heavy & set(loaded)

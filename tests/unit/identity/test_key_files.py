import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from libp2p.errors import InvalidKey
from libp2p.identity import (
    KeyType,
    PrivateKey,
    load_or_create_private_key,
    load_private_key,
    save_private_key,
)


def pem(handle, encryption=None):
    return handle.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize("key_type", KeyType)
@pytest.mark.parametrize("form", ["protobuf", "pem"])
def test_round_trip(tmp_path, key_type, form):
    key = PrivateKey.generate(key_type)
    path = tmp_path / "key"
    save_private_key(key, path, format=form)
    assert load_private_key(path) == key
    assert load_private_key(str(path)).type == key_type
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----") == (form == "pem")
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_mode_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0)
    try:
        save_private_key(PrivateKey.generate(), tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_nothing_is_overwritten_silently(tmp_path):
    first, second = PrivateKey.generate(), PrivateKey.generate()
    path = tmp_path / "key"
    save_private_key(first, path)
    with pytest.raises(FileExistsError):
        save_private_key(second, path)
    assert load_private_key(path) == first
    save_private_key(second, path, overwrite=True)
    assert load_private_key(path) == second
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_shared_files_are_refused(tmp_path, mode):
    path = tmp_path / "key"
    key = load_or_create_private_key(path)
    path.chmod(mode)
    with pytest.raises(InvalidKey, match=f"mode {mode:04o}.*chmod 600"):
        load_private_key(path)
    assert load_private_key(path, allow_shared=True) == key
    assert load_or_create_private_key(path, allow_shared=True) == key


def test_load_or_create(tmp_path):
    path = tmp_path / "key"
    key = load_or_create_private_key(path, key_type=KeyType.SECP256K1, format="pem")
    assert key.type == KeyType.SECP256K1
    assert load_or_create_private_key(path) == key
    with pytest.raises(FileNotFoundError):
        load_private_key(tmp_path / "none")


def test_load_or_create_when_another_process_is_first(tmp_path, monkeypatch):
    path, theirs = tmp_path / "key", PrivateKey.generate()
    generate = PrivateKey.generate

    def generate_late(key_type):
        save_private_key(theirs, path)
        return generate(key_type)

    monkeypatch.setattr(PrivateKey, "generate", generate_late)
    assert load_or_create_private_key(path) == theirs


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "without a known type"),
        (b"garbage", "malformed"),
        (bytes(20_000), "more than 16384 bytes"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "malformed"),
        (pem(x25519.X25519PrivateKey.generate()), "does not know"),
        (pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret")), "encrypted"),
        (pem(ec.generate_private_key(ec.BrainpoolP256R1())), "NIST"),
        (pem(rsa.generate_private_key(65537, 1024)), "not 1024"),
    ],
)
def test_files_that_hold_no_key(tmp_path, content, reason):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKey, match=reason) as caught:
        load_private_key(path)
    assert str(path) in str(caught.value)


def test_pem_of_other_programs(tmp_path):
    handle = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key"
    path.write_bytes(handle.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    path.chmod(0o600)
    assert load_private_key(path) == PrivateKey.from_handle(KeyType.ECDSA, handle)

import base64
import errno
import os
import signal
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
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


@pytest.mark.parametrize("allow_shared", [True, False])
def test_what_is_no_regular_file_is_not_read(tmp_path, allow_shared):
    """Opening a FIFO would wait for its writer."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", "/dev/null"):
        with pytest.raises(InvalidKey, match="no regular file"):
            load_private_key(path, allow_shared=allow_shared)


def test_a_symbolic_link_leads_to_the_key(tmp_path):
    key = load_or_create_private_key(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    assert load_private_key(tmp_path / "link") == key
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="dangling"):
        load_or_create_private_key(tmp_path / "dangling")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_can_write_to_is_not_trusted(tmp_path, mode):
    home = tmp_path / "home"
    (home / "keys").mkdir(parents=True)
    key = load_or_create_private_key(home / "keys" / "key")
    home.chmod(mode)
    with pytest.raises(InvalidKey, match=f"others can exchange it, since its directory {home} has mode {mode:04o}"):
        load_private_key(home / "keys" / "key")
    assert load_private_key(home / "keys" / "key", allow_shared=True) == key
    home.chmod(0o1777)  # as /tmp
    assert load_private_key(home / "keys" / "key") == key


@pytest.mark.parametrize("of", ["the file", "its directory"])
def test_what_belongs_to_another_user_is_not_trusted(tmp_path, of):
    path = tmp_path / "key"
    load_or_create_private_key(path)
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path if of == "the file" else tmp_path, 4711, -1)
    with pytest.raises(InvalidKey, match=r"belongs to the user|the owner 4711"):
        load_private_key(path)


def without_nameless_files(monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)


def without_hard_links_or_nameless_files(monkeypatch):
    without_nameless_files(monkeypatch)
    without_hard_links(monkeypatch)


def without_hard_links(monkeypatch):
    def link(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("system", [without_nameless_files, without_hard_links, without_hard_links_or_nameless_files])
def test_file_systems_that_can_do_less(tmp_path, monkeypatch, system):
    system(monkeypatch)
    first, second = PrivateKey.generate(), PrivateKey.generate()
    path = tmp_path / "key"
    (tmp_path / ".key.tmp").write_bytes(b"left by a process that was killed")
    save_private_key(first, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        save_private_key(second, path)
    assert load_private_key(path) == first
    save_private_key(second, path, overwrite=True)
    assert load_or_create_private_key(path) == second
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_who_is_killed_while_writing_leaves_nothing_behind(tmp_path):
    code = (
        "import os, signal, sys; from libp2p.identity import PrivateKey, save_private_key\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_private_key(PrivateKey.generate(), sys.argv[1])"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "key")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def key_pem(form: PrivateFormat = PrivateFormat.PKCS8) -> tuple[PrivateKey, bytes]:
    handle = Ed25519PrivateKey.generate()
    return PrivateKey.from_handle(KeyType.ED25519, handle), handle.private_bytes(Encoding.PEM, form, NoEncryption())


@pytest.mark.parametrize(
    "write",
    [
        lambda pem: b"\xef\xbb\xbf" + pem,  # a byte order mark
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: b"Bag Attributes\n    localKeyID: 01 02\nKey Attributes: <No Attributes>\n" + pem,  # openssl pkcs12
        lambda pem: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + pem,
        lambda pem: pem.rstrip() + b"\n\n# the node in the cellar\n",
    ],
    ids=["bom", "crlf", "attributes", "certificate", "comment"],
)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH], ids=["pkcs8", "openssh"])
def test_odd_pem_files_are_read(tmp_path, form, write):
    key, pem = key_pem(form)
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(write(pem))
    assert load_private_key(path) == key


@pytest.mark.parametrize("write", [lambda text: text, lambda text: text + b"\n", lambda text: b'"' + text + b'"\r\n'])
@pytest.mark.parametrize("key_type", KeyType)
def test_the_base64_of_kubos_settings_is_read(tmp_path, key_type, write):
    key = PrivateKey.generate(key_type)
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(write(base64.b64encode(key.to_protobuf())))
    assert load_private_key(path) == key


def test_read_only_secrets_of_a_group_are_read_where_that_is_allowed(tmp_path):
    key = PrivateKey.generate()
    path = tmp_path / "key"
    save_private_key(key, path)
    path.chmod(0o440)
    with pytest.raises(InvalidKey, match="allow_shared"):
        load_private_key(path)
    assert load_private_key(path, allow_shared=True) == key

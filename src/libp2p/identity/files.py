"""Private keys in files: the libp2p `PrivateKey` message (peer-ids spec, "Keys") or PEM, told apart by their content.

Rules here: a key file is never readable by others, not even for a moment; it appears whole or not at all; none is
overwritten without being told to; one that others could read is not used without being told to.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from ..ground_errors import InvalidKey
from .private_key import PrivateKey
from .wire import KeyType

KeyFormat = Literal["protobuf", "pem"]

MAX_FILE_SIZE = 16_384
"""Bytes of the largest key file that is read; RSA 8192 in PEM takes about 6,400."""

_PEM_START = b"-----BEGIN "


def load_private_key(path: str | os.PathLike[str], *, allow_shared: bool = False) -> PrivateKey:
    """Read a private key, as a libp2p message or PEM.

    Raises `InvalidKey` where the content is no private key, and, unless `allow_shared`, where the file's mode lets
    group or others at it (not checked on Windows, whose modes say nothing); `OSError` where it cannot be read.
    """
    with Path(path).open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077 and not allow_shared:
            raise InvalidKey(
                f"key file {os.fspath(path)} has mode {mode:04o}: others can read or change it; `chmod 600` it, "
                "or pass allow_shared=True"
            )
        content = file.read(MAX_FILE_SIZE + 1)
    if len(content) > MAX_FILE_SIZE:
        raise InvalidKey(f"key file {os.fspath(path)} has more than {MAX_FILE_SIZE} bytes")
    try:
        if content.lstrip().startswith(_PEM_START):
            from .pem import decode_pem  # noqa: PLC0415 - loads every key type

            return decode_pem(content)
        return PrivateKey.from_protobuf(content)
    except InvalidKey as error:
        raise InvalidKey(f"key file {os.fspath(path)}: {error}") from error


def save_private_key(
    key: PrivateKey,
    path: str | os.PathLike[str],
    *,
    format: KeyFormat = "protobuf",  # noqa: A002
    overwrite: bool = False,
) -> None:
    """Write a private key with mode 0600: whole, or not at all.

    Raises `FileExistsError` where the file exists and `overwrite` is not set; `OSError` where it cannot be written.
    """
    if format == "pem":
        from .pem import encode_pem  # noqa: PLC0415 - loads every key type

        content = encode_pem(key)
    else:
        content = key.to_protobuf()
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if overwrite:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # fails where `path` exists, with no moment between the look and the leap
    finally:
        temporary.unlink(missing_ok=True)


def load_or_create_private_key(
    path: str | os.PathLike[str],
    *,
    key_type: KeyType = KeyType.ED25519,
    format: KeyFormat = "protobuf",  # noqa: A002
    allow_shared: bool = False,
) -> PrivateKey:
    """Read the private key at `path`; where there is no file yet, make one with a new key of `key_type`.

    Several processes may do so at once: all get the same key. Raises as `load_private_key` and `save_private_key` do.
    """
    try:
        return load_private_key(path, allow_shared=allow_shared)
    except FileNotFoundError:
        key = PrivateKey.generate(key_type)
    try:
        save_private_key(key, path, format=format)
    except FileExistsError:
        return load_private_key(path, allow_shared=allow_shared)
    return key

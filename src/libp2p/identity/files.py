"""Private keys in files: the libp2p `PrivateKey` message (peer-ids spec, "Keys"), the same in base64 (which kubo's
settings have), or PEM, told apart by their content. Written are the message and PKCS #8 only.

How such files are read and written safely: `secret_files.py`.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import os
from typing import Literal

from ..ground_errors import InvalidKey
from .private_key import PrivateKey
from .secret_files import read_secret, write_secret
from .wire import KeyType

KeyFormat = Literal["protobuf", "pem"]

MAX_FILE_SIZE = 16_384
"""Bytes of the largest key file that is read; RSA 8192 in PEM takes about 6,400."""

_PEM_START = b"-----BEGIN "


def load_private_key(path: str | os.PathLike[str], *, allow_shared: bool = False) -> PrivateKey:
    """Read a private key: a libp2p message, bare or in base64, or PEM, OpenSSH's too.

    Raises `InvalidKey` where the content is no private key, and where the file is no regular one; unless
    `allow_shared`, also where others could read or exchange it; `OSError` where it cannot be read.
    """
    content = read_secret(path, max_size=MAX_FILE_SIZE, allow_shared=allow_shared)
    try:
        if _PEM_START in content:
            from .pem import decode_pem  # noqa: PLC0415 - loads every key type

            return decode_pem(content)
        return PrivateKey.from_protobuf(_without_base64(content))
    except InvalidKey as error:
        raise InvalidKey(f"key file {os.fspath(path)}: {error}") from error


def _without_base64(content: bytes) -> bytes:
    """What base64 stands for, where it is that: a message begins with 0x08, which base64 has not."""
    text = content.removeprefix(codecs.BOM_UTF8).strip().strip(b'"')
    try:
        return base64.b64decode(text, validate=True) if text else content
    except binascii.Error:
        return content


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
    write_secret(path, content, overwrite=overwrite)


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

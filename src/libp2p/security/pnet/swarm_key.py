"""The file that holds a private network's key, `swarm.key`:

    /key/swarm/psk/1.0.0/
    /base16/                            or /base64/, or /bin/
    <32 bytes in that encoding>

Lines end in LF or CR LF; behind /bin/ the bytes follow as they are. White space behind the key is ignored.
"""

from __future__ import annotations

import os
from base64 import b64decode

from ...errors import InvalidKey
from ...identity.secret_files import read_secret

PSK_SIZE = 32
"""Bytes of a key: "exactly 256-bits (32 bytes) long"."""

_HEADER = "/key/swarm/psk/1.0.0/"
_MAX_FILE_SIZE = 1024


def load_swarm_key(path: str | os.PathLike[str], *, allow_shared: bool = False) -> bytes:
    """Read the key in a `swarm.key` file.

    Raises `InvalidKey`, also where others could read or exchange the file, unless `allow_shared`; and `OSError` where
    it cannot be read.
    """
    content = read_secret(path, max_size=_MAX_FILE_SIZE, allow_shared=allow_shared)
    try:
        return parse_swarm_key(content)
    except InvalidKey as error:
        raise InvalidKey(f"{os.fspath(path)}: {error}") from error


def parse_swarm_key(content: bytes) -> bytes:
    """The key in the content of a `swarm.key` file. Raises `InvalidKey`."""
    if len(content) > _MAX_FILE_SIZE:
        raise InvalidKey(f"a swarm key file of more than {_MAX_FILE_SIZE} bytes")
    header, _, rest = content.partition(b"\n")
    if header.rstrip(b"\r") != _HEADER.encode():
        raise InvalidKey(f"no swarm key file: its first line is not {_HEADER}")
    encoding, _, body = rest.partition(b"\n")
    try:
        match encoding.rstrip(b"\r"):
            case b"/base16/":
                key = bytes.fromhex(body.decode())
            case b"/base64/":
                key = b64decode(b"".join(body.split()), validate=True)
            case b"/bin/":
                key = body if len(body) <= PSK_SIZE else body[:PSK_SIZE] + body[PSK_SIZE:].strip()
            case other:
                raise InvalidKey(f"swarm key in the unknown encoding {other.decode(errors='replace')!r}")
    except ValueError as error:
        if isinstance(error, InvalidKey):
            raise
        raise InvalidKey("swarm key is not in the encoding that its second line names") from error
    return check_psk(key)


def format_swarm_key(psk: bytes) -> str:
    """The content of a `swarm.key` file for `psk`, in base 16. Raises `InvalidKey`. `os.urandom(32)` is a new key."""
    return f"{_HEADER}\n/base16/\n{check_psk(psk).hex()}\n"


def check_psk(psk: bytes) -> bytes:
    """`psk`, if it has the right size and is not all zeros. Raises `InvalidKey`."""
    if len(psk) != PSK_SIZE:
        raise InvalidKey(f"a swarm key has {PSK_SIZE} bytes, not {len(psk)}")
    if not any(psk):
        raise InvalidKey("a swarm key of zeros is none: anybody would guess it")
    return bytes(psk)

"""Multibase: bytes as text whose first character names the base, and bare base58btc.

    text = prefix + digits
    f base16    b base32       k base36    z base58btc    m base64       u base64url      (all without padding)
    F upper     B upper        K upper                    M with padding U with padding

Rules here: one byte string has one text in each base. Text that decodes but would be encoded differently (stray bits,
stray or missing padding, white space) is refused; only letter case is free in bases 16, 32 and 36, as the multibase
table says. Bases 36 and 58 cost time square in the length, so their input is limited to `MAX_RADIX_LENGTH`.
"""

from __future__ import annotations

import binascii
from base64 import b32decode, b32encode, urlsafe_b64encode
from collections.abc import Callable

from .ground_errors import InvalidInput

MAX_RADIX_LENGTH = 1024
"""Bytes, or characters, that base58btc and base36 take at most."""

MAX_LENGTH = 65_536
"""Bytes, or characters, that the other bases take at most."""

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_VALUES = {alphabet: {digit: value for value, digit in enumerate(alphabet)} for alphabet in (_BASE58, _BASE36)}
_CHUNK = 10  # digits that one machine-sized division yields: 58**10 < 2**63


def _radix_encode(data: bytes, alphabet: str) -> str:
    if len(data) > MAX_RADIX_LENGTH:
        raise InvalidInput(f"{len(data)} bytes are too many for base{len(alphabet)}, the limit is {MAX_RADIX_LENGTH}")
    base = len(alphabet)
    chunk_size = base**_CHUNK
    number = int.from_bytes(data, "big")
    digits: list[str] = []
    while number:
        number, chunk = divmod(number, chunk_size)
        for _ in range(_CHUNK):
            chunk, digit = divmod(chunk, base)
            digits.append(alphabet[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + "".join(digits)[::-1].lstrip(alphabet[0])


def _radix_decode(digits: str, alphabet: str) -> bytes:
    base = len(alphabet)
    if len(digits) > MAX_RADIX_LENGTH:
        raise InvalidInput(f"{len(digits)} characters are too many for base{base}, the limit is {MAX_RADIX_LENGTH}")
    values = _VALUES[alphabet]
    number = 0
    try:
        for digit in digits:
            number = number * base + values[digit]
    except KeyError as error:
        raise InvalidInput(f"{error.args[0]!r} is no base{base} digit") from None
    zeros = len(digits) - len(digits.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def b58encode(data: bytes) -> str:
    """Encode in base58btc, without a multibase prefix. Raises `InvalidInput` above `MAX_RADIX_LENGTH` bytes."""
    return _radix_encode(data, _BASE58)


def b58decode(text: str) -> bytes:
    """Decode base58btc without a multibase prefix. Raises `InvalidInput`."""
    return _radix_decode(text, _BASE58)


def _base32(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()


def _base32_bytes(digits: str) -> bytes:
    return b32decode(digits.upper() + "=" * (-len(digits) % 8))


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode().rstrip("=")


def _base64_bytes(digits: str) -> bytes:
    return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))


def _url_bytes(digits: str) -> bytes:
    return _base64_bytes(digits.translate({ord("-"): "+", ord("_"): "/"}))


_Codec = tuple[str, Callable[[bytes], str], Callable[[str], bytes]]

# name: prefix, digits of bytes, bytes of digits. Where the decoder is lenient, `decode` notices by encoding again.
_BASES: dict[str, _Codec] = {
    "base16": ("f", bytes.hex, bytes.fromhex),
    "base16upper": ("F", lambda data: data.hex().upper(), bytes.fromhex),
    "base32": ("b", _base32, _base32_bytes),
    "base32upper": ("B", lambda data: _base32(data).upper(), _base32_bytes),
    "base36": ("k", lambda data: _radix_encode(data, _BASE36), lambda text: _radix_decode(text, _BASE36)),
    "base36upper": (
        "K",
        lambda data: _radix_encode(data, _BASE36).upper(),
        lambda text: _radix_decode(text, _BASE36),
    ),
    "base58btc": ("z", b58encode, b58decode),
    "base64": ("m", _base64, _base64_bytes),
    "base64pad": ("M", lambda data: binascii.b2a_base64(data, newline=False).decode(), binascii.a2b_base64),
    "base64url": ("u", lambda data: urlsafe_b64encode(data).decode().rstrip("="), _url_bytes),
    "base64urlpad": ("U", lambda data: urlsafe_b64encode(data).decode(), _url_bytes),
}
_BY_PREFIX = {codec[0]: (name, codec) for name, codec in _BASES.items()}
_CASE_FREE = frozenset("fFbBkK")


def encode(base: str, data: bytes) -> str:
    """Encode in the base of that name in the multibase table ("base32", "base58btc", ...), prefix included.

    Raises `InvalidInput` for a base that is not one of the table above, and for too much data.
    """
    if base not in _BASES:
        raise InvalidInput(f"unknown multibase {base!r}, known are: {', '.join(_BASES)}")
    if len(data) > MAX_LENGTH:
        raise InvalidInput(f"{len(data)} bytes are too many for multibase, the limit is {MAX_LENGTH}")
    prefix, digits_of, _ = _BASES[base]
    return prefix + digits_of(data)


def decode(text: str) -> bytes:
    """Decode multibase text by the base that its first character names. Raises `InvalidInput`."""
    if not text or text[0] not in _BY_PREFIX:
        raise InvalidInput(f"no known multibase prefix: {text[:1]!r}")
    if len(text) > MAX_LENGTH or not text.isascii():
        raise InvalidInput(f"multibase text must be ASCII, and at most {MAX_LENGTH} characters")
    name, (_, digits_of, bytes_of) = _BY_PREFIX[text[0]]
    folds = text[0] in _CASE_FREE
    digits = text[1:].lower() if folds else text[1:]
    try:
        data = bytes_of(digits)
    except InvalidInput:
        raise
    except ValueError as error:  # binascii.Error is one
        raise InvalidInput(f"malformed {name}: {error}") from error
    again = digits_of(data)
    if (again.lower() if folds else again) != digits:
        raise InvalidInput(f"malformed {name}: not the one text of its bytes")
    return data

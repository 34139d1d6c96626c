"""Codecs of multiaddr values: text to bytes and back.

Rules of every codec:
- `to_bytes` takes exactly the text forms named at it, and nothing around them: no sign, no blank, no leading zero;
- `to_text` refuses bytes that `to_bytes` could not have made, so it is the check of binary addresses too; for values
  of fixed size the caller has checked the length (`Component.from_raw`);
- `to_bytes(to_text(raw)) == raw`: the text that is printed is the one canonical form;
- whatever is wrong is raised as `InvalidInput`; `multiaddr.py` adds which address, which part and where.

Numbers are big endian. Text is UTF-8. `multihash` is `<code varint><length varint><digest>`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .. import multibase
from ..ground_errors import InvalidInput
from ..varint import decode_varint

MAX_NAME_LENGTH = 255
"""Bytes in the longest host name or IPv6 zone. RFC 1035 section 3.1: a domain name takes at most 255 octets."""

MAX_DIGEST_LENGTH = 128
"""Bytes in the longest digest of a /certhash."""

MAX_INLINE_KEY_LENGTH = 42
"""Bytes in the longest key that a peer id carries whole, by the peer ids specification."""

MAX_ENCODED_LENGTH = 512
"""Characters in the longest base58 or multibase text that is decoded; `MAX_DIGEST_LENGTH` in base 16 takes 300."""

_IDENTITY, _SHA2_256 = 0x00, 0x12
_LIBP2P_KEY = 0x72


@dataclass(frozen=True, slots=True)
class Codec:
    """How the value of a protocol is read and printed. Both raise `InvalidInput`."""

    to_bytes: Callable[[str], bytes]
    to_text: Callable[[bytes], str]


def _refuse_value(_: str) -> bytes:
    raise InvalidInput("this protocol takes no value")


def _refuse_raw(_: bytes) -> str:
    raise InvalidInput("this protocol takes no value")


NO_VALUE = Codec(_refuse_value, _refuse_raw)


def _parse_number(text: str, maximum: int) -> int:
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and len(text) > 1):
        raise InvalidInput("not a decimal number without sign, blanks and leading zeros")
    if len(text) > len(str(maximum)) or int(text) > maximum:
        raise InvalidInput(f"above {maximum}")
    return int(text)


def _number(bits: int) -> Codec:
    maximum = (1 << bits) - 1
    return Codec(
        to_bytes=lambda text: _parse_number(text, maximum).to_bytes(bits // 8, "big"),
        to_text=lambda raw: str(int.from_bytes(raw, "big")),
    )


NUMBER8, NUMBER16, NUMBER64 = _number(8), _number(16), _number(64)


def _ip4_to_bytes(text: str) -> bytes:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _ip6_to_bytes(text: str) -> bytes:
    if "%" in text:
        raise InvalidInput("the zone of an IPv6 address stands before it, as in /ip6zone/eth0/ip6/fe80::1")
    try:
        return ipaddress.IPv6Address(text).packed
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _ip6_to_text(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


IP4 = Codec(_ip4_to_bytes, lambda raw: str(ipaddress.IPv4Address(raw)))
IP6 = Codec(_ip6_to_bytes, _ip6_to_text)


def _decode_utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8: {error.reason} at byte {error.start} of it") from error


def _encode_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"not encodable as UTF-8: {error.reason}") from error


def _checked_name(text: str) -> str:
    if "/" in text or " " in text or not text.isprintable():
        raise InvalidInput("a name has no slash, blank or control character")
    return text


def _name_to_bytes(text: str) -> bytes:
    raw = _encode_utf8(_checked_name(text))
    if not 1 <= len(raw) <= MAX_NAME_LENGTH:
        raise InvalidInput(f"a name has 1 to {MAX_NAME_LENGTH} bytes, not {len(raw)}")
    return raw


def _name_to_text(raw: bytes) -> str:
    if len(raw) > MAX_NAME_LENGTH:
        raise InvalidInput(f"a name has 1 to {MAX_NAME_LENGTH} bytes, not {len(raw)}")
    return _checked_name(_decode_utf8(raw))


NAME = Codec(_name_to_bytes, _name_to_text)
"""Host names (/dns, /sni) and IPv6 zones. Whether a name is one that DNS can hold is for the resolver to find out."""


def _checked_path(text: str) -> str:
    if len(text) < 2 or text[0] != "/" or text[-1] == "/" or "\0" in text:
        raise InvalidInput("a path begins with a slash, goes on, ends in no slash and holds no NUL")
    return text


PATH = Codec(lambda text: _encode_utf8(_checked_path(text)), lambda raw: _checked_path(_decode_utf8(raw)))
"""File paths (/unix), with their leading slash."""


# "following the grammar of a single segment-nz" of RFC 3986: unreserved, percent-encoded, sub-delims, ":" and "@".
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")


def _http_path_to_bytes(text: str) -> bytes:
    if _SEGMENT.fullmatch(text) is None:
        raise InvalidInput("not a percent-encoded path segment (RFC 3986 section 3.3, segment-nz)")
    return unquote_to_bytes(text)


HTTP_PATH = Codec(_http_path_to_bytes, lambda raw: quote_from_bytes(raw, safe=""))


def _host_and_port(text: str) -> tuple[str, bytes]:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise InvalidInput("no port: the form is <host>:<port>")
    number = _parse_number(port, 0xFFFF)
    if number == 0:
        raise InvalidInput("port 0")
    return host, number.to_bytes(2, "big")


def _onion(host_characters: int) -> Codec:
    host_bytes = host_characters * 5 // 8
    pattern = re.compile(f"[a-zA-Z2-7]{{{host_characters}}}")

    def to_bytes(text: str) -> bytes:
        host, port = _host_and_port(text)
        if pattern.fullmatch(host) is None:
            raise InvalidInput(f"the host is not {host_characters} characters of base 32")
        return base64.b32decode(host, casefold=True) + port

    def to_text(raw: bytes) -> str:
        port = int.from_bytes(raw[host_bytes:], "big")
        if port == 0:
            raise InvalidInput("port 0")
        return f"{base64.b32encode(raw[:host_bytes]).decode().lower()}:{port}"

    return Codec(to_bytes, to_text)


ONION, ONION3 = _onion(16), _onion(56)


def _garlic64_to_text(raw: bytes) -> str:
    if len(raw) < 386:
        raise InvalidInput(f"an I2P destination has at least 386 bytes, not {len(raw)}")
    return base64.b64encode(raw, altchars=b"-~").decode()


def _garlic64_to_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, altchars=b"-~", validate=True)
    except ValueError as error:
        raise InvalidInput(f"not base 64 of I2P: {error}") from error
    if _garlic64_to_text(raw) != text:
        raise InvalidInput("not base 64 of I2P in its one canonical form")
    return raw


GARLIC64 = Codec(_garlic64_to_bytes, _garlic64_to_text)


def _garlic32_to_text(raw: bytes) -> str:
    if len(raw) != 32 and len(raw) < 35:
        raise InvalidInput(f"an I2P hash has 32 bytes, or 35 and more if its lease set is encrypted, not {len(raw)}")
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _garlic32_to_bytes(text: str) -> bytes:
    if re.fullmatch("[a-z2-7]+", text) is None:
        raise InvalidInput("not base 32 in lower case without padding")
    try:
        # Spare bits of the last character are not looked at, as in go-multiaddr, whose vectors have some set.
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise InvalidInput(f"not base 32: {error}") from error
    _garlic32_to_text(raw)
    return raw


GARLIC32 = Codec(_garlic32_to_bytes, _garlic32_to_text)


def _bounded(text: str) -> str:
    if len(text) > MAX_ENCODED_LENGTH:
        raise InvalidInput(f"{len(text)} characters, the limit is {MAX_ENCODED_LENGTH}")
    return text


def _read_multihash(raw: bytes) -> tuple[int, int]:
    """The code of the hash function and the length of the digest, both checked against `raw`."""
    code, offset = decode_varint(raw)
    length, offset = decode_varint(raw, offset)
    if length == 0 or length != len(raw) - offset:
        raise InvalidInput(f"a multihash that announces {length} bytes of digest and carries {len(raw) - offset}")
    return code, length


def _checked_certhash(raw: bytes) -> bytes:
    _, length = _read_multihash(raw)
    if length > MAX_DIGEST_LENGTH:
        raise InvalidInput(f"a digest of {length} bytes, the limit is {MAX_DIGEST_LENGTH}")
    return raw


CERTHASH = Codec(
    to_bytes=lambda text: _checked_certhash(multibase.decode(_bounded(text))),
    to_text=lambda raw: multibase.encode("base64url", _checked_certhash(raw)),
)
"""A multihash in any multibase; printed in base64url."""


def _checked_peer_id(raw: bytes) -> bytes:
    code, length = _read_multihash(raw)
    # "Keys that serialize to more than 42 bytes must be hashed using sha256 multihash, keys that serialize to at most
    # 42 bytes must be hashed using the "identity" multihash codec."
    if not ((code == _SHA2_256 and length == 32) or (code == _IDENTITY and length <= MAX_INLINE_KEY_LENGTH)):
        raise InvalidInput(
            f"multihash {code:#x} of {length} bytes: a peer id is a sha2-256 hash,"
            f" or a key of up to {MAX_INLINE_KEY_LENGTH} bytes in the identity hash"
        )
    return raw


def _peer_id_to_bytes(text: str) -> bytes:
    _bounded(text)
    # "If it starts with 1 or Qm, it's a bare base58btc encoded multihash."
    if text.startswith(("1", "Qm")):
        return _checked_peer_id(multibase.b58decode(text))
    # "If it starts with a multibase prefix, it's a CIDv1 CID." "Verify that the CIDs multicodec is libp2p-key."
    cid = multibase.decode(text)
    version, offset = decode_varint(cid)
    codec, offset = decode_varint(cid, offset)
    if version != 1 or codec != _LIBP2P_KEY:
        raise InvalidInput(f"a CID of version {version} and codec {codec:#x}, not of version 1 and libp2p-key (0x72)")
    return _checked_peer_id(cid[offset:])


PEER_ID = Codec(_peer_id_to_bytes, lambda raw: multibase.b58encode(_checked_peer_id(raw)))
"""A peer id: base58btc multihash or CIDv1; printed in base58btc, as the specification asks for now."""

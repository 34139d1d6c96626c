"""The protocol table of multiaddr: names, codes, sizes of values.

After `protocols.csv` of multiformats/multiaddr. Two entries are as the libp2p implementations have them: the value of
/memory is an unsigned 64-bit number, and /plaintextv2 (in no column of the table) has the code of the multicodec table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..ground_errors import InvalidMultiaddr
from ..varint import encode_varint
from . import codecs
from .codecs import Codec

VARIABLE: Final = -1
"""Size of a value that is preceded by its length in bytes, as a varint."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A row of the table.

    `size` is the value's size in bits, 0 for a protocol without value, `VARIABLE` for a length-prefixed one. `path`
    marks a value that takes all the rest of the text, slashes included. `prefix` is the code as a varint. `to_bytes`
    and `to_text` convert the value (`codecs`); they raise `InvalidInput`.
    """

    name: str
    code: int
    size: int
    path: bool
    prefix: bytes
    to_bytes: Callable[[str], bytes]
    to_text: Callable[[bytes], str]

    def __repr__(self) -> str:
        return f"<Protocol {self.name} {self.code}>"


def _protocol(name: str, code: int, size: int, codec: Codec, *, path: bool = False) -> Protocol:
    return Protocol(name, code, size, path, encode_varint(code), codec.to_bytes, codec.to_text)


def _bare(name: str, code: int) -> Protocol:
    return _protocol(name, code, 0, codecs.NO_VALUE)


PROTOCOLS: Final[tuple[Protocol, ...]] = (
    _protocol("ip4", 4, 32, codecs.IP4),
    _protocol("tcp", 6, 16, codecs.NUMBER16),
    _protocol("dccp", 33, 16, codecs.NUMBER16),
    _protocol("ip6", 41, 128, codecs.IP6),
    _protocol("ip6zone", 42, VARIABLE, codecs.NAME),
    _protocol("ipcidr", 43, 8, codecs.NUMBER8),
    _protocol("dns", 53, VARIABLE, codecs.NAME),
    _protocol("dns4", 54, VARIABLE, codecs.NAME),
    _protocol("dns6", 55, VARIABLE, codecs.NAME),
    _protocol("dnsaddr", 56, VARIABLE, codecs.NAME),
    _protocol("sctp", 132, 16, codecs.NUMBER16),
    _protocol("udp", 273, 16, codecs.NUMBER16),
    _bare("p2p-webrtc-star", 275),
    _bare("p2p-webrtc-direct", 276),
    _bare("p2p-stardust", 277),
    _bare("webrtc-direct", 280),
    _bare("webrtc", 281),
    _bare("p2p-circuit", 290),
    _bare("udt", 301),
    _bare("utp", 302),
    _protocol("unix", 400, VARIABLE, codecs.PATH, path=True),
    _protocol("p2p", 421, VARIABLE, codecs.PEER_ID),
    _bare("https", 443),
    _protocol("onion", 444, 96, codecs.ONION),
    _protocol("onion3", 445, 296, codecs.ONION3),
    _protocol("garlic64", 446, VARIABLE, codecs.GARLIC64),
    _protocol("garlic32", 447, VARIABLE, codecs.GARLIC32),
    _bare("tls", 448),
    _protocol("sni", 449, VARIABLE, codecs.NAME),
    _bare("noise", 454),
    _bare("quic", 460),
    _bare("quic-v1", 461),
    _bare("webtransport", 465),
    _protocol("certhash", 466, VARIABLE, codecs.CERTHASH),
    _bare("ws", 477),
    _bare("wss", 478),
    _bare("p2p-websocket-star", 479),
    _bare("http", 480),
    _protocol("http-path", 481, VARIABLE, codecs.HTTP_PATH),
    _protocol("memory", 777, 64, codecs.NUMBER64),
    _bare("plaintextv2", 7367777),
)

PROTOCOL_BY_CODE: Final[Mapping[int, Protocol]] = MappingProxyType({p.code: p for p in PROTOCOLS})

# "The p2p multiaddr protocol was originally named ipfs [...] Both names resolve to the same protocol code."
PROTOCOL_BY_NAME: Final[Mapping[str, Protocol]] = MappingProxyType(
    {p.name: p for p in PROTOCOLS} | {"ipfs": PROTOCOL_BY_CODE[421]}
)


def protocol_named(name: str) -> Protocol:
    """The protocol called `name` (`ipfs` is `p2p`). Raises `InvalidMultiaddr` where the table has none."""
    try:
        return PROTOCOL_BY_NAME[name]
    except KeyError:
        raise InvalidMultiaddr(f"no multiaddr protocol is called {name!r:.60}") from None

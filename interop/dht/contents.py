"""What is provided and looked for: contents under each kind of name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from libp2p.cid import DAG_PB, RAW, Cid

BLAKE3_OF_NOTHING = bytes.fromhex("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes and their name."""

    data: bytes
    cid: Cid


def contents() -> dict[str, Content]:
    """A content for each kind of name."""
    of_node, of_bytes, of_more = b"\n\x07\x08\x02\x12\x01a\x18\x01", b"some bytes", b"some more bytes"
    sha512 = b"\x13\x40" + hashlib.sha512(of_more).digest()
    return {
        "CIDv0": Content(of_node, Cid(0, DAG_PB, Cid.of(of_node).multihash)),
        "CIDv1": Content(of_bytes, Cid.of(of_bytes)),
        "sha2-512": Content(of_more, Cid(1, RAW, sha512)),
        "blake3": Content(b"", Cid(1, RAW, b"\x1e\x20" + BLAKE3_OF_NOTHING)),
    }

"""Codes as people read them."""

from libp2p.connection import StreamErrorCode
from libp2p.errors import ConnectionClosed, StreamReset


def test_codes_show_their_names() -> None:
    named = StreamReset(0x1001, by="remote")
    assert str(named) == "stream reset by the peer, code PROTOCOL_NEGOTIATION_FAILED (0x1001)"
    assert str(StreamReset(StreamErrorCode.ABANDONED, by="local")) == "stream reset by us, code ABANDONED (0x10000)"
    assert str(StreamReset(by="remote", reason="gone")) == "stream reset by the peer: gone"
    assert str(StreamReset(7, by="remote")) == "stream reset by the peer, code 0x7"
    closed = ConnectionClosed("enough", by="remote", code=0x1008)
    assert str(closed) == "connection closed by the peer: enough, code GATED (0x1008)"
    assert str(ConnectionClosed("enough", by="local", code=0)) == "connection closed by us: enough"

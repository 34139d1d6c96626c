"""Triangles of a relay, a dialer and a listener behind the relay, of this library and of go-libp2p."""

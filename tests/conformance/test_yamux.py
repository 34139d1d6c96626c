"""Yamux, alone and over Noise, and its streams."""

from __future__ import annotations

from libp2p.connection import Muxer
from libp2p.muxers.yamux import Yamux
from libp2p.testing.conformance import MuxedStreamSuite, MuxerSuite


class TestYamux(MuxerSuite):
    max_buffered = 20 * 1024 * 1024  # one window at its largest, and what lies between

    def muxer(self) -> Muxer:
        return Yamux()


class TestYamuxStreams(MuxedStreamSuite):
    max_buffered = 20 * 1024 * 1024  # one window at its largest, and what lies between

    def muxer(self) -> Muxer:
        return Yamux()

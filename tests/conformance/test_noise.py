"""Noise, and its channels as raw connections."""

from __future__ import annotations

from libp2p.connection import SecurityProtocol
from libp2p.security.noise import Noise
from libp2p.testing.conformance import SecurityProtocolSuite


class TestNoise(SecurityProtocolSuite):
    def protocol(self) -> SecurityProtocol:
        return Noise()

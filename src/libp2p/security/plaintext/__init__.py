"""Plaintext: `/plaintext/2.0.0`, no security at all (specs: plaintext/README.md)."""

from .channel import PlaintextChannel
from .protocol import MAX_EXCHANGE, InsecurePlaintext

__all__ = ["MAX_EXCHANGE", "InsecurePlaintext", "PlaintextChannel"]

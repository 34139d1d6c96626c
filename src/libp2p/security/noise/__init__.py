"""Noise: the `/noise` secure channel (specs: noise/README.md)."""

from .channel import MAX_MESSAGES, MAX_PLAINTEXT, NoiseChannel
from .protocol import Noise

__all__ = ["MAX_MESSAGES", "MAX_PLAINTEXT", "Noise", "NoiseChannel"]

"""The yamux stream muxer, `/yamux/1.0.0`."""

from .core import YamuxConfig
from .muxer import Yamux

__all__ = ["Yamux", "YamuxConfig"]

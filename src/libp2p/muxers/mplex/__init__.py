"""The mplex stream muxer, `/mplex/6.7.0`: for peers that have nothing better."""

from .core import MplexConfig
from .muxer import Mplex

__all__ = ["Mplex", "MplexConfig"]

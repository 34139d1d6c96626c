"""One string for all who say the same: peers' protocol ids and agents, which thousands of connections repeat.

`sys.intern` would keep what peers make up among the program's own names. Here the least recent go. The caller has
checked the length.
"""

from __future__ import annotations

from functools import lru_cache

CACHE_SIZE = 4096
"""Texts that are kept."""


@lru_cache(CACHE_SIZE)
def shared(text: str) -> str:
    """The string equal to `text` that others have been given."""
    return text

"""The Unix socket transport, `/unix/<path>`: between processes of one machine."""

from .transport import Unix, UnixConfig

__all__ = ["Unix", "UnixConfig"]

"""What the running event loop can do."""

from __future__ import annotations

import asyncio


def is_proactor() -> bool:
    """Whether the running loop is Windows' Proactor, which reads and writes sockets itself, and has no `add_reader`."""
    proactor = getattr(asyncio, "ProactorEventLoop", None)
    return proactor is not None and isinstance(asyncio.get_running_loop(), proactor)

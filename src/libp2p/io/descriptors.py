"""How many descriptors the process may have open: sockets, files, all of them."""

from __future__ import annotations


def max_descriptors() -> int | None:
    """The limit of the process, as it is now; None where there is none, or the system has no such limits."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit

"""What was refused: counted by scope and limit, and logged, each kind once a second. Pure: time comes in as `now`."""

from __future__ import annotations

import logging
from collections import Counter

from ...errors import Libp2pError, LimitExceeded

logger = logging.getLogger(__name__)

_INTERVAL = 1.0
"""Seconds between two lines about the same kind of refusal."""


class Refusals:
    """All of one host."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How often each kind was refused: a limit's name, or the class of another error."""
        self._logged: dict[str, float] = {}

    def refused(self, error: Libp2pError, now: float, *, used: int | None = None) -> None:
        """Something was refused, by `error`, where `used` were in use."""
        kind = error.limit if isinstance(error, LimitExceeded) else type(error).__name__
        self.counts[kind] += 1
        last = self._logged.get(kind)
        if last is None or now - last >= _INTERVAL:
            self._logged[kind] = now
            use = "" if used is None else f", {used} in use"
            logger.warning("refused: %s%s (%d such refusals so far)", error, use, self.counts[kind])

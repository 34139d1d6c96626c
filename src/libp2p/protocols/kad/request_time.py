"""How long a request may take: it follows the round trips measured, as TCP's retransmission timer does (RFC 6298).

    patience   smoothed time + 4 deviations     behind it a peer is slow: others are asked in its place
    limit      4 patiences                      behind it the request has failed

Requests that have to connect first are measured by themselves (`Messenger`). So a fast network notices a silent peer
soon, and a slow one does not give up on honest peers. Times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

_GAIN, _DEVIATION_GAIN, _DEVIATIONS, _PATIENCES = 1 / 8, 1 / 4, 4, 4


@dataclass(frozen=True, slots=True)
class RequestTimeConfig:
    """Bounds of what is learned."""

    first_patience: float = 2.0
    """Patience before anything was measured."""
    min_patience: float = 0.2
    """Patience at least."""
    min_limit: float = 3.0
    """Limit of a request at least: it may have to dial first."""
    max_limit: float = 10.0
    """Limit of a request at most, and before anything was measured."""


class RequestTime:
    """Learns from each answer how long the next may take."""

    def __init__(self, config: RequestTimeConfig | None = None) -> None:
        self._config = config or RequestTimeConfig()
        self._smoothed: float | None = None
        self._deviation = 0.0

    def answered(self, seconds: float) -> None:
        """An answer came after so long."""
        if self._smoothed is None:
            self._smoothed, self._deviation = seconds, seconds / 2
            return
        self._deviation += _DEVIATION_GAIN * (abs(seconds - self._smoothed) - self._deviation)
        self._smoothed += _GAIN * (seconds - self._smoothed)

    @property
    def patience(self) -> float:
        """Behind this a peer counts as slow."""
        if self._smoothed is None:
            return self._config.first_patience
        learned = self._smoothed + _DEVIATIONS * self._deviation
        return min(max(learned, self._config.min_patience), self._config.max_limit)

    @property
    def limit(self) -> float:
        """Behind this a request has failed."""
        if self._smoothed is None:
            return self._config.max_limit
        return min(max(_PATIENCES * self.patience, self._config.min_limit), self._config.max_limit)

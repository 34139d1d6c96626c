"""What is known of the reachability of each address. Pure: time comes in as `now`, in seconds.

Rules:
- An address is public, or private, when its last answers (`window`) say so by a majority of `confidence`.
- Of one server the last answer counts: who lies needs many servers.
- The host is public where one address is; private where all are known not to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...host.events import Reachability
from ...multiaddr import Multiaddr
from .config import AutoNatConfig


@dataclass(slots=True)
class _Known:
    answers: dict[str, bool] = field(default_factory=dict)
    """By who was asked, the last one last."""
    checked_at: float | None = None
    reachability: Reachability = Reachability.UNKNOWN


class Confidence:
    """The addresses of a host, and what servers have said of them."""

    def __init__(self, config: AutoNatConfig) -> None:
        self._config = config
        self._known: dict[Multiaddr, _Known] = {}

    def set_addrs(self, addrs: Iterable[Multiaddr]) -> None:
        """These are the addresses now; others are forgotten."""
        self._known = {addr: self._known.get(addr) or _Known() for addr in addrs}

    def answered(self, addr: Multiaddr, server: str, reached: bool, now: float) -> None:
        """`server`, named so that one who has many names counts once, has reached `addr`, or has not."""
        known = self._known.get(addr)
        if known is None:
            return
        known.answers.pop(server, None)
        known.answers[server] = reached
        while len(known.answers) > self._config.window:
            del known.answers[next(iter(known.answers))]
        lead = sum(1 if one else -1 for one in known.answers.values())
        if abs(lead) >= self._config.confidence:
            known.reachability = Reachability.PUBLIC if lead > 0 else Reachability.PRIVATE
            known.checked_at = now

    def due(self, now: float) -> list[Multiaddr]:
        """The addresses to ask about, those first of which nothing is known."""
        recheck = self._config.recheck
        found = [a for a, known in self._known.items() if known.checked_at is None or now - known.checked_at >= recheck]
        found.sort(key=lambda addr: self._known[addr].reachability is not Reachability.UNKNOWN)
        return found[: self._config.max_addrs]

    @property
    def public(self) -> tuple[Multiaddr, ...]:
        """The addresses that strangers reach."""
        return tuple(addr for addr, known in self._known.items() if known.reachability is Reachability.PUBLIC)

    @property
    def reachability(self) -> Reachability:
        """That of the host."""
        if self.public:
            return Reachability.PUBLIC
        states = {known.reachability for known in self._known.values()}
        return Reachability.PRIVATE if states == {Reachability.PRIVATE} else Reachability.UNKNOWN

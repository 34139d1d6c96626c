"""The attacks, and what is wanted of honest peers in each."""

from __future__ import annotations

from .attacks import Attack, Siege, besiege
from .dht.outcome import Outcome

HEADER = [
    "attack",
    "honest",
    "sybils",
    "delivered",
    "p99",
    "victims' p99",
    "sybils at most",
    "at last",
    "honest again",
]

_TWO_HEARTBEATS = 2.0
_TWO_MINUTES = 120.0


async def under(attack: Attack, honest: int, sybils: int) -> Outcome:
    """One attack."""
    found = await besiege(Siege(attack, honest, sybils, targets=20 if sybils <= honest else 10))
    outcome = Outcome(f"attack {attack.value} {honest} {sybils}", attack.value, header=HEADER)
    again, victims = found.honest_again, found.victims[99]
    outcome.rows.append(
        [
            attack.value,
            str(honest),
            str(sybils),
            f"{found.arrived / found.expected:.4%}",
            f"{found.delays[99] * 1000:.0f} ms",
            f"{victims * 1000:.0f} ms",
            f"{max(found.shares):.0%}",
            f"{found.shares[-1]:.0%}",
            "not within 2 minutes" if again is None else f"{again:.0f} s",
        ]
    )
    outcome.timelines[f"{honest} honest, {sybils} sybils"] = [round(100 * share, 2) for share in found.shares]
    outcome.want("all arrive", f"{found.arrived} of {found.expected}", found.arrived == found.expected)
    outcome.want("victims' p99 at most 2 s", f"{victims:.3f} s", victims <= _TWO_HEARTBEATS)
    outcome.want("mesh honest within 120 s", str(again), again is not None and again <= _TWO_MINUTES)
    return outcome

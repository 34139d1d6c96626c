"""A peer that breaks the rule of who begins: by QUIC it dials, where it should only open its NAT (nim-libp2p #2806)."""

from __future__ import annotations

from .nat import FULL_CONE, PORT_RESTRICTED, RESTRICTED, Nat
from .punches import stage
from .runs import Table
from .world import behind_nats

_NATS = (FULL_CONE, RESTRICTED, PORT_RESTRICTED)


async def both_dial(table: Table) -> None:
    """Both dial at the same moment: a connection comes of it, and it carries streams."""
    for nat in _NATS:
        await table.attempt(
            f"quic-v1, {nat.name} on both sides",
            "direct, and streams use it",
            lambda kind=nat: _tried(kind),  # type: ignore[misc]
        )


async def _tried(nat: Nat) -> tuple[str, bool]:
    with behind_nats(nat, nat) as world:
        world.set_link(0.03)
        async with stage(world, "quic-v1", "us", part="listen-dialing") as set_up:
            punch = await set_up.punch("us")
    return (f"direct, attempt {punch.attempts}" if punch.direct else punch.words), punch.direct

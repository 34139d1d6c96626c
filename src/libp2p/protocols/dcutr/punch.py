"""Dialing a peer at all its addresses at the same moment, and keeping one connection.

The swarm's dials are staggered, as happy eyeballs has it. Here the moment is what counts: a hole is open on both sides
only for as long as both dial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ...connection import Connection, DialOptions, Role
from ...errors import DialError, Libp2pError
from ...identity import PeerId
from ...io import time_limit
from ...multiaddr import Multiaddr, Reach, is_relayed, may_share
from ...swarm import Swarm


def candidates(addrs: Iterable[Multiaddr], limit: int, reach: Reach) -> tuple[Multiaddr, ...]:
    """Those that a peer so far away may be reached at directly, without its id; each once."""
    direct = (addr.without_peer() for addr in addrs if not is_relayed(addr) and may_share(addr, reach))
    return tuple(dict.fromkeys(direct))[:limit]


async def dial_all(
    swarm: Swarm, peer: PeerId, addrs: Sequence[Multiaddr], role: Role, timeout: float
) -> tuple[Connection | None, dict[Multiaddr, Exception]]:
    """Dial all of `addrs` now, within `timeout` seconds: the first connection, and what became of the others."""
    options = DialOptions(
        role=role, allow_limited=False, new_connection=True, only_given=True, remember=False, heed_backoff=False
    )
    loop = asyncio.get_running_loop()
    dials = {loop.create_task(swarm.connect(peer, [addr], options), name=f"punch {addr}"): addr for addr in addrs}
    errors: dict[Multiaddr, Exception] = {}
    winner: Connection | None = None
    try:
        async with time_limit("hole punch", timeout):
            for finished in asyncio.as_completed(list(dials)):
                try:
                    winner = await finished
                    break
                except (Libp2pError, OSError):
                    continue
    except TimeoutError as error:
        errors.update((addr, error) for dial, addr in dials.items() if not dial.done())
    finally:
        for dial in dials:
            dial.cancel()
        if dials:
            await asyncio.wait(dials)
    for dial, addr in dials.items():
        if dial.cancelled():
            if winner is None:
                errors.setdefault(addr, Libp2pError("it was given up"))
        elif (failure := dial.exception()) is not None:
            errors[addr] = _cause(failure, addr)
        elif winner is None:
            winner = dial.result()
        elif (extra := dial.result()) is not winner:
            await extra.close("another address was faster")
    return winner, errors


def _cause(error: BaseException, addr: Multiaddr) -> Exception:
    """Why one address did not lead there."""
    if isinstance(error, DialError):
        return error.attempts.get(addr, error)
    return error if isinstance(error, Exception) else Libp2pError(repr(error))

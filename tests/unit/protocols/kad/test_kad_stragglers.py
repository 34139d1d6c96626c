"""Requests that go on behind their lookup."""

import asyncio

from libp2p.connection import Connection
from libp2p.errors import StageTimeout
from libp2p.identity import PeerId, PrivateKey
from libp2p.protocols.kad.messenger import Answer
from libp2p.protocols.kad.stragglers import Stragglers

PEERS = [PrivateKey.generate().peer_id for _ in range(3)]


async def never(limit: float = 10.0) -> Answer:
    await asyncio.sleep(limit)
    raise StageTimeout("a DHT request", limit)


def heard(log: list[PeerId]) -> Stragglers:
    def silent(peer: PeerId, connection: Connection | None) -> None:
        assert connection is None
        log.append(peer)

    return Stragglers(2, silent)


async def test_who_never_answers_is_told_of() -> None:
    log: list[PeerId] = []
    stragglers = heard(log)
    assert stragglers.take(PEERS[0], asyncio.create_task(never()))
    assert len(stragglers) == 1
    await asyncio.sleep(11)
    assert log == [PEERS[0]]
    assert not len(stragglers)


async def test_they_are_bounded_and_one_for_each_peer() -> None:
    stragglers = heard([])
    tasks = [asyncio.create_task(never()) for _ in range(4)]
    assert stragglers.take(PEERS[0], tasks[0])
    assert not stragglers.take(PEERS[0], tasks[1])
    assert stragglers.take(PEERS[1], tasks[2])
    assert not stragglers.take(PEERS[2], tasks[3])
    await stragglers.close()
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.wait(tasks)


async def test_behind_close_nothing_goes_on_and_nobody_is_blamed() -> None:
    log: list[PeerId] = []
    stragglers = heard(log)
    task = asyncio.create_task(never())
    assert stragglers.take(PEERS[0], task)
    await stragglers.close()
    assert task.cancelled()
    late = asyncio.create_task(never(0.0))
    assert not stragglers.take(PEERS[1], late)
    await asyncio.wait([late])
    late.exception()
    assert not log

"""Processes that are killed while they write their peer store: what was confirmed is there, and nothing else believed.

KILL_ROUNDS says how often eight of them are killed (25 for the full amount).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from libp2p.identity import PeerId
from libp2p.peerstore import SqlitePeerStore
from libp2p.records import PeerRecord
from libp2p.testing.conformance.peer_stores import addr_number

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
KILLS = 8

WRITER = """
import asyncio, sys
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Reach
from libp2p.peerstore import SqlitePeerStore, SqlitePeerStoreConfig
from libp2p.testing.conformance.peer_stores import addr_number, record

async def main():
    async with SqlitePeerStore(sys.argv[1], file=SqlitePeerStoreConfig(write_delay=0.001)) as store:
        while True:
            keys = [PrivateKey.generate() for _ in range(20)]
            for number, key in enumerate(keys):
                store.consume_peer_record(record(1, addr_number(number), key=key), 10**6, told=Reach.EXAMPLE)
                if number % 3 == 0:
                    await asyncio.sleep(0)
            await store.flush()
            print(" ".join(str(key.peer_id) for key in keys), flush=True)

asyncio.run(main())
"""


@pytest.mark.real
@pytest.mark.parametrize("number_of_round", range(ROUNDS))
async def test_what_flush_has_confirmed_survives_kill_9(number_of_round: int, tmp_path: Path) -> None:

    path = tmp_path / "peers.sqlite"
    confirmed: list[PeerId] = []
    dice = random.Random(number_of_round)
    for _ in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        before = len(confirmed)
        confirmed += map(PeerId.from_string, (await process.stdout.readline()).decode().split())  # it is at work
        await asyncio.sleep(dice.random() / 20)
        process.kill()
        for line in (await process.stdout.read()).decode().splitlines(keepends=True):
            if line.endswith("\n"):
                confirmed += map(PeerId.from_string, line.split())
        await process.wait()
        async with SqlitePeerStore(path) as store:
            assert store.set_aside is None
            for number, peer in enumerate(confirmed[before:]):
                await store.load(peer)
                envelope = store.peer_record(peer)
                assert envelope is not None
                assert PeerRecord.open(envelope, expected_peer=peer).addrs == (addr_number(number % 20),)
                assert store.certified_addrs(peer) == [addr_number(number % 20)]
    async with SqlitePeerStore(path) as store:
        for peer in confirmed:
            await store.load(peer)
            assert store.peer_record(peer) is not None

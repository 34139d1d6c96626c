"""One node announces a great many contents again, by sweeping the key space; in between it is killed, and starts again
with the file that it has.

- `lookups`: those that the sweep made, of both lives.
- `told`: of some of the contents, how many of their 20 nearest servers were told, on average.

Servers keep only which keys they were told of: what a hundred of them would keep fills no single machine's memory else.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

from libp2p.identity import PeerId, PrivateKey
from libp2p.protocols.kad import MemoryRecordStore, ProviderRecord, RecordStore, SqliteRecordStore
from libp2p.protocols.kad.keys import peer_position, position

from .network import HOUR, dhts
from .outcome import Outcome

_SAMPLE = 300


class _Told(MemoryRecordStore):
    """Remembers which keys it was told of, and nothing else of providers."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[bytes] = set()

    async def add_provider(self, record: ProviderRecord) -> bool:
        self.keys.add(record.key)
        return True


async def sweep(nodes: int, contents: int) -> Outcome:
    """Announce `contents` in a network of `nodes`."""
    outcome = Outcome("reprovide", f"{contents:,} contents announced again among {nodes:,} servers")
    outcome.header = ["", "announced", "lookups", "virtual minutes"]
    told: list[_Told] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.db"

        def store(number: int) -> RecordStore:
            if number >= nodes:
                return SqliteRecordStore(file)
            told.append(_Told())
            return told[-1]

        async with dhts(nodes, store=store) as network:
            keys = [b"\x12\x20" + network.dice.randbytes(32) for _ in range(contents)]
            identity = PrivateKey.generate()
            lookups, announced, lives = 0, 0, 0
            while announced < contents:
                lives += 1
                began = network.now()
                number = await network.join(identity)
                dht = network.sim.services[number]
                if lives == 1:
                    await dht._node.store.set_provided(keys, 0.0)
                before = announced
                while announced < contents and (lives > 1 or announced < contents / 2):
                    await asyncio.sleep(10)
                    announced = sum(last > 0 for last in (await dht._node.store.provided()).values())
                    if network.now() - began > 12 * HOUR:
                        raise TimeoutError(f"{announced} of {contents} were announced in 12 hours")
                lookups += dht._reprovider.lookups
                minutes = (network.now() - began) / 60
                outcome.rows.append(
                    [f"life {lives}", str(announced - before), str(dht._reprovider.lookups), f"{minutes:.0f}"]
                )
                await network.kill([number])
            servers = {host.id: keys_of for host, keys_of in zip(network.sim.hosts, told, strict=False)}
            of_sample = [_told(key, servers) for key in network.dice.sample(keys, _SAMPLE)]
    part = lookups / contents
    outcome.want("at most 3 % of the lookups that one for each content would take", f"{part:.2%}", part <= 0.03)
    outcome.want("all announced, though killed in between", f"{announced} in {lives} lives", lives > 1)
    mean = sum(of_sample) / len(of_sample)
    outcome.want("18 of the 20 nearest servers told", f"{mean:.1f} on average, {min(of_sample)} at least", mean >= 18)
    return outcome


def _told(key: bytes, servers: Mapping[PeerId, _Told]) -> int:
    """How many of the 20 servers nearest to `key` were told of it."""
    target = position(key)
    nearest = sorted(servers, key=lambda peer: peer_position(peer) ^ target)[:20]
    return sum(key in servers[peer].keys for peer in nearest)

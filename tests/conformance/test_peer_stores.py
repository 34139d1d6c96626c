"""The peer stores: the suite of all of them, then what a file adds."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libp2p.identity import KeyType, PrivateKey
from libp2p.multiaddr import Reach
from libp2p.peerstore import (
    CONNECTED_ADDR_TTL,
    PERMANENT_ADDR_TTL,
    RECENTLY_CONNECTED_ADDR_TTL,
    MemoryPeerStore,
    PeerStore,
    PeerStoreConfig,
    SqlitePeerStore,
    SqlitePeerStoreConfig,
)
from libp2p.peerstore.rows import Row
from libp2p.testing.conformance import PeerStoreSuite
from libp2p.testing.conformance.peer_stores import A, B, C, Clock, X, Y, Z, addr_number, peer_number, record

RSA = PrivateKey.generate(KeyType.RSA)
EPOCH = 1_750_000_000.0


class TestMemoryPeerStore(PeerStoreSuite):
    def make(self, config: PeerStoreConfig, clock: Clock) -> PeerStore:
        return MemoryPeerStore(config, clock=clock)


class TestSqlitePeerStore(PeerStoreSuite):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "peers.sqlite"

    def make(self, config: PeerStoreConfig, clock: Clock, file: SqlitePeerStoreConfig | None = None) -> SqlitePeerStore:
        return SqlitePeerStore(self.path, config, file=file, clock=clock, wall_clock=lambda: EPOCH + clock())

    def again(self, clock: Clock | None = None, **limits: int) -> SqlitePeerStore:
        """The store of another process, whose clock began elsewhere."""
        here = clock or Clock()
        return SqlitePeerStore(
            self.path, PeerStoreConfig(**limits), clock=lambda: here() - 500, wall_clock=lambda: EPOCH + here()
        )

    async def test_what_was_known_is_there_again(self) -> None:
        clock = Clock()
        peer = RSA.peer_id
        async with self.make(PeerStoreConfig(), clock) as store:
            store.add_addrs(peer, [X], 100)
            store.add_addrs(peer, [Y], PERMANENT_ADDR_TTL)
            store.add_addrs(peer, [Z], 100, told=Reach.EXAMPLE)
            store.consume_peer_record(signed := record(7, addr_number(9), key=RSA), 50, told=Reach.EXAMPLE)
            store.add_key(peer, RSA.public_key)
            store.set_protocols(peer, ["/a", "/b\n\u2028"])
            for key, value in {"agent": "x", "bytes": b"\xff", "n": 1.5, "yes": True}.items():
                store.set_metadata(peer, key, value)
            before = dict(store.metadata(peer))
        clock.now += 49
        async with self.again(clock) as store:
            assert store.addrs(peer) == []  # nothing is read before it is asked for
            await store.load(peer)
            assert store.addrs(peer) == [addr_number(9), X, Y, Z]
            assert store.certified_addrs(peer) == [addr_number(9)]
            assert store.told_over(peer, Z) == Reach.EXAMPLE
            assert store.told_over(peer, X) is None
            assert store.peer_record(peer) == signed
            assert store.key(peer) == RSA.public_key
            assert store.protocols(peer) == ("/a", "/b\n\u2028")
            assert dict(store.metadata(peer)) == before
            clock.now += 51
            assert store.addrs(peer) == [Y]

    async def test_what_came_before_it_was_loaded_is_put_together_with_what_was_there(self) -> None:
        clock = Clock()
        async with self.make(PeerStoreConfig(), clock) as store:
            store.add_addrs(A, [X], 100)
            store.set_metadata(A, "agent", "old")
            store.set_metadata(A, "more", "x")
        for loads in (True, False):  # or is only written
            async with self.again(clock) as store:
                store.add_addrs(A, [Y], 100)
                store.set_metadata(A, "agent", "new")
                if loads:
                    await store.load(A)
                    assert set(store.addrs(A)) == {X, Y}
                    assert dict(store.metadata(A)) == {"agent": "new", "more": "x"}
        async with self.again(clock) as store:
            await store.load(A)
            assert set(store.addrs(A)) == {X, Y}
            assert dict(store.metadata(A)) == {"agent": "new", "more": "x"}

    async def test_an_older_record_does_not_come_back(self) -> None:
        peer = RSA.peer_id
        async with self.make(PeerStoreConfig(), Clock()) as store:
            store.consume_peer_record(record(5, X, key=RSA), 100, told=Reach.EXAMPLE)
        async with self.again() as store:
            store.consume_peer_record(newer := record(6, Y, key=RSA), 100, told=Reach.EXAMPLE)
            await store.load(peer)
            assert store.peer_record(peer) == newer
            assert store.certified_addrs(peer) == [Y]

    async def test_connections_end_with_the_process_and_the_latest_come_first(self) -> None:
        clock = Clock()
        async with self.make(PeerStoreConfig(), clock) as store:
            for peer in (A, B):
                store.add_addrs(peer, [X], CONNECTED_ADDR_TTL)
            store.add_addrs(C, [X], 10_000)  # was never reached
            await store.flush()
            clock.now += 10
            store.update_addrs(A, CONNECTED_ADDR_TTL, RECENTLY_CONNECTED_ADDR_TTL)
            store.protect(B, "us")
            clock.now += 10
        async with self.again(clock) as store:
            assert await store.recent(10) == [B, A]
            assert await store.recent(1) == [B]
            await store.load(B)
            assert store.addrs(B) == [X]
            assert not store.protections(B)
            clock.now += RECENTLY_CONNECTED_ADDR_TTL
            assert store.addrs(B) == []

    async def test_what_was_removed_or_has_expired_is_gone(self) -> None:
        clock = Clock()
        async with self.make(PeerStoreConfig(), clock) as store:
            for peer in (A, B, C):
                store.add_addrs(peer, [X], 100)
            await store.flush()
            store.remove(A)
            await store.load(A)
            assert store.addrs(A) == []
            store.clear_addrs(B)
        async with self.again(clock) as store:
            for peer in (A, B):
                await store.load(peer)
                assert store.addrs(peer) == []
        clock.now += 100
        async with self.again(clock):
            pass
        assert self.rows("SELECT count(*) FROM peers") == [(0,)]

    async def test_changes_are_written_behind_in_one_go(self) -> None:
        async with self.make(PeerStoreConfig(), Clock()) as store:
            commits = 0
            commit = store._commit

            async def counted(call):  # type: ignore[no-untyped-def]
                nonlocal commits
                commits += 1
                await commit(call)

            store._commit = counted  # type: ignore[method-assign]
            for number in range(500):
                store.add_addrs(peer_number(number), [X], 100)
            assert commits == 0
            await asyncio.sleep(2)
            assert commits == 1
            await asyncio.sleep(100)
            assert commits == 1
            assert len(await store._rows("SELECT peer, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM peers", ())) == 500

    async def test_who_leaves_memory_stays_in_the_file(self) -> None:
        async with self.make(PeerStoreConfig(max_peers=10), Clock()) as store:
            for number in range(100):
                store.add_addrs(peer_number(number), [addr_number(number)], 100)
            assert len(store.peers()) == 10
            await store.load(peer_number(0))  # before it was written
            assert store.addrs(peer_number(0)) == [addr_number(0)]
            await store.flush()
            for number in range(100):
                await store.load(peer_number(number))
                assert store.addrs(peer_number(number)) == [addr_number(number)]
                assert len(store.peers()) == 10

    @pytest.mark.parametrize("limits", [{"max_peers": 40}, {"max_bytes": 4800}], ids=["peers", "bytes"])
    async def test_the_file_is_bounded(self, limits: dict[str, int]) -> None:
        clock = Clock()
        async with self.make(PeerStoreConfig(), clock, SqlitePeerStoreConfig(**limits)) as store:
            for number in range(100):
                store.add_addrs(peer_number(number), [X], 1000)
                clock.now += 1
                await store.flush()
        found = [int.from_bytes(peer[2:], "big") for (peer,) in self.rows("SELECT peer FROM peers ORDER BY seen")]
        assert 30 <= len(found) <= 40
        assert found == list(range(100 - len(found), 100))

    async def test_a_second_process_is_told(self) -> None:
        async with self.make(PeerStoreConfig(), Clock()):
            with pytest.raises(OSError, match="locked"):
                await self.again().open()

    async def test_a_directory_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="can't be used"):
            await SqlitePeerStore(tmp_path / "nowhere" / "peers.sqlite").open()

    async def test_a_file_of_another_format_is_left_alone(self) -> None:
        async with self.make(PeerStoreConfig(), Clock()):
            pass
        self.change("PRAGMA user_version = 99")
        with pytest.raises(OSError, match="version 99"):
            await self.again().open()

    async def test_nothing_is_believed_that_was_not_signed(self) -> None:
        peer = RSA.peer_id
        async with self.make(PeerStoreConfig(), Clock()) as store:
            store.consume_peer_record(record(5, X, key=RSA), 100, told=Reach.EXAMPLE)
        (fields,) = self.rows("SELECT * FROM peers")
        row = Row(*fields[:-1])._replace(record=record(9, Y)).sealed()  # by somebody else
        self.change("UPDATE peers SET record = ?, checksum = ?", row.record, row.checksum)
        async with self.again() as store:
            await store.load(peer)
            assert store.peer_record(peer) is None
            assert store.certified_addrs(peer) == []

    @pytest.mark.parametrize("seed", range(int(os.environ.get("DAMAGED_FILES", "40"))))
    async def test_a_damaged_file_is_opened_or_set_aside_and_said(
        self, seed: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.damage(seed)
        with caplog.at_level(logging.WARNING, "libp2p"):
            async with self.again() as store:
                for number in range(300):
                    await store.load(peer_number(number))
                    assert store.addrs(peer_number(number)) in ([], [addr_number(number)])
                store.add_addrs(A, [X], 100)
                await store.flush()
        if store.set_aside is not None:
            assert store.set_aside.exists()
            assert any("damaged" in one.getMessage() for one in caplog.records)
        async with self.again() as store:
            await store.load(A)
            assert X in store.addrs(A)
            assert store.set_aside is None

    async def damage(self, seed: int) -> None:
        """A file of 300 peers, with some bytes of it changed, cut off or in the wrong place."""
        async with self.make(PeerStoreConfig(), Clock()) as store:
            for number in range(300):
                store.add_addrs(peer_number(number), [addr_number(number)], 1000)
        dice = random.Random(seed)
        data = bytearray(self.path.read_bytes())
        match seed % 4:
            case 0:
                for _ in range(dice.choice([1, 10, 500])):
                    data[dice.randrange(len(data))] = dice.randrange(256)
            case 1:
                del data[dice.randrange(len(data)) :]
            case 2:
                begin = dice.randrange(len(data))
                data[begin : begin + 4096] = dice.randbytes(4096)
            case 3:
                data[: dice.choice([16, 100, len(data)])] = dice.randbytes(dice.choice([16, 100]))
        self.path.write_bytes(data)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(query).fetchall()

    def change(self, query: str, *values: object) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.execute(query, values)
            db.commit()

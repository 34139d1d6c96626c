"""Peers that come, talk, and misbehave, in one process: `python -m tests.soak.crowd ADDR COUNT FILE`.

Each of the COUNT hosts has a connection to ADDR, and does one thing after the other: sends messages that are confirmed
(those that were are written down in FILE), talks, stops reading, floods, or vanishes and comes back. Runs until it is
killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from libp2p import Connection, Host, HostConfig, Libp2pError
from libp2p.host.identify import IdentifyConfig
from libp2p.transports.tcp import Tcp

QUIET = HostConfig(identify=IdentifyConfig(automatic=False))
Habit = Callable[[Connection, Host, random.Random, BinaryIO], Awaitable[None]]


async def notes(connection: Connection, host: Host, dice: random.Random, confirmed: BinaryIO) -> None:
    async with await host.new_stream(connection, "/note/1") as stream:
        for _ in range(dice.randrange(1, 20)):
            await stream.write(message := dice.randbytes(8))
            if await stream.readexactly(8) == message:
                confirmed.write(message)


async def talk(connection: Connection, host: Host, dice: random.Random, _: BinaryIO) -> None:
    async with await host.new_stream(connection, "/echo/1") as stream:
        data = dice.randbytes(dice.randrange(1, 50_000))
        await stream.write(data)
        assert await stream.readexactly(len(data)) == data


async def read_nothing(connection: Connection, host: Host, dice: random.Random, _: BinaryIO) -> None:
    stream = await host.new_stream(connection, "/echo/1")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(dice.uniform(1, 10)):
            while True:
                await stream.write(bytes(65536))
    stream.reset()


async def flood(connection: Connection, host: Host, dice: random.Random, _: BinaryIO) -> None:
    for _number in range(dice.randrange(100)):
        (await host.new_stream(connection, "/echo/1")).reset()


async def vanish(connection: Connection, host: Host, dice: random.Random, _: BinaryIO) -> None:
    connection.abort("away")


HABITS: list[Habit] = [notes] * 8 + [talk] * 8 + [read_nothing, flood, vanish]


async def member(addr: str, dice: random.Random, confirmed: BinaryIO, gate: asyncio.Semaphore) -> None:
    async with Host(transports=[Tcp()], config=QUIET) as host:
        while True:
            try:
                async with gate:
                    connection = await host.connect(addr)
                while not connection.is_closed:
                    await dice.choice(HABITS)(connection, host, dice, confirmed)
                    await asyncio.sleep(dice.expovariate(1 / 10))
            except (Libp2pError, OSError):
                await asyncio.sleep(dice.uniform(0, 5))


async def main(addr: str, count: int, confirmed: BinaryIO) -> None:
    gate = asyncio.Semaphore(20)
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(member(addr, random.Random(f"{confirmed.name} {number}"), confirmed, gate))


if __name__ == "__main__":
    with open(sys.argv[3], "ab", buffering=0) as file:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), file))

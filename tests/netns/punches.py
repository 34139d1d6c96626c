"""One hole punch: a relay, a listener behind it, a dialer that dials through it, and what became of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from interop.build import build
from interop.relay.parts import Part, PartFailed

from .world import RELAY, RELAY6, World

_PORTS = {"tcp": "tcp/4001", "quic-v1": "udp/4001/quic-v1"}
_HOLE = 60.0
"""Seconds for three attempts, each with its timeouts."""


def listen_addr(transport: str, version: int = 4, ip: str | None = None) -> str:
    """Where a part listens: port 4001 of `ip`, or of all addresses."""
    return f"/ip{version}/{ip or ('0.0.0.0' if version == 4 else '::')}/{_PORTS[transport]}"


@dataclass(frozen=True, slots=True)
class Punch:
    """What became of a relayed connection."""

    direct: bool
    attempts: int
    """Of those that begin with an exchange of addresses; as whoever of the two tells of them has it."""
    milliseconds: float | None
    """From the relayed connection to the direct one, as the dialer has it."""
    words: str
    """The last attempts as the listener tells of them, and how it ended."""


@dataclass(slots=True)
class Stage:
    """A relay and a listener that many dialers try."""

    world: World
    transport: str
    version: int
    kind: str
    listener: Part
    addr: str

    async def punch(self, dialer: str) -> Punch:
        """Dial the listener with a new program, which has a new port at its NAT, and wait for the end. Raises
        `PartFailed`.
        """
        seen = len(self.listener.lines)
        listen = listen_addr(self.transport, self.version).replace("4001", "0")
        async with Part(
            build(dialer), self.transport, "dial", self.addr, listen, through=self.world.dialer.command()
        ) as part:
            end = await self._end(part, seen)
            if dialer == "us" and end.startswith("direct "):
                await part.line("directly through the relay")  # it carries streams, too
            if self.kind == "us" and end.startswith("direct "):
                await self.listener.line("punched", since=seen)
        ours = [line for line in part.lines if line.startswith("attempt ")]
        theirs = [line for line in self.listener.lines[seen:] if line.startswith("attempt ")]
        attempts = max(1, len(ours) if dialer == "us" else 0, *(int(line.split()[1]) for line in theirs))
        if end.startswith("direct "):
            return Punch(True, attempts, float(end.split()[2]), end)
        return Punch(False, attempts, None, "; ".join([*(theirs or ours)[-3:], end]))

    async def _end(self, part: Part, seen: int) -> str:
        """Whatever comes first: the dialer has a direct connection, or the listener, which tries, gives up."""
        ways = [
            asyncio.create_task(part.line("direct ", within=_HOLE)),
            asyncio.create_task(self.listener.line("relayed ", since=seen, within=_HOLE)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for way in ways:
                way.cancel()
            for way in ways:
                with suppress(asyncio.CancelledError, PartFailed):
                    await way


@asynccontextmanager
async def stage(
    world: World, transport: str, listener: str, *, relay: str = "us", version: int = 4, part: str = "listen"
) -> AsyncIterator[Stage]:
    """A relay of one implementation, and a listener of another behind it, which plays `part`."""
    at = listen_addr(transport, version, RELAY if version == 4 else RELAY6)
    async with Part(build(relay), transport, "server", at, through=world.relay.command()) as server:
        addr = await server.line("/ip")
        listen = listen_addr(transport, version)
        async with Part(build(listener), transport, part, addr, listen, through=world.listener.command()) as behind:
            yield Stage(world, transport, version, listener, behind, await behind.line("/ip"))

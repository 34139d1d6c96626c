"""What relaying costs: throughput beside go-libp2p's relay, between the same programs of go; memory of a circuit.

On the loopback interface: the switch in user space would be slower than a relay.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from interop.build import build
from interop.relay.parts import Part

from .runs import Table

RUNS = 5
HOSTS, EACH = 25, 8
MOST = 64 * 1024
"""Bytes of a circuit."""

_LISTEN = "/ip4/127.0.0.1/tcp/0"


async def throughput(table: Table) -> None:
    """Through both relays in turn, so that what else the machine does is met by both."""
    ours: list[float] = []
    theirs: list[float] = []

    async def compared() -> tuple[str, bool]:
        for _ in range(RUNS):
            theirs.append(await _poured("go"))
            ours.append(await _poured("us"))
        text = f"{median(ours):.1f} MiB/s, go's {median(theirs):.1f} MiB/s"
        return text, median(ours) >= median(theirs)

    await table.attempt(f"tcp, 64 MiB from go to go, median of {RUNS}", "at least what go's relay passes", compared)
    await table.attempt(f"tcp, {HOSTS * EACH} idle circuits", f"at most {MOST // 1024} KiB each", _memory)


async def _poured(relay: str) -> float:
    async with (
        Part(build(relay), "tcp", "server-unlimited", _LISTEN) as server,
        Part(build("go"), "tcp", "listen", await server.line("/ip"), _LISTEN) as listener,
        Part(build("go"), "tcp", "pour", await listener.line("/ip"), _LISTEN) as dialer,
    ):
        return float((await dialer.line("poured ", within=120)).split()[1])


async def _memory() -> tuple[str, bool]:
    async with (
        Part(build("us"), "tcp", "server-unlimited", _LISTEN) as server,
        Part(build("us"), "tcp", "listen", await server.line("/ip"), _LISTEN) as listener,
    ):
        addr = await listener.line("/ip")
        before = await _holding(server, addr, 0)
        each = (await _holding(server, addr, EACH) - before) / (HOSTS * EACH)
    return f"{each / 1024:.1f} KiB", each <= MOST


async def _holding(server: Part, addr: str, each: int) -> int:
    """The relay's memory while its peers have so many circuits each."""
    async with Part(build("us"), "tcp", "circuits", addr, _LISTEN, str(HOSTS), str(each)) as dialer:
        await dialer.line("holding ", within=120)
        return _resident(server.pid)


def _resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory")

"""A name server that never answers holds up nobody: not the dial's end, and not the process's."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, socket, time

def hang(*_, **__):
    time.sleep(600)

socket.getaddrinfo = hang

from libp2p import Host

async def main():
    async with Host() as host:
        dials = [asyncio.create_task(host.connect(f"/dns4/a{n}.example/tcp/1")) for n in range(100)]
        await asyncio.sleep(0.3)
        for dial in dials:
            dial.cancel()
        await asyncio.wait(dials)
        print([dial.cancelled() for dial in dials].count(True), flush=True)

asyncio.run(main())
"""


@pytest.mark.real
def test_a_cancelled_dial_of_a_name_does_not_hold_up_the_end_of_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "100\n", "")

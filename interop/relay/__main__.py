"""Runs every triangle in which both implementations have a part: `python -m interop.relay`.

Over TCP on the loopback interface, with the limits of a public relay. Prints a line for each; exit code 0: all passed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product

from libp2p import Host
from libp2p.connection import Stream
from libp2p.protocols.relay import RelayClient, RelayServer

from ..build import BuildError, build_go

ECHO = "/echo/1.0.0"
MESSAGE = b"through the relay"
PATIENCE = 60.0


@asynccontextmanager
async def go(*args: str) -> AsyncIterator[str]:
    """The go program in one part of a triangle, and the line that it prints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*build_go(), "relay", *args, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    try:
        line = (await process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"go, as {args[0]}: {(await process.stderr.read()).decode().strip()}")
        yield line
    finally:
        process.stdin.close()
        if process.returncode is None:
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def us() -> AsyncIterator[Host]:
    """A host of this library."""
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as host:

        @host.handle(ECHO)
        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)

        yield host


async def server(who: str, stack: AsyncExitStack) -> str:
    """A relay; its address."""
    if who == "go":
        return await stack.enter_async_context(go("server"))
    host = await stack.enter_async_context(us())
    await stack.enter_async_context(RelayServer(host))
    return str(host.addrs[0])


async def listener(who: str, relay: str, stack: AsyncExitStack) -> str:
    """A peer that listens at `relay`; its address there."""
    if who == "go":
        return await stack.enter_async_context(go("listen", relay))
    host = await stack.enter_async_context(us())
    listening = await (await stack.enter_async_context(RelayClient(host))).listen(relay)
    return f"{listening.addrs[0]}/p2p/{host.id}"


async def dial(who: str, addr: str, stack: AsyncExitStack) -> bytes:
    """What the peer at `addr` answers."""
    if who == "go":
        return (await stack.enter_async_context(go("dial", addr))).encode()
    host = await stack.enter_async_context(us())
    await stack.enter_async_context(RelayClient(host))
    connection = await host.connect(addr)
    if not connection.is_limited:
        raise RuntimeError("the connection is not limited")
    async with await host.new_stream(connection, ECHO) as stream:
        await stream.write(MESSAGE)
        await stream.close_write()
        return await stream.read()


async def triangle(dialer: str, relay: str, target: str) -> None:
    """Raises what went wrong."""
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        addr = await listener(target, await server(relay, stack), stack)
        if (answer := await dial(dialer, addr, stack)) != MESSAGE:
            raise RuntimeError(f"{answer!r} was answered")


async def main() -> int:
    """The exit code."""
    failed = 0
    for dialer, relay, target in product(("us", "go"), repeat=3):
        if {dialer, relay, target} == {"go"}:
            continue
        name = f"{dialer} -> {relay} -> {target}"
        try:
            await triangle(dialer, relay, target)
        except BuildError as error:
            print(error, file=sys.stderr)
            return 2
        except Exception as error:  # whatever it is: it is told, and the others go on
            failed += 1
            print(f"{name}: failed: {error!r}", flush=True)
        else:
            print(f"{name}: passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

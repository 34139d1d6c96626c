"""`libp2p listen`: a peer that answers ping, identify, perf and echo."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import Annotated

import typer

from ..connection import Stream
from ..protocols.perf import Perf
from .common import HostOptions, Json, KeyFile, MuxerOption, Output, SecurityOption, run

ECHO = "/echo/1.0.0"


def default_addrs() -> list[str]:
    """Any TCP and UDP ports on all interfaces; IPv6 where the machine has it."""
    addrs = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        addrs += ["/ip6/::/udp/0/quic-v1", "/ip6/::/tcp/0"]
    return addrs


def listen(
    addrs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDR]...", help="Where to listen. Default: QUIC and TCP, on all interfaces"),
    ] = None,
    key: KeyFile = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    as_json: Json = False,
) -> None:
    """Listen and serve ping, identify, perf and /echo/1.0.0 until interrupted.

    Prints one full multiaddr a line, then `ready`. SIGINT and SIGTERM end it in order, with exit code 0.
    """
    run(_listen(HostOptions(key, security, muxer), addrs or default_addrs(), Output(as_json)))


async def _listen(options: HostOptions, addrs: list[str], output: Output) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    async with options.host(addrs) as host, Perf(host):
        host.handle(ECHO)(_echo)
        for addr in host.addrs:
            output.line(str(addr), addr=str(addr))
        output.line("ready", ready=True)
        await stopped.wait()


async def _echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)

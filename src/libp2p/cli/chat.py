"""`libp2p chat`: lines of text with one peer, both ways. Who listens and who dials is the only difference.

alice: hello\n     UTF-8, a line each, at most 64 KiB; either side ends its own direction when it has no more to say
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from ..connection import Stream, StreamErrorCode
from ..errors import IncompleteRead
from .common import HostOptions, Json, KeyFile, MuxerOption, Output, SecurityOption, default_addrs, printable, run

CHAT = "/chat/1.0.0"


def chat(
    addr: Annotated[
        str | None, typer.Argument(metavar="[ADDR]", help="Whom to talk to; without, listen for one peer.")
    ] = None,
    key: KeyFile = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    as_json: Json = False,
) -> None:
    """Talk to one peer, line by line, until both sides have ended their input."""
    options = HostOptions(key, security, muxer)
    run(_call(options, addr, Output(as_json)) if addr else _wait_for_call(options, Output(as_json)))


async def _call(options: HostOptions, addr: str, output: Output) -> None:
    async with options.host() as host, await host.new_stream(addr, CHAT) as stream:
        await stream.agreed()
        await _converse(stream, output)


async def _wait_for_call(options: HostOptions, output: Output) -> None:
    caller: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()

    async def answer(stream: Stream) -> None:
        if caller.done():
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
        else:
            caller.set_result(stream)
            await ended.wait()

    async with options.host(default_addrs()) as host:
        host.handle(CHAT)(answer)
        for addr in host.addrs:
            output.line(str(addr), addr=str(addr))
        output.line("ready", ready=True)
        try:
            await _converse(await caller, output)
        finally:
            ended.set()


async def _converse(stream: Stream, output: Output) -> None:
    """Carry lines both ways until both directions have ended."""
    peer = str(stream.connection.remote_peer)
    output.line(f"* {peer} is here", event="joined", peer=peer)
    speaking = asyncio.create_task(_speak(stream))
    try:
        while line := await _next_line(stream):
            text = printable(line)
            output.line(f"{peer[-6:]}: {text}", peer=peer, text=text)
        output.line(f"* {peer} has no more to say", event="left", peer=peer)
        await speaking
    finally:
        speaking.cancel()
    await stream.close()


async def _next_line(stream: Stream) -> str:
    """The peer's next line, with something in it; "" at the end."""
    while True:
        try:
            line = await stream.readuntil()
        except IncompleteRead as error:
            return error.partial.decode(errors="replace").strip()
        if text := line.decode(errors="replace").strip():
            return text


async def _speak(stream: Stream) -> None:
    async for line in stdin_lines():
        await stream.write(line)
    await stream.close_write()


async def stdin_lines() -> AsyncIterator[bytes]:
    """Lines typed by the user. A thread reads them, as stdin may be a terminal, a pipe or a file. It may stay behind,
    in a read that nobody can cancel: so it is a daemon, and holds no lock of `sys.stdin`.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)

    def read() -> None:
        rest = b""
        try:
            while chunk := os.read(sys.stdin.fileno(), 65536):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    asyncio.run_coroutine_threadsafe(lines.put(line + b"\n"), loop).result()
            for line in (rest, b"") if rest else (b"",):
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
        except (OSError, RuntimeError, asyncio.CancelledError):
            return  # the loop is gone: nobody listens any more

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while line := await lines.get():
        yield line

"""A: starts B, dials it, and walks through the conversation, checking each claim that it prints."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...connection import Connection
from ...errors import ProtocolNotSupported
from ...host import Host
from ...host.ping import ping
from ..common import ExitCode, fail
from ..sizes import format_size
from .ftp import FTP_CONTROL, FtpClient
from .http import HTTP, HttpClient, Response
from .narrator import Narrator
from .recipes import pages

TELEPATHY = "/telepathy/1.0.0"
"""A protocol that B lacks."""

_GOODBYE = 10
"""Seconds that B has to end once A has left."""


async def converse(as_json: bool) -> None:
    """Run the demo. Ends the command with `ExitCode.FAILED` where a claim did not hold."""
    story = Narrator(as_json=as_json)
    story.chapter("B, another process, listens")
    async with _other_process() as process:
        introduction = json.loads(await _stdout(process).readline() or "null")
        if introduction is None:
            fail(f"B did not start: exit code {await process.wait()}", ExitCode.FAILED)
        story.fact("processes", f"A is {os.getpid()}, B is {introduction['pid']}")
        story.fact("B's peer id", introduction["peer"])
        story.fact("B listens on", introduction["addr"])
        words_of_b = asyncio.create_task(_relay(process, story))
        async with Host() as host:
            connection = await _dial(host, introduction["addr"], story)
            story.check("B is who it said it is", str(connection.remote_peer) == introduction["peer"])
            music = await _feast(host, connection, story)
            await _ask_for_the_impossible(host, connection, story)
            story.chapter("Goodbye")
            await connection.close("that was lovely, goodbye")
        async with asyncio.timeout(_GOODBYE):
            served = await words_of_b
            story.check("B ended in order", await process.wait() == 0)
        story.check(f"B's hashes of the {len(music)} tunes it sent are A's of those received", served == music)
    if story.failed:
        fail(f"{len(story.failed)} of {story.checks} checks failed: {'; '.join(story.failed)}", ExitCode.FAILED)
    story.chapter(f"All {story.checks} checks hold")


async def _dial(host: Host, addr: str, story: Narrator) -> Connection:
    story.chapter("A dials B")
    connection = await host.connect(addr)
    story.fact("raw connection", f"{connection.local_addr}  ->  {connection.remote_addr}")
    story.fact("security", f"{connection.security}: encrypted, and both peer ids proven")
    story.fact("muxer", f"{connection.muxer}: many streams on this one connection")
    story.fact("peer ids", f"A {connection.local_peer}")
    story.fact("", f"B {connection.remote_peer}")
    story.fact("round trip", f"{(await ping(host, connection))[0] * 1000:.2f} ms")
    return connection


async def _feast(host: Host, connection: Connection, story: Narrator) -> dict[str, str]:
    """Recipes on X and music on Y, at the same time. Returns the hash of each tune, as received."""
    story.chapter("Stream X: steak recipes over HTTP/1.1. Stream Y: music over FTP. Both at once.")
    order: list[str] = []  # which stream each piece came from, in the order of arrival
    music_ended = asyncio.Event()

    async def read_recipes() -> None:
        async with await host.new_stream(connection, HTTP) as x:
            story.fact("stream X", f"id {x.id}, speaks {x.protocol}")
            http, paths = HttpClient(x), list(pages())
            answers: dict[str, Response] = {}
            for path in itertools.cycle(paths):
                last = music_ended.is_set() and len(answers) == len(paths)
                answers[path] = await http.get(path, last=last)
                order.append("X")
                if last:
                    break
            missing = await _page_that_is_missing(host, connection)
        for path, answer in answers.items():
            title = answer.body.partition(b"<title>")[2].partition(b"</title>")[0].decode()
            story.fact("  recipe", f"{answer.status} {path:<12}{title} ({len(answer.body)} bytes)")
        story.check(
            "each recipe has the hash that its HTTP header names", all(page.intact for page in answers.values())
        )
        story.check("an unknown recipe is answered with 404", missing == 404)

    async def listen_to_music() -> dict[str, str]:
        async with await host.new_stream(connection, FTP_CONTROL) as y:
            story.fact("stream Y", f"id {y.id}, speaks {y.protocol}")
            ftp = FtpClient(host, y, lambda who, text: story.said(f"Y {who}", text))
            await ftp.login("guest", "guest")
            received = {name: await _fetch(ftp, name, order, story) for name in await ftp.names()}
            music_ended.set()
            await ftp.quit()
        return received

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(read_recipes())
            music = both.create_task(listen_to_music())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    _show_interleaving(order, story)
    return music.result()


async def _page_that_is_missing(host: Host, connection: Connection) -> int:
    async with await host.new_stream(connection, HTTP) as stream:
        return (await HttpClient(stream).get("/well-done", last=True)).status


async def _fetch(ftp: FtpClient, name: str, order: list[str], story: Narrator) -> str:
    """Fetch one tune; return its hash as received."""
    digest, size, began = hashlib.sha256(), 0, asyncio.get_running_loop().time()

    def received(chunk: bytes) -> None:
        nonlocal size
        digest.update(chunk)
        size += len(chunk)
        order.append("Y")

    told_size, told_digest = await ftp.retrieve(name, received)
    seconds = asyncio.get_running_loop().time() - began
    story.fact("  tune", f"{name}: {format_size(size)} in {seconds:.3f} s, {format_size(size / seconds)}/s")
    story.fact("  sha-256", digest.hexdigest())
    story.check(f"{name} is what B said it is", (size, digest.hexdigest()) == (told_size, told_digest))
    return digest.hexdigest()


def _show_interleaving(order: list[str], story: Narrator) -> None:
    """Runs of arrivals as letters and numbers: Y3 X1 Y2 means three pieces of music, a page, two pieces of music."""
    runs = [(stream, len(list(group))) for stream, group in itertools.groupby(order)]
    shown = " ".join(f"{stream}{count}" for stream, count in runs[:16])
    story.fact("arrivals", f"{shown}{' ...' if len(runs) > 16 else ''}  (X: pages, Y: pieces of music)")
    music = [index for index, stream in enumerate(order) if stream == "Y"]
    between = order[music[0] : music[-1]].count("X") if music else 0
    story.check(f"X and Y really ran at once: {between} pages came while music was on its way", between > 0)


async def _ask_for_the_impossible(host: Host, connection: Connection, story: Narrator) -> None:
    story.chapter(f"A asks for {TELEPATHY}, which B does not speak")
    refusal = ""
    try:
        stream = await host.new_stream(connection, TELEPATHY)
        await stream.agreed()
    except ProtocolNotSupported as error:
        refusal = str(error)
    story.fact("B's answer", refusal or "none")
    story.check("the refusal is proper and names what was offered", TELEPATHY in refusal)
    story.check("the connection lives on", bool(await ping(host, connection)))


@asynccontextmanager
async def _other_process() -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "libp2p.cli", "demo-peer", stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _relay(process: Process, story: Narrator) -> object:
    """Pass on what B says; return the hashes that it gives at its end."""
    served: object = None
    async for line in _stdout(process):
        message = json.loads(line)
        served = message.get("served", served)
        if "text" in message:
            story.said("B", message["text"])
    return served


def _stdout(process: Process) -> asyncio.StreamReader:
    assert process.stdout is not None
    return process.stdout

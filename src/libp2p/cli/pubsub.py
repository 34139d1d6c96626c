"""`libp2p pubsub`: take part in topics from the command line.

libp2p pubsub sub news --listen /ip4/0.0.0.0/tcp/0     our addresses, then a message a line
libp2p pubsub pub news --connect ADDR                  each line of stdin is a message
libp2p pubsub peers --connect ADDR                     who speaks pubsub, and in which topics it is
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated

import typer

from ..host import Host
from ..protocols.pubsub import FloodSub, GossipSub, Message, PubSub
from .chat import stdin_lines
from .common import EXIT_CODES, ExitCode, HostOptions, Json, KeyFile, Output, default_addrs, fail, printable, run

_SAYING = 0.5
"""Seconds that peers have to say in which topics they are."""

app = typer.Typer(help="Take part in topics: gossipsub, or floodsub.", no_args_is_help=True)

TopicName = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]
Connect = Annotated[
    list[str] | None, typer.Option("--connect", metavar="ADDR", help="A peer to connect to; again for more.")
]
Listen = Annotated[
    list[str] | None,
    typer.Option("--listen", metavar="ADDR", help="Where to listen; again for more."),
]
Flood = Annotated[bool, typer.Option("--flood", help="Speak floodsub only.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for a peer in the topic.")
]


@app.command("sub", epilog=EXIT_CODES)
def sub(
    topic: TopicName,
    listen: Listen = None,
    connect: Connect = None,
    count: Annotated[int, typer.Option("--count", "-c", min=0, help="End behind so many messages; 0: never.")] = 0,
    key: KeyFile = None,
    flood: Flood = False,
    as_json: Json = False,
) -> None:
    """Print the messages of a topic, one a line, until interrupted.

    We listen by QUIC and TCP on all interfaces, unless told where. First our addresses, one a line, then `ready`. A
    message that is not UTF-8 text is printed with marks in place of what is not; with --json its bytes are there in
    base64.
    """
    run(_sub(HostOptions(key), topic, listen or default_addrs(), connect or [], count, flood, Output(as_json)))


@app.command("pub", epilog=EXIT_CODES)
def pub(
    topic: TopicName,
    connect: Connect = None,
    listen: Listen = None,
    wait: Wait = 10.0,
    key: KeyFile = None,
    flood: Flood = False,
    as_json: Json = False,
) -> None:
    """Publish each line of stdin. Ends when peers have taken them all; exits with 1 when nobody took one."""
    run(_pub(HostOptions(key), topic, listen or [], connect or [], wait, flood, Output(as_json)))


@app.command("peers", epilog=EXIT_CODES)
def peers(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="The topic; without it, any.")] = None,
    connect: Connect = None,
    wait: Wait = 3.0,
    key: KeyFile = None,
    flood: Flood = False,
    as_json: Json = False,
) -> None:
    """Print which of the peers that we connect to are in a topic, or speak pubsub at all; exits with 1 when none is."""
    run(_peers(HostOptions(key), topic, connect or [], wait, flood, Output(as_json)))


@contextlib.asynccontextmanager
async def _joined(
    options: HostOptions, listen: Sequence[str], connect: Sequence[str], *, flood: bool
) -> AsyncIterator[tuple[Host, PubSub]]:
    """A host with pubsub that is connected to all of `connect`."""
    async with options.host(listen) as host, FloodSub(host) if flood else GossipSub(host) as pubsub:
        for addr in connect:
            await host.connect(addr)
        yield host, pubsub


async def _sub(
    options: HostOptions,
    name: str,
    listen: Sequence[str],
    connect: Sequence[str],
    count: int,
    flood: bool,
    output: Output,
) -> None:
    async with (
        _joined(options, listen, connect, flood=flood) as (host, pubsub),
        await pubsub.subscribe(name) as topic,
    ):
        _end_on_signals(topic.end)
        for addr in host.addrs:
            output.line(str(addr), addr=str(addr))
        output.line("ready", ready=True)
        shown = 0
        async for message in topic:
            _show(message, output)
            shown += 1
            if shown == count:
                return


def _end_on_signals(end: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(end))


def _show(message: Message, output: Output) -> None:
    text = printable(message.data.decode(errors="replace"))
    sender = str(message.sender) if message.sender is not None else None
    output.line(
        f"{sender[-6:] if sender else 'nobody'}: {text}",
        topic=message.topic,
        sender=sender,
        received_from=str(message.received_from),
        seqno=message.seqno,
        id=message.id.hex(),
        text=text,
        data=base64.b64encode(message.data).decode(),
    )


async def _pub(
    options: HostOptions,
    name: str,
    listen: Sequence[str],
    connect: Sequence[str],
    wait: float,
    flood: bool,
    output: Output,
) -> None:
    sent = lost = 0
    async with _joined(options, listen, connect, flood=flood) as (_, pubsub):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await pubsub.wait_for_peers(name)
        async for line in stdin_lines():
            count = await pubsub.publish(name, line.removesuffix(b"\n"))
            sent += 1
            lost += not count
            output.line(f"sent to {count} peers", peers=count)
    if lost:
        fail(f"nobody took {lost} of {sent} messages", ExitCode.UNREACHABLE)


async def _peers(
    options: HostOptions, name: str | None, connect: Sequence[str], wait: float, flood: bool, output: Output
) -> None:
    async with _joined(options, [], connect, flood=flood) as (_, pubsub):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await pubsub.wait_for_peers(name, max(1, len(connect)))
        if name is None:
            await asyncio.sleep(min(wait, _SAYING))
        for peer in (found := pubsub.peers(name)):
            topics = pubsub.topics_of(peer)
            output.line(f"{peer} {' '.join(map(printable, topics))}".rstrip(), peer=str(peer), topics=topics)
    if not found:
        fail("nobody speaks pubsub" if name is None else f"nobody is in the topic {name!r}", ExitCode.UNREACHABLE)

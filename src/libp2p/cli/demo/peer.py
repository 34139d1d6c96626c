"""B: listens, serves recipes and music to one guest, and ends when the guest has left.

It tells A, on stdout, what it sees; a JSON object a line:

    {"peer": <peer id>, "addr": <multiaddr>}    first: where it listens
    {"text": <what happened>}                   any number of times
    {"served": {<file>: <sha-256>}}             last: the files that were fetched whole
"""

from __future__ import annotations

import asyncio
import json
import os

from ...connection import Stream
from ...host import Host
from ...swarm.events import ConnectionLost, ConnectionOpened
from .ftp import FtpServer
from .http import HTTP, serve_http
from .music import music_files
from .recipes import pages

_PATIENCE = 60
"""Seconds that B waits for its guest to come."""


async def serve_guest() -> None:
    """Be B until the guest has come and gone. Raises `TimeoutError` where none comes."""
    came, left = asyncio.Event(), asyncio.Event()
    recipes, files = pages(), music_files()

    async def serve_recipes(stream: Stream) -> None:
        served = await serve_http(stream, recipes)
        _tell(text=f"stream X: served {len(served)} pages over HTTP/1.1")

    def opened(event: ConnectionOpened) -> None:
        connection = event.connection
        _tell(text=f"a guest from {connection.remote_addr}, proven to be {connection.remote_peer}")
        came.set()

    def lost(event: ConnectionLost) -> None:
        _tell(text=f"the guest has left: {event.reason}")
        left.set()

    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as host:
        host.handle(HTTP)(serve_recipes)
        ftp = FtpServer(host, files)
        host.events.on(ConnectionOpened, opened)
        host.events.on(ConnectionLost, lost)
        _tell(peer=str(host.id), addr=str(host.addrs[0]), pid=os.getpid())
        async with asyncio.timeout(_PATIENCE):
            await came.wait()
        await left.wait()
    _tell(served=ftp.retrieved)


def _tell(**fields: object) -> None:
    print(json.dumps(fields), flush=True)

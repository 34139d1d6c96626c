"""A process that is forked from one with a host gets none of its keys, and harms none of its connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from libp2p.connection import Stream
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.security.noise import Noise
from libp2p.security.tls import Tls

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of forks in a process that has threads
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def in_child(work: Callable[[], Awaitable[str] | str]) -> str:
    """What `work` returns in a child, or the error that it raises there."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            asyncio.events._set_running_loop(None)
            result = work()
            text = result if isinstance(result, str) else asyncio.run(_awaited(result))
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


async def _awaited(result: Awaitable[str]) -> str:
    return await result


async def ephemeral(noise: Noise) -> str:
    handshake = noise._handshake(initiator=True)
    await asyncio.sleep(0)
    return handshake.write_message(b"").hex()


async def test_no_key_of_noise_serves_on_both_sides() -> None:
    noise, key = Noise(), PrivateKey.generate()
    await ephemeral(noise)  # the next one is made ahead
    noise._payload(key, ())
    static = noise._static.public.hex()
    assert noise._spare is not None
    child = in_child(lambda: f"{noise._static.public.hex()} {noise._spare} {noise._signed}").split(" ")
    assert child[0] != static
    assert child[1:] == ["None", "None"]
    assert noise._static.public.hex() == static
    assert in_child(lambda: ephemeral(noise)) != await ephemeral(noise)


async def test_no_certificate_of_tls_does() -> None:
    tls, key = Tls(), PrivateKey.generate()
    context = tls._context(key)
    assert in_child(lambda: str(tls._prepared)) == "None"
    assert tls._context(key) is context


@pytest.mark.parametrize("kind", ["tcp/0", "udp/0/quic-v1"])
async def test_a_forked_host_refuses_and_its_parent_goes_on(kind: str) -> None:
    async def echo(stream: Stream) -> None:
        await stream.write(await stream.read())

    async with Host(listen_addrs=[f"/ip4/127.0.0.1/{kind}"]) as far, Host() as near:
        far.handle("/echo")(echo)
        connection = await near.connect(far.addrs[0])
        stream = await near.new_stream(connection, "/echo")

        async def dials() -> str:
            return str(await near.connect(far.id))

        async def opens() -> str:
            return str(await near.new_stream(connection, "/echo"))

        async def listens() -> str:
            return str(await near.swarm.listen(far.listen_addrs[0]))

        for work in (dials, opens, listens):
            assert in_child(work).startswith("LocalProtocolError: this host belongs to the process"), work
        await stream.write(b"the parent's")
        await stream.close_write()
        assert await stream.read() == b"the parent's"


async def test_a_socket_of_the_parent_refuses_to_send() -> None:
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as far, Host() as near:
        connection = await near.connect(far.addrs[0])
        raw = connection._channel._raw  # type: ignore[attr-defined]

        def sends() -> str:
            raw.send([b"nonsense"])
            return "sent"

        assert in_child(sends).startswith("LocalProtocolError: this socket belongs to the process")

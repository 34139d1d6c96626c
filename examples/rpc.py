"""Calls to several peers: one answer, a stream of answers, errors, deadlines, cancelling. Here in one program."""

import asyncio
from collections.abc import AsyncIterator

from libp2p import ConnectionClosed, DialError, Host, Multiaddr, Request, RequestFailed, StageTimeout, StreamReset


def serve(host: Host, name: str) -> None:
    @host.respond("/calc/square/1")
    async def square(request: Request) -> bytes:
        if not request.data.isdigit():
            raise RequestFailed("NotANumber", repr(request.data))
        return b"%s: %d" % (name.encode(), int(request.data) ** 2)

    @host.respond("/calc/count/1")
    async def count(request: Request) -> AsyncIterator[bytes]:
        try:
            async for message in request:
                for number in range(int(message)):
                    yield b"%d" % number
        finally:  # all is counted, or the caller has left, or its time is over
            print(name, "stops counting")


async def ask_any(host: Host, peers: list[Multiaddr], protocol: str, data: bytes) -> bytes:
    """The answer of the first of `peers` that can be reached, and is in time."""
    for peer in peers:
        try:
            return await host.request(peer, protocol, data, timeout=5)
        except (DialError, ConnectionClosed, StreamReset, StageTimeout) as error:
            print("asking the next one:", type(error).__name__)
    raise LookupError("no peer answers")


async def main() -> None:
    where = ["/ip4/127.0.0.1/tcp/0"]
    async with Host(listen_addrs=where) as ann, Host(listen_addrs=where) as bob, Host() as client:
        serve(ann, "ann")
        serve(bob, "bob")
        peers = [ann.addrs[0], bob.addrs[0]]
        calls = (client.request(peers[n % 2], "/calc/square/1", b"%d" % n) for n in range(1000))
        print(len(set(await asyncio.gather(*calls))), "answers")
        try:
            await client.request(bob.addrs[0], "/calc/square/1", b"twelve")
        except RequestFailed as error:
            print("error:", error.kind, error.text)
        try:
            async with await client.call(bob.id, "/calc/count/1", timeout=0.3) as call:
                await call.send(b"1000000000")
                print("counted", [await anext(call) for _ in range(3)])
                async for _ in call:
                    pass
        except StageTimeout as error:
            print("late:", error)
        await ann.close(grace=5)
        print(await ask_any(client, peers, "/calc/square/1", b"12"))


asyncio.run(main())

"""Lines of text with one peer: `python chat.py` prints addresses and waits, `python chat.py ADDRESS` calls."""

import asyncio
import sys

from libp2p import Host, Stream

CHAT = "/example-chat/1.0.0"


async def listen(stream: Stream) -> None:
    async for chunk in stream:
        print("them:", chunk.decode(errors="replace").strip(), flush=True)


async def speak(stream: Stream) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        await stream.write(line.encode())
    await stream.close_write()


async def main() -> None:
    called: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()

    async def answer(stream: Stream) -> None:
        called.set_result(stream)  # a second caller fails here, which resets its stream
        await ended.wait()

    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as host:
        host.handle(CHAT)(answer)
        print(*host.addrs, sep="\n", flush=True)
        stream = await host.new_stream(sys.argv[1], CHAT) if sys.argv[1:] else await called
        await asyncio.gather(listen(stream), speak(stream))
        ended.set()


asyncio.run(main())

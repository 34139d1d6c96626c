"""Two hosts; one echoes what the other sends."""

import asyncio

from libp2p import Host, Stream


async def main() -> None:
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as server, Host() as client:

        @server.handle("/echo/1.0.0")
        async def echo(stream: Stream) -> None:
            async for chunk in stream:
                await stream.write(chunk)

        stream = await client.new_stream(server.addrs[0], "/echo/1.0.0")
        await stream.write(b"steak recipes, please")
        await stream.close_write()
        print((await stream.read()).decode())


asyncio.run(main())

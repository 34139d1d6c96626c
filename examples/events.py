"""What a host tells about: connections and streams as they come and go, and what peers say of themselves."""

import asyncio

from libp2p import Host, Stream
from libp2p.swarm import ConnectionLost, ConnectionOpened, StreamEnded, StreamStarted


async def main() -> None:
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as server:

        @server.handle("/knock/1.0.0")
        async def knock(stream: Stream) -> None:
            await stream.write(b"come in")

        # A callback is called at once, ...
        server.events.on(ConnectionOpened, lambda event: print("connected:", event.connection.remote_peer))
        # ... a subscription holds events until they are read.
        with server.events.subscribe(StreamStarted, StreamEnded, ConnectionLost) as happenings:
            async with Host() as client:
                stream = await client.new_stream(server.addrs[0], "/knock/1.0.0")
                print(await stream.read())
                await stream.close()
            async for event in happenings:
                if isinstance(event, StreamStarted | StreamEnded):
                    print(type(event).__name__, event.stream.protocol)
                elif isinstance(event, ConnectionLost):
                    print("lost:", event.reason)
                    break


asyncio.run(main())

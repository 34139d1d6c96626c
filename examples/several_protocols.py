"""One handler for several protocol ids, a match function for versions, and what a peer without any of them answers."""

import asyncio

from libp2p import Host, ProtocolNotSupported, Stream


def any_version_2(protocol: str) -> bool:
    return protocol.startswith("/greet/2.")


async def greet(stream: Stream) -> None:
    await stream.write(f"hello in {stream.protocol}".encode())


async def main() -> None:
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as server, Host() as client:
        server.handle("/greet/1.0.0", "/hello/1.0.0", match=any_version_2)(greet)
        # The server takes the first of the client's that it supports.
        for offer in (["/greet/2.7.1"], ["/greet/3.0.0", "/hello/1.0.0"], ["/greet/3.0.0"]):
            try:
                stream = await client.new_stream(server.addrs[0], *offer)
                print((await stream.read()).decode())
            except ProtocolNotSupported as error:
                print("refused:", *error.offered)


asyncio.run(main())

"""HTTP/1.1 between peers: any sans-I/O HTTP library fits on a stream. This one is h11."""

import asyncio

import h11

from libp2p import Host, Stream

HTTP = "/http/1.1"  # the id that the libp2p specs give it


async def receive(stream: Stream, http: h11.Connection) -> list[h11.Event]:
    """Everything up to the end of the peer's message."""
    events: list[h11.Event] = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.read(65536))
        elif isinstance(event, h11.Event):
            events.append(event)
    return events


async def serve(stream: Stream) -> None:
    http = h11.Connection(h11.SERVER)
    request = (await receive(stream, http))[0]
    assert isinstance(request, h11.Request)
    page = b"<h1>You asked for %s</h1>" % request.target
    head = h11.Response(status_code=200, headers=[("Content-Length", str(len(page))), ("Connection", "close")])
    await stream.write(b"".join(http.send(event) or b"" for event in (head, h11.Data(data=page), h11.EndOfMessage())))


async def main() -> None:
    async with Host(listen_addrs=["/ip4/127.0.0.1/tcp/0"]) as server, Host() as client:
        server.handle(HTTP)(serve)
        async with await client.new_stream(server.addrs[0], HTTP) as stream:
            http = h11.Connection(h11.CLIENT)
            request = h11.Request(method="GET", target="/ribeye", headers=[("Host", str(server.id))])
            await stream.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
            print([bytes(event.data) for event in await receive(stream, http) if isinstance(event, h11.Data)])


asyncio.run(main())

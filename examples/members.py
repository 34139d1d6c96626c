"""A chat of many, with files. Who knows one member meets all; members may be killed, and come back.

python members.py NAME KEYFILE LISTEN [ADDRESS...]     then type: /send NAME PATH, /quit, or text for everybody
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path

from libp2p import Host, Kept, Libp2pError, Multiaddr, PeerDisconnected, PeerId, Request, Stream
from libp2p import load_or_create_private_key as load_key

CHAT, FILE, MAX_FILE, CHUNK = "/members/chat/1", "/members/file/1", 1 << 30, 256 * 1024


class Chat:
    def __init__(self, host: Host, name: str) -> None:
        self.host, self.name = host, name
        self.members = {host.id: [str(addr) for addr in host.addrs]}
        self.kept: dict[PeerId, Kept] = {}
        self.online: dict[PeerId, str] = {}  # the names of those who have greeted us
        host.respond(CHAT, limit=64 * 1024)(self.hear)
        host.handle(FILE, self.receive)
        host.events.on(PeerDisconnected, lambda event: print("* offline:", self.online.pop(event.peer, event.peer)))

    def meet(self, addrs: list[str]) -> None:
        peer = PeerId.from_string(Multiaddr(addrs[0]).peer_id_text or "")
        if peer not in self.members:
            self.members[peer] = addrs
            self.kept[peer] = self.host.keep(addrs)
            self.host.spawn(self.greet(self.kept[peer]), name="greet")

    async def greet(self, kept: Kept) -> None:
        async for _ in kept:
            try:
                self.learn(kept.peer, await self.host.request(kept.peer, CHAT, self.hello(), timeout=10))
            except Libp2pError as error:
                print("* no greeting:", error)

    def hello(self) -> bytes:
        return json.dumps({"hello": self.name, "members": list(self.members.values())}).encode()

    def learn(self, peer: PeerId, data: bytes) -> None:
        hello = json.loads(data)
        if peer not in self.online:
            print("* online:", hello["hello"])
        self.online[peer] = hello["hello"]
        for addrs in hello["members"]:
            self.meet(addrs)

    async def hear(self, request: Request) -> bytes:
        message = json.loads(request.data)
        if "hello" in message:
            self.learn(request.peer, request.data)
            return self.hello()
        if "text" in message:
            print(f"<{self.online.get(request.peer, request.peer)}> {message['text']}")
        elif kept := self.kept.pop(request.peer, None):  # it leaves, and is not missed
            kept.close()
            del self.members[request.peer]
        return b""

    async def tell(self, **message: object) -> None:
        told = [self.host.request(peer, CHAT, json.dumps(message).encode(), timeout=5) for peer in self.online]
        await asyncio.gather(*told, return_exceptions=True)  # who goes offline now hears nothing

    async def send(self, peer: PeerId, path: Path) -> None:
        digest = hashlib.sha256()
        async with await self.host.new_stream(peer, FILE) as stream:
            await stream.write_message(json.dumps([path.name, path.stat().st_size]).encode())  # noqa: ASYNC240
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    await stream.write(chunk)
                    digest.update(chunk)
            print("* sent:" if await stream.readexactly(32) == digest.digest() else "* spoilt:", path.name)

    async def receive(self, stream: Stream) -> None:
        name, left = json.loads(await stream.read_message(limit=4096))
        digest, path = hashlib.sha256(), Path(Path(name).name)  # no way into other folders
        with path.with_suffix(".part").open("wb") as file:
            while 0 < left <= MAX_FILE and (chunk := await stream.read(min(left, CHUNK))):
                digest.update(chunk)
                left -= file.write(chunk)
        if left == 0:
            path.with_suffix(".part").rename(path)
            await stream.write(digest.digest())
            print("* received:", path.name)


async def main(name: str, key_file: str, listen: str, *addrs: str) -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    async with Host(load_key(key_file), [listen]) as host:
        chat = Chat(host, name)
        print(host.addrs[0])
        for addr in addrs:
            chat.meet([addr])
        while (line := await asyncio.to_thread(sys.stdin.readline)) not in ("", "/quit\n"):
            if line.startswith("/send "):
                _, whom, path = line.split()
                for peer in [peer for peer, name in chat.online.items() if name == whom]:
                    host.spawn(chat.send(peer, Path(path)), name="file")
            else:
                await chat.tell(text=line.strip())
        await chat.tell(bye=True)


asyncio.run(main(*sys.argv[1:]))

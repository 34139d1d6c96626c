"""FTP (RFC 959) on streams: the control dialogue on one, each file's bytes on a further one of the same connection.

FTP's passive mode names a TCP port for the data. Here RFC 2428's `EPSV` names a protocol id instead: the number in
its reply stands behind `/ftp-data/1.0.0/`, and whoever asked opens a stream with that protocol. A number serves one
transfer, on the connection that asked for it.

    client                                    server
                                              220 B has music
    USER guest                                331 password, please
    PASS guest                                230 welcome, guest
    TYPE I                                    200 bytes as they are
    SIZE ode-to-joy.wav                       213 5644844                                  (RFC 3659)
    HASH ode-to-joy.wav                       213 SHA-256 0-5644844 <hex> ode-to-joy.wav   (draft-bryan-ftpext-hash)
    EPSV                                      229 Entering Extended Passive Mode (|||1|)
    -- opens a stream with /ftp-data/1.0.0/1 --
    RETR ode-to-joy.wav                       150 here it comes
                 <== the file's bytes, then the end of that stream ==
                                              226 that was all
    QUIT                                      221 goodbye
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping

from ...connection import Connection, Stream
from ...errors import RemoteProtocolError
from ...host import Host

FTP_CONTROL = "/ftp/1.0.0"
FTP_DATA = "/ftp-data/1.0.0"

_LINE_LIMIT = 1024
"""Bytes of a command or reply."""

_DATA_WAIT = 10.0
"""Seconds that the server waits for the stream that is to carry the data."""

_CHUNK = 256 * 1024


class FtpServer:
    """Serves files, by name, to whoever logs in as `guest`. `retrieved` has the hash of every file sent."""

    def __init__(self, host: Host, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self.retrieved: dict[str, str] = {}
        self._channels: dict[str, DataChannel] = {}
        self._numbers = 0
        host.handle(FTP_CONTROL)(self._control)
        host.handle(match=lambda protocol: protocol in self._channels)(self._data)

    def open_channel(self, connection: Connection) -> tuple[int, DataChannel]:
        """Expect a stream for data on `connection`; its number, and what will send on it."""
        self._numbers += 1
        protocol = f"{FTP_DATA}/{self._numbers}"
        channel = self._channels[protocol] = DataChannel(connection, lambda: self._channels.pop(protocol, None))
        return self._numbers, channel

    async def _control(self, stream: Stream) -> None:
        await _Session(self, stream).run()

    async def _data(self, stream: Stream) -> None:
        channel = self._channels.get(stream.protocol)
        if channel is None or channel.connection is not stream.connection:
            stream.reset()
        else:
            channel.close()
            await channel.carry(stream)


class DataChannel:
    """One transfer: waits for its stream and its content, in whichever order they come."""

    def __init__(self, connection: Connection, close: Callable[[], object]) -> None:
        self.connection = connection
        self.close = close
        self._opened = asyncio.Event()
        self._content: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._complete = False

    async def carry(self, stream: Stream) -> None:
        """The stream is here: send the content on it, once it is known."""
        self._opened.set()
        try:
            await stream.write(await self._content)
            await stream.close_write()
            self._complete = True
        finally:
            self._ended.set()

    async def send(self, content: bytes) -> bool:
        """Send all of `content`; False where the stream broke. Raises `TimeoutError` where no stream came."""
        await asyncio.wait_for(self._opened.wait(), _DATA_WAIT)
        self._content.set_result(content)
        await self._ended.wait()
        return self._complete


class _Session:
    """The server's end of one control dialogue."""

    def __init__(self, server: FtpServer, stream: Stream) -> None:
        self._server = server
        self._stream = stream
        self._user = ""
        self._logged_in = False
        self._channel: DataChannel | None = None

    async def run(self) -> None:
        await self._reply("220 B has music")
        verb = ""
        try:
            while verb != "QUIT":
                line = await _read_line(self._stream)
                verb, _, argument = line.partition(" ")
                verb = verb.upper()
                await self._reply(await self._answer(verb, argument))
        finally:
            if self._channel is not None:
                self._channel.close()

    async def _answer(self, verb: str, argument: str) -> str:  # noqa: PLR0911 - a table of commands
        match verb:
            case "QUIT":
                return "221 goodbye"
            case "USER":
                self._user, self._logged_in = argument, False
                return "331 password, please"
            case "PASS":
                self._logged_in = self._user == "guest"
                return "230 welcome, guest" if self._logged_in else "530 only guests here"
            case _ if not self._logged_in:
                return "530 log in first"
            case "TYPE":
                return "200 bytes as they are" if argument.upper() == "I" else "504 only type I"
            case "EPSV":
                number, self._channel = self._server.open_channel(self._stream.connection)
                return f"229 Entering Extended Passive Mode (|||{number}|)"
            case "LIST":
                return await self._transfer(self._listing())
            case "SIZE" | "HASH" | "RETR" if argument not in self._server.files:
                return "550 no such file"
            case "SIZE":
                return f"213 {len(self._server.files[argument])}"
            case "HASH":
                size, digest = len(self._server.files[argument]), self._server.hashes[argument]
                return f"213 SHA-256 0-{size} {digest} {argument}"
            case "RETR":
                reply = await self._transfer(self._server.files[argument])
                if reply.startswith("226"):
                    self._server.retrieved[argument] = self._server.hashes[argument]
                return reply
        return "502 not here"

    async def _transfer(self, content: bytes) -> str:
        channel, self._channel = self._channel, None
        if channel is None:
            return "425 say EPSV first"
        await self._reply("150 here it comes")
        try:
            complete = await channel.send(content)
        except TimeoutError:
            return "425 no stream came for it"
        finally:
            channel.close()
        return "226 that was all" if complete else "426 its stream broke"

    def _listing(self) -> bytes:
        files = self._server.files.items()
        return "".join(f"-r--r--r-- 1 b b {len(data):>9} Jan  1  2026 {name}\r\n" for name, data in files).encode()

    async def _reply(self, text: str) -> None:
        await self._stream.write(f"{text}\r\n".encode())


class FtpClient:
    """The client's end. `said` is called with each line of the dialogue: `>` or `<` for who said it, and what."""

    def __init__(self, host: Host, stream: Stream, said: Callable[[str, str], None]) -> None:
        self._host = host
        self._stream = stream
        self._said = said

    async def login(self, user: str, password: str) -> None:
        await self._expect("220")
        await self.command(f"USER {user}", "331")
        await self.command(f"PASS {password}", "230")
        await self.command("TYPE I", "200")

    async def names(self) -> list[str]:
        """The server's files."""
        listing = bytearray()
        await self._transfer("LIST", listing.extend)
        return [line.split()[-1] for line in listing.decode().splitlines()]

    async def retrieve(self, name: str, received: Callable[[bytes], None]) -> tuple[int, str]:
        """Fetch a file; `received` gets its bytes as they come. Returns the size and the hash that the server gives."""
        size = int(await self.command(f"SIZE {name}", "213"))
        digest = (await self.command(f"HASH {name}", "213")).split()[2]
        await self._transfer(f"RETR {name}", received)
        return size, digest

    async def quit(self) -> None:
        await self.command("QUIT", "221")

    async def command(self, line: str, code: str) -> str:
        """Say `line`; the reply's text, which must have `code` (else `RemoteProtocolError`)."""
        self._said(">", line)
        await self._stream.write(f"{line}\r\n".encode())
        return await self._expect(code)

    async def _transfer(self, line: str, received: Callable[[bytes], None]) -> None:
        reply = await self.command("EPSV", "229")
        found = re.search(r"\(\|\|\|(\d+)\|\)", reply)
        if found is None:
            raise RemoteProtocolError(f"FTP: no channel named in {reply!r}")
        data = await self._host.new_stream(self._stream.connection, f"{FTP_DATA}/{found[1]}")
        async with data:
            await self.command(line, "150")
            while chunk := await data.read(_CHUNK):
                received(chunk)
        await self._expect("226")

    async def _expect(self, code: str) -> str:
        reply = await _read_line(self._stream)
        self._said("<", reply)
        if not reply.startswith(f"{code} "):
            raise RemoteProtocolError(f"FTP: expected {code}, got {reply!r}")
        return reply[4:]


async def _read_line(stream: Stream) -> str:
    line = await stream.readuntil(b"\r\n", limit=_LINE_LIMIT)
    return line[:-2].decode("utf-8", errors="replace")

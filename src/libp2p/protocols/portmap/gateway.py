"""Gateways, with one face for all three protocols: sockets around `wire.py` and `upnp.py`.

Rules:
- Whatever goes wrong is a `MappingError`: the gateway says no (`refused`), or nothing of use.
- A question over UDP is repeated after 250 ms, then after twice that each time, until `answer_timeout`.
- Sockets are connected: only the gateway itself is heard, but for the search, whose answers must name their sender.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from ...errors import Libp2pError, RemoteProtocolError
from . import upnp, wire
from .config import PortMapConfig
from .core import Mapped, Port

_FIRST_REPEAT = 0.25
_OTHER_PORTS = 3
"""Other external ports that are tried where the one asked for is taken (UPnP)."""


class MappingError(Libp2pError):
    """A gateway did not do what it was asked for. `refused`: it has said no, rather than nothing; `code` is UPnP's."""

    def __init__(self, text: str, *, refused: bool = False, code: int | None = None) -> None:
        super().__init__(text)
        self.refused = refused
        self.code = code


@dataclass(frozen=True, slots=True)
class State:
    """How a gateway is."""

    epoch: float
    """Seconds that it has been running."""
    external_ip: IPv4Address | None = None
    """Its address outside, where it tells."""


class Gateway(ABC):
    """What opens ports for us. All methods raise `MappingError`."""

    kind: str
    local_ip: IPv4Address
    """The address by which this host talks to it."""

    @abstractmethod
    async def check(self) -> State:
        """How it is now."""

    @abstractmethod
    async def map(self, port: Port, external_port: int, lifetime: float) -> Mapped:
        """Lead `external_port`, or another one, to `port` of this host for so many seconds; a mapping that there is is
        renewed.
        """

    @abstractmethod
    async def unmap(self, port: Port, mapped: Mapped) -> None:
        """Do so no more."""


@dataclass(slots=True)
class PmpGateway(Gateway):
    """One that speaks NAT-PMP."""

    local_ip: IPv4Address
    address: str
    config: PortMapConfig
    kind = "nat-pmp"

    async def check(self) -> State:
        answer = await self._ask(wire.pmp_address())
        return State(answer.epoch, answer.external_ip)

    async def map(self, port: Port, external_port: int, lifetime: float) -> Mapped:
        ip = (await self.check()).external_ip
        answer = await self._ask(wire.pmp_map(port.transport, port.number, external_port, int(lifetime)))
        if ip is None or not answer.external_port or not answer.lifetime:
            raise MappingError("nat-pmp: nothing was mapped", refused=True)
        return Mapped(ip, answer.external_port, answer.lifetime)

    async def unmap(self, port: Port, mapped: Mapped) -> None:  # noqa: ARG002 - the port here names it
        await self._ask(wire.pmp_map(port.transport, port.number, 0, 0))

    async def _ask(self, request: bytes) -> wire.Answer:
        return await _ask(self.kind, self.address, self.config, request, wire.decode_pmp)


@dataclass(slots=True)
class PcpGateway(Gateway):
    """One that speaks PCP. Each mapping is known by a nonce, which nobody else can guess."""

    local_ip: IPv4Address
    address: str
    config: PortMapConfig
    _nonces: dict[Port, bytes] = field(default_factory=dict)
    kind = "pcp"

    async def check(self) -> State:
        return State((await self._ask(wire.pcp_announce(self.local_ip))).epoch)

    async def map(self, port: Port, external_port: int, lifetime: float) -> Mapped:
        nonce = self._nonces.setdefault(port, secrets.token_bytes(wire.NONCE_SIZE))
        request = wire.pcp_map(self.local_ip, nonce, port.transport, port.number, external_port, int(lifetime))
        answer = await self._ask(request)
        if answer.external_ip is None or not answer.external_port or not answer.lifetime:
            raise MappingError("pcp: nothing was mapped", refused=True)
        return Mapped(answer.external_ip, answer.external_port, answer.lifetime)

    async def unmap(self, port: Port, mapped: Mapped) -> None:  # noqa: ARG002 - the nonce names it
        nonce = self._nonces.pop(port, None)
        if nonce is not None:
            await self._ask(wire.pcp_map(self.local_ip, nonce, port.transport, port.number, 0, 0))

    async def _ask(self, request: bytes) -> wire.Answer:
        return await _ask(self.kind, self.address, self.config, request, wire.decode_pcp)


@dataclass(slots=True)
class UpnpGateway(Gateway):
    """One that speaks UPnP."""

    local_ip: IPv4Address
    control: upnp.Control
    config: PortMapConfig
    kind = "upnp"

    async def check(self) -> State:
        uptime = (await self._call("GetStatusInfo")).get("NewUptime", "")
        return State(_number(uptime), await self._external_ip())

    async def map(self, port: Port, external_port: int, lifetime: float) -> Mapped:
        ip = await self._external_ip()
        for attempt in range(_OTHER_PORTS + 1):
            try:
                return Mapped(ip, external_port, await self._add(port, external_port, lifetime))
            except MappingError as error:
                if error.code not in upnp.CONFLICTS or attempt == _OTHER_PORTS:
                    raise
                external_port = 1024 + secrets.randbelow(65536 - 1024)
        raise AssertionError("the last attempt returns or raises")

    async def unmap(self, port: Port, mapped: Mapped) -> None:
        try:
            await self._call(
                "DeletePortMapping",
                NewRemoteHost="",
                NewExternalPort=mapped.external_port,
                NewProtocol=port.transport.upper(),
            )
        except MappingError as error:
            if error.code != upnp.NO_SUCH_ENTRY:
                raise

    async def _add(self, port: Port, external_port: int, lifetime: float) -> float:
        for seconds in (int(lifetime), 0):
            try:
                await self._call(
                    "AddPortMapping",
                    NewRemoteHost="",
                    NewExternalPort=external_port,
                    NewProtocol=port.transport.upper(),
                    NewInternalPort=port.number,
                    NewInternalClient=self.local_ip,
                    NewEnabled=1,
                    NewPortMappingDescription="libp2p",
                    NewLeaseDuration=seconds,
                )
            except MappingError as error:
                if error.code != upnp.ONLY_PERMANENT_LEASES or not seconds:
                    raise
            else:
                return seconds
        raise AssertionError("the second attempt returns or raises")

    async def _external_ip(self) -> IPv4Address:
        text = (await self._call("GetExternalIPAddress")).get("NewExternalIPAddress", "")
        try:
            return IPv4Address(text)
        except ValueError as error:
            raise MappingError(f"upnp: the external address {text[:40]!r} is none") from error

    async def _call(self, action: str, **arguments: object) -> dict[str, str]:
        body = upnp.call(self.control.service, action, **arguments)
        action = f'SOAPACTION: "{self.control.service}#{action}"\r\nContent-Type: text/xml; charset="utf-8"\r\n'
        status, answer = await http(self.control.url, self.config, body=body, headers=action)
        try:
            return upnp.decode_call(status, answer)
        except upnp.UpnpError as error:
            raise MappingError(str(error), refused=True, code=error.code) from error
        except RemoteProtocolError as error:
            raise MappingError(str(error)) from error


async def http(url: str, config: PortMapConfig, *, body: bytes | None = None, headers: str = "") -> tuple[int, bytes]:
    """Status and body of what is at `url`; with a `body`, that is posted. Raises `MappingError`."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    head = f"{'GET' if body is None else 'POST'} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
    try:
        async with asyncio.timeout(config.answer_timeout):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=config.max_body)
            try:
                writer.write(f"{head}{length}{headers}\r\n".encode() + (body or b""))
                data = bytearray()
                while chunk := await reader.read(65536):
                    data += chunk
                    if len(data) > config.max_body:
                        raise MappingError(f"upnp: more than {config.max_body} bytes from {url}")
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
        return upnp.decode_http(bytes(data))
    except TimeoutError as error:
        raise MappingError(f"upnp: {url} did not answer") from error
    except (OSError, RemoteProtocolError) as error:
        raise MappingError(f"upnp: {url}: {error}") from error


class _Datagrams(asyncio.DatagramProtocol):
    """What has come, with its sender."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue(64)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with suppress(asyncio.QueueFull):
            self.received.put_nowait((data, addr[0]))

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there (yet): the question is repeated."""


@asynccontextmanager
async def udp(
    local_ip: IPv4Address | None = None, remote: tuple[str, int] | None = None
) -> AsyncGenerator[tuple[asyncio.DatagramTransport, asyncio.Queue[tuple[bytes, str]]], None]:
    """A UDP socket, and what comes to it. Raises `OSError`."""
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        _Datagrams,
        local_addr=None if local_ip is None else (str(local_ip), 0),
        remote_addr=remote,
        family=socket.AF_INET,
    )
    try:
        yield transport, protocol.received
    finally:
        transport.close()


async def _ask(
    kind: str,
    address: str,
    config: PortMapConfig,
    request: bytes,
    decode: Callable[[bytes, bytes], wire.Answer],
) -> wire.Answer:
    """The answer to `request`, which is repeated until it comes."""
    pause = _FIRST_REPEAT
    try:
        async with asyncio.timeout(config.answer_timeout), udp(remote=(address, wire.PORT)) as (sock, received):
            while True:
                sock.sendto(request)
                with suppress(TimeoutError, RemoteProtocolError):
                    async with asyncio.timeout(pause):
                        data, _ = await received.get()
                    answer = decode(data[: wire.MAX_DATAGRAM], request)
                    break
                pause *= 2
    except TimeoutError as error:
        raise MappingError(f"{kind}: {address} did not answer") from error
    except OSError as error:
        raise MappingError(f"{kind}: {address}: {error}") from error
    if answer.result:
        raise MappingError(f"{kind}: {address} refused: {wire.result_name(kind, answer.result)}", refused=True)
    return answer


def _number(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0.0

"""AutoNAT v2, the client: asks others which of our addresses they reach. Spec: autonat/autonat-v2.md.

Rules:
- A server's word counts only where its dial has come: by an inbound connection, on the same transport, with our nonce.
- Servers are the peers we are connected with that speak the protocol; each is asked rarely, and counts by its network.
- What is known is told by `ReachabilityChanged`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from ipaddress import ip_network

from ...connection import Connection, Direction, Service, Stream, StreamErrorCode
from ...errors import Libp2pError, RemoteProtocolError
from ...host import Host
from ...host.events import AddrsChanged, Reachability, ReachabilityChanged
from ...identity import PeerId
from ...io import read_protobuf, time_limit, write_protobuf
from ...multiaddr import Multiaddr, Reach, ip_of, is_relayed, reach_of
from .autonat_pb2 import DialBack, DialBackResponse, DialDataResponse, DialRequest, Message
from .config import AutoNatConfig
from .core import Confidence
from .v1 import PROTOCOL_ID as PROTOCOL_ID_V1
from .v1 import check_v1
from .wire import BACK_ID, MAX_DATA, MAX_MESSAGE, REQUEST_ID, DialStatus, ResponseStatus, read

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a server has found out."""

    addr: Multiaddr
    """The one that it has dialed."""
    reached: bool


class AutoNat(Service):
    """Finds out which addresses of the host strangers reach."""

    def __init__(self, host: Host, config: AutoNatConfig | None = None) -> None:
        super().__init__(host)
        self.config = config or AutoNatConfig()
        self._own = host.own_addrs
        self._confidence = Confidence(self.config)
        self._dialed: dict[int, Connection | None] = {}
        """By the nonces under way, the connection on which it has come back."""
        self._asked: dict[PeerId, float] = {}
        self._changed = asyncio.Event()
        self._told = ReachabilityChanged(self._confidence.reachability)

    async def start(self) -> None:
        """Take dials back, and begin to ask."""
        self.serve([BACK_ID], self._dial_back)
        self.follow(AddrsChanged, lambda _: self._changed.set())
        self.spawn(self._run(), name="asking")

    @property
    def state(self) -> ReachabilityChanged:
        """What is known by now."""
        return self._told

    async def check(self, connection: Connection, addrs: list[Multiaddr]) -> Checked | None:
        """Ask the peer to dial one of `addrs`. None where it has dialed none, or its word counts for nothing. Raises
        `RemoteProtocolError`, `StageTimeout`, and what opening and using a stream may raise.
        """
        nonce = secrets.randbits(64)
        self._dialed[nonce] = None
        try:
            async with (
                time_limit("a question of autonat", self.config.timeout),
                await self.host.new_stream(connection, REQUEST_ID) as stream,
            ):
                request = DialRequest(addrs=[addr.to_bytes() for addr in addrs], nonce=nonce)
                await write_protobuf(stream, Message(dialRequest=request))
                message = await read(stream, "dialResponse", "dialDataRequest")
                if message.WhichOneof("msg") == "dialDataRequest":
                    demand = message.dialDataRequest
                    if demand.addrIdx >= len(addrs) or demand.numBytes > self.config.max_data:
                        raise RemoteProtocolError(f"autonat: {demand.numBytes} bytes demanded for a dial")
                    await self._pay(stream, demand.numBytes)
                    message = await read(stream, "dialResponse")
            came = self._dialed[nonce]
        finally:
            del self._dialed[nonce]
        response = message.dialResponse
        if response.status != ResponseStatus.OK or response.addrIdx >= len(addrs):
            return None
        addr = addrs[response.addrIdx]
        if response.dialStatus == DialStatus.E_DIAL_ERROR:
            return Checked(addr, reached=False)
        if response.dialStatus == DialStatus.OK and came is not None and _kind(came.local_addr) == _kind(addr):
            return Checked(addr, reached=True)
        return None  # it says that it has reached us, and we have seen nothing of it

    async def _pay(self, stream: Stream, size: int) -> None:
        while size > 0:
            data = bytes(min(size, MAX_DATA))
            await write_protobuf(stream, Message(dialDataResponse=DialDataResponse(data=data)))
            size -= len(data)

    async def _dial_back(self, stream: Stream) -> None:
        connection = stream.connection
        async with time_limit("a dial back of autonat", self.config.timeout):
            nonce = (await read_protobuf(stream, DialBack, limit=MAX_MESSAGE)).nonce
        is_dialed = connection.direction is Direction.INBOUND and not is_relayed(connection.remote_addr)
        if nonce not in self._dialed or not is_dialed:
            stream.reset(StreamErrorCode.PROTOCOL_VIOLATION)
            return
        self._dialed[nonce] = connection
        await write_protobuf(stream, DialBackResponse(status=0))

    # Asking

    async def _run(self) -> None:
        await asyncio.sleep(self.config.delay)
        while True:
            self._changed.clear()
            self._confidence.set_addrs(self._candidates())
            self._tell()
            addrs = self._confidence.due(_now()) if self.config.forced is None else []
            if addrs:
                await self._ask(addrs)
                self._tell()
            try:
                async with asyncio.timeout(self.config.interval):
                    await self._changed.wait()
                await asyncio.sleep(self.config.delay)
            except TimeoutError:
                pass

    def _candidates(self) -> list[Multiaddr]:
        """The addresses that are worth a question."""
        return [addr for addr in self._own.bare if not is_relayed(addr) and reach_of(addr) is Reach.PUBLIC]

    async def _ask(self, addrs: list[Multiaddr]) -> None:
        """Ask one server, if there is one."""
        connection = self._server()
        if connection is None:
            return
        self._asked[connection.remote_peer] = _now()
        try:
            answers = await self._answers(connection, addrs)
        except (Libp2pError, OSError) as error:
            logger.debug("autonat: %s did not answer: %r", connection.remote_peer, error)
            return
        for addr, reached in answers.items():
            self._confidence.answered(addr, _network_of(connection), reached, _now())

    async def _answers(self, connection: Connection, addrs: list[Multiaddr]) -> dict[Multiaddr, bool]:
        """Which addresses a server has reached, and which not."""
        if REQUEST_ID in self.host.peerstore.protocols(connection.remote_peer):
            checked = await self.check(connection, addrs)
            return {} if checked is None else {checked.addr: checked.reached}
        return await check_v1(self.host, connection, addrs, timeout=self.config.timeout)

    def _server(self) -> Connection | None:
        """A peer to ask, which was not asked for a while."""
        now = _now()
        self._asked = {peer: at for peer, at in self._asked.items() if now - at < self.config.server_pause}
        found = [
            connection
            for connection in self.host.connections
            if connection.remote_peer not in self._asked
            and not (connection.is_closed or connection.is_limited or is_relayed(connection.remote_addr))
        ]
        for protocol in (REQUEST_ID, PROTOCOL_ID_V1):  # an old one only where no other is left
            for connection in found:
                if protocol in self.host.peerstore.protocols(connection.remote_peer):
                    return connection
        return None

    def _tell(self) -> None:
        now = ReachabilityChanged(self._confidence.reachability, self._confidence.public)
        if self.config.forced is not None:
            addrs = self._candidates() if self.config.forced is Reachability.PUBLIC else ()
            now = ReachabilityChanged(self.config.forced, tuple(addrs))
        if now != self._told:
            self._told = now
            self.host.events.emit(now)


def _kind(addr: Multiaddr) -> tuple[str, ...]:
    return tuple(component.name for component in addr)


def _network_of(connection: Connection) -> str:
    """Who has answered: peers of one network count once."""
    ip = ip_of(connection.remote_addr)
    if ip is None:
        return str(connection.remote_peer)
    return str(ip_network((ip, 32 if ip.version == 4 else 56), strict=False))


def _now() -> float:
    return asyncio.get_running_loop().time()

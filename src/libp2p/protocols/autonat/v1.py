"""AutoNAT v1, both sides, for peers that know no other. Spec: autonat/autonat-v1.md.

    client   Message DIAL, its id and addresses ->
             <- Message DIAL_RESPONSE, a status and the address that was reached      /libp2p/autonat/1.0.0

Rules:
- Only addresses at the IP from which the asker is connected are dialed, and none over relayed connections.
- A failure is answered late, always after the same time: who scans ports for somebody learns little by it.
- There is no nonce: the client has a server's word only, so that it takes several.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum

from ...connection import Connection, DialOptions, LocalPort, Service, ServiceHost, Stream
from ...errors import DialError, InvalidMultiaddr, Libp2pError, RemoteProtocolError
from ...host import Host
from ...io import read_protobuf, time_limit, write_protobuf
from ...io.rates import Rates
from ...multiaddr import Multiaddr, ip_of, is_relayed
from .autonat_v1_pb2 import Message
from .config import AutoNatV1Config

PROTOCOL_ID = "/libp2p/autonat/1.0.0"

_MAX_MESSAGE = 8192
_DIAL, _DIAL_RESPONSE = 0, 1


class StatusV1(IntEnum):
    """What came of a request."""

    OK = 0
    E_DIAL_ERROR = 100
    E_DIAL_REFUSED = 101
    E_BAD_REQUEST = 200
    E_INTERNAL_ERROR = 300


class AutoNatV1Server(Service):
    """Dials who asks."""

    def __init__(self, host: Host, config: AutoNatV1Config | None = None) -> None:
        super().__init__(host)
        self.config = config = config or AutoNatV1Config()
        self._swarm = host.swarm
        self._all = Rates(config.burst, config.interval)
        self._by_peer = Rates(config.peer_burst, config.peer_interval)

    async def start(self) -> None:
        """Serve the protocol."""
        self.serve([PROTOCOL_ID], self._serve)

    async def _serve(self, stream: Stream) -> None:
        connection, now = stream.connection, asyncio.get_running_loop().time()
        async with time_limit("an autonat request", self.config.request_timeout):
            message = await read_protobuf(stream, Message, limit=_MAX_MESSAGE, what="autonat message")
        response = Message.DialResponse(status=StatusV1.E_DIAL_REFUSED)
        if message.type != _DIAL or message.dial.peer.id != connection.remote_peer.to_bytes():
            response.status = StatusV1.E_BAD_REQUEST
        elif (
            (addrs := self._addrs(message, connection))
            and self._by_peer.take(connection.remote_peer, now)
            and self._all.take("", now)
        ):
            response = await self._dial(connection, addrs)
        async with time_limit("autonat's answer", self.config.request_timeout):
            await write_protobuf(stream, Message(type=_DIAL_RESPONSE, dialResponse=response))

    def _addrs(self, message: Message, connection: Connection) -> list[Multiaddr]:
        """Those to dial."""
        if connection.is_limited or is_relayed(connection.remote_addr):
            return []
        asker = ip_of(connection.remote_addr)
        found: dict[Multiaddr, None] = {}
        for binary in message.dial.peer.addrs[: self.config.max_addrs]:
            try:
                addr = Multiaddr.from_bytes(binary).without_peer()
            except InvalidMultiaddr:
                continue
            if asker is not None and ip_of(addr) == asker and not is_relayed(addr) and self._swarm.can_dial(addr):
                found[addr] = None
        return list(found)

    async def _dial(self, connection: Connection, addrs: list[Multiaddr]) -> Message.DialResponse:
        options = DialOptions(
            local_port=LocalPort.FRESH,  # from the listening port this could pass the asker's NAT
            allow_limited=False,
            new_connection=True,
            only_given=True,
            remember=False,
            heed_backoff=False,
        )
        answer_at = asyncio.get_running_loop().time() + self.config.dial_timeout
        try:
            async with time_limit("the dial for autonat", self.config.dial_timeout):
                dialed = await self._swarm.connect(connection.remote_peer, addrs, options)
        except (Libp2pError, OSError) as error:
            text = "no address worked" if isinstance(error, DialError) else "it took too long"
            await asyncio.sleep(max(0.0, answer_at - asyncio.get_running_loop().time()))
            return Message.DialResponse(status=StatusV1.E_DIAL_ERROR, statusText=text)
        self.spawn(dialed.close("it was for autonat only"), name=f"close the dial to {dialed.remote_peer}")
        return Message.DialResponse(status=StatusV1.OK, addr=dialed.remote_addr.without_peer().to_bytes())


async def check_v1(
    host: ServiceHost, connection: Connection, addrs: list[Multiaddr], *, timeout: float
) -> dict[Multiaddr, bool]:
    """What the peer says of `addrs`: which was reached, or that none of those at its idea of our IP was. Raises
    `RemoteProtocolError`, `StageTimeout`, and what opening and using a stream may raise.
    """
    async with (
        time_limit("a question of autonat", timeout),
        await host.new_stream(connection, PROTOCOL_ID) as stream,
    ):
        info = Message.PeerInfo(id=host.id.to_bytes(), addrs=[addr.to_bytes() for addr in addrs])
        await write_protobuf(stream, Message(type=_DIAL, dial=Message.Dial(peer=info)))
        answer = await read_protobuf(stream, Message, limit=_MAX_MESSAGE, what="autonat message")
    if answer.type != _DIAL_RESPONSE or not answer.HasField("dialResponse"):
        raise RemoteProtocolError("autonat: no answer came, where one was due")
    response = answer.dialResponse
    if response.status == StatusV1.E_DIAL_ERROR:
        return dict.fromkeys(addrs, False)
    if response.status != StatusV1.OK:
        return {}
    try:
        reached = Multiaddr.from_bytes(response.addr).without_peer()
    except InvalidMultiaddr as error:
        raise RemoteProtocolError(f"autonat: the address reached: {error}") from error
    return {reached: True} if reached in addrs else {}

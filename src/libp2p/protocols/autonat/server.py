"""AutoNAT v2, the server: dials who asks, and says what came of it. Spec: autonat/autonat-v2.md.

    client   DialRequest addresses, nonce ->
             <- DialDataRequest                 only where the address is not the client's own: it costs 30 to 100 kB
             DialDataResponse ... ->
                          server dials the first address it can, by a new connection from a fresh port:
                          <- DialBack nonce (/dial-back)      DialBackResponse ->
             <- DialResponse

Rules:
- One address is dialed for a request: the first that is public, or is at the asker's own IP, and that we can dial.
- What it costs us to dial a stranger for somebody, that somebody pays first: more bytes than a handshake has.
- No requests over relayed connections; nobody gets more than the rates say.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from ...connection import Connection, DialOptions, LocalPort, Service, Stream
from ...errors import InvalidMultiaddr, Libp2pError, RemoteProtocolError
from ...host import Host
from ...identity import PeerId
from ...io import read_protobuf, time_limit, write_protobuf
from ...io.rates import Rates
from ...multiaddr import Multiaddr, Reach, ip_of, is_relayed, reach_of
from .autonat_pb2 import DialBack, DialBackResponse, DialDataRequest, DialRequest, DialResponse, Message
from .config import AutoNatServerConfig
from .wire import BACK_ID, MAX_DATA, MAX_MESSAGE, REQUEST_ID, DialStatus, ResponseStatus, read

_MIN_CHUNK = 100
"""Bytes of data that a message must have, unless it is the last: what comes in crumbs costs us more than them."""


class AutoNatServer(Service):
    """Tells others whether they can be reached. `dice` makes what must not be foreseen."""

    def __init__(
        self, host: Host, config: AutoNatServerConfig | None = None, *, dice: random.Random | None = None
    ) -> None:
        super().__init__(host)
        self.config = config = config or AutoNatServerConfig()
        self._swarm = host.swarm
        self._dice = dice or random.SystemRandom()
        self._all = Rates(config.burst, config.interval)
        self._by_peer = Rates(config.peer_burst, config.peer_interval)
        self._serving: Counter[PeerId] = Counter()

    async def start(self) -> None:
        """Serve the protocol."""
        self.serve([REQUEST_ID], self._serve)

    async def _serve(self, stream: Stream) -> None:
        connection, config = stream.connection, self.config
        peer = connection.remote_peer
        async with time_limit("an autonat request", config.request_timeout):
            request = (await read(stream, "dialRequest")).dialRequest
        if not self._may_ask(connection):
            await self._answer(stream, DialResponse(status=ResponseStatus.E_REQUEST_REJECTED))
            return
        self._serving[peer] += 1
        try:
            await self._answer(stream, await self._do(stream, request))
        finally:
            self._serving[peer] -= 1
            if not self._serving[peer]:
                del self._serving[peer]

    def _may_ask(self, connection: Connection) -> bool:
        peer, now, config = connection.remote_peer, asyncio.get_running_loop().time(), self.config
        if connection.is_limited or is_relayed(connection.remote_addr):
            return False
        if self._serving[peer] >= config.max_requests_per_peer or self._serving.total() >= config.max_requests:
            return False
        return self._by_peer.take(peer, now) and self._all.take("", now)

    async def _do(self, stream: Stream, request: DialRequest) -> DialResponse:
        connection, config = stream.connection, self.config
        chosen = self._choose(request, connection)
        if chosen is None:
            return DialResponse(status=ResponseStatus.E_DIAL_REFUSED)
        index, addr = chosen
        if ip_of(addr) != ip_of(connection.remote_addr):
            async with time_limit("the data of an autonat request", config.request_timeout):
                await self._demand(stream, index)
            await asyncio.sleep(self._dice.uniform(0, config.max_pause))
        status = await self._dial(connection.remote_peer, addr, request.nonce)
        return DialResponse(status=ResponseStatus.OK, addrIdx=index, dialStatus=status)

    def _choose(self, request: DialRequest, connection: Connection) -> tuple[int, Multiaddr] | None:
        """The address to dial, if there is one."""
        asker = ip_of(connection.remote_addr)
        for index, binary in enumerate(request.addrs[: self.config.max_addrs]):
            try:
                addr = Multiaddr.from_bytes(binary).without_peer()
            except InvalidMultiaddr:
                continue
            ip = ip_of(addr)
            if ip is None or is_relayed(addr) or not (ip == asker or reach_of(addr) is Reach.PUBLIC):
                continue
            if self._swarm.can_dial(addr) and self._has_version(ip.version, ip == asker):
                return index, addr
        return None

    def _has_version(self, version: int, is_asker: bool) -> bool:
        """Whether this host can reach others by that version of IP."""
        mine = [addr for addr in self.host.listen_addrs if (ip := ip_of(addr)) is not None and ip.version == version]
        return is_asker or any(version == 4 or reach_of(addr) is Reach.PUBLIC for addr in mine)

    async def _demand(self, stream: Stream, index: int) -> None:
        """Let the asker pay for the dial."""
        wanted = self.config.min_data + self._dice.randrange(self.config.extra_data + 1)
        await write_protobuf(stream, Message(dialDataRequest=DialDataRequest(addrIdx=index, numBytes=wanted)))
        while wanted > 0:
            size = len((await read(stream, "dialDataResponse")).dialDataResponse.data)
            if size > MAX_DATA or size < min(_MIN_CHUNK, wanted):
                raise RemoteProtocolError(f"autonat data of {size} bytes at a time")
            wanted -= size

    async def _dial(self, peer: PeerId, addr: Multiaddr, nonce: int) -> DialStatus:
        options = DialOptions(
            local_port=LocalPort.FRESH,  # from the listening port this could pass the asker's NAT
            allow_limited=False,
            new_connection=True,
            only_given=True,
            remember=False,
            heed_backoff=False,
        )
        try:
            async with time_limit("the dial for autonat", self.config.dial_timeout):
                connection = await self._swarm.connect(peer, [addr], options)
        except (Libp2pError, OSError):
            return DialStatus.E_DIAL_ERROR
        try:
            async with (
                time_limit("the dial back of autonat", self.config.back_timeout),
                await self.host.new_stream(connection, BACK_ID) as stream,
            ):
                await write_protobuf(stream, DialBack(nonce=nonce))
                await read_protobuf(stream, DialBackResponse, limit=MAX_MESSAGE)
        except (Libp2pError, OSError):
            return DialStatus.E_DIAL_BACK_ERROR
        finally:
            self.spawn(connection.close("it was for autonat only"), name=f"close the dial to {peer}")
        return DialStatus.OK

    async def _answer(self, stream: Stream, response: DialResponse) -> None:
        async with time_limit("autonat's answer", self.config.request_timeout):
            await write_protobuf(stream, Message(dialResponse=response))

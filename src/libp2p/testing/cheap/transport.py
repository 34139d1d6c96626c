"""Dials and listens for cheap connections.

Rules:
- Who is there is proven by construction: both ends live in this process, and each is made with the other host's key.
- Connecting takes its round trips. `Accept` is asked, and told, when the last one has reached the listener.
- What is sent takes the time, the bandwidth and the luck of its link.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...connection import Accept, Connection, DialOptions, Direction, Listener, Transport
from ...errors import HandshakeError, InvalidMultiaddr, Libp2pError, PeerIdMismatch
from ...identity import PeerId, PrivateKey
from ...io import time_limit
from ...multiaddr import Multiaddr, host_port
from ..links import Carrier
from ..network import HANDSHAKE, Node, is_tcp, sent
from .connection import CheapConfig, CheapConnection, join


class CheapTransport(Transport):
    """The transport of a host on a machine of a simulated network: `/ip4/<ip>/tcp/<port>` and `/ip6/...`. It meets its
    own kind only.
    """

    def __init__(self, node: Node, config: CheapConfig | None = None) -> None:
        self._node = node
        self._config = config or CheapConfig()

    def can_dial(self, addr: Multiaddr) -> bool:
        return is_tcp(addr)

    def can_listen(self, addr: Multiaddr) -> bool:
        return is_tcp(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        if not is_tcp(addr):
            raise InvalidMultiaddr(f"{addr} is no TCP address")
        target, node, network = addr.without_peer(), self._node, self._node.network
        host, port = host_port(target).host, host_port(target).port
        local_ip = node.ip_like(host)
        async with time_limit("connect", self._config.connect_timeout):
            there_node = await network.find(host)
            there, back = network.carrier(node, there_node), network.carrier(there_node, node)
            for _ in range(self._config.round_trips - 1):
                await sent(there, HANDSHAKE)
                await sent(back, HANDSHAKE)
            await sent(there, HANDSHAKE)
            answered = sent(back, HANDSHAKE)
            listener = there_node.listeners.get(port)
            if not isinstance(listener, CheapListener):
                await answered
                raise ConnectionRefusedError(f"nobody listens on {target}")
            ours = CheapConnection(
                local_peer=self.context.key.peer_id,
                remote_key=listener.key.public_key,
                local_addr=node.dial_from(local_ip, options.local_port),
                remote_addr=target,
                direction=Direction.OUTBOUND,
                carry=there,
                config=self._config,
            )
            try:
                listener.incoming(ours, self.context.key, back, expected=peer)
                await answered
            except BaseException:
                ours.abort()
                raise
        return ours

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        port, bound = self._node.bind(addr)
        listener = CheapListener(self._node, port, bound, self.context.key, accept, self._config)
        self._node.listeners[port] = listener
        return listener


class CheapListener(Listener):
    """Takes connections for the owner of `key`."""

    def __init__(
        self, node: Node, port: int, addrs: Sequence[Multiaddr], key: PrivateKey, accept: Accept, config: CheapConfig
    ) -> None:
        self.key = key
        self._node = node
        self._port = port
        self._addrs = tuple(addrs)
        self._accept = accept
        self._config = config
        self._closed = False

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return () if self._closed else self._addrs

    def incoming(self, theirs: CheapConnection, key: PrivateKey, back: Carrier, *, expected: PeerId | None) -> None:
        """The owner of `key` has connected, and expects somebody here: make the other end of its connection.

        Raises `PeerIdMismatch`, and `ConnectionResetError` where `Accept` refuses.
        """
        ours = CheapConnection(
            local_peer=self.key.peer_id,
            remote_key=key.public_key,
            local_addr=theirs.remote_addr,
            remote_addr=theirs.local_addr,
            direction=Direction.INBOUND,
            carry=back,
            config=self._config,
        )
        join(theirs, ours)
        addrs = ours.local_addr, ours.remote_addr
        try:
            scope = self._accept.admit(*addrs)
            try:
                if expected not in (None, ours.local_peer):
                    raise HandshakeError(f"{ours.remote_peer} expected {expected}")
                scope.identified(ours.remote_peer)
            except BaseException:
                scope.release()
                raise
        except (Libp2pError, OSError) as error:
            ours.abort(str(error))
            self._accept.connection_failed(*addrs, error)
            if expected is not None and expected != ours.local_peer:
                raise PeerIdMismatch(expected=expected, actual=ours.local_peer) from None
            raise ConnectionResetError(f"{theirs.remote_addr} has reset the connection") from error
        self._accept.connection_opened(ours, scope)

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            self._node.stop_listening(self._port)

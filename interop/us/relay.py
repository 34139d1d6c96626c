"""Our part of a triangle, or of a question to AutoNAT: `peer.py relay PART [ADDR] LISTEN`. ../README.md has more."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from serve import ECHO, serve

from libp2p.connection import Connection, DialOptions, Role
from libp2p.errors import Libp2pError
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr, Reach, is_relayed
from libp2p.protocols.autonat import REQUEST_ID, AutoNat, AutoNatServer, AutoNatV1Server
from libp2p.protocols.autonat.v1 import check_v1
from libp2p.protocols.dcutr import Attempt, HolePunchConfig, HolePunchEnded, HolePuncher, How
from libp2p.protocols.observed import ObservedAddrs, ObservedConfig
from libp2p.protocols.relay import RelayClient, RelayConfig, RelayServer
from libp2p.swarm.events import ConnectionLost, ConnectionOpened

MESSAGE = b"through the relay"
UNLIMITED = RelayConfig(
    circuit_bytes=None, circuit_duration=None, max_circuits_per_peer=1024, peer_burst=4096, ip_burst=4096
)


class BothDial(HolePuncher):
    """Begins the handshakes in each attempt, which is for the other side to do; as nim-libp2p does."""

    async def _attempt(self, relayed: Connection, _role: Role, attempts: list[Attempt]) -> Connection | None:
        return await super()._attempt(relayed, Role.INITIATOR, attempts)


async def play(arguments: list[str]) -> None:
    """Play a part until the input ends. Raises `ValueError` where there is no such part, and what went wrong in it."""
    async with AsyncExitStack() as stack:
        match arguments:
            case ["server" | "server-unlimited" as part, listen]:
                await _server(listen, UNLIMITED if part == "server-unlimited" else RelayConfig(), stack)
            case ["listen" | "listen-dialing" as part, relay, listen]:
                kind = HolePuncher if part == "listen" else BothDial
                host, client = await puncher(listen, stack, kind=kind)
                listening = await client.listen(relay)
                say(f"{listening.addrs[0]}/p2p/{host.id}")
            case ["dial", addr, listen]:
                host, _ = await puncher(listen, stack)
                await _dial(host, Multiaddr(addr))
            case ["circuits", addr, listen, hosts, each]:
                await _circuits(Multiaddr(addr), listen, int(hosts), int(each), stack)
            case ["check-v1" | "check-v2" as part, server, listen]:
                await _check(part, server, listen, stack)
            case _:
                raise ValueError(f"no such part: {' '.join(arguments)}")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def say(text: str) -> None:
    """Tell who has started this program."""
    print(text, flush=True)


async def _host(listen: str, stack: AsyncExitStack) -> Host:
    host = await stack.enter_async_context(Host(listen_addrs=[listen]))
    serve(host)
    return host


async def _server(listen: str, config: RelayConfig, stack: AsyncExitStack) -> None:
    host = await _host(listen, stack)
    for service in (RelayServer(host, config), AutoNatServer(host), AutoNatV1Server(host)):
        await stack.enter_async_context(service)
    say(str(host.addrs[0]))


async def puncher(
    listen: str, stack: AsyncExitStack, reach: Reach = Reach.PUBLIC, kind: type[HolePuncher] = HolePuncher
) -> tuple[Host, RelayClient]:
    """A host that uses relays and punches holes, and tells of it."""
    host = await _host(listen, stack)
    _tell_ways(host)
    observed = ObservedAddrs(host, ObservedConfig(reach=reach))
    await stack.enter_async_context(observed)
    await stack.enter_async_context(kind(host, observed, HolePunchConfig(reach=reach)))
    return host, await stack.enter_async_context(RelayClient(host))


async def reach(host: Host, addr: Multiaddr) -> Connection:
    """Connect to `addr`. Where that leads through a relay, it says first where it sees us: a punch needs that."""
    if is_relayed(addr):
        relay = str(addr).partition("/p2p-circuit")[0]
        await host.identify.identify(await host.connect(relay))
    return await host.connect(addr)


async def _dial(host: Host, addr: Multiaddr) -> None:
    async def directly() -> None:
        async with host.events.expect(ConnectionOpened, lambda event: _is_direct(event.connection, addr)) as opened:
            say(f"directly {await _echo(host, (await opened).connection)}")

    host.spawn(directly(), name="echo over the direct connection")
    await asyncio.sleep(0)  # it listens before anything is dialed
    say(await _echo(host, await reach(host, addr)))


def _is_direct(connection: Connection, addr: Multiaddr) -> bool:
    return str(connection.remote_peer) == addr.peer_id_text and not is_relayed(connection.remote_addr)


async def _echo(host: Host, connection: Connection) -> str:
    async with await host.new_stream(connection, ECHO, allow_limited=True) as stream:
        await stream.agreed()  # js-libp2p now and then resets a stream that ends along with its offer
        await stream.write(MESSAGE)
        await stream.close_write()
        return (await stream.read()).decode()


async def _circuits(addr: Multiaddr, listen: str, hosts: int, each: int, stack: AsyncExitStack) -> None:
    """Hold `each` relayed connections to one peer, by each of so many hosts."""
    relay, _, target = str(addr).partition("/p2p-circuit/p2p/")
    options = DialOptions(new_connection=True, only_given=True, allow_limited=True)
    for _ in range(hosts):
        host = await _host(listen, stack)
        await stack.enter_async_context(RelayClient(host))
        await host.connect(relay)
        for _ in range(each):
            await host.swarm.connect(PeerId.from_string(target), [addr.without_peer()], options)
    say(f"holding {hosts * each}")


async def _check(part: str, server: str, listen: str, stack: AsyncExitStack) -> None:
    """Ask about the address that the server sees us at."""
    host = await _host(listen, stack)
    asking = await stack.enter_async_context(AutoNat(host))
    connection = await host.connect(server)
    info = await host.identify.identify(connection)
    if info.observed_addr is None:
        raise Libp2pError("the server does not say where it sees us")
    if part == "check-v2":
        if REQUEST_ID not in info.protocols:
            raise Libp2pError("the server lacks AutoNAT v2")
        checked = await asking.check(connection, [info.observed_addr])
        if checked is None:
            raise Libp2pError("the server has dialed nothing, or its word counts for nothing")
        say(f"{'reachable' if checked.reached else 'unreachable'} {checked.addr}")
        return
    for addr, reached in (await check_v1(host, connection, [info.observed_addr], timeout=30)).items():
        say(f"{'reachable' if reached else 'unreachable'} {addr}")


def _tell_ways(host: Host) -> None:
    """Say how long it has taken from a relayed connection to a direct one, and what was tried."""
    loop = asyncio.get_running_loop()
    relayed: dict[object, float] = {}

    def opened(event: ConnectionOpened) -> None:
        connection = event.connection
        since = relayed.get(connection.remote_peer)
        if is_relayed(connection.remote_addr):
            relayed.setdefault(connection.remote_peer, loop.time())
        elif since is not None:
            say(f"direct {connection.remote_addr} {(loop.time() - since) * 1000:.1f}")

    def lost(event: ConnectionLost) -> None:
        if not host.connections_to(event.connection.remote_peer):
            relayed.pop(event.connection.remote_peer, None)

    def ended(event: HolePunchEnded) -> None:
        punches = [attempt for attempt in event.attempts if attempt.how is How.PUNCH]
        for number, attempt in enumerate(punches, 1):
            errors = [attempt.error] if attempt.error else list(attempt.errors.values())
            say(f"attempt {number} {'; '.join(map(repr, errors))}".replace("\n", " "))
        if event.connection is not None:
            say("punched")
        elif event.role is Role.RESPONDER:
            say("relayed " + ("no attempt led to the peer" if punches else "the peer punches no holes"))

    host.events.on(ConnectionOpened, opened)
    host.events.on(ConnectionLost, lost)
    host.events.on(HolePunchEnded, ended)

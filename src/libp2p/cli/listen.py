"""`libp2p listen`: a peer that answers ping, identify, perf and echo, and is a node of a DHT where asked to."""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum
from typing import Annotated

import typer

from ..cid import Cid
from ..connection import Stream
from ..discovery import Mdns
from ..errors import RoutingError
from ..metrics import Metrics
from ..protocols.kad import AMINO, KadConfig, KadDht, Mode
from ..protocols.perf import Perf
from ..protocols.portmap import PortMapped, PortMapping
from ..routing import PeerDiscovered
from .common import (
    DataDirOption,
    HostOptions,
    Json,
    KeyFile,
    MuxerOption,
    Output,
    SecurityOption,
    default_addrs,
    explain_when_asked,
    run,
    until_stopped,
)
from .kad import kad_config
from .relay import listen_at

ECHO = "/echo/1.0.0"


class DhtMode(StrEnum):
    """Whether a node of a DHT answers others."""

    AUTO = "auto"
    SERVER = "server"
    CLIENT = "client"


def listen(
    addrs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDR]...", help="Where to listen. Default: QUIC and TCP, on all interfaces"),
    ] = None,
    key: KeyFile = None,
    data_dir: DataDirOption = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    dht: Annotated[
        DhtMode | None, typer.Option("--dht", help="Be a node of a Kademlia DHT: whether it answers others.")
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option("--bootstrap", metavar="ADDR", help="Peer of the DHT to begin with; again for more."),
    ] = None,
    protocol: Annotated[str, typer.Option("--dht-protocol", metavar="ID", help="The DHT's protocol id.")] = AMINO,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Keep any value under /NAME/ for others.")
    ] = None,
    provide: Annotated[
        list[str] | None,
        typer.Option("--provide", metavar="CID", help="Announce in the DHT to have it; again for more."),
    ] = None,
    mdns: Annotated[bool, typer.Option("--mdns", help="Find, and be found by, peers of the local network.")] = False,
    relay: Annotated[
        list[str] | None,
        typer.Option("--relay", metavar="ADDR", help="Be reachable through this relay, too; again for more."),
    ] = None,
    map_ports: Annotated[
        bool, typer.Option("--map/--no-map", help="Ask the gateway to lead ports here (UPnP, NAT-PMP, PCP).")
    ] = True,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Serve metrics for Prometheus there, over HTTP."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Listen and serve ping, identify, perf and /echo/1.0.0 until interrupted.

    Prints one full multiaddr a line, then `ready`. SIGINT and SIGTERM end it in order, with exit code 0.
    SIGUSR1 has it print who uses what of its limits.
    """
    node = None
    if dht is not None or provide:
        mode = Mode((dht or DhtMode.AUTO).value)
        bare = mode is Mode.SERVER and not bootstrap  # the first one of a network
        node = kad_config(bootstrap, mode, protocol=protocol, namespace=namespace, alone=bare)
    options = HostOptions(key, security, muxer, data_dir)
    run(
        _listen(
            options,
            addrs or default_addrs(),
            Output(as_json),
            node,
            provide or [],
            mdns,
            relay or [],
            map_ports,
            metrics,
        )
    )


async def _listen(
    options: HostOptions,
    addrs: list[str],
    output: Output,
    node: KadConfig | None,
    provide: list[str],
    mdns: bool,
    relays: list[str],
    map_ports: bool,
    metrics: str | None,
) -> None:
    cids = [Cid.parse(cid) for cid in provide]
    stopped = until_stopped()
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(options.host(addrs))
        await stack.enter_async_context(Perf(host))
        host.handle(ECHO)(_echo)
        if mdns:
            host.events.on(PeerDiscovered, lambda event: _found(event, output))
            await stack.enter_async_context(Mdns(host))
        dht = None if node is None else await stack.enter_async_context(KadDht(host, node))
        if relays:
            await listen_at(host, relays, stack)
        if map_ports:
            host.events.on(PortMapped, lambda event: _mapped(event, output))
            await stack.enter_async_context(PortMapping(host))
        for addr in host.addrs:
            output.line(str(addr), addr=str(addr))
        if metrics is not None:
            serving = await stack.enter_async_context(Metrics(host, listen=metrics))
            url = f"http://{serving.address}/metrics"
            output.line(f"metrics at {url}", metrics=url)
        explain_when_asked(host, output)
        output.line("ready", ready=True)
        if dht is not None:
            dht.spawn(_provide(dht, cids, output), name="providing")
        await stopped.wait()


def _mapped(event: PortMapped, output: Output) -> None:
    """Say what the gateway leads here; what others dial is among the addresses then."""
    outside = f"{event.external_ip}:{event.external_port}"
    text = f"mapped {outside} to {event.transport} port {event.port}, by {event.kind}"
    output.line(text, mapped=outside, transport=event.transport, port=event.port, kind=event.kind)


def _found(event: PeerDiscovered, output: Output) -> None:
    """Say whom the local network has."""
    addrs = [str(addr) for addr in event.info.addrs]
    output.line(f"found {event.info.peer} at {', '.join(addrs)}", found=str(event.info.peer), addrs=addrs)


async def _provide(dht: KadDht, cids: list[Cid], output: Output) -> None:
    """Announce what this peer has; what could not be announced now is tried again by the DHT."""
    await dht.ready()
    for cid in cids:
        try:
            await dht.provide(cid)
        except RoutingError as error:
            print(f"libp2p: {cid} was not announced yet: {error}", file=sys.stderr, flush=True)
        else:
            output.line(f"provides {cid}", provides=str(cid))


async def _echo(stream: Stream) -> None:
    async for chunk in stream:
        await stream.write(chunk)

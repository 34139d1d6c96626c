"""`libp2p dht`: ask a Kademlia DHT who is where, who has what, and for values."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.status import Status

from ..cid import Cid
from ..errors import InvalidInput, RoutingError
from ..identity import PeerId
from ..protocols.kad import AMINO, CrawlConfig, Crawled, KadDht, LookupProgress, Mode, Progress
from ..protocols.kad import crawl as crawl_dht
from ..records import ipns
from ..routing import PeerInfo
from .common import EXIT_CODES, HostOptions, Json, KeyFile, Output, default_addrs, printable, run
from .crawl_plot import check_plotting, draw
from .kad import kad_config

app = typer.Typer(help="Ask a Kademlia DHT.", no_args_is_help=True)

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="Take any value under /NAME/: the largest counts as the best."),
]
KeyText = Annotated[
    str, typer.Argument(metavar="KEY", help="/ipns/NAME, /pk/PEER, or /NAMESPACE/... as text; 0x... for bytes")
]
CidText = Annotated[str, typer.Argument(metavar="CID")]


@dataclass(frozen=True, slots=True)
class Options:
    """The options that all these commands have."""

    bootstrap: Annotated[
        list[str] | None,
        typer.Option("--bootstrap", metavar="ADDR", help="Peer to begin with, its id at the end; again for more."),
    ] = None
    protocol: Annotated[str, typer.Option("--protocol", metavar="ID", help="The DHT's protocol id.")] = AMINO
    key: KeyFile = None
    as_json: Json = False

    @asynccontextmanager
    async def dht(self, *, namespace: str | None = None, listen_addrs: Sequence[str] = ()) -> AsyncIterator[Asking]:
        """A client of the DHT that has found some peers. Raises `InvalidInput` where there is nobody to begin with."""
        config = kad_config(self.bootstrap, Mode.CLIENT, protocol=self.protocol, namespace=namespace)
        with _View(self.as_json) as view:
            async with HostOptions(self.key).host(listen_addrs) as host, KadDht(host, config) as dht:
                await dht.ready()
                if not len(dht.table):
                    raise RoutingError("none of the peers to begin with answered")
                yield Asking(dht, Output(self.as_json), view.show)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a command asks with: the DHT, where its results go, and a view of how far a lookup is."""

    dht: KadDht
    output: Output
    progress: Progress

    def print(self, info: PeerInfo) -> None:
        """A peer, and where it is."""
        addrs = [str(addr) for addr in info.addrs]
        self.output.line("\n  ".join([str(info.peer), *map(printable, addrs)]), peer=str(info.peer), addrs=addrs)


def with_options(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The command that runs `work(options, ...)`: it has the options of all, behind its own arguments and options."""
    hints = get_type_hints(Options, include_extras=True)
    own = list(signature(work, eval_str=True).parameters.values())[1:]
    common = [Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default) for one in fields(Options)]
    common = [one.replace(annotation=hints[one.name]) for one in common]

    @wraps(work)
    def command(**arguments: Any) -> None:
        run(work(Options(**{one.name: arguments.pop(one.name) for one in common}), **arguments))

    parameters = [*(one.replace(kind=Parameter.KEYWORD_ONLY) for one in own), *common]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    del command.__wrapped__  # typer would read its annotations
    return command


@app.command("find-peer", epilog=EXIT_CODES)
@with_options
async def find_peer(
    options: Options, peer: Annotated[str, typer.Argument(metavar="PEER", help="The peer's id")]
) -> None:
    """Find the addresses of a peer."""
    wanted = PeerId.from_string(peer)
    async with options.dht() as asking:
        asking.print(await asking.dht.find_peer(wanted, progress=asking.progress))


@app.command(epilog=EXIT_CODES)
@with_options
async def closest(options: Options, place: KeyText) -> None:
    """Find the servers nearest to a key, the nearest first."""
    wanted = parse_key(place)
    async with options.dht() as asking:
        for info in await asking.dht.closest_peers(wanted, progress=asking.progress):
            asking.print(info)


@app.command("find-providers", epilog=EXIT_CODES)
@with_options
async def find_providers(
    options: Options,
    cid: CidText,
    limit: Annotated[int, typer.Option("--limit", min=0, help="End after so many; 0: find all.")] = 20,
) -> None:
    """Find peers that have a content, printed as they are found."""
    wanted = Cid.parse(cid)
    found = False
    async with options.dht() as asking:
        async for info in asking.dht.find_providers(wanted, limit=limit, progress=asking.progress):
            found = True
            asking.print(info)
    if not found:
        raise RoutingError(f"nobody was found to provide {wanted}")


@app.command(epilog=EXIT_CODES)
@with_options
async def provide(options: Options, cid: CidText) -> None:
    """Announce once that this peer has a content. `libp2p listen --provide CID` stays to serve, and says so again."""
    wanted = Cid.parse(cid)
    async with options.dht(listen_addrs=default_addrs()) as asking:
        await asking.dht.provide(wanted, progress=asking.progress)
        own = asking.dht.host.id
        asking.output.line(f"{own} provides {wanted}", peer=str(own), cid=str(wanted))


@app.command(epilog=EXIT_CODES)
@with_options
async def get(
    options: Options,
    place: KeyText,
    namespace: Namespace = None,
    quorum: Annotated[int, typer.Option("--quorum", min=0, help="End after so many answers; 0: ask the nearest.")] = 0,
) -> None:
    """Get a value; of an IPNS name, what it points to."""
    wanted = parse_key(place)
    async with options.dht(namespace=namespace) as asking:
        value = await asking.dht.get_value(wanted, quorum=quorum, progress=asking.progress)
        if wanted.startswith(ipns.NAMESPACE):
            name = PeerId.from_bytes(wanted.removeprefix(ipns.NAMESPACE))
            record = ipns.IpnsRecord.open(value, name, now=0.0)
            text = record.value.decode(errors="replace")
            asking.output.line(printable(text), value=text, sequence=record.sequence, ttl=record.ttl / 1e9)
        else:
            asking.output.line(printable(value.decode(errors="replace")), value=value.hex())


@app.command(epilog=EXIT_CODES)
@with_options
async def put(
    options: Options,
    place: KeyText,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text; @FILE for the bytes of a file")],
    namespace: Namespace = None,
) -> None:
    """Put a value."""
    wanted = parse_key(place)
    data = Path(value[1:]).read_bytes() if value.startswith("@") else value.encode()  # noqa: ASYNC240
    async with options.dht(namespace=namespace) as asking:
        await asking.dht.put_value(wanted, data, progress=asking.progress)
        asking.output.line(f"put {len(data)} bytes", key=wanted.hex(), size=len(data))


@with_options
async def crawl(
    options: Options,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Ask so many servers at most.")] = 100_000,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw who knows whom; needs matplotlib.")
    ] = None,
) -> None:
    """Find all servers of a DHT: one line each, and what came of asking it; then how many there are."""
    if plot is not None:
        check_plotting(plot)
    crawled: list[Crawled] = []
    async with options.dht() as asking:
        output = asking.output
        async for one in crawl_dht(asking.dht, CrawlConfig(max_peers=limit)):
            crawled.append(one)
            said = f"cannot be reached: {one.error}" if one.error else f"knows {len(one.neighbours)}  {one.agent}"
            output.line(
                f"{one.info.peer}  {printable(' '.join(said.split()))}",
                peer=str(one.info.peer),
                addrs=[str(addr) for addr in one.info.addrs],
                agent=one.agent,
                neighbours=[str(peer) for peer in one.neighbours],
                error=one.error,
            )
        failed = sum(bool(one.error) for one in crawled)
        reached = len(crawled) - failed
        output.line(f"{reached} servers answer, {failed} do not", reached=reached, failed=failed)
    if plot is not None:
        draw(crawled, plot)


def parse_key(text: str) -> bytes:
    """A key from text: names of peers in /ipns/ and /pk/ become their bytes. Raises `InvalidInput`."""
    if text.startswith("0x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError as error:
            raise InvalidInput(f"{text!r} is no key: {error}") from error
    for namespace in ("/ipns/", "/pk/"):
        if text.startswith(namespace):
            return namespace.encode() + PeerId.from_string(text.removeprefix(namespace)).to_bytes()
    return text.encode()


class _View:
    """How far a lookup is: a line on stderr that changes, where that is a terminal."""

    def __init__(self, as_json: bool) -> None:
        shown = sys.stderr.isatty() and not as_json
        self._status: Status | None = Console(stderr=True).status("finding peers") if shown else None

    def __enter__(self) -> _View:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, step: LookupProgress) -> None:
        """Show `step`."""
        if self._status is not None:
            self._status.update(
                f"{step.asked} peers asked, {step.distance_left} bits of distance left, {step.seconds:.1f} s"
            )

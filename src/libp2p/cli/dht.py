"""`libp2p dht`: ask a Kademlia DHT who is where, who has what, and for values."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from ..cid import Cid
from ..errors import InvalidInput, RoutingError
from ..identity import PeerId
from ..protocols.kad import AMINO, CrawlConfig, KadConfig, KadDht, LookupProgress, Mode, Progress
from ..protocols.kad import crawl as crawl_dht
from ..records import ipns
from ..routing import PeerInfo
from .common import EXIT_CODES, HostOptions, Json, KeyFile, Output, default_addrs, printable, run
from .kad import kad_config

app = typer.Typer(help="Ask a Kademlia DHT.", no_args_is_help=True)

Bootstrap = Annotated[
    list[str] | None,
    typer.Option("--bootstrap", metavar="ADDR", help="Peer to begin with, its id at the end; again for more."),
]
Protocol = Annotated[str, typer.Option("--protocol", metavar="ID", help="The DHT's protocol id.")]
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

    bootstrap: Sequence[str] | None
    protocol: str
    key: Path | None
    as_json: bool
    namespace: str | None = None

    def config(self, mode: Mode = Mode.CLIENT) -> KadConfig:
        """The settings of the DHT. Raises `InvalidInput` where there is nobody to begin with."""
        return kad_config(self.bootstrap, mode, protocol=self.protocol, namespace=self.namespace)


@app.command("find-peer", epilog=EXIT_CODES)
def find_peer(
    peer: Annotated[str, typer.Argument(metavar="PEER", help="The peer's id")],
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Find the addresses of a peer."""

    async def command() -> None:
        wanted = PeerId.from_string(peer)
        async with _dht(options) as (dht, output, progress):
            _print(output, await dht.find_peer(wanted, progress=progress))

    options = Options(bootstrap, protocol, key, as_json)
    run(command())


@app.command(epilog=EXIT_CODES)
def closest(
    place: KeyText,
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Find the servers nearest to a key, the nearest first."""

    async def command() -> None:
        wanted = parse_key(place)
        async with _dht(options) as (dht, output, progress):
            for info in await dht.closest_peers(wanted, progress=progress):
                _print(output, info)

    options = Options(bootstrap, protocol, key, as_json)
    run(command())


@app.command("find-providers", epilog=EXIT_CODES)
def find_providers(
    cid: CidText,
    limit: Annotated[int, typer.Option("--limit", min=0, help="End after so many; 0: find all.")] = 20,
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Find peers that have a content, printed as they are found."""

    async def command() -> None:
        wanted = Cid.parse(cid)
        found = False
        async with _dht(options) as (dht, output, progress):
            async for info in dht.find_providers(wanted, limit=limit, progress=progress):
                found = True
                _print(output, info)
        if not found:
            raise RoutingError(f"nobody was found to provide {wanted}")

    options = Options(bootstrap, protocol, key, as_json)
    run(command())


@app.command(epilog=EXIT_CODES)
def provide(
    cid: CidText,
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Announce once that this peer has a content. `libp2p listen --provide CID` stays to serve, and says so again."""

    async def command() -> None:
        wanted = Cid.parse(cid)
        async with _dht(options, default_addrs()) as (dht, output, progress):
            await dht.provide(wanted, progress=progress)
            output.line(f"{dht.host.id} provides {wanted}", peer=str(dht.host.id), cid=str(wanted))

    options = Options(bootstrap, protocol, key, as_json)
    run(command())


@app.command(epilog=EXIT_CODES)
def get(
    place: KeyText,
    namespace: Namespace = None,
    quorum: Annotated[int, typer.Option("--quorum", min=0, help="End after so many answers; 0: ask the nearest.")] = 0,
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Get a value; of an IPNS name, what it points to."""

    async def command() -> None:
        wanted = parse_key(place)
        async with _dht(options) as (dht, output, progress):
            value = await dht.get_value(wanted, quorum=quorum, progress=progress)
            if wanted.startswith(ipns.NAMESPACE):
                name = PeerId.from_bytes(wanted.removeprefix(ipns.NAMESPACE))
                record = ipns.IpnsRecord.open(value, name, now=0.0)
                text = record.value.decode(errors="replace")
                output.line(printable(text), value=text, sequence=record.sequence, ttl=record.ttl / 1e9)
            else:
                output.line(printable(value.decode(errors="replace")), value=value.hex())

    options = Options(bootstrap, protocol, key, as_json, namespace)
    run(command())


@app.command(epilog=EXIT_CODES)
def put(
    place: KeyText,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text; @FILE for the bytes of a file")],
    namespace: Namespace = None,
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Put a value."""

    async def command() -> None:
        wanted = parse_key(place)
        data = Path(value[1:]).read_bytes() if value.startswith("@") else value.encode()  # noqa: ASYNC240
        async with _dht(options) as (dht, output, progress):
            await dht.put_value(wanted, data, progress=progress)
            output.line(f"put {len(data)} bytes", key=wanted.hex(), size=len(data))

    options = Options(bootstrap, protocol, key, as_json, namespace)
    run(command())


def crawl(
    bootstrap: Bootstrap = None,
    protocol: Protocol = AMINO,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Ask so many servers at most.")] = 100_000,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Find all servers of a DHT: one line each, and what came of asking it; then how many there are."""

    async def command() -> None:
        async with _dht(options) as (dht, output, _):
            reached = failed = 0
            async for one in crawl_dht(dht, CrawlConfig(max_peers=limit)):
                reached, failed = reached + (not one.error), failed + bool(one.error)
                said = f"cannot be reached: {one.error}" if one.error else f"knows {len(one.neighbours)}  {one.agent}"
                output.line(
                    f"{one.info.peer}  {printable(' '.join(said.split()))}",
                    peer=str(one.info.peer),
                    addrs=[str(addr) for addr in one.info.addrs],
                    agent=one.agent,
                    neighbours=[str(peer) for peer in one.neighbours],
                    error=one.error,
                )
            output.line(f"{reached} servers answer, {failed} do not", reached=reached, failed=failed)

    options = Options(bootstrap, protocol, key, as_json)
    run(command())


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


@asynccontextmanager
async def _dht(options: Options, listen_addrs: Sequence[str] = ()) -> AsyncIterator[tuple[KadDht, Output, Progress]]:
    """A client of the DHT that has found some peers, and a view of how far a lookup is."""
    config = options.config()
    with _View(options.as_json) as view:
        async with HostOptions(options.key).host(listen_addrs) as host, KadDht(host, config) as dht:
            await dht.ready()
            if not len(dht.table):
                raise RoutingError("none of the peers to begin with answered")
            yield dht, Output(options.as_json), view.show


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


def _print(output: Output, info: PeerInfo) -> None:
    addrs = [str(addr) for addr in info.addrs]
    output.line("\n  ".join([str(info.peer), *map(printable, addrs)]), peer=str(info.peer), addrs=addrs)

"""What the commands share: options, output, exit codes, and the host that they run.

Rules:
- Results go to stdout, one line each, flushed; with `--json` each is one JSON object. All else goes to stderr.
- An error is one line on stderr and an exit code, never a traceback.
- What a peer said is printed without control characters: it must not steer the terminal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ..connection import Muxer, SecurityProtocol
from ..errors import DialError, InvalidInput, Libp2pError, ListenError, ProtocolNotSupported, ResolveError, RoutingError
from ..host import Host
from ..identity import load_or_create_private_key


class ExitCode(IntEnum):
    """What the command exits with."""

    OK = 0
    UNREACHABLE = 1
    USAGE = 2
    UNSUPPORTED = 3
    FAILED = 4
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done; 1 the peer was not reached, or the address can't be listened on; 2 wrong usage or malformed "
    "input; 3 the peer does not support the protocol; 4 the conversation failed; 130 interrupted."
)


class Security(StrEnum):
    """Security protocols to choose from."""

    NOISE = "noise"
    TLS = "tls"


class MuxerName(StrEnum):
    """Stream muxers to choose from."""

    YAMUX = "yamux"
    MPLEX = "mplex"


Address = Annotated[
    str, typer.Argument(metavar="ADDR", help="The peer's multiaddr, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3...")
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The private key to be known by; made if missing. Without: a new one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
SecurityOption = Annotated[
    list[Security] | None,
    typer.Option("--security", help="Security protocol to speak; again for more, best first."),
]
MuxerOption = Annotated[
    list[MuxerName] | None, typer.Option("--muxer", help="Stream muxer to speak; again for more, best first.")
]


DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Be the same peer in the next run: key, known peers and ports."),
]


@dataclass(frozen=True, slots=True)
class HostOptions:
    """The options of every command that runs a host."""

    key: Path | None = None
    security: Sequence[Security] | None = None
    muxer: Sequence[MuxerName] | None = None
    data_dir: Path | None = None

    def host(self, listen_addrs: Sequence[str] = ()) -> Host:
        """The host to be entered. Raises `InvalidInput`, and `OSError` where the key file can't be read or made."""
        return Host(
            load_or_create_private_key(self.key) if self.key else None,
            listen_addrs,
            security=[_security(name) for name in self.security] if self.security else None,
            muxers=[_muxer(name) for name in self.muxer] if self.muxer else None,
            data_dir=self.data_dir,
        )

    @asynccontextmanager
    async def dialer(self, addr: str) -> AsyncGenerator[Host, None]:
        """A host that runs, and can dial `addr`, through a relay too. Raises as `host` does."""
        async with AsyncExitStack() as stack:
            relayed = "/p2p-circuit" in addr
            host = await stack.enter_async_context(self.host(default_addrs() if relayed else ()))  # to punch holes from
            if relayed:
                from ..protocols.relay import RelayClient  # noqa: PLC0415 - loaded where it is needed

                await stack.enter_async_context(RelayClient(host))
            yield host


def _security(name: Security) -> SecurityProtocol:
    from ..security.noise import Noise  # noqa: PLC0415 - a security protocol is loaded when chosen
    from ..security.tls import Tls  # noqa: PLC0415

    protocols: dict[Security, type[SecurityProtocol]] = {Security.NOISE: Noise, Security.TLS: Tls}
    return protocols[name]()


def _muxer(name: MuxerName) -> Muxer:
    from ..muxers.mplex import Mplex  # noqa: PLC0415 - a muxer is loaded when chosen
    from ..muxers.yamux import Yamux  # noqa: PLC0415

    muxers: dict[MuxerName, type[Muxer]] = {MuxerName.YAMUX: Yamux, MuxerName.MPLEX: Mplex}
    return muxers[name]()


@dataclass(frozen=True, slots=True)
class Output:
    """Prints results, for people or for programs."""

    as_json: bool

    def line(self, text: str, /, **fields: object) -> None:
        """`text` for people; `fields` for programs."""
        print(json.dumps(fields) if self.as_json else text, flush=True)


def default_addrs() -> list[str]:
    """Any TCP and UDP ports on all interfaces; IPv6 where the machine has it."""
    addrs = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"]
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        addrs += ["/ip6/::/udp/0/quic-v1", "/ip6/::/tcp/0"]
    return addrs


def until_stopped() -> asyncio.Event:
    """What is set when the process is asked to end, by SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    return stopped


def explain_when_asked(host: Host, output: Output) -> None:
    """Print who uses what of the host's limits at each SIGUSR1, where the system has that."""
    number = getattr(signal, "SIGUSR1", None)
    if number is None:
        return
    loop = asyncio.get_running_loop()

    def explain() -> None:
        told = host.limits.explain()
        for use in told.uses:
            output.line(str(use), scope=use.scope, limit=use.limit, used=use.used, value=use.value)
        for kind, count in told.refusals.items():
            output.line(f"refused: {kind} {count}", refused=kind, count=count)

    signal.signal(number, lambda *_: loop.call_soon_threadsafe(explain))


def run(command: Coroutine[object, object, None]) -> None:
    """Run a command's coroutine; turn what it raises into a line on stderr and an exit code."""
    logging.getLogger("libp2p").addHandler(logging.NullHandler())
    try:
        asyncio.run(command)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except ImportError as error:
        fail(
            f"{error}: this needs an extra of py-libp2p, such as py-libp2p[metrics] or py-libp2p[mdns]", ExitCode.USAGE
        )
    except (Libp2pError, OSError) as error:
        fail(error, _exit_code(error))


def fail(error: object, code: ExitCode) -> NoReturn:
    """Say `error` on stderr, in one line, and end with `code`."""
    text = "; ".join(line.strip() for line in str(error).splitlines()) or repr(error)
    print(f"libp2p: {printable(text)}", file=sys.stderr, flush=True)
    raise typer.Exit(code)


def printable(text: str) -> str:
    """`text` with a mark in place of each control character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _exit_code(error: Exception) -> ExitCode:
    match error:
        case InvalidInput():
            return ExitCode.USAGE
        case ProtocolNotSupported():
            return ExitCode.UNSUPPORTED
        case DialError() | ListenError() | ResolveError() | RoutingError():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.FAILED

"""`libp2p relay`: a relay for peers that can't be reached directly; and what those use who listen at one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated

import typer

from ..host import Host
from ..protocols.observed import ObservedAddrs
from ..protocols.relay import RelayClient, RelayConfig, RelayServer
from .common import (
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


def relay(
    addrs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDR]...", help="Where to listen. Default: QUIC and TCP, on all interfaces"),
    ] = None,
    key: KeyFile = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    unlimited: Annotated[
        bool, typer.Option("--unlimited", help="Relay any number of bytes, for any time: for a network of one's own.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Relay connections for other peers until interrupted (/libp2p/circuit/relay/0.2.0).

    Prints one full multiaddr a line, then `ready`. SIGINT and SIGTERM end it in order, with exit code 0.
    SIGUSR1 has it print who uses what of its limits.
    """
    config = RelayConfig(circuit_bytes=None, circuit_duration=None) if unlimited else RelayConfig()
    run(_relay(HostOptions(key, security, muxer), addrs, config, Output(as_json)))


async def _relay(options: HostOptions, addrs: list[str] | None, config: RelayConfig, output: Output) -> None:
    stopped = until_stopped()
    async with options.host(addrs or default_addrs()) as host, RelayServer(host, config):
        for addr in host.addrs:
            output.line(str(addr), addr=str(addr))
        explain_when_asked(host, output)
        output.line("ready", ready=True)
        await stopped.wait()


async def listen_at(host: Host, relays: list[str], stack: AsyncExitStack) -> None:
    """Be reachable through `relays`, and directly where a hole can be punched, until `stack` ends."""
    await stack.enter_async_context(ObservedAddrs(host))
    client = await stack.enter_async_context(RelayClient(host))
    for addr in relays:
        await client.listen(addr)

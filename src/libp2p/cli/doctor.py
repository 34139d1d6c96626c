"""`libp2p doctor`: says what is between this host and others, and what to change about it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Annotated

import typer

from ..discovery.bootstrap import AMINO_BOOTSTRAP
from ..errors import Libp2pError
from ..host import Host
from ..host.events import Reachability, ReachabilityChanged
from ..protocols.autonat import AutoNat, AutoNatConfig
from ..protocols.observed import ObservedAddrs, ObservedConfig
from ..protocols.portmap import PortMapping
from ..protocols.relay import RelayClient
from .common import HostOptions, Json, KeyFile, Output, default_addrs, printable, run
from .diagnosis import Facts, advice, findings

_INTERVAL = 1.0
"""Seconds between two questions to AutoNAT servers: a diagnosis is short."""
_RELAY_TIMEOUT = 20.0
"""Seconds for reaching us through a relay."""


def doctor(
    peers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDR]...", help="Peers to ask, best in several networks. Default: those of IPFS"),
    ] = None,
    relay: Annotated[
        list[str] | None, typer.Option("--relay", metavar="ADDR", help="Try this relay, too; again for more.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="ADDR", help="Where to listen. Default: QUIC and TCP, on all interfaces."),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long to ask, at most.")] = 30.0,
    key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Say what kind of NAT this host is behind, who reaches it where, whether relays work, and what to change."""
    run(_doctor(HostOptions(key), peers or list(AMINO_BOOTSTRAP), relay or [], listen, seconds, Output(as_json)))


async def _doctor(
    options: HostOptions,
    peers: list[str],
    relays: list[str],
    listen: list[str] | None,
    seconds: float,
    output: Output,
) -> None:
    facts = Facts()
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(options.host(listen or default_addrs()))
        observed = await stack.enter_async_context(ObservedAddrs(host, ObservedConfig(min_observers=1)))
        autonat = await stack.enter_async_context(AutoNat(host, AutoNatConfig(interval=_INTERVAL)))
        mapping = await stack.enter_async_context(PortMapping(host))
        client = await stack.enter_async_context(RelayClient(host))
        await asyncio.gather(*(_meet(host, addr, facts) for addr in [*peers, *relays]))
        await _settle(host, autonat, mapping, seconds if facts.peers else 0)
        for addr in relays:
            await _try_relay(host, client, addr, facts)
        facts.listened = [str(addr) for addr in host.listen_addrs]
        facts.observed = [str(addr) for addr in observed.candidates()]
        facts.nat = observed.nat_kinds
        facts.reachability = autonat.state.reachability
        facts.public = [str(addr) for addr in autonat.state.addrs]
        if mapping.gateway is not None:
            facts.mapping = mapping.gateway.kind
            facts.mapped = [f"{one.external_ip}:{one.external_port}" for one in mapping.mapped.values()]
    _report(facts, output)


async def _meet(host: Host, addr: str, facts: Facts) -> None:
    try:
        await host.identify.identify(await host.connect(addr))
    except (Libp2pError, OSError) as error:
        facts.errors[addr] = printable(str(error))
    else:
        facts.peers += 1


async def _settle(host: Host, autonat: AutoNat, mapping: PortMapping, seconds: float) -> None:
    """Wait until it is known whether a gateway maps ports, and strangers reach us; for `seconds` at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), host.events.expect(ReachabilityChanged) as known:
            await mapping.searched()
            if autonat.state.reachability is Reachability.UNKNOWN:
                await known


async def _try_relay(host: Host, client: RelayClient, addr: str, facts: Facts) -> None:
    """Be reached through the relay, by a second host of this process. Holes are not judged by that: both are behind the
    same NAT.
    """
    try:
        listener = await client.listen(addr)
        circuit = listener.addrs[0].with_peer(str(host.id))
        async with (
            HostOptions().dialer(str(circuit)) as other,
            asyncio.timeout(_RELAY_TIMEOUT),
            other.ping.open(circuit) as pinger,
        ):
            await pinger.ping()
        facts.relays[addr] = None
    except (Libp2pError, OSError, TimeoutError) as error:
        facts.relays[addr] = printable(str(error)) or "no answer"


def _report(facts: Facts, output: Output) -> None:
    if output.as_json:
        output.line(
            "",
            nat={transport: kind.value for transport, kind in facts.nat.items()},
            reachability=facts.reachability.value,
            listened=facts.listened,
            observed=facts.observed,
            public=facts.public,
            mapping=facts.mapping,
            mapped=facts.mapped,
            peers=facts.peers,
            errors=facts.errors,
            relays=facts.relays,
            findings=list(findings(facts)),
            advice=list(advice(facts)),
        )
        return
    for text in findings(facts):
        output.line(text)
    for text in advice(facts):
        output.line(f"-> {text}")

"""`libp2p identify`: what a peer says of itself."""

from __future__ import annotations

import base64

from .common import Address, HostOptions, Json, KeyFile, MuxerOption, Output, SecurityOption, printable, run


def identify(
    addr: Address,
    key: KeyFile = None,
    security: SecurityOption = None,
    muxer: MuxerOption = None,
    as_json: Json = False,
) -> None:
    """Ask a peer who it is, where it listens and what it speaks (/ipfs/id/1.0.0)."""
    run(_identify(HostOptions(key, security, muxer), addr, Output(as_json)))


async def _identify(options: HostOptions, addr: str, output: Output) -> None:
    async with options.dialer(addr) as host:
        connection = await host.connect(addr)
        info = await host.identify.identify(connection)
    facts = {
        "peer id": str(info.peer),
        "key type": info.public_key.type.name.lower(),
        "agent": info.agent_version,
        "family": info.protocol_version,
        "connection": f"{connection.security} {connection.muxer} {connection.remote_addr}",
        "sees us at": str(info.observed_addr or "?"),
        "listens on": "\n".join(map(str, info.listen_addrs)),
        "speaks": "\n".join(info.protocols),
    }
    rows = [(name if not n else "", line) for name, text in facts.items() for n, line in enumerate(text.split("\n"))]
    output.line(
        "\n".join(f"{name:<12}{printable(line)}" for name, line in rows),
        peer_id=str(info.peer),
        public_key=base64.b64encode(info.public_key.to_protobuf()).decode(),
        agent_version=info.agent_version,
        protocol_version=info.protocol_version,
        listen_addrs=[str(one) for one in info.listen_addrs],
        observed_addr=str(info.observed_addr) if info.observed_addr else None,
        protocols=list(info.protocols),
        security=connection.security,
        muxer=connection.muxer,
    )

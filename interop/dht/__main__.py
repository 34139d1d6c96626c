"""`python -m interop.dht [tcp|quic-v1]...`: nodes of this library and of go-libp2p-kad-dht in one DHT.

For each choice of who is the bootstrap node, who puts and provides, and who looks for it: a network of these three, and
the checks below. Prints a line for each network; exit code 1 where a check failed, 2 where go's node can't be built.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable

from interop.build import BuildError
from libp2p.cid import DAG_PB, RAW, Cid
from libp2p.identity import KeyType, PrivateKey
from libp2p.records.ipns import IpnsRecord, routing_key

from .peers import KINDS, LISTEN, Node, build_go

Check = Callable[[Node, Node, Node], Awaitable[None]]


def cids() -> dict[str, Cid]:
    """Contents by the kind of their name."""
    sha256 = Cid.of(b"content")
    return {
        "CIDv0": Cid(0, DAG_PB, sha256.multihash),
        "CIDv1": Cid.of(b"other content"),
        "sha2-512": Cid(1, RAW, b"\x13\x40" + bytes(range(64))),
        "blake3": Cid(1, RAW, b"\x1e\x20" + bytes(range(32))),
    }


def providers(cid: Cid) -> Check:
    async def check(_: Node, provider: Node, querier: Node) -> None:
        await provider.provide(str(cid))
        found = await querier.find_providers(str(cid))
        assert found == [peer_of(provider)], f"found {found}"

    return check


async def values(_: Node, provider: Node, querier: Node) -> None:
    await provider.put(b"/v/a", b"1")
    assert await querier.get(b"/v/a") == b"1"
    await querier.put(b"/v/a", b"2")
    assert await provider.get(b"/v/a") == b"2"


def ipns(key: PrivateKey) -> Check:
    async def check(_: Node, provider: Node, querier: Node) -> None:
        for sequence in (1, 2):
            record = IpnsRecord.make(key, f"/ipfs/{sequence}", sequence=sequence, now=time.time())
            await provider.put(routing_key(key.peer_id), record.encoded)
            got = await querier.get(routing_key(key.peer_id))
            assert IpnsRecord.open(got, key.peer_id, time.time()).sequence == sequence

    return check


async def peers(_: Node, provider: Node, querier: Node) -> None:
    for seeker, sought in ((querier, provider), (provider, querier)):
        found = await seeker.find_peer(peer_of(sought))
        assert sought.addr.rpartition("/p2p/")[0] in found, f"found {found}"


def checks() -> dict[str, Check]:
    return {
        "peers": peers,
        **{name: providers(cid) for name, cid in cids().items()},
        "values": values,
        "ipns-ed25519": ipns(PrivateKey.generate()),
        "ipns-rsa": ipns(PrivateKey.generate(KeyType.RSA)),
    }


def peer_of(node: Node) -> str:
    return node.addr.rpartition("/")[2]


async def network(transport: str, kinds: tuple[str, str, str]) -> dict[str, str]:
    """Run all checks in a network of three nodes; what failed, and why."""
    failed: dict[str, str] = {}
    bootstrap, provider, querier = (KINDS[kind](transport) for kind in kinds)
    async with bootstrap, provider, querier:
        await provider.connect(bootstrap.addr)
        await querier.connect(bootstrap.addr)
        for name, check in checks().items():
            try:
                async with asyncio.timeout(60):
                    await check(bootstrap, provider, querier)
            except Exception as error:  # whatever went wrong is the result
                failed[name] = f"{type(error).__name__}: {error}"
    return failed


async def main(transports: list[str]) -> int:
    try:
        build_go()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    worst = 0
    print(f"{'transport':<10}{'bootstrap':<10}{'provider':<10}{'querier':<10}")
    for transport, *kinds in itertools.product(transports, KINDS, KINDS, KINDS):
        if "us" not in kinds:
            continue
        bootstrap, provider, querier = kinds
        started = time.perf_counter()
        failed = await network(transport, (bootstrap, provider, querier))
        took = time.perf_counter() - started
        result = f"{len(checks()) - len(failed)} of {len(checks())}  {took:.1f} s"
        print(f"{transport:<10}{bootstrap:<10}{provider:<10}{querier:<10}{result}", flush=True)
        for name, reason in failed.items():
            worst = 1
            print(f"    {name}: {reason}")
    return worst


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:] or list(LISTEN))))

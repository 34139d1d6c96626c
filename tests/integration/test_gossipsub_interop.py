"""Our program of the community's gossipsub-interop framework, in scenarios of that: in virtual time, and as processes.

tests/vectors/README.md says where the params.json come from.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from interop.gossipsub.parts import BadParts, Group, Known
from interop.gossipsub.script import ScriptedNode, config_of, key_of

from libp2p.host import Host
from libp2p.multiaddr import Multiaddr
from libp2p.testing.cheap import CheapTransport
from libp2p.testing.network import Link, Network

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "gossipsub-interop"
NODES = 6

Line = dict[str, Any]


async def simulate(name: str) -> list[list[Line]]:
    """Run a scenario; what each node told."""
    script = json.loads((VECTORS / f"{name}.json").read_text())["script"]
    said: list[list[Line]] = [[] for _ in range(NODES)]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        network = await stack.enter_async_context(Network(seed=1, link=Link(latency=0.05)))
        hosts: list[Host] = []
        for n in range(NODES):
            transport = CheapTransport(network.node(f"10.0.0.{n + 1}"))
            addr = f"/ip4/10.0.0.{n + 1}/tcp/9000"
            hosts.append(
                await stack.enter_async_context(Host(key=key_of(n), listen_addrs=[addr], transports=[transport]))
            )

        async def connect(host: Host, other: int) -> None:
            await host.connect(Multiaddr(f"/ip4/10.0.0.{other + 1}/tcp/9000/p2p/{key_of(other).peer_id}"))

        running = []
        for n, host in enumerate(hosts):

            def log(msg: str, lines: list[Line] = said[n], **fields: object) -> None:
                lines.append({"msg": msg} | fields)

            node = ScriptedNode(n, host, connect, log)
            running.append(tasks.create_task(node.run(script, asyncio.get_running_loop().time())))
        await asyncio.gather(*running)
    assert [lines[0] for lines in said] == [
        {"msg": "PeerID", "id": str(key_of(n).peer_id), "node_id": n} for n in range(NODES)
    ]
    return said


def received(lines: list[Line]) -> set[str]:
    return {line["id"] for line in lines if line["msg"] == "Received Message"}


async def test_all_messages_reach_all() -> None:
    """checks/subnet_blob_msg.py: each of 16 messages at all but who published it."""
    said = await simulate("subnet-blob-msg")
    for number in range(16):
        assert sum(str(number) in received(lines) for lines in said) >= NODES - 1


async def test_who_is_not_in_the_topic_publishes() -> None:
    said = await simulate("simple-fanout")
    for number in range(16):
        holders = {n for n, lines in enumerate(said) if str(number) in received(lines)}
        assert len(holders) >= NODES // 2 - 1
        assert len({n % 2 for n in holders}) == 1  # those in its topic, of which there are two


@pytest.mark.parametrize(
    ("name", "count"), [("partial-messages", 1), ("partial-messages-chain", 16), ("partial-messages-fanout", 1)]
)
async def test_all_parts_reach_all(name: str, count: int) -> None:
    """checks/partial_messages.py: each node has had all parts of each group."""
    for lines in await simulate(name):
        assert [line["msg"] for line in lines].count("All parts received") == count


def test_peer_ids_are_those_of_the_others() -> None:
    """The SHA-256 of the first 10,000 is in the tests of the framework's programs."""
    digest = hashlib.sha256()
    for node in range(10_000):
        digest.update(f">{node}:{key_of(node).peer_id}\n".encode())
    assert digest.hexdigest() == "11395ea896d00ca25f7f648ebb336488ee092096a5498d90d76b92eaec27867a"


def test_parameters() -> None:
    config = config_of({"D": 8, "HeartbeatInitialDelay": 100_200_000, "Dlazy": 0, "SlowHeartbeatWarning": 0.1})
    assert (config.d, config.heartbeat_initial_delay, config.d_lazy) == (8, 0.1002, 0)
    with pytest.raises(ValueError, match="Dlow"):
        config_of({"Dlow": 3})


@pytest.mark.parametrize("cut", [0, 1, 8, 1032, 2048])
def test_what_is_no_message_in_parts(cut: int) -> None:
    group = Group(7)
    group.fill(0b101)
    message = group.encode(0xFF)
    assert message is not None
    other = Group(7)
    with pytest.raises(BadParts):
        other.take(message[:cut])
    with pytest.raises(BadParts):
        Group(8).take(message)
    assert other.take(message)
    assert other.parts == group.parts


def test_nobody_is_told_twice() -> None:
    group, peer = Group(7), Known()
    assert group.for_peer(peer, wants=True) == (None, b"\0")  # that we have nothing, once
    assert group.for_peer(peer, wants=True) == (None, None)
    group.fill(0b11)
    group.heard_from(peer, None, b"\x01")
    message, parts = group.for_peer(peer, wants=True)
    assert message is not None
    assert (message[0], parts) == (0b10, None)  # by what we send it knows what we have
    assert group.for_peer(peer, wants=True) == (None, None)


@pytest.mark.real
async def test_processes(tmp_path: Path) -> None:
    """Three processes on loopback addresses, started as the framework starts them."""
    script = [
        {"type": "initGossipSub", "gossipSubParams": {"HeartbeatInitialDelay": 100_000_000}},
        {"type": "ifNodeIDEquals", "nodeID": 0, "instruction": {"type": "connect", "connectTo": [1, 2]}},
        {"type": "subscribeToTopic", "topicID": "a-subnet", "partial": False},
        {"type": "waitUntil", "elapsedSeconds": 4},
        {
            "type": "ifNodeIDEquals",
            "nodeID": 1,
            "instruction": {"type": "publish", "topicID": "a-subnet", "messageID": 258, "messageSizeBytes": 1000},
        },
        {"type": "waitUntil", "elapsedSeconds": 6},
    ]
    params = tmp_path / "params.json"
    params.write_text(json.dumps({"script": script}))
    env = dict(os.environ, PYTHON=sys.executable, PYTHONPATH=str(ROOT / "src"))
    processes = [
        await asyncio.create_subprocess_exec(
            str(ROOT / "interop" / "gossipsub" / "gossipsub-bin"),
            *("--params", str(params), "--loopback", "--node", str(n)),
            env=env,
            stdout=asyncio.subprocess.PIPE,
        )
        for n in range(3)
    ]
    outputs = [out for out, _ in await asyncio.gather(*(process.communicate() for process in processes))]
    assert all(b'"msg":"PeerID"' in out for out in outputs)  # as the framework's checks look for it
    said = [[json.loads(line) for line in out.splitlines()] for out in outputs]
    assert [process.returncode for process in processes] == [0, 0, 0]
    for n, lines in enumerate(said):
        assert (lines[0]["msg"], lines[0]["node_id"], lines[0]["id"]) == ("PeerID", n, str(key_of(n).peer_id))
        assert all(line["time"] for line in lines)
    assert "258" in received(said[0])
    assert "258" in received(said[2])

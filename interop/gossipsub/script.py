"""A node that does what a params.json says, and tells of it by lines of JSON.

Spec: script_instruction.py and test-specs/implementation.md of the framework.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from libp2p.host import Host
from libp2p.identity import KeyType, PeerId, PrivateKey
from libp2p.protocols.pubsub import (
    GossipSub,
    GossipSubConfig,
    Message,
    SignaturePolicy,
    Topic,
    TopicConfig,
    Tracer,
    Verdict,
)
from libp2p.protocols.pubsub.wire import Partial, Rpc, WireMessage

from .parts import BadParts, Group, Known

Instruction = Mapping[str, Any]
Log = Callable[..., None]
"""Called with what is told (`msg`), and its further fields."""

_NUMBERS = {
    "D": "d",
    "Dlo": "d_low",
    "Dhi": "d_high",
    "Dscore": "d_score",
    "Dout": "d_out",
    "HistoryLength": "history_length",
    "HistoryGossip": "history_gossip",
    "Dlazy": "d_lazy",
    "GossipFactor": "gossip_factor",
    "GossipRetransmission": "gossip_retransmission",
    "PrunePeers": "prune_peers",
    "Connectors": "connectors",
    "MaxPendingConnections": "max_pending_connects",
    "DirectConnectTicks": "direct_connect_ticks",
    "OpportunisticGraftTicks": "opportunistic_graft_ticks",
    "OpportunisticGraftPeers": "opportunistic_graft_peers",
    "MaxIHaveLength": "max_ihave_length",
    "MaxIHaveMessages": "max_ihave_messages",
    "MaxIDontWantMessages": "max_idontwant_messages",
    "IDontWantMessageThreshold": "idontwant_threshold",
    "IDontWantMessageTTL": "idontwant_ttl",
}
_NANOSECONDS = {
    "HeartbeatInitialDelay": "heartbeat_initial_delay",
    "HeartbeatInterval": "heartbeat_interval",
    "FanoutTTL": "fanout_ttl",
    "PruneBackoff": "prune_backoff",
    "UnsubscribeBackoff": "unsubscribe_backoff",
    "ConnectionTimeout": "connect_timeout",
    "GraftFloodThreshold": "graft_flood_threshold",
    "IWantFollowupTime": "iwant_followup_time",
}
NOT_OURS = frozenset({"SlowHeartbeatWarning", "DirectConnectInitialDelay", "MaxIDontWantLength"})
"""Parameters of go-libp2p-pubsub for which there is no setting here."""


def key_of(node: int) -> PrivateKey:
    """The key of a node: its number, little-endian, is the seed."""
    return PrivateKey(KeyType.ED25519, node.to_bytes(8, "little") + bytes(24))


def first_eight_bytes(message: WireMessage, data: bytes | None) -> bytes:
    """The message id function of the framework."""
    return ((message.data or b"") if data is None else data)[:8]


def config_of(params: Mapping[str, Any]) -> GossipSubConfig:
    """The settings for a `gossipSubParams`. Raises `ValueError` for a parameter that nobody knows."""
    changes: dict[str, Any] = {_NUMBERS[name]: value for name, value in params.items() if name in _NUMBERS}
    changes |= {_NANOSECONDS[name]: value / 1e9 for name, value in params.items() if name in _NANOSECONDS}
    if unknown := set(params) - set(_NUMBERS) - set(_NANOSECONDS) - NOT_OURS:
        raise ValueError(f"gossipSubParams has {', '.join(sorted(unknown))}")
    return GossipSubConfig(
        max_message_size=10 << 20,
        max_queue_size=64 << 20,
        flood_publish=False,  # as go-libp2p-pubsub's default
        partial_messages=True,
        topic=TopicConfig(SignaturePolicy.STRICT_NO_SIGN, first_eight_bytes),
        **changes,
    )


@dataclass(frozen=True, slots=True)
class Teller(Tracer):
    """Tells of each message that comes, copies included."""

    log: Log

    def received(self, peer: PeerId, rpc: Rpc) -> None:
        for message in rpc.messages:
            number = int.from_bytes((message.data or b"")[:8], "big")
            self.log(
                "Received Message", service="gossipsub", id=str(number), topic=message.topic, **{"from": str(peer)}
            )


class ScriptedNode:
    """A node. `connect` connects its host to another node by that one's number."""

    def __init__(self, node: int, host: Host, connect: Callable[[Host, int], Awaitable[None]], log: Log) -> None:
        self._node = node
        self._host = host
        self._connect = connect
        self._log = log
        self._pubsub: GossipSub | None = None
        self._topics: dict[str, Topic] = {}
        self._groups: dict[tuple[str, bytes], Group] = {}
        self._known: dict[tuple[str, bytes], dict[PeerId, Known]] = {}
        self._listened_to: set[str] = set()

    async def run(self, script: list[Instruction], started: float) -> None:
        """Do what the script says; `started` is when all began, by the loop's clock."""
        self._log("PeerID", id=str(self._host.id), node_id=self._node)
        try:
            for instruction in script:
                await self._do(instruction, started)
        finally:
            if self._pubsub is not None:
                await self._pubsub.close()

    @property
    def pubsub(self) -> GossipSub:
        assert self._pubsub is not None, "initGossipSub comes first"
        return self._pubsub

    async def _do(self, instruction: Instruction, started: float) -> None:
        kind = instruction["type"]
        if kind == "ifNodeIDEquals":
            if instruction["nodeID"] == self._node:
                await self._do(instruction["instruction"], started)
        elif kind == "waitUntil":
            await asyncio.sleep(started + instruction["elapsedSeconds"] - asyncio.get_running_loop().time())
        elif kind == "initGossipSub":
            config = config_of(instruction["gossipSubParams"])
            self._pubsub = await GossipSub(self._host, config, tracer=Teller(self._log)).__aenter__()
        elif kind == "connect":
            for node in instruction["connectTo"]:
                await self._connect(self._host, node)
        else:
            await self._do_pubsub(kind, instruction)

    async def _do_pubsub(self, kind: str, instruction: Instruction) -> None:
        topic = instruction["topicID"]
        if kind == "subscribeToTopic":
            parts = bool(instruction.get("partial"))
            if parts:
                self._listen_to_parts(topic)
            self._topics[topic] = await self.pubsub.subscribe(topic, parts="want" if parts else None)
        elif kind == "setTopicValidationDelay":
            self._delay(topic, instruction["delaySeconds"])
        elif kind == "publish":
            number = instruction["messageID"].to_bytes(8, "big")
            await self.pubsub.publish(topic, number.ljust(instruction["messageSizeBytes"], b"\0"))
        elif kind == "addPartialMessage":
            group = Group(instruction["groupID"])
            group = self._groups.setdefault((topic, group.name), group)
            group.fill(instruction["parts"])
            self._tell_if_complete(group)
        elif kind == "publishPartial":
            self._publish_parts(topic, instruction["groupID"].to_bytes(8, "big"), instruction.get("publishToNodeIDs"))
        else:
            raise ValueError(f"no instruction {kind!r}")

    def _delay(self, topic: str, seconds: float) -> None:
        async def validate(_: Message) -> Verdict:
            await asyncio.sleep(seconds)
            return Verdict.ACCEPT

        self.pubsub.add_validator(topic, validate)

    # Messages in parts

    def _listen_to_parts(self, topic: str) -> None:
        if topic not in self._listened_to:
            self._listened_to.add(topic)
            self.pubsub.partial.on(topic, self._part_came)

    def _part_came(self, peer: PeerId, partial: Partial) -> None:
        key = (partial.topic, partial.group)
        if len(partial.group) != 8:
            return
        group = self._groups.setdefault(key, Group(int.from_bytes(partial.group, "big")))
        known = self._known.setdefault(key, {}).setdefault(peer, Known())
        before = group.have
        try:
            if partial.message:
                group.take(partial.message)
        except BadParts as error:
            self._log("Bad parts", error=str(error))
            return
        group.heard_from(known, partial.message, partial.parts)
        if group.have != before:
            self._tell_if_complete(group)
        self._send_parts(partial.topic, group, [*self.pubsub.partial.peers(partial.topic), peer])

    def _publish_parts(self, topic: str, name: bytes, nodes: list[int] | None) -> None:
        self._listen_to_parts(topic)
        if (group := self._groups.get((topic, name))) is not None:
            peers = [key_of(node).peer_id for node in nodes] if nodes else self.pubsub.partial.peers(topic)
            self._send_parts(topic, group, peers)

    def _send_parts(self, topic: str, group: Group, peers: list[PeerId]) -> None:
        known = self._known.setdefault((topic, group.name), {})
        for peer in dict.fromkeys(peers):
            state = known.setdefault(peer, Known())
            message, parts = group.for_peer(state, wants=self.pubsub.partial.wants(peer, topic))
            if message is not None or parts is not None:
                self.pubsub.partial.send(peer, topic, group.name, message=message, parts=parts)

    def _tell_if_complete(self, group: Group) -> None:
        if len(group.parts) == 8:
            self._log("All parts received", **{"group id": group.number})

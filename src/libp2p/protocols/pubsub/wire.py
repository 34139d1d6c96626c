"""RPCs as bytes, and what they say as values. Specs: pubsub/README.md, pubsub/gossipsub/gossipsub-v1.0.md to v1.3.md.

    one direction of a peer's stream   (<length varint> <RPC>)*     each peer opens a stream of its own to send
    RPC       1 subscriptions*   2 publish*   3 control   10 partial   6492434 testExtension
    SubOpts   1 subscribe   2 topicid   3 requestsPartial   4 supportsSendingPartial
    Message   1 from   2 data   3 seqno   4 topic   5 signature   6 key
    Control   1 ihave* {1 topicID 2 messageIDs*}   2 iwant* {1 messageIDs*}   3 graft* {1 topicID}
              4 prune* {1 topicID 2 peers* {1 peerID 2 signedPeerRecord} 3 backoff (seconds)}
              5 idontwant* {1 messageIDs*}   6 extensions {10 partialMessages   6492434 testExtension}
    Partial   1 topicID   2 groupID   3 partialMessage   4 partsMetadata

Rules:
- What a field lacks and what it holds empty are two things: they are signed differently. A `WireMessage` keeps that.
- A message is passed on in its one form: the known fields, in their order. Unknown ones are dropped, as the signature
  does not cover them (go-libp2p signs them with the rest, and would refuse the message of whoever passes them on).
- A topic may be any bytes, as go-libp2p takes them; what is no UTF-8 survives both ways ("surrogateescape").
- Our RPCs are small: rust-libp2p ends the stream of who sends more than 16 KiB beside messages in one RPC, go-libp2p
  reads ten ids of one IDONTWANT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError

from ...errors import RemoteProtocolError
from ...varint import encode_varint
from .rpc_pb2 import RPC, ControlIDontWant, ControlIWant, ControlMessage
from .rpc_pb2 import Message as MessagePb

MAX_CONTROL_SIZE = 15 * 1024
"""Bytes, about, of all that is not messages in an RPC of ours: rust-libp2p takes 16 KiB."""

MAX_IDONTWANT_IDS = 10
"""Ids in an RPC's IDONTWANT: go-libp2p reads no more."""

MAX_UINT64 = 2**64 - 1


class WireMessage(NamedTuple):
    """A message as it travels; None: the field is absent. (A tuple: it is made for each copy that comes.)"""

    topic: str
    data: bytes | None
    sender: bytes | None = None
    """The peer id of its author; the field `from`."""
    seqno: bytes | None = None
    signature: bytes | None = None
    key: bytes | None = None

    def encode(self) -> bytes:
        """As a `Message`, in its one form."""
        return _fields(self.sender, self.data, self.seqno, self.topic, self.signature, self.key)

    def signed_part(self) -> bytes:
        """What the author signs, but for the prefix: without signature and key. The spec's text leaves the key in; no
        implementation does.
        """
        return _fields(self.sender, self.data, self.seqno, self.topic, None, None)


@dataclass(frozen=True, slots=True)
class SubOpts:
    """A peer enters a topic, or leaves it."""

    topic: str
    subscribe: bool = True
    requests_partial: bool = False
    supports_partial: bool = False


@dataclass(frozen=True, slots=True)
class IHave:
    """These messages of a topic can be had."""

    topic: str
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PxPeer:
    """Another peer of a topic, offered by who prunes us: its id, and where it says it can be reached."""

    peer: bytes
    record: bytes | None = None


@dataclass(frozen=True, slots=True)
class Prune:
    """A link of the mesh ends; `backoff` seconds must pass before it is grafted again (None: not said)."""

    topic: str
    backoff: int | None = None
    peers: tuple[PxPeer, ...] = ()


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a peer speaks beyond gossipsub 1.2; said in its first RPC and never again."""

    partial_messages: bool = False
    test: bool = False


@dataclass(frozen=True, slots=True)
class Partial:
    """A part of a message, and which parts of it the sender has and wants; None: absent."""

    topic: str
    group: bytes
    message: bytes | None = None
    parts: bytes | None = None


@dataclass(slots=True)
class Rpc:
    """Everything that one RPC can say."""

    subscriptions: list[SubOpts] = field(default_factory=list)
    messages: list[WireMessage] = field(default_factory=list)
    ihave: list[IHave] = field(default_factory=list)
    iwant: list[bytes] = field(default_factory=list)
    graft: list[str] = field(default_factory=list)
    prune: list[Prune] = field(default_factory=list)
    idontwant: list[bytes] = field(default_factory=list)
    extensions: Extensions | None = None
    partial: Partial | None = None
    test_extension: bool = False

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(
            self.messages
            or self.subscriptions
            or self.ihave
            or self.iwant
            or self.graft
            or self.prune
            or self.idontwant
            or self.extensions
            or self.partial
            or self.test_extension
        )

    @property
    def has_control(self) -> bool:
        """Whether it holds a `ControlMessage` with something in it."""
        return bool(self.ihave or self.iwant or self.graft or self.prune or self.idontwant or self.extensions)


def decode_rpc(data: bytes, *, max_entries: int) -> Rpc:
    """Decode an RPC. Raises `RemoteProtocolError` where it is malformed, and where any list in it, or all its lists of
    ids together, hold more than `max_entries`.
    """
    try:
        message = RPC.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"malformed pubsub RPC: {error}") from error
    rpc = Rpc()
    if messages := message.publish:
        _check_count(len(messages), "messages", max_entries)
        rpc.messages = [_wire_message(entry) for entry in messages]
    if message.HasField("control"):
        _decode_control(message.control, rpc, max_entries)
    if entries := message.subscriptions:
        _check_count(len(entries), "subscriptions", max_entries)
        rpc.subscriptions = [
            SubOpts(
                _text(entry.topicid),
                entry.subscribe,
                entry.requestsPartial,
                entry.supportsSendingPartial or entry.requestsPartial,
            )
            for entry in entries
        ]
    if message.HasField("partial"):
        partial = message.partial
        rpc.partial = Partial(
            _text(partial.topicID),
            partial.groupID,
            partial.partialMessage if partial.HasField("partialMessage") else None,
            partial.partsMetadata if partial.HasField("partsMetadata") else None,
        )
    rpc.test_extension = message.HasField("testExtension")
    return rpc


def encode_rpc(rpc: Rpc) -> bytes:
    """Encode an RPC whole, without its length; `split` first what may be large."""
    message = RPC(
        subscriptions=[
            RPC.SubOpts(subscribe=entry.subscribe, topicid=_bytes(entry.topic), **_partial_flags(entry))
            for entry in rpc.subscriptions
        ]
    )
    if rpc.has_control:
        _encode_control(rpc, message.control)
    if (partial := rpc.partial) is not None:
        message.partial.topicID = _bytes(partial.topic)
        message.partial.groupID = partial.group
        if partial.message is not None:
            message.partial.partialMessage = partial.message
        if partial.parts is not None:
            message.partial.partsMetadata = partial.parts
    if rpc.test_extension:
        message.testExtension.SetInParent()
    encoded: bytes = message.SerializeToString(deterministic=True)
    if rpc.messages:
        # Messages are encoded in one way, and stand in front: the order of fields matters to nobody.
        encoded = b"".join(publish_field(entry.encode()) for entry in rpc.messages) + encoded
    return encoded


def frame(rpc: bytes) -> bytes:
    """An encoded RPC behind its length."""
    return encode_varint(len(rpc)) + rpc


def publish_field(message: bytes) -> bytes:
    """An encoded `Message` as the part of an RPC that carries it."""
    return b"\x12" + encode_varint(len(message)) + message


def split(rpc: Rpc, *, max_size: int) -> Iterator[Rpc]:
    """The same in as few RPCs as the limits of other implementations allow, in order; `extensions` in the first.

    A single entry is never cut, so one that is larger than `max_size` bytes makes an RPC that is.
    """
    room = min(MAX_CONTROL_SIZE, max_size)
    part, used = Rpc(extensions=rpc.extensions, test_extension=rpc.test_extension), 16
    for kind, entry, size in _entries(rpc, room):
        full = kind == "idontwant" and len(part.idontwant) >= MAX_IDONTWANT_IDS
        if part and (used + size > room or full):
            yield part
            part, used = Rpc(), 16
        getattr(part, kind).append(entry)
        used += size
    if part:
        yield part
    yield from _split_messages(rpc, max_size)
    if rpc.partial is not None:
        yield Rpc(partial=rpc.partial)


def _split_messages(rpc: Rpc, max_size: int) -> Iterator[Rpc]:
    part, used = Rpc(), 0
    for message in rpc.messages:
        size = len(message.data or b"") + 2 * len(message.topic) + 1024
        if part.messages and used + size > max_size:
            yield part
            part, used = Rpc(), 0
        part.messages.append(message)
        used += size
    if part.messages:
        yield part


def _entries(rpc: Rpc, room: int) -> Iterator[tuple[str, object, int]]:
    """The entries of all lists but messages, each with the bytes that it takes at most."""
    for entry in rpc.subscriptions:
        yield "subscriptions", entry, len(_bytes(entry.topic)) + 16
    for graft in rpc.graft:
        yield "graft", graft, len(_bytes(graft)) + 16
    for prune in rpc.prune:
        peers = sum(len(px.peer) + len(px.record or b"") + 16 for px in prune.peers)
        yield "prune", prune, len(_bytes(prune.topic)) + peers + 32
    for ids in (rpc.idontwant, rpc.iwant):
        kind = "idontwant" if ids is rpc.idontwant else "iwant"
        for mid in ids:
            yield kind, mid, len(mid) + 12
    for have in rpc.ihave:
        fixed = len(_bytes(have.topic)) + 16
        for chunk in _chunks(have.ids, max(64, room - fixed - 32)):
            yield "ihave", IHave(have.topic, chunk), fixed + sum(len(mid) + 6 for mid in chunk)


def _chunks(ids: Iterable[bytes], room: int) -> Iterator[tuple[bytes, ...]]:
    chunk: list[bytes] = []
    used = 0
    for mid in ids:
        if chunk and used + len(mid) + 6 > room:
            yield tuple(chunk)
            chunk, used = [], 0
        chunk.append(mid)
        used += len(mid) + 6
    if chunk:
        yield tuple(chunk)


def _decode_control(control: ControlMessage, rpc: Rpc, max_entries: int) -> None:
    if idontwants := control.idontwant:
        rpc.idontwant = _ids(idontwants, "IDONTWANTs", max_entries)
    if ihaves := control.ihave:
        _check_count(len(ihaves), "IHAVEs", max_entries)
        _check_count(sum(len(entry.messageIDs) for entry in ihaves), "ids of IHAVEs", max_entries)
        rpc.ihave = [IHave(_text(entry.topicID), tuple(entry.messageIDs)) for entry in ihaves]
    if iwants := control.iwant:
        rpc.iwant = _ids(iwants, "IWANTs", max_entries)
    if grafts := control.graft:
        _check_count(len(grafts), "GRAFTs", max_entries)
        rpc.graft = [_text(entry.topicID) for entry in grafts]
    if prunes := control.prune:
        _check_count(len(prunes), "PRUNEs", max_entries)
        _check_count(sum(len(entry.peers) for entry in prunes), "peers of PRUNEs", max_entries)
        for entry in prunes:
            peers = tuple(PxPeer(peer.peerID, peer.signedPeerRecord or None) for peer in entry.peers)
            rpc.prune.append(Prune(_text(entry.topicID), entry.backoff if entry.HasField("backoff") else None, peers))
    if control.HasField("extensions"):
        rpc.extensions = Extensions(control.extensions.partialMessages, control.extensions.testExtension)


def _ids(entries: Sequence[ControlIWant | ControlIDontWant], what: str, max_entries: int) -> list[bytes]:
    _check_count(len(entries), what, max_entries)
    _check_count(sum(len(entry.messageIDs) for entry in entries), f"ids of {what}", max_entries)
    return [mid for entry in entries for mid in entry.messageIDs]


def _encode_control(rpc: Rpc, control: ControlMessage) -> None:
    for have in rpc.ihave:
        control.ihave.add(topicID=_bytes(have.topic), messageIDs=have.ids)
    if rpc.iwant:
        control.iwant.add(messageIDs=rpc.iwant)
    for topic in rpc.graft:
        control.graft.add(topicID=_bytes(topic))
    for prune in rpc.prune:
        entry = control.prune.add(topicID=_bytes(prune.topic))
        if prune.backoff is not None:
            entry.backoff = min(prune.backoff, MAX_UINT64)
        for px in prune.peers:
            peer = entry.peers.add(peerID=px.peer)
            if px.record is not None:
                peer.signedPeerRecord = px.record
    if rpc.idontwant:
        control.idontwant.add(messageIDs=rpc.idontwant)
    if (extensions := rpc.extensions) is not None:
        control.extensions.SetInParent()
        if extensions.partial_messages:
            control.extensions.partialMessages = True
        if extensions.test:
            control.extensions.testExtension = True


def _wire_message(message: MessagePb) -> WireMessage:
    return WireMessage(
        _text(message.topic),
        message.data if message.HasField("data") else None,
        getattr(message, "from") if message.HasField("from") else None,  # a keyword
        message.seqno if message.HasField("seqno") else None,
        message.signature if message.HasField("signature") else None,
        message.key if message.HasField("key") else None,
    )


def _partial_flags(entry: SubOpts) -> dict[str, bool]:
    """The flags that are set; who knows nothing of partial messages sees none."""
    flags = {"requestsPartial": entry.requests_partial, "supportsSendingPartial": entry.supports_partial}
    return {name: True for name, value in flags.items() if value}


def _fields(
    sender: bytes | None,
    data: bytes | None,
    seqno: bytes | None,
    topic: str,
    signature: bytes | None,
    key: bytes | None,
) -> bytes:
    parts: list[bytes] = []
    for tag, value in (
        (b"\x0a", sender),
        (b"\x12", data),
        (b"\x1a", seqno),
        (b"\x22", _bytes(topic)),
        (b"\x2a", signature),
        (b"\x32", key),
    ):
        if value is not None:
            parts += (tag, encode_varint(len(value)), value)
    return b"".join(parts)


def _check_count(count: int, what: str, limit: int) -> None:
    if count > limit:
        raise RemoteProtocolError(f"pubsub RPC with {count} {what}, the limit is {limit}")


def _text(topic: bytes) -> str:
    return topic.decode(errors="surrogateescape")


def _bytes(topic: str) -> bytes:
    return topic.encode(errors="surrogateescape")

"""Peer records: the addresses that a peer itself vouches for, in a signed envelope (RFC 0003).

    PeerRecord (protobuf)   1 peer_id   2 seq (uint64)   3 addresses: repeated { 1 multiaddr (binary) }

RFC 0003 was written before the details were settled; what go, rust and js libp2p put on the wire is the domain
`libp2p-peer-record` and the payload type 0x0301 (the multicodec table's code of that name, as two plain bytes).
rust-libp2p has an older form beside it, which its rendezvous speaks alone: see `RecordForm`.

Rules here: the signature is checked first, then that the record speaks for the peer that signed it. Addresses that
cannot be read (unknown protocols, broken bytes) are skipped, as go-libp2p does, so that a peer may announce transports
that are newer than we are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from google.protobuf.message import DecodeError

from ..errors import InvalidMultiaddr, InvalidPeerId, InvalidRecord
from ..identity import PeerId, PrivateKey
from ..multiaddr import Multiaddr
from .envelope import Envelope
from .records_pb2 import PeerRecord as PeerRecordMessage

PEER_RECORD_DOMAIN = "libp2p-peer-record"
PEER_RECORD_TYPE = b"\x03\x01"


class RecordForm(Enum):
    """The domain of the signature, and the payload type, of a peer record's envelope."""

    STANDARD = (PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    """What everybody reads."""
    RUST = ("libp2p-routing-state", b"/libp2p/routing-state-record")
    """What rust-libp2p's rendezvous reads and writes (its `PeerRecord::new`), and nobody else."""


MAX_ADDRESSES = 256
"""Addresses that a record may hold, readable or not."""

MAX_SEQ = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where `peer_id` says it can be reached. A record with a higher `seq` replaces those with lower ones."""

    peer_id: PeerId
    seq: int
    addrs: tuple[Multiaddr, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.seq <= MAX_SEQ:
            raise InvalidRecord(f"seq {self.seq} of a peer record is no uint64")
        if len(self.addrs) > MAX_ADDRESSES:
            raise InvalidRecord(f"peer record with {len(self.addrs)} addresses, the limit is {MAX_ADDRESSES}")

    def seal(self, key: PrivateKey, form: RecordForm = RecordForm.STANDARD) -> Envelope:
        """Sign with the peer's own key. Raises `InvalidRecord` for another's, and where the record is too large."""
        if key.peer_id != self.peer_id:
            raise InvalidRecord(f"the key of {key.peer_id} cannot sign a record of {self.peer_id}")
        return Envelope.seal(key, *form.value, self.to_bytes())

    @classmethod
    def open(
        cls, envelope: bytes, *, expected_peer: PeerId | None = None, form: RecordForm = RecordForm.STANDARD
    ) -> PeerRecord:
        """Verify an envelope and decode the record in it.

        Raises `InvalidRecord` where the envelope is malformed or not validly signed, where the record is malformed,
        speaks for another peer than the one that signed it, or for another than `expected_peer`.
        """
        opened = Envelope.open(envelope, *form.value)
        record = cls.from_bytes(opened.payload)
        # "If the public key in the envelope cannot derive the peer id contained in the routing state record, the
        # `RoutingState` MUST be discarded."
        signer = opened.public_key.peer_id
        if record.peer_id != signer:
            raise InvalidRecord(f"{signer} signed a peer record of {record.peer_id}")
        if expected_peer is not None and expected_peer != signer:
            raise InvalidRecord(f"peer record of {signer}, expected one of {expected_peer}")
        return record

    @classmethod
    def from_bytes(cls, payload: bytes) -> PeerRecord:
        """Decode a `PeerRecord` message, which nobody vouches for yet. Raises `InvalidRecord`."""
        message = PeerRecordMessage()
        try:
            message.ParseFromString(payload)
            peer_id = PeerId.from_bytes(message.peer_id)
        except (DecodeError, InvalidPeerId) as error:
            raise InvalidRecord(f"malformed peer record: {error}") from error
        if len(message.addresses) > MAX_ADDRESSES:
            raise InvalidRecord(f"peer record with {len(message.addresses)} addresses, the limit is {MAX_ADDRESSES}")
        return cls(peer_id, message.seq, tuple(_readable(message)))

    def to_bytes(self) -> bytes:
        """Encode as a `PeerRecord` message. Empty addresses are left out: no receiver can read them."""
        message = PeerRecordMessage(peer_id=self.peer_id.to_bytes(), seq=self.seq)
        for addr in self.addrs:
            if encoded := addr.to_bytes():
                message.addresses.add(multiaddr=encoded)
        return message.SerializeToString(deterministic=True)


def _readable(message: PeerRecordMessage) -> list[Multiaddr]:
    addrs = []
    for info in message.addresses:
        try:
            addrs.append(Multiaddr.from_peer(info.multiaddr))
        except InvalidMultiaddr:
            continue  # of a protocol that we don't know: see the module's rules
    return addrs

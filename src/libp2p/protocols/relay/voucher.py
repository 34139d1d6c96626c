"""Reservation vouchers: a relay's signed word that it takes connections for a peer. Spec: relay/circuit-v2.md.

Voucher (protobuf)   1 relay   2 peer   3 expiration (Unix time, s)      in an envelope, domain libp2p-relay-rsvp,
                                                                         payload type 0x0302 as two plain bytes
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from ...errors import InvalidPeerId, InvalidRecord
from ...identity import PeerId, PrivateKey
from ...records import Envelope
from .relay_pb2 import Voucher as VoucherPb

VOUCHER_DOMAIN = "libp2p-relay-rsvp"
VOUCHER_TYPE = b"\x03\x02"


@dataclass(frozen=True, slots=True)
class Voucher:
    """`relay` takes connections for `peer` until `expiration`, a Unix time in seconds."""

    relay: PeerId
    peer: PeerId
    expiration: int

    def seal(self, key: PrivateKey) -> bytes:
        """Sign with the relay's key."""
        payload = VoucherPb(relay=self.relay.to_bytes(), peer=self.peer.to_bytes(), expiration=self.expiration)
        envelope = Envelope.seal(key, VOUCHER_DOMAIN, VOUCHER_TYPE, payload.SerializeToString(deterministic=True))
        return envelope.to_bytes()

    @classmethod
    def open(cls, data: bytes, *, relay: PeerId, peer: PeerId) -> Voucher:
        """Verify and read a voucher of `relay` for `peer`. Raises `InvalidRecord` where it is malformed, not validly
        signed, signed by another, or speaks of others.
        """
        envelope = Envelope.open(data, VOUCHER_DOMAIN, VOUCHER_TYPE)
        message = VoucherPb()
        try:
            message.ParseFromString(envelope.payload)
            voucher = cls(PeerId.from_bytes(message.relay), PeerId.from_bytes(message.peer), message.expiration)
        except (DecodeError, InvalidPeerId) as error:
            raise InvalidRecord(f"malformed reservation voucher: {error}") from error
        signer = envelope.public_key.peer_id
        if (signer, voucher.relay, voucher.peer) != (relay, relay, peer):
            raise InvalidRecord(
                f"the reservation voucher, signed by {signer}, is of {voucher.relay} for {voucher.peer}, "
                f"not of {relay} for {peer}"
            )
        return voucher

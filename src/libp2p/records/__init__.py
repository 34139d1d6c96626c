"""Signed envelopes (RFC 0002) and peer records (RFC 0003)."""

from .envelope import MAX_ENVELOPE_SIZE, Envelope
from .peer_record import PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, PeerRecord, RecordForm

__all__ = ["MAX_ENVELOPE_SIZE", "PEER_RECORD_DOMAIN", "PEER_RECORD_TYPE", "Envelope", "PeerRecord", "RecordForm"]

"""Rendezvous, `/rendezvous/1.0.0`: a point where peers with the same interest meet."""

from .core import Refused, RendezvousConfig, Status
from .service import PROTOCOL_ID, RendezvousClient, RendezvousPoint

__all__ = ["PROTOCOL_ID", "Refused", "RendezvousClient", "RendezvousConfig", "RendezvousPoint", "Status"]

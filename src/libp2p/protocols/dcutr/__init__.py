"""Hole punching: a relayed connection is replaced by a direct one (DCUtR)."""

from .config import HolePunchConfig
from .events import Attempt, HolePunchEnded, How
from .service import HolePuncher
from .wire import PROTOCOL_ID

__all__ = ["PROTOCOL_ID", "Attempt", "HolePunchConfig", "HolePunchEnded", "HolePuncher", "How"]

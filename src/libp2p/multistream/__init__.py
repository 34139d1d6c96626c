"""multistream-select 1.0: how two nodes agree which protocol a connection or stream speaks."""

from .core import MAX_LIST, MAX_MESSAGE
from .negotiation import MAX_PROPOSALS, Offer, Refused, handle, select

__all__ = ["MAX_LIST", "MAX_MESSAGE", "MAX_PROPOSALS", "Offer", "Refused", "handle", "select"]

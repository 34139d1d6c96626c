"""What is learned of peers by identify."""

from __future__ import annotations

from dataclasses import dataclass

from ...connection import Connection
from ...identity import PeerId
from .wire import IdentifyInfo


@dataclass(frozen=True, slots=True)
class PeerIdentified:
    """The peer has answered our question who it is."""

    connection: Connection
    info: IdentifyInfo

    @property
    def peer(self) -> PeerId:
        """Who has answered."""
        return self.connection.remote_peer


@dataclass(frozen=True, slots=True)
class IdentifyFailed:
    """The peer has not, or not properly, answered our question who it is."""

    connection: Connection
    error: Exception


@dataclass(frozen=True, slots=True)
class PeerUpdated:
    """The peer has pushed a change; `info` is all that it said on this connection, the change included."""

    connection: Connection
    info: IdentifyInfo


@dataclass(frozen=True, slots=True)
class PeerProtocolsChanged:
    """The peer speaks other protocols than the peer store knew of; emitted before `PeerIdentified` or `PeerUpdated`,
    whichever brought it.
    """

    peer: PeerId
    added: tuple[str, ...]
    removed: tuple[str, ...]

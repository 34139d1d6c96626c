"""`libp2p demo`: two processes, A and B, hold a conversation over one connection and say what happens.

B (`peer.py`) is a child process of A (`conversation.py`). A dials B and opens stream X for HTTP (`http.py`,
`recipes.py`) and stream Y for FTP (`ftp.py`, `music.py`), both at the same time; then asks for a protocol that B lacks;
then leaves.
"""

from __future__ import annotations

from ..common import Json, run
from . import conversation, peer


def demo(as_json: Json = False) -> None:
    """Watch two processes talk: steak recipes over HTTP and music over FTP, at once, on one connection.

    Ends with 0 only if everything that was said to happen did.
    """
    run(conversation.converse(as_json))


def demo_peer() -> None:
    """B, the other process of the demo. Says what it sees as JSON lines."""
    run(peer.serve_guest())

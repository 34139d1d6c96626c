"""What waits to be sent to one peer, counted in bytes.

Rules:
- Control goes before messages: it is small, and messages are worth less without it.
- Messages beyond `max_size` are dropped, for this peer only, and counted by topic; gossip may still bring them.
- Gossip (IHAVE, IWANT, IDONTWANT) is dropped once control takes half of its room. What must not be lost (subscriptions,
  GRAFT, PRUNE) makes the queue overflow beyond all of it: a peer that makes us answer and reads nothing is let go.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from .message import Message


class OutboundQueue:
    """The queue of one peer. `wake` is called when there is something in it behind nothing."""

    def __init__(self, *, max_size: int, max_control_size: int, wake: Callable[[], None]) -> None:
        self._max_size = max_size
        self._max_control = max_control_size
        self._wake = wake
        self._control: deque[bytes] = deque()
        self._messages: deque[Message] = deque()
        self.size = 0
        """Bytes of the messages."""
        self.control_size = 0
        """Bytes of all else."""
        self.dropped: Counter[str] = Counter()
        """Messages dropped, by topic."""

    def __len__(self) -> int:
        return len(self._control) + len(self._messages)

    def push_gossip(self, frame: bytes) -> bool:
        """Add an RPC that may be lost; whether it was."""
        if 2 * (self.control_size + len(frame)) > self._max_control:
            return False
        return self.push_control(frame)

    def push_control(self, frame: bytes) -> bool:
        """Add an RPC that must not be lost. False: there is no room, and the peer is to be let go."""
        if self.control_size + len(frame) > self._max_control:
            return False
        self._control.append(frame)
        self.control_size += len(frame)
        self._wake()
        return True

    def push_message(self, message: Message) -> bool:
        """Add a message; False: it is dropped."""
        if self.size + message.size > self._max_size:
            self.dropped[message.topic] += 1
            return False
        self._messages.append(message)
        self.size += message.size
        self._wake()
        return True

    def take(self, limit: int, is_unwanted: Callable[[bytes], bool]) -> list[bytes]:
        """The next RPCs, at most `limit` bytes of them but one at least; messages that the peer meanwhile doesn't want
        are left out.
        """
        taken: list[bytes] = []
        while self._control and (not taken or limit >= len(self._control[0])):
            frame = self._control.popleft()
            self.control_size -= len(frame)
            limit -= len(frame)
            taken.append(frame)
        while self._messages and (not taken or limit >= self._messages[0].size):
            message = self._messages.popleft()
            self.size -= message.size
            if not is_unwanted(message.id):
                limit -= message.size
                taken.append(message.encoded)
        return taken

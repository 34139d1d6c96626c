"""The frames of an open WebSocket, whose messages are one stream of bytes (RFC 6455; libp2p/specs websockets).

    +-----------------+------------------+---------------+------------------+---------+
    | FIN, RSV,       | MASK, length     | extended      | masking key      | payload |
    | opcode (1 byte) | (7 bits: 1 byte) | length (0,2,8)| (0, client: 4)   |         |
    +-----------------+------------------+---------------+------------------+---------+

Rules:
- Where a message or a frame ends means nothing: the payload is passed on as it arrives, so a frame of any size costs no
  memory, and an unmasked one no copy.
- Data frames are binary, and taken apart here. Everything else, that is pings, pongs and the closing handshake, is
  decided by the protocol object of the `websockets` library, which gets to see the control frames alone.
- No extension is agreed, so no frame is compressed, and reserved bits are an error.
- What one call sends is one frame, as far as it fits.
- Control frames and small ones are counted: so many are taken in a turn of the loop; empty ones are of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from websockets.frames import CloseCode, Opcode
from websockets.protocol import Protocol, Side, State

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled code for this platform
    from websockets.utils import apply_mask

from ...connection import SMALL, TURN
from ...errors import RemoteProtocolError
from ...io import Buffer

MAX_PAYLOAD = 96 * 1024
"""Bytes in a frame of ours: a Noise or TLS record and more, and less than what the allocator takes from the system
afresh each time.
"""

_MAX_CONTROL = 125  # "All control frames MUST have a payload length of 125 bytes or less"
_CONTROL = 8  # small frames that take as long as one that the library has to look at
_TINY = 12  # bytes that no message of a secure channel is below; its length may come in a frame of its own


class Framing:
    """Both directions of one connection. `protocol` must have done its opening handshake."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        # "a client MUST mask all frames that it sends to the server"
        self._masked = protocol.side is Side.SERVER
        self._head = bytearray()  # a frame up to its payload, or a control frame, that is not complete yet
        self._left = 0  # bytes to come of the payload
        self._key = b""  # the masking key, turned so that it begins with what the next byte is masked by
        self._within_message = False
        self._was_control = False  # the frame whose head was read last

    @property
    def is_open(self) -> bool:
        """Whether data may be sent: neither side has closed."""
        return self._protocol.state is State.OPEN

    @property
    def close_code(self) -> int | None:
        """The code of the peer's Close frame, None while there was none; 1005 where it gave no code."""
        close = self._protocol.close_rcvd
        return None if close is None else int(close.code)

    @property
    def close_reason(self) -> str:
        """The text of the peer's Close frame."""
        close = self._protocol.close_rcvd
        return "" if close is None else close.reason

    def seal(self, buffers: Sequence[Buffer]) -> list[bytes]:
        """Frames that carry `buffers`."""
        for payload in _payloads(buffers):
            self._protocol.send_binary(payload)
        return self._protocol.data_to_send()

    def close(self) -> list[bytes]:
        """Begin the closing handshake; return the Close frame. Nothing can be sealed after it."""
        self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        return self.answer()

    def receive(
        self,
        data: memoryview,
        push: Callable[[memoryview], None],
        useless: Callable[[str, float], None] = lambda _what, _cost: None,
    ) -> int:
        """Give the payload in `data` to `push`, in order; how many bytes fit in one turn of the loop. `useless` is told
        of what is of no use; `answer` has what must be sent in answer to control frames.

        Raises `RemoteProtocolError`; `answer` then has the Close frame that tells the peer. Behind the peer's Close
        frame nothing is looked at ("a peer discards any further data received").
        """
        position, end, left = 0, len(data), TURN
        while position < end and left > 0:
            if self._protocol.close_rcvd is not None:
                return end
            if not self._left:
                position += self._read_head(data[position:])
                if not self._head:
                    left -= self._weigh(useless)
                continue
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            push(self._unmask(piece) if self._masked else piece)
        return position

    def _weigh(self, useless: Callable[[str, float], None]) -> int:
        """What the frame that has just begun takes of a turn."""
        if self._was_control:
            useless("a WebSocket control frame", 1.0)
            return _CONTROL
        if self._left >= SMALL:
            return 0
        if self._left < _TINY:
            useless("a WebSocket frame of a few bytes", 0.125 if self._left else 1.0)
        return 1

    def answer(self) -> list[bytes]:
        """The last of what the protocol object wants to send. Of several Pong frames that is enough: "the endpoint MAY
        elect to send a Pong frame for only the most recently processed Ping frame"; a Close frame is always the last.
        """
        return [frame for frame in self._protocol.data_to_send() if frame][-1:]  # b"" asks to end the TCP stream

    def _unmask(self, piece: memoryview) -> memoryview:
        key = self._key
        if turn := len(piece) % 4:
            self._key = key[turn:] + key[:turn]
        return memoryview(apply_mask(piece, key))

    def _read_head(self, data: memoryview) -> int:
        """Add to the head of a frame, and act on it when it is complete; return how many bytes that took."""
        head = self._head
        taken = 0
        while missing := self._head_size() - len(head):
            piece = data[taken : taken + missing]
            if not piece:
                return taken
            head += piece
            taken += len(piece)
        self._head = bytearray()
        self._was_control = bool(head[0] & 0x08)
        if self._was_control:
            self._control(bytes(head))
        else:
            self._begin(head)
        return taken

    def _head_size(self) -> int:
        """Bytes to gather before the frame can be acted on, as far as is known by now."""
        head = self._head
        if len(head) < 2:
            return 2
        length = head[1] & 0x7F
        size = 2 + (4 if head[1] & 0x80 else 0)
        if not head[0] & 0x08:
            return size + {126: 2, 127: 8}.get(length, 0)
        if length > _MAX_CONTROL:
            raise self._violation(CloseCode.PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        return size + length

    def _begin(self, head: bytearray) -> None:
        """Check the head of a data frame."""
        opcode, length = head[0] & 0x0F, head[1] & 0x7F
        if head[0] & 0x70:
            raise self._violation(CloseCode.PROTOCOL_ERROR, "reserved bits are set, but no extension was agreed")
        if bool(head[1] & 0x80) is not self._masked:
            raise self._violation(CloseCode.PROTOCOL_ERROR, "unmasked" if self._masked else "masked by a server")
        if opcode == Opcode.TEXT:
            raise self._violation(CloseCode.UNSUPPORTED_DATA, "a text frame; libp2p sends binary ones")
        if opcode not in (Opcode.BINARY, Opcode.CONT):
            raise self._violation(CloseCode.PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        if self._within_message is not (opcode == Opcode.CONT):
            what = "a message within another" if self._within_message else "the continuation of no message"
            raise self._violation(CloseCode.PROTOCOL_ERROR, what)
        self._within_message = not head[0] & 0x80
        if length > _MAX_CONTROL:
            length = int.from_bytes(head[2 : 4 if length == 126 else 10], "big")
            if length >> 63:
                raise self._violation(CloseCode.PROTOCOL_ERROR, f"a payload of {length} bytes")
        self._left = length
        self._key = bytes(head[-4:])

    def _control(self, frame: bytes) -> None:
        if frame[0] & 0x0F == Opcode.CLOSE and self._within_message:
            raise self._violation(CloseCode.PROTOCOL_ERROR, "closed within a message")
        self._protocol.receive_data(frame)
        self._protocol.events_received()
        if (error := self._protocol.parser_exc) is not None:
            raise RemoteProtocolError(f"WebSocket: {error}") from error

    def _violation(self, code: CloseCode, reason: str) -> RemoteProtocolError:
        self._protocol.fail(code, reason)
        return RemoteProtocolError(f"WebSocket: {reason}")


def _payloads(buffers: Sequence[Buffer]) -> Iterator[Buffer]:
    """`buffers` joined, and cut, to what fits in a frame."""
    group: list[Buffer] = []
    room = MAX_PAYLOAD
    for buffer in buffers:
        if len(buffer) > room and group:
            yield group[0] if len(group) == 1 else b"".join(group)
            group, room = [], MAX_PAYLOAD
        if len(buffer) > MAX_PAYLOAD:
            view = memoryview(buffer)
            for start in range(0, len(view), MAX_PAYLOAD):
                yield view[start : start + MAX_PAYLOAD]
        elif buffer:
            group.append(buffer)
            room -= len(buffer)
    if group:
        yield group[0] if len(group) == 1 else b"".join(group)

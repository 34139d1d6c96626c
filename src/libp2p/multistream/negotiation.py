"""multistream-select over a byte stream: the dialer's `select` and `Offer`, the listener's `handle`.

Rules:
- The dialer sends its header and first proposal in one piece: "Both sides may send the initial multistream protocol id
  simultaneously, without waiting to receive data from the other side."
- The listener's header waits for the dialer's: it goes out with the first answer where the proposal is there already,
  else at once, for a dialer that waits for it. go-libp2p sends it even earlier, rust-libp2p and js-libp2p do as here.
- While an answer is awaited a reset by the code of a failed negotiation is a refusal: go-libp2p resets behind its
  "na", and where frames overtake each other the reset comes first, or alone.
- No byte behind the agreement is taken from the reader, and cancelling takes nothing either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..connection import StreamErrorCode
from ..errors import (
    IncompleteRead,
    InvalidInput,
    Libp2pError,
    LimitExceeded,
    ProtocolNotSupported,
    RemoteProtocolError,
    StreamReset,
    copy_of,
)
from ..io import Buffer, ReceiveBuffer
from .core import (
    HEADER_MESSAGE,
    LIST,
    NOT_AVAILABLE,
    NOT_AVAILABLE_MESSAGE,
    OFFER_SIZE,
    PROTOCOL_ID,
    MessageParser,
    encode_list,
    encode_message,
    parse_offer,
    unexpected,
)

if TYPE_CHECKING:
    from ..identity import PeerId

MAX_PROPOSALS = 100
"""Messages that a dialer may send, its header aside, before they must have led to an agreement."""

_REFUSAL = HEADER_MESSAGE + NOT_AVAILABLE_MESSAGE

_UNANSWERED = 2  # messages that an `Offer` awaits: the header and the answer

Write = Callable[[Buffer], Awaitable[None]]
"""Sends bytes: `stream.write`."""


class Refused(RemoteProtocolError):
    """A dialer was told that its proposal is not supported, and has made no other."""


async def select(reader: ReceiveBuffer, write: Write, protocols: Sequence[str], *, peer: PeerId | None = None) -> str:
    """Propose `protocols`, best first, one after the other; return the one that the listener agrees to.

    Raises `ProtocolNotSupported` where it refuses all, `RemoteProtocolError` where it answers anything else,
    `InvalidInput` for a list that cannot be sent, and what reading and writing raise.
    """
    proposals = [encode_message(protocol) for protocol in protocols]
    if not proposals:
        raise InvalidInput("no protocol to propose")
    parser = MessageParser()
    try:
        await write(HEADER_MESSAGE + proposals[0])
        await _read_header(reader, parser)
        for index, protocol in enumerate(protocols):
            if index:
                await write(proposals[index])
            answer = await _read_message(reader, parser)
            if answer == protocol:
                return protocol
            if answer != NOT_AVAILABLE:
                raise unexpected(answer, protocol)
    except StreamReset as error:
        if is_refusal(error):
            raise ProtocolNotSupported(protocols, peer=peer) from error
        raise
    raise ProtocolNotSupported(protocols, peer=peer)


def is_refusal(error: StreamReset) -> bool:
    """Whether a reset, while an answer is awaited, says that nothing proposed is supported."""
    return error.by == "remote" and error.code == StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED


class Offer:
    """One protocol proposed optimistically: its bytes may follow `message` at once, the answer is read later."""

    __slots__ = ("_awaited", "_failure", "_parser", "_peer", "_reader", "message")

    def __init__(self, reader: ReceiveBuffer, protocol: str, *, peer: PeerId | None = None) -> None:
        self.message = HEADER_MESSAGE + encode_message(protocol)
        """What the caller sends: the header and the proposal."""
        self._reader = reader
        self._peer = peer
        self._parser: MessageParser | None = None
        self._awaited = [PROTOCOL_ID, protocol]
        self._failure: Libp2pError | None = None

    async def agreement(self) -> None:
        """Read the answer. Raises `ProtocolNotSupported` where it is a refusal, `RemoteProtocolError` where it is no
        answer, and what reading raises. May be cancelled and called again; what the answer was is remembered.
        """
        if self._failure is not None:
            raise copy_of(self._failure)
        try:
            if len(self._awaited) == _UNANSWERED and not (self._parser and self._parser.started):
                # An agreement repeats the offer, mostly in one piece; no answer is shorter than a refusal.
                await self._reader.fill(min(len(self.message), len(_REFUSAL)))
                if self._reader.skip(self.message):
                    self._awaited.clear()
            while self._awaited:
                self._parser = self._parser or MessageParser()
                self._check(await _read_message(self._reader, self._parser), self._awaited[0])
                del self._awaited[0]
        except (RemoteProtocolError, ProtocolNotSupported) as error:
            self._failure = error
            raise
        except StreamReset as error:
            if not is_refusal(error):
                raise
            self._failure = ProtocolNotSupported([self._awaited[-1]], peer=self._peer)
            raise self._failure from error

    def _check(self, text: str, expected: str) -> None:
        if text == NOT_AVAILABLE and expected != PROTOCOL_ID:
            raise ProtocolNotSupported([expected], peer=self._peer)
        if text != expected:
            raise unexpected(text, expected)


async def handle(
    reader: ReceiveBuffer, write: Write, supports: Callable[[str], bool], *, listed: Callable[[], Iterable[str]]
) -> str:
    """Answer a dialer's proposals; return the first that `supports` accepts. `listed` are the protocols told to `ls`.

    Header and answer go out as one piece where the proposal has arrived with the dialer's header. Raises `Refused`
    where the dialer gives up, which still has to read why, `RemoteProtocolError` for anything but multistream-select,
    `LimitExceeded` behind `MAX_PROPOSALS` messages without agreement, and what reading and writing raise.
    """
    offer = parse_offer(reader.peek(OFFER_SIZE))
    if offer is not None and offer[0] != LIST and supports(offer[0]):  # mostly: then the answer repeats the offer
        reader.skip(offer[1])
        with suppress(StreamReset):
            await write(offer[1])
        return offer[0]
    parser = MessageParser()
    if not reader.skip(HEADER_MESSAGE):
        await _read_header(reader, parser)
    unsent = HEADER_MESSAGE
    if not reader.available:
        await write(unsent)
        unsent = b""
    refused = ""
    for _ in range(MAX_PROPOSALS):
        try:
            proposal = await _read_message(reader, parser)
        except (
            IncompleteRead,
            RemoteProtocolError,
        ) as error:  # its end, or what it had sent behind its offer
            if not refused:
                raise
            raise Refused(f"the dialer gave up: {refused} is not supported") from error
        if proposal == LIST:
            answer = encode_list(listed())
        elif supports(proposal):
            # A dialer that wants no answer may have stopped reading; what it sent is still for the handler.
            with suppress(StreamReset):
                await write(unsent + encode_message(proposal))
            return proposal
        else:
            refused = proposal
            answer = NOT_AVAILABLE_MESSAGE
        await write(unsent + answer)
        unsent = b""
    raise LimitExceeded("MAX_PROPOSALS", scope="a protocol negotiation", value=MAX_PROPOSALS)


async def _read_header(reader: ReceiveBuffer, parser: MessageParser) -> None:
    """ "If either side receives anything other than the multistream protocol id as the first message, they abort"."""
    text = await _read_message(reader, parser)
    if text != PROTOCOL_ID:
        raise unexpected(text, PROTOCOL_ID)


async def _read_message(reader: ReceiveBuffer, parser: MessageParser) -> str:
    while True:
        text = parser.feed(await reader.readexactly(parser.needed))
        if text is not None:
            return text

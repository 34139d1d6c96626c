"""The receiving half of the engine: packets of established connections are taken without what can't differ there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Unpack

from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, decode_packet_number
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import QuicStreamReceiver
from aioquic.tls import CipherSuite
from cryptography.exceptions import InvalidTag

from ..config import QuicConfig
from ..datagrams import SocketAddress
from .handshake import MAX_HANDSHAKE_MESSAGE, Origin
from .lane import ONE_RTT, Lane
from .nuisance import CountingEngine

_SMALL_DATAGRAM = 128
"""Bytes below which a datagram costs more than they do."""

_MAX_GAPS = 1000
"""Pieces of a stream that wait for what is missing before them; quic-go's limit. Each costs more memory than it has
bytes, if a peer wants that."""

_MAX_FORGED = {CipherSuite.CHACHA20_POLY1305_SHA256: 1 << 36}
_MAX_FORGED_GCM = 1 << 52
"""Packets that could not be decrypted, of one connection under all its keys: "If the total number of received packets
that fail authentication [...] exceeds the integrity limit for the selected AEAD, the endpoint MUST immediately close
the connection" (RFC 9001, 6.6)."""

_start_of, _stop_of = attrgetter("start"), attrgetter("stop")


class Pieces:
    """Which bytes of a stream have arrived (aioquic's `RangeSet`, which looks at all of them for each that comes)."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[range]) -> None:
        self._ranges = list(ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> range:
        return self._ranges[index]

    def shift(self) -> range:
        return self._ranges.pop(0)

    def add(self, start: int, stop: int) -> None:
        ranges = self._ranges
        first = bisect_left(ranges, start, key=_stop_of)
        last = bisect_right(ranges, stop, lo=first, key=_start_of)
        if first < last:
            start, stop = min(start, ranges[first].start), max(stop, ranges[last - 1].stop)
        ranges[first:last] = [range(start, stop)]


class ReceivingEngine(CountingEngine):
    """Adds a fast path for what bulk data looks like; anything else is aioquic's to take."""

    def __init__(self, configuration: QuicConfiguration, settings: QuicConfig, **origin: Unpack[Origin]) -> None:
        super().__init__(configuration, settings, **origin)
        self._heard = False  # whether a packet was taken since the idle timeout was last moved
        self._starved: set[Lane] = set()  # lanes that wait for the connection's window
        self._forged = 0  # packets that could not be decrypted

    def receive(self, data: bytes, size: int, addr: SocketAddress, now: float) -> int:
        """Take datagrams of `size` bytes each, but for the last one, that came from `addr` one behind the other: at
        least one of them, and what else fits in this turn, as `frames_left` says. How many bytes that were.
        """
        self._now = now
        taken = size
        if len(data) <= size:
            self._receive(data, addr, now)
        else:
            self._receive(data[:size], addr, now)
            while taken < len(data) and self.frames_left > 0:
                self._receive(data[taken : taken + size], addr, now)
                taken += size
        limit = self._local_max_data
        if 4 * (left := limit.value - limit.used) < self.window.size:
            self.window.make_room(left)
        if not self._is_client and not self._peer_cid.stateless_reset_token:
            self._use_peer_cid_with_token()
        if self._heard:
            self._heard = False
            if self._state in END_STATES:  # the goodbye was among them, which has set the time
                return taken
            self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = False
        return taken

    def _receive(self, data: bytes, addr: SocketAddress, now: float) -> None:
        self._datagram_begins()
        if len(data) < _SMALL_DATAGRAM:
            self.frames_left -= 1
        if self._close_pending or self._receive_fast(data, addr, now):
            return
        self.frames_left -= 1
        waiting, newest = self._space.ack_at, self._space.largest_received_packet
        path = self._network_paths[0] if self._network_paths else None
        self.receive_datagram(data, addr, now)
        if self._is_client and not data[0] & 0x80 and self._space.largest_received_packet > newest:
            self.host_cid = data[1:9]  # where the peer's newest packet went to, which is what stays fast to take
        if path is not None and self._network_paths[0] is not path:
            self._loss._pto_count = 0  # the peer has moved: what went to its old address is overdue
        if waiting is not None and self._space.ack_at == waiting:
            self._space.ack_at = min(waiting, now)

    def _use_peer_cid_with_token(self) -> None:
        """A dialer's first connection id has no stateless reset token. Send to another one, so that the dialer can say
        that it knows nothing of this connection, as after a restart.
        """
        if self._handshake_confirmed and not self._peer_cid.stateless_reset_token and self._peer_cid_available:
            self.change_connection_id()

    def _receive_fast(self, data: bytes, addr: SocketAddress, now: float) -> bool:
        """Take a packet of an established connection, without what can't be different there. False: aioquic must."""
        if (
            data[0] & 0x80
            or not self._handshake_confirmed
            or data[1:9] != self.host_cid
            or len(data) < 29
            or self._state in END_STATES
            or self._network_paths[0].addr != addr
            or not self._network_paths[0].is_validated  # aioquic counts what came from there
        ):
            return False
        keys = self._keys.recv
        assert keys.hp is not None
        assert keys.aead is not None
        mask = keys.hp._mask(data[13:29])
        first = data[0] ^ (mask[0] & 0x1F)
        if (first & 4) >> 2 != keys.key_phase or first & 0x18:
            return False
        length = (first & 3) + 1
        end = 9 + length
        number = int.from_bytes(data[9:end], "big") ^ (int.from_bytes(mask[1:5], "big") >> (32 - 8 * length))
        head = b"".join((bytes((first,)), data[1:9], number.to_bytes(length, "big")))
        space = self._space
        number = decode_packet_number(number, 8 * length, space.expected_packet_number)
        try:
            payload = keys.aead._aead.decrypt((keys.aead._iv ^ number).to_bytes(12, "big"), data[end:], head)
        except InvalidTag:
            self._note_forged()
            return True
        if number in space.received_packets:
            self.frames_left -= 1
            return True
        eliciting = self._receive_stream_frame(payload)
        if not eliciting:
            context = QuicReceiveContext(ONE_RTT, self.host_cid, self._network_paths[0], None, now, None)
            try:
                eliciting, _ = self._payload_received(context, payload)
            except QuicConnectionError as error:
                self.close(error.error_code, error.frame_type, error.reason_phrase)
            if self._close_pending or self._state in END_STATES:
                return True
        if number > self._spin_highest_pn:
            self._spin_bit = bool(first & 0x20) is not self._is_client
            self._spin_highest_pn = number
        self._heard = True
        self._note_packet(space, number, eliciting, now)
        return True

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        decrypt = self._keys.decrypt_packet

        def count(packet: bytes, encrypted_offset: int, expected_packet_number: int) -> tuple[bytes, bytes, int]:
            try:
                return decrypt(packet, encrypted_offset, expected_packet_number)
            except CryptoError:
                if self._keys.recv.is_valid():
                    self._note_forged()
                raise

        self._keys.decrypt_packet = count  # type: ignore[method-assign]

    def _note_forged(self) -> None:
        """A packet could not be decrypted: somebody guesses, or it was damaged on its way."""
        self._forged += 1
        self.frames_left -= 1
        suite = self.tls.key_schedule.cipher_suite if self.tls.key_schedule is not None else None
        if self._forged > _MAX_FORGED.get(suite, _MAX_FORGED_GCM):  # type: ignore[arg-type] # None: before any
            self.close(QuicErrorCode.AEAD_LIMIT_REACHED, QuicFrameType.PADDING, "too many packets were forged")

    def _note_packet(self, space: QuicPacketSpace, number: int, eliciting: bool, now: float) -> None:
        """A packet was taken: acknowledge it, if it is `eliciting`."""
        in_order = number == space.largest_received_packet + 1
        if number >= space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.ack_queue.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        space.received_packets.add(number)
        if eliciting:
            space.ack_at = now + self._ack_delay if space.ack_at is None and in_order else now

    def _receive_stream_frame(self, payload: bytes) -> bool:
        """Take what a packet holds where that is one STREAM frame, the next of its stream. False: it is not."""
        end = len(payload)
        if end < 26 or (kind := payload[0]) & 0xF9 != QuicFrameType.STREAM_BASE:  # not its last, with three varints
            return False
        stream_id, position = _pull_varint(payload, 1)
        offset = 0
        if kind & 4:
            offset, position = _pull_varint(payload, position)
        if kind & 2:
            size, position = _pull_varint(payload, position)
            if position + size != end:
                return False
        size = end - position
        lane = self.lanes.get(stream_id)
        if lane is None or not size:
            return False
        receiver, data = lane.receiver, self._local_max_data
        if (
            offset != receiver._buffer_start
            or offset != receiver.highest_offset
            or receiver._final_size is not None
            or receiver.is_finished
            or offset + size > lane.quic.max_stream_data_local
            or data.used + size > data.value
        ):
            return False
        receiver._buffer_start = receiver.highest_offset = offset + size
        data.used += size
        self._events.append((lane, payload[position:]))  # type: ignore[arg-type]
        return True

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        if buf.pull_uint_var() >= self._packet_number:  # or all that is sent from now on would count as lost
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "a packet is acknowledged that was never sent"
            )
        buf.seek(start)
        super()._handle_ack_frame(context, frame_type, buf)

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_stream_frame(context, frame_type, buf)
        if (quic := self._streams.get(stream_id)) is not None:
            _bound_gaps(quic.receiver, frame_type, QuicErrorCode.INTERNAL_ERROR)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stop = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        receiver = self._crypto_streams[context.epoch].receiver
        if stop - receiver.starting_offset() > MAX_HANDSHAKE_MESSAGE:  # aioquic would make room for eight times as much
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too far ahead")
        super()._handle_crypto_frame(context, frame_type, buf)
        _bound_gaps(receiver, frame_type, QuicErrorCode.CRYPTO_BUFFER_EXCEEDED)

    def _handle_padding_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:  # noqa: ARG002
        rest = buf.data_slice(buf.tell(), buf.capacity).lstrip(b"\0")  # aioquic looks at each byte
        buf.seek(buf.capacity - len(rest))

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        starved, self._starved = self._starved, set()
        for lane in starved:
            self._enqueue(lane)

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        if lane := self.lanes.get(stream_id):
            self._enqueue(lane)


def _bound_gaps(receiver: QuicStreamReceiver, frame_type: int, code: QuicErrorCode) -> None:
    """Refuse a stream in too many pieces, and have those that there are found fast."""
    if not (count := len(receiver._ranges)):
        return
    if count > _MAX_GAPS:
        raise QuicConnectionError(code, frame_type, "too many gaps in a stream")
    if type(receiver._ranges) is RangeSet:
        receiver._ranges = Pieces(receiver._ranges)  # type: ignore[assignment] # it is used as one


def _pull_varint(data: Sequence[int], position: int) -> tuple[int, int]:
    """The variable-length integer (RFC 9000, 16) at `position`, and where it ends."""
    first = data[position]
    end = position + (1 << (first >> 6))
    value = first & 0x3F
    for byte in data[position + 1 : end]:
        value = value << 8 | byte
    return value, end

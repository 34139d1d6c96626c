"""The QUIC state machine: aioquic's, with libp2p's handshake, flow control tied to reading, and a fast path for bulk.

    bytes of a writer -> Lane -> whole packets (`_write_bulk`), or frames packed together (`_write_lanes`) -> datagrams
    datagrams -> packets with one STREAM frame (`_receive_fast`), or anything else (aioquic) -> events

All that touches aioquic's private names is in this module; aioquic is pinned to a minor release, and
tests/unit/transports/test_quic_engine.py fails for each name that is gone or works otherwise. What is done, and why:

- Handshake (specs: quic/README.md, tls/tls.md): the listener demands a certificate and refuses an empty answer; both
  sides verify the other's by the rules of libp2p; only X25519 is offered, which saves three key generations; handshake
  messages are bounded.
- Flow control: aioquic doubles its windows as data arrives, read or not. Here they follow what was read.
- Writing: aioquic goes through all streams for each packet. Here those with something to send wait in a queue, and take
  turns; a turn is `_TURN` packets.
- Receiving: a packet is acknowledged at once when another one waits for that already, or when one is missing, else
  within a millisecond (RFC 9000, 13.2.1 and 13.2.2).
- Pacing: in bursts of up to `_BURST` seconds, since timers of event loops are no finer than a millisecond.
- Keys are renewed long before AES-GCM's limit of 2^23 packets (RFC 9001, 6.6).
- Datagrams become larger once the path has shown to carry them (path_mtu.py).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import size_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    ACK_FRAME_CAPACITY,
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    PING_FRAME_CAPACITY,
    TRANSPORT_CLOSE_FRAME_CAPACITY,
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    decode_packet_number,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketPacer, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography.exceptions import InvalidTag

from ...errors import HandshakeError, PeerIdMismatch
from ...identity import PeerId, PublicKey
from ...security.tls.certificate import verify_chain
from .config import INITIAL_DATAGRAM_SIZE, QuicConfig
from .datagrams import SocketAddress
from .flow_control import ReceiveWindow
from .path_mtu import PathMtu

MAX_HANDSHAKE_MESSAGE = 65_536
"""Bytes of one TLS message that are buffered; a libp2p certificate has less than a thousand, or with RSA two."""

_MAX_REASON = 256
"""Bytes of the words that we give as the reason of a close."""

_KEY_LIFETIME = 1 << 22
"""Packets sent until the keys are renewed: half of what AES-GCM allows."""

_TURN = 16
"""Packets that one stream sends before the next one has its turn."""

_BURST = 0.002
_PACING_GAIN = 1.25
"""By how much pacing is faster than a window a round trip, so that the window can be used up (RFC 9002, 7.7)."""
_MAX_BURST = 64
"""Packets that are sent at once, at most: as many as one system call takes."""

_CERTIFICATE_REQUIRED = 116  # the TLS alert, which aioquic's table lacks

logging.getLogger("quic").addHandler(logging.NullHandler())  # aioquic warns of what peers do: for who asks to hear it

_ONE_RTT = tls.Epoch.ONE_RTT
_ACKED = QuicDeliveryState.ACKED

LaneData = tuple["Lane", bytes]
"""An event besides aioquic's: bytes that arrived in order."""


class Lane:
    """One stream, as the engine sees it."""

    __slots__ = ("end_told", "head", "id", "queued", "quic", "receiver", "sender", "stream", "window")

    def __init__(self, quic: QuicStream, window: ReceiveWindow) -> None:
        assert quic.stream_id is not None
        self.id = quic.stream_id
        self.quic = quic
        self.sender = quic.sender
        self.receiver = quic.receiver
        self.window = window
        self.queued = False
        """Whether it waits for its turn to send."""
        self.end_told = False
        """Whether the owner knows that the peer's direction has ended."""
        self.head = bytes((QuicFrameType.STREAM_BASE | 4,)) + _varint(self.id)
        """How a STREAM frame with an offset, and up to the end of its packet, begins."""
        self.stream: Any = None
        """For the use of the engine's owner."""

    @property
    def unsent(self) -> int:
        """Bytes written that were not sent yet."""
        return self.sender._buffer_stop - self.sender.highest_offset

    @property
    def has_more(self) -> bool:
        """Whether there is something to send: bytes, or the end of the stream."""
        sender = self.sender
        if sender.buffer_is_empty:
            return False
        if not len(sender._pending) and not sender._pending_eof:
            sender.buffer_is_empty = True
            return False
        return True

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has acknowledged everything that was written."""
        sender = self.sender
        if sender.is_finished or sender._reset_error_code is not None:
            return True
        return sender._buffer_start == sender._buffer_stop and sender._buffer_fin is None


class SentPacket:
    """What aioquic remembers of a packet under way (its `QuicSentPacket`), with no room for what bulk data lacks."""

    __slots__ = ("delivery_handlers", "packet_number", "sent_bytes", "sent_time")

    epoch = _ONE_RTT
    in_flight = is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT
    quic_logger_frames = ()

    def __init__(self, packet_number: int, sent_bytes: int, handlers: list[Any]) -> None:
        self.packet_number = packet_number
        self.sent_bytes = sent_bytes
        self.delivery_handlers = handlers
        self.sent_time = 0.0


class Pacer(QuicPacketPacer):
    """Lets go as many packets at once as belong to `_BURST` seconds."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(int(_PACING_GAIN * congestion_window), smoothed_rtt)
        assert self.packet_time is not None
        self.bucket_max = max(self.bucket_max, min(_BURST, _MAX_BURST * self.packet_time))


class Engine(QuicConnection):
    """One side of one QUIC connection, without I/O: see aioquic's `QuicConnection` for what is not said here."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        settings: QuicConfig,
        *,
        expected_peer: PeerId | None = None,
        original_destination_cid: bytes | None = None,
        retry_source_cid: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_cid,
            retry_source_connection_id=retry_source_cid,
        )
        self.remote_key: PublicKey | None = None
        """The peer's identity key, once it is verified."""
        self.refusal: HandshakeError | None = None
        """What we found wrong with the peer's certificate."""
        self.lanes: dict[int, Lane] = {}
        """The streams that are open on the wire, by their id."""
        self.path_mtu = PathMtu(INITIAL_DATAGRAM_SIZE, settings.max_datagram_size)
        self._settings = settings
        self._expected_peer = expected_peer
        self._now = 0.0
        self._consumed = 0  # bytes of all streams that were read
        self._queue: deque[Lane] = deque()
        self._starved: set[Lane] = set()  # lanes that wait for the connection's window
        self._grants: deque[Lane] = deque()  # lanes whose window has moved
        self._keys_since = 0
        self._heard = False  # whether a packet was taken since the idle timeout was last moved
        self._local_max_streams_bidi = Limit(QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", settings.max_streams)
        self._local_max_streams_uni = Limit(QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", 0)
        self._loss._pacer = Pacer(max_datagram_size=self._max_datagram_size)

    # What the owner asks

    @property
    def is_established(self) -> bool:
        """Whether both sides have verified each other: for a dialer once the listener has confirmed the handshake."""
        return self._handshake_confirmed

    @property
    def is_complete(self) -> bool:
        """Whether we have verified the peer."""
        return self._handshake_complete

    @property
    def has_begun(self) -> bool:
        """Whether a packet of the peer could be read."""
        return self._state.value > 0

    @property
    def is_over(self) -> bool:
        """Whether the connection is closed, by either side: nothing is sent or received any more."""
        return self._state in END_STATES

    @property
    def is_closed_by_peer(self) -> bool:
        """Whether it was the peer who closed the connection."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def close_event(self) -> Any:
        """Why it is closed, or is about to be: aioquic's `ConnectionTerminated`; None while it is open."""
        return self._close_event

    @property
    def rtt(self) -> float | None:
        """The smoothed round-trip time, in seconds."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def agreed_idle_timeout(self) -> float:
        """Seconds of silence after which one of the two sides gives up."""
        return self._idle_timeout()

    @property
    def probe_timeout(self) -> float:
        """Seconds until something unacknowledged is sent again."""
        return self._loss.get_probe_timeout()

    @property
    def host_cids(self) -> list[bytes]:
        """The connection ids by which the peer may address us now."""
        return [one.cid for one in self._host_cids]

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        reason = reason_phrase.encode()[:_MAX_REASON].decode(errors="ignore")  # the frame must fit in a packet
        super().close(error_code, frame_type, reason)

    # Streams

    @property
    def can_open(self) -> bool:
        """Whether the peer lets us open a stream now."""
        return self._local_next_stream_id_bidi // 4 < self._remote_max_streams_bidi

    def open(self, now: float) -> Lane:
        """A new stream. The peer hears of it with the first bytes, the end, or a reset."""
        quic = self._get_or_create_stream_for_send(self._local_next_stream_id_bidi)
        self._streams_queue.remove(quic)
        return self._adopt(quic, now)

    def opened(self, now: float) -> list[Lane]:
        """The streams that the peer has opened since the last call."""
        if not self._streams_queue:
            return []
        fresh, self._streams_queue = self._streams_queue, []
        return [self._adopt(quic, now) for quic in fresh]

    def write(self, lane: Lane, data: bytes | memoryview) -> None:
        """Send `data`, which is copied."""
        lane.sender.write(data)  # type: ignore[arg-type] # any buffer will do
        self._enqueue(lane)

    def finish(self, lane: Lane) -> None:
        """Nothing more is written."""
        lane.sender.write(b"", end_stream=True)
        self._enqueue(lane)

    def reset(self, lane: Lane, code: int) -> None:
        """End our direction at once."""
        lane.sender.reset(code)
        self._enqueue(lane)

    def stop(self, lane: Lane, code: int) -> None:
        """Ask the peer to end its direction at once."""
        if not lane.receiver.is_finished:
            lane.receiver.stop(code)
            self._enqueue(lane)

    def consumed(self, lane: Lane, n: int, now: float) -> bool:
        """`n` bytes that arrived on `lane` were read; whether the peer should hear of it."""
        n = min(n, lane.receiver._buffer_start - lane.window.read)
        self._consumed += n
        if lane.window.consume(n, now, self.rtt) and lane.receiver._final_size is None:
            lane.quic.max_stream_data_local = lane.window.limit
            self._grants.append(lane)
            return True
        return self._data_limit_due()

    def abandon(self, lane: Lane, now: float) -> bool:
        """Everything that has arrived on `lane` counts as read; whether the peer should hear of it."""
        return self.consumed(lane, lane.receiver._buffer_start, now)

    def ended(self, lane: Lane) -> None:
        """The owner knows that the peer has ended its direction. Of a reset one, what never arrived counts as read."""
        lane.end_told = True
        self._consumed += lane.receiver.highest_offset - lane.receiver._buffer_start
        self._settle(lane)

    def _settle(self, lane: Lane) -> None:
        """Forget `lane` if both directions have ended; the peer may then open another."""
        if lane.end_told and lane.quic.is_finished and self._streams.pop(lane.id, None) is not None:
            del self.lanes[lane.id]
            if bool(lane.id & 1) is self._is_client:
                self._local_max_streams_bidi.value += 1

    def stopped(self, lane: Lane) -> None:
        """The owner knows that the peer wants nothing more on `lane`: it is told that our direction has ended."""
        self._enqueue(lane)

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has acknowledged all that was written, on all streams."""
        return all(lane.is_delivered for lane in self.lanes.values())

    # Events

    def take_events(self) -> deque[QuicEvent | LaneData]:
        """What has happened since the last call, in order; `opened` comes before."""
        events: deque[QuicEvent | LaneData] = self._events  # type: ignore[assignment] # it holds both
        self._events = deque()
        return events

    # The handshake

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        context = self.tls
        context._request_client_certificate = True
        if self._is_client:
            context._supported_groups = [tls.Group.X25519]
        check_signature = context._check_certificate_verify_signature
        take_client_certificate = context._server_handle_certificate
        take_message = context.handle_message

        def check(verify: Any) -> None:
            check_signature(verify)
            self._verify_peer(context)

        def take_certificate(buf: Buffer) -> None:
            take_client_certificate(buf)
            # "servers MUST require client authentication during the TLS handshake"
            if context._peer_certificate is None:
                raise _CertificateRequired("libp2p: a client must show a certificate")

        def take(data: bytes, output: Any) -> None:
            if len(context._receive_buffer) + len(data) > MAX_HANDSHAKE_MESSAGE:
                raise tls.AlertDecodeError(f"a handshake message has more than {MAX_HANDSHAKE_MESSAGE} bytes")
            take_message(data, output)

        context._check_certificate_verify_signature = check  # type: ignore[method-assign]
        context._server_handle_certificate = take_certificate  # type: ignore[method-assign, assignment]
        context.handle_message = take  # type: ignore[method-assign, assignment]

    def _verify_peer(self, context: tls.Context) -> None:
        assert context._peer_certificate is not None
        try:
            key = verify_chain([context._peer_certificate, *context._peer_certificate_chain], now=datetime.now(UTC))
            # "Clients MUST verify that the peer ID derived from the certificate matches the peer ID they intended to
            # connect to, and MUST abort the connection if there is a mismatch."
            if self._expected_peer is not None and key.peer_id != self._expected_peer:
                raise PeerIdMismatch(expected=self._expected_peer, actual=key.peer_id)
        except HandshakeError as error:
            self.refusal = error
            raise tls.AlertBadCertificate(f"libp2p: {error}") from error
        self.remote_key = key

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        # What only a handshake needs, 48 KiB of buffers first of all, would stay for as long as the connection.
        self._crypto_buffers = {epoch: Buffer(capacity=0) for epoch in self._crypto_buffers}
        self.tls._peer_certificate = None
        self.tls._peer_certificate_chain = []

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        if maximum := pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size:
            self.path_mtu.limit(maximum)

    # Receiving

    def receive(self, data: bytes, size: int, addr: SocketAddress, now: float) -> None:
        """Take datagrams of `size` bytes each, but for the last one, that came from `addr` one behind the other."""
        self._now = now
        if len(data) <= size:
            self._receive(data, addr, now)
        else:
            for start in range(0, len(data), size):
                self._receive(data[start : start + size], addr, now)
        if self._heard:
            self._heard = False
            self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = False

    def _receive(self, data: bytes, addr: SocketAddress, now: float) -> None:
        if self._receive_fast(data, addr, now):
            return
        space = self._spaces.get(_ONE_RTT)
        waiting = space.ack_at if space is not None else None
        self.receive_datagram(data, addr, now)
        if waiting is not None and space is not None and space.ack_at == waiting:
            space.ack_at = min(waiting, now)

    def _receive_fast(self, data: bytes, addr: SocketAddress, now: float) -> bool:
        """Take a packet of an established connection, without what can't be different there. False: aioquic must."""
        if (
            data[0] & 0x80
            or not self._handshake_confirmed
            or data[1:9] != self.host_cid
            or len(data) < 29
            or self._close_pending
            or self._state in END_STATES
            or self._network_paths[0].addr != addr
        ):
            return False
        keys = self._cryptos[_ONE_RTT].recv
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
        space = self._spaces[_ONE_RTT]
        number = decode_packet_number(number, 8 * length, space.expected_packet_number)
        try:
            payload = keys.aead._aead.decrypt((keys.aead._iv ^ number).to_bytes(12, "big"), data[end:], head)
        except InvalidTag:
            return True
        if number in space.received_packets:
            return True
        eliciting = self._receive_stream_frame(payload)
        if not eliciting:
            context = QuicReceiveContext(_ONE_RTT, self.host_cid, self._network_paths[0], None, now, None)
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
        kind, end = payload[0], len(payload)
        if kind & 0xF9 != QuicFrameType.STREAM_BASE or end < 26:  # not the last frame, and three varints fit in
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

    # Sending

    def datagrams(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """What is to be sent now, and where to."""
        self._now = now
        datagrams = self.datagrams_to_send(now)
        path = self._network_paths[0]
        if self._handshake_confirmed and path.is_validated and not self.is_over and (size := self.path_mtu.probe(now)):
            datagrams.append((self._mtu_probe(size, now), path.addr))
        return datagrams

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        pair = self._cryptos[_ONE_RTT]
        if not pair.send.is_valid():
            return
        if self._packet_number - self._keys_since > _KEY_LIFETIME and self._handshake_confirmed:
            self._keys_since = self._packet_number
            self.request_key_update()
        space = self._spaces[_ONE_RTT]
        pacer = self._loss._pacer
        while True:
            ack_due = space.ack_at is not None and space.ack_at <= now
            control = self._control_due()
            if not (ack_due or control or self._queue):
                return
            if not ack_due:
                self._pacing_at = cast("float | None", pacer.next_send_time(now=now))
                if self._pacing_at is not None:
                    return
            if not (ack_due or control) and network_path.is_validated and self._is_bulk(self._queue[0]):
                if not self._write_bulk(builder):
                    return
                continue
            builder.start_packet(QuicPacketType.ONE_RTT, pair)
            try:
                self._write_packet(builder, space, network_path, now, ack_due)
            except QuicPacketBuilderStop:
                if builder.packet_is_empty:  # there is no room for anything any more
                    return
            if builder.packet_is_empty:
                return
            pacer.update_after_send(now=now)

    def _control_due(self) -> bool:
        """Whether there are frames to send other than those of streams and acknowledgements."""
        crypto = self._crypto_streams[_ONE_RTT]
        return bool(
            self._grants
            or self._ping_pending
            or self._probe_pending
            or self._handshake_done_pending
            or not crypto.sender.buffer_is_empty
            or (
                self._handshake_complete
                and (
                    self._retire_connection_ids
                    or self._path_frames_due()
                    or self._data_limit_due()
                    or self._stream_limit_due()
                    or any(not cid.was_sent for cid in self._host_cids)
                )
            )
        )

    def _path_frames_due(self) -> bool:
        path = self._network_paths[0]
        return bool(path.remote_challenges) or not (path.is_validated or path.local_challenge_sent)

    def _write_packet(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, path: QuicNetworkPath, now: float, ack_due: bool
    ) -> None:
        """Put into one packet what there is to send, the most urgent first."""
        if ack_due:
            self._write_ack_frame(builder=builder, space=space, now=now)
        if self._handshake_complete:
            self._write_connection_frames(builder, path, now)
        while self._grants:
            self._write_stream_limit(builder, self._grants[0])
            self._grants.popleft()
        if self._ping_pending:
            self._write_ping_frame(builder, self._ping_pending)
            self._ping_pending.clear()
        if self._probe_pending:
            self._write_ping_frame(builder, comment="probe")
            self._probe_pending = False
        if not self._crypto_streams[_ONE_RTT].sender.buffer_is_empty:
            self._write_crypto_frame(builder=builder, space=space, stream=self._crypto_streams[_ONE_RTT])
        self._write_lanes(builder)
        if (
            space.ack_at is not None
            and not builder.packet_is_empty
            and builder.remaining_buffer_space >= ACK_FRAME_CAPACITY
        ):
            self._write_ack_frame(builder=builder, space=space, now=now)  # it would follow soon in a packet of its own

    def _write_connection_frames(self, builder: QuicPacketBuilder, path: QuicNetworkPath, now: float) -> None:
        if not (path.is_validated or path.local_challenge_sent):
            self._write_path_challenge_frame(builder=builder, network_path=path)
            if path.validation_deadline is None:
                # "three times the larger of the current PTO or the PTO for the new path" (RFC 9000, 8.2.4)
                probe_timeout = max(self._loss.get_probe_timeout(), 2 * self._configuration.initial_rtt)
                path.validation_deadline = now + 3 * probe_timeout
        if self._handshake_done_pending:
            self._write_handshake_done_frame(builder=builder)
            self._handshake_done_pending = False
        while path.remote_challenges:
            self._write_path_response_frame(builder=builder, challenge=path.remote_challenges[0])
            path.remote_challenges.popleft()
        for cid in self._host_cids:
            if not cid.was_sent:
                self._write_new_connection_id_frame(builder=builder, connection_id=cid)
        while self._retire_connection_ids:
            self._write_retire_connection_id_frame(builder=builder, sequence_number=self._retire_connection_ids[0])
            self._retire_connection_ids.pop(0)
        if self._data_limit_due():
            self._local_max_data.value = max(
                self._local_max_data.value, self._consumed + self._settings.connection_window
            )
            self._write_limit(builder, self._local_max_data)
        if self._stream_limit_due():
            self._write_limit(builder, self._local_max_streams_bidi)

    def _data_limit_due(self) -> bool:
        """Whether the connection's window has moved by a quarter, or the peer has lost what it was told."""
        limit, window = self._local_max_data, self._settings.connection_window
        return limit.sent == 0 or self._consumed + window - limit.sent >= window // 4

    def _stream_limit_due(self) -> bool:
        """Whether the peer may open more streams than it has left, or has lost what it was told."""
        limit = self._local_max_streams_bidi
        return limit.value - limit.sent > limit.sent - limit.used

    def _write_limit(self, builder: QuicPacketBuilder, limit: Limit) -> None:
        buf = builder.start_frame(
            limit.frame_type,
            capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        buf.push_uint_var(limit.value)
        limit.sent = limit.value

    def _write_stream_limit(self, builder: QuicPacketBuilder, lane: Lane) -> None:
        if lane.receiver._final_size is not None or lane.receiver.is_finished:
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_stream_limit,
            handler_args=(lane,),
        )
        buf.push_uint_var(lane.id)
        buf.push_uint_var(lane.window.limit)

    # The frames of streams

    def _adopt(self, quic: QuicStream, now: float) -> Lane:
        lane = Lane(
            quic, ReceiveWindow(self._settings.stream_window, maximum=self._settings.max_stream_window, now=now)
        )
        self.lanes[lane.id] = lane
        return lane

    def _enqueue(self, lane: Lane) -> None:
        if not lane.queued:
            lane.queued = True
            self._queue.append(lane)

    def _write_lanes(self, builder: QuicPacketBuilder) -> None:
        """Fill the rest of a packet with the frames of the streams whose turn it is."""
        for _ in range(len(self._queue)):
            lane = self._queue[0]
            if lane.receiver.stop_pending and not lane.receiver.is_finished:
                self._write_stop(builder, lane)
            if lane.sender.reset_pending:
                self._write_reset(builder, lane)
            elif self._write_stream(builder, lane) and lane.has_more:
                self._queue.rotate(-1)
                continue
            self._queue.popleft()
            lane.queued = False

    def _write_stream(self, builder: QuicPacketBuilder, lane: Lane) -> bool:
        """Write a STREAM frame; whether there was one to write."""
        if not lane.has_more:
            return False
        sender = lane.sender
        offset, sent = sender.next_offset, sender.highest_offset
        overhead = 3 + size_uint_var(lane.id) + (size_uint_var(offset) if offset else 0)
        room = self._remote_max_data - self._remote_max_data_used
        space = builder.remaining_flight_space - overhead
        frame = sender.get_frame(space, min(sent + room, lane.quic.max_stream_data_remote))
        if frame is None:
            if space <= 0:
                raise QuicPacketBuilderStop
            if not room:
                self._starved.add(lane)
            return False
        size = len(frame.data)
        buf = builder.start_frame(
            QuicFrameType.STREAM_BASE | 2 | (4 if offset else 0) | frame.fin,
            capacity=overhead,
            handler=self._on_stream_data,
            handler_args=(lane, frame.offset, frame.offset + size, frame.fin),
        )
        buf.push_uint_var(lane.id)
        if offset:
            buf.push_uint_var(offset)
        buf.push_uint16(size | 0x4000)
        buf.push_bytes(frame.data)
        self._remote_max_data_used += sender.highest_offset - sent
        return True

    def _write_reset(self, builder: QuicPacketBuilder, lane: Lane) -> None:
        buf = builder.start_frame(QuicFrameType.RESET_STREAM, capacity=25, handler=self._on_reset, handler_args=(lane,))
        frame = lane.sender.get_reset_frame()
        buf.push_uint_var(lane.id)
        buf.push_uint_var(frame.error_code)
        buf.push_uint_var(frame.final_size)

    def _write_stop(self, builder: QuicPacketBuilder, lane: Lane) -> None:
        buf = builder.start_frame(QuicFrameType.STOP_SENDING, capacity=17, handler=self._on_stop, handler_args=(lane,))
        frame = lane.receiver.get_stop_frame()
        buf.push_uint_var(lane.id)
        buf.push_uint_var(frame.error_code)

    def _is_bulk(self, lane: Lane) -> bool:
        """Whether the stream's next bytes fill a packet."""
        sender = lane.sender
        return (
            not (sender.buffer_is_empty or sender.reset_pending or lane.receiver.stop_pending)
            and len(sender._pending) > 0
            and self._handshake_confirmed
            and not self._cryptos[_ONE_RTT]._update_key_requested
            and len(sender._pending[0]) >= self._max_datagram_size
        )

    def _write_bulk(self, builder: QuicPacketBuilder) -> int:
        """Write packets that are full of the next stream's bytes, until its turn is over; return how many."""
        if builder._packet is not None:
            builder._end_packet()
        lane = self._queue[0]
        sender, pacer, keys = lane.sender, self._loss._pacer, self._cryptos[_ONE_RTT].send
        assert keys.hp is not None
        assert keys.aead is not None
        encrypt, iv, mask_of = keys.aead._aead.encrypt, keys.aead._iv, keys.hp._mask
        cid, size, number = self._peer_cid.cid, self._max_datagram_size, builder._packet_number
        first = 0x41 | (self._spin_bit << 5) | (keys.key_phase << 2)  # a packet number of two bytes
        opening = bytes((first,)) + cid
        pending = sender._pending[0]
        start, stop = pending.start, pending.stop
        offset_size, marker = (4, 0x80000000) if stop < 1 << 30 else (8, 0xC000000000000000)
        capacity = size - len(opening) - 2 - 16 - len(lane.head) - offset_size

        assert builder.max_flight_bytes is not None
        count = min(_TURN, (builder.max_flight_bytes - builder._flight_bytes) // size)
        if pacer.packet_time is not None:
            count = min(count, int(pacer.bucket_time / pacer.packet_time) + 1)
        count = min(count, (stop - start) // capacity)
        if count <= 0:
            return 0
        limit = min(
            lane.quic.max_stream_data_remote,
            sender.highest_offset + self._remote_max_data - self._remote_max_data_used,
        )
        count = min(count, (limit - start) // capacity)
        if count <= 0:  # the peer's windows are nearly full: the rest goes as smaller frames
            return self._write_remainder(builder, lane)

        origin = sender._buffer_start
        stop = start + count * capacity
        data = bytes(memoryview(sender._buffer)[start - origin : stop - origin])
        datagrams, packets, on_data = builder._datagrams, builder._packets, self._on_stream_data
        for begin in range(0, count * capacity, capacity):
            plain = b"".join(
                (lane.head, (start + begin | marker).to_bytes(offset_size, "big"), data[begin : begin + capacity])
            )
            short = number & 0xFFFF
            head = opening + short.to_bytes(2, "big")
            sealed = encrypt((iv ^ number).to_bytes(12, "big"), plain, head)
            mask = mask_of(sealed[2:18])
            datagrams.append(
                b"".join(
                    (
                        bytes((first ^ (mask[0] & 0x1F),)),
                        cid,
                        (short ^ (mask[1] << 8 | mask[2])).to_bytes(2, "big"),
                        sealed,
                    )
                )
            )
            handler = on_data, (lane, start + begin, start + begin + capacity, False)
            packets.append(SentPacket(number, size, [handler]))  # type: ignore[arg-type]
            number += 1
        builder._packet_number = number
        builder._flight_bytes += count * size
        builder._total_bytes += count * size
        sender._pending.subtract(start, stop)
        if stop > sender.highest_offset:
            self._remote_max_data_used += stop - sender.highest_offset
            sender.highest_offset = stop
        if pacer.packet_time is not None:
            pacer.bucket_time = max(0.0, pacer.bucket_time - count * pacer.packet_time)
        self._queue.rotate(-1)
        return count

    def _write_remainder(self, builder: QuicPacketBuilder, lane: Lane) -> int:
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[_ONE_RTT])
        if self._write_stream(builder, lane):
            self._loss._pacer.update_after_send(now=self._now)
        else:  # it comes back when the peer grants more
            self._queue.popleft()
            lane.queued = False
        return 1

    # What became of frames

    def _on_stream_data(self, delivery: QuicDeliveryState, lane: Lane, start: int, stop: int, fin: bool) -> None:
        sender = lane.sender
        if delivery is _ACKED:
            if (
                start == sender._buffer_start
                and not fin
                and not len(sender._acked)
                and stop != sender._buffer_fin
                and sender._reset_error_code is None
            ):
                sender._buffer_start = stop
                del sender._buffer[: stop - start]
                return
            sender.on_data_delivery(delivery, start, stop, fin)
            if sender.is_finished:
                self._settle(lane)
        else:
            sender.on_data_delivery(delivery, start, stop, fin)
            self._enqueue(lane)

    def _on_reset(self, delivery: QuicDeliveryState, lane: Lane) -> None:
        lane.sender.on_reset_delivery(delivery)
        if delivery is _ACKED:
            self._settle(lane)
        else:
            self._enqueue(lane)

    def _on_stop(self, delivery: QuicDeliveryState, lane: Lane) -> None:
        lane.receiver.on_stop_sending_delivery(delivery)
        if delivery is not _ACKED:
            self._enqueue(lane)

    def _on_stream_limit(self, delivery: QuicDeliveryState, lane: Lane) -> None:
        if delivery is not _ACKED and lane.id in self.lanes:
            self._grants.append(lane)

    # The size of datagrams

    def _mtu_probe(self, size: int, now: float) -> bytes:
        """A datagram of `size` bytes that carries nothing. Congestion control does not hear of it."""
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[_ONE_RTT])
        builder.start_frame(QuicFrameType.PING, capacity=PING_FRAME_CAPACITY, handler=self._on_mtu_probe)
        builder._datagram_needs_padding = True
        (datagram,), (packet,) = builder.flush()
        self._packet_number = builder.packet_number
        packet.in_flight = False
        packet.sent_time = now
        self._loss.on_packet_sent(packet=packet, space=self._spaces[_ONE_RTT])
        self._loss._time_of_last_sent_ack_eliciting_packet = now
        return datagram

    def _on_mtu_probe(self, delivery: QuicDeliveryState) -> None:
        self.path_mtu.on_probe(delivery is _ACKED, self._now)
        self._use_datagram_size()

    def expire(self, now: float) -> None:
        """The time that `get_timer` told has come."""
        self._now = now
        self.handle_timer(now)
        self.path_mtu.on_timeouts(self._loss._pto_count, now)
        self._use_datagram_size()

    def _use_datagram_size(self) -> None:
        if (size := self.path_mtu.size) != self._max_datagram_size:
            self._max_datagram_size = size
            self._loss._pacer._max_datagram_size = size
            self._loss._cc._max_datagram_size = size  # type: ignore[attr-defined]


def refusal(header: QuicHeader) -> bytes:
    """A datagram that tells who sent an Initial packet that there will be no connection."""
    pair = CryptoPair()
    pair.setup_initial(cid=header.destination_cid, is_client=False, version=QuicProtocolVersion.VERSION_1)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=INITIAL_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=QuicProtocolVersion.VERSION_1,
    )
    builder.start_packet(QuicPacketType.INITIAL, pair)
    buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY)
    for value in (QuicErrorCode.CONNECTION_REFUSED, QuicFrameType.PADDING, 0):
        buf.push_uint_var(value)
    (datagram,), _ = builder.flush()
    return datagram


class _CertificateRequired(tls.Alert):
    description = _CERTIFICATE_REQUIRED  # type: ignore[assignment]


def _varint(value: int) -> bytes:
    buf = Buffer(capacity=8)
    buf.push_uint_var(value)
    return buf.data


def _pull_varint(data: Sequence[int], position: int) -> tuple[int, int]:
    """The variable-length integer (RFC 9000, 16) at `position`, and where it ends."""
    first = data[position]
    end = position + (1 << (first >> 6))
    value = first & 0x3F
    for byte in data[position + 1 : end]:
        value = value << 8 | byte
    return value, end

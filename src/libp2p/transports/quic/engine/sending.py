"""The sending half of the engine: what goes into packets, in which order, and what becomes of it."""

from __future__ import annotations

from typing import cast

from aioquic.buffer import size_uint_var
from aioquic.quic.connection import (
    ACK_FRAME_CAPACITY,
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    RESET_STREAM_FRAME_CAPACITY,
    STOP_SENDING_FRAME_CAPACITY,
    Limit,
    QuicNetworkPath,
)
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.recovery import QuicPacketSpace

from ..config import INITIAL_DATAGRAM_SIZE
from .lane import ONE_RTT, Lane, SentPacket
from .receiving import ReceivingEngine

_KEY_LIFETIME = 1 << 22
"""Packets sent until the keys are renewed: half of what AES-GCM allows."""

_TURN = 16
"""Packets that one stream sends before the next one has its turn."""

_ACKED = QuicDeliveryState.ACKED


class SendingEngine(ReceivingEngine):
    """Adds turns of the streams that have something to send, and packets filled by one of them."""

    _keys_since = 0  # the number of the first packet under the present keys

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        pair = self._keys
        if not pair.send.is_valid():
            return
        if self._packet_number - self._keys_since > _KEY_LIFETIME and self._handshake_confirmed:
            self._keys_since = self._packet_number
            self.request_key_update()
        space = self._space
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
        crypto = self._crypto_streams[ONE_RTT]
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
        if not self._crypto_streams[ONE_RTT].sender.buffer_is_empty:
            self._write_crypto_frame(builder=builder, space=space, stream=self._crypto_streams[ONE_RTT])
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
            self._local_max_data.value = max(self._local_max_data.value, self.window.update(now, self.rtt))
            self._write_limit(builder, self._local_max_data)
        if self._stream_limit_due():
            self._write_limit(builder, self._local_max_streams_bidi)

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
        buf = builder.start_frame(
            QuicFrameType.RESET_STREAM,
            capacity=RESET_STREAM_FRAME_CAPACITY,
            handler=self._on_reset,
            handler_args=(lane,),
        )
        frame = lane.sender.get_reset_frame()
        buf.push_uint_var(lane.id)
        buf.push_uint_var(frame.error_code)
        buf.push_uint_var(frame.final_size)

    def _write_stop(self, builder: QuicPacketBuilder, lane: Lane) -> None:
        buf = builder.start_frame(
            QuicFrameType.STOP_SENDING,
            capacity=STOP_SENDING_FRAME_CAPACITY,
            handler=self._on_stop,
            handler_args=(lane,),
        )
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
            and not self._keys._update_key_requested
            and len(sender._pending[0]) >= self._max_datagram_size
        )

    def _write_bulk(self, builder: QuicPacketBuilder) -> bool:
        """Write packets that are full of the next stream's bytes, until its turn is over. False: there is no room."""
        if builder._packet is not None:
            builder._end_packet()
        lane = self._queue[0]
        sender, pacer, keys = lane.sender, self._loss._pacer, self._keys.send
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
            return False
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
        return True

    def _write_remainder(self, builder: QuicPacketBuilder, lane: Lane) -> bool:
        builder.start_packet(QuicPacketType.ONE_RTT, self._keys)
        if self._write_stream(builder, lane):
            self._loss._pacer.update_after_send(now=self._now)
        else:  # it comes back when the peer grants more
            self._queue.popleft()
            lane.queued = False
        return True

    def _on_stream_data(self, delivery: QuicDeliveryState, lane: Lane, start: int, stop: int, fin: bool) -> None:
        sender, is_full = lane.sender, stop - start > INITIAL_DATAGRAM_SIZE
        if delivery is _ACKED:
            if is_full:
                self.path_mtu.losses = 0
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
            if is_full:
                self.path_mtu.on_full_lost(self._now)
                self._use_datagram_size()
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

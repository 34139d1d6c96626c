"""Both sides of perf. Spec: libp2p/specs, perf/perf.md.

    client   bytes wanted, big-endian uint64 | upload ... | end of its direction
    server                                                  download, as many bytes as wanted | end of its direction

Rules:
- The server sends nothing before the client's direction has ended: sending "MUST NOT be run concurrently" with reading.
- "SHOULD NOT be enabled by default": who runs `Perf` lets peers put its machine to work. `PerfConfig` bounds that.
- Memory is bounded: zeros are sent from one block that all share, what is received is dropped as it comes.

How time is measured: writing returns when bytes lie in our own buffers, so that is no measure of an upload. It counts
as done when the peer says so: by its first byte behind the upload, or by ending its direction. go's and rust's clients
wait for that too. The negotiation of the protocol is over before the clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...connection import Service, ServiceHost, Stream, StreamErrorCode, Target
from ...errors import InvalidInput, RemoteProtocolError

PROTOCOL_ID = "/perf/1.0.0"

_BLOCK = bytes(1024 * 1024)
"""What is sent, again and again: "a predetermined arbitrary set of bytes. Zero is fine"."""
_READ_SIZE = 256 * 1024
"""Bytes that one read takes at most."""
_MAX_UINT64 = 2**64 - 1

Direction: TypeAlias = Literal["upload", "download"]
Progress: TypeAlias = Callable[[Direction, int], None]
"""Called with the direction and the bytes done in it so far; those of an upload may still be under way to the peer."""


@dataclass(frozen=True)
class PerfConfig:
    """What `Perf` does for its clients."""

    max_bytes: int | None = None
    """Bytes in either direction of one stream; a client that goes beyond has its stream reset. None: no limit."""
    max_streams_per_peer: int = 4
    """Streams that one peer may have open at a time; one more is reset."""


@dataclass(frozen=True)
class PerfResult:
    """What was measured: bytes, and seconds of a monotonic clock. A direction without bytes took 0 s."""

    upload_bytes: int
    upload_seconds: float
    """From the first byte until the peer had read the last one and its answer to that was here."""
    download_bytes: int
    download_seconds: float
    """Until the end of the download: from its first byte, or from the request where nothing was uploaded before it."""


class Perf(Service):
    """Serves perf to all peers while it is entered: `async with Host() as host, Perf(host): ...`."""

    def __init__(self, host: ServiceHost, config: PerfConfig | None = None) -> None:
        super().__init__(host)
        self._config = config or PerfConfig()

    async def start(self) -> None:
        self.serve([PROTOCOL_ID], self._serve, max_streams_per_peer=self._config.max_streams_per_peer)

    async def _serve(self, stream: Stream) -> None:
        limit = self._config.max_bytes
        wanted = int.from_bytes(await stream.readexactly(8), "big")
        taken = 0
        while (limit is None or max(taken, wanted) <= limit) and (chunk := await stream.read(_READ_SIZE)):
            taken += len(chunk)
        if limit is not None and max(taken, wanted) > limit:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        await _send_zeros(stream, wanted, None)


async def measure(
    host: ServiceHost,
    target: Target,
    *,
    upload: int,
    download: int,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> PerfResult:
    """Send `upload` bytes to the peer, then have it send `download` bytes, on one new stream; connects if need be.

    Raises what `Host.new_stream` does, `ProtocolNotSupported` where the peer does not run perf, `InvalidInput` for
    amounts outside 0 to 2**64 - 1, `RemoteProtocolError` where it sends another amount than was asked for, and what
    ended the stream. There is no time limit.
    """
    for amount in (upload, download):
        if not 0 <= amount <= _MAX_UINT64:
            raise InvalidInput(f"{amount} is no amount of bytes: 0 to 2**64 - 1 are possible")
    async with await host.new_stream(target, PROTOCOL_ID) as stream:
        await stream.agreed()
        started = clock()
        await stream.write(download.to_bytes(8, "big"))
        await _send_zeros(stream, upload, progress)
        await stream.close_write()
        received = len(await stream.read(_READ_SIZE))
        answered = clock()
        if received:
            received = await _drain(stream, received, download, progress)
        if received != download:
            raise RemoteProtocolError(f"{stream.connection.remote_peer} sent {received} of {download} bytes")
        ended = clock()
    return PerfResult(
        upload_bytes=upload,
        upload_seconds=answered - started if upload else 0.0,
        download_bytes=download,
        download_seconds=ended - (answered if upload else started) if download else 0.0,
    )


async def _drain(stream: Stream, received: int, wanted: int, progress: Progress | None) -> int:
    """Read to the end of the download; the bytes it had, with those `received` before."""
    while received <= wanted:
        if progress is not None:
            progress("download", received)
        chunk = await stream.read(_READ_SIZE)
        if not chunk:
            return received
        received += len(chunk)
    raise RemoteProtocolError(f"{stream.connection.remote_peer} sent more than the {wanted} bytes asked for")


async def _send_zeros(stream: Stream, amount: int, progress: Progress | None) -> None:
    sent = 0
    while sent < amount:
        size = min(len(_BLOCK), amount - sent)
        await stream.write(_BLOCK if size == len(_BLOCK) else bytes(size))
        sent += size
        if progress is not None:
            progress("upload", sent)

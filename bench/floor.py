"""The floor: what one connection between two Python processes can move at best, without libp2p.

Two one-way bulk transfers over loopback TCP, sender and receiver each in a process of its own:

- `run_tcp`: bare asyncio, nothing but bytes;
- `run_cipher`: the same, each message sealed with ChaCha20-Poly1305 as Noise does it, and opened by the receiver.

    +--------------+-------------------------------------+
    | length (u16) | ciphertext of 65,519 bytes, tag (16) |   the nonce is the number of the message
    +--------------+-------------------------------------+

There is no handshake, no multiplexing and no flow control but TCP's, so a stack that does all that can only be slower.
Rules: buffers are made once and used again (the C library maps an allocation of 128 KiB or more afresh each time, and
its page faults cost more than the cipher); the receiver's clock runs from the first byte to the last; MB are 10^6
bytes, of plaintext.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

MESSAGE = 65519  # plaintext bytes in a message: with the tag, the most that a 2-byte length can say
TAG = 16
FRAME = 2 + MESSAGE + TAG
TCP_WRITE = 1 << 20  # bytes in one write of the bare socket
CIPHER_BATCH = 4  # messages in one write of the ciphered one: 256 KiB, so that it is still in the cache when sent
RECEIVE_BUFFER = 1 << 18
TIME_LIMIT = 120.0  # seconds for one run
KEY = bytes(range(32))


class Sender(asyncio.Protocol):
    """Writes one buffer again and again; `write` returns when the socket has taken all of it."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # nothing left behind, so the buffer may be filled again

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if exc is None:
            self.closed.set_result(None)
        else:
            self.closed.set_exception(exc)

    async def write(self, data: bytearray | memoryview) -> None:
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    async def finish(self) -> None:
        self._transport.write_eof()
        await self.closed


class Receiver(asyncio.BufferedProtocol):
    """Counts bytes and takes the time; `result` is (plaintext bytes, seconds)."""

    def __init__(self) -> None:
        self.result: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        self._buffer = memoryview(bytearray(RECEIVE_BUFFER))
        self._received = 0
        self._first = 0.0

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._received:
            self._first = time.perf_counter()
        self._received += nbytes

    def eof_received(self) -> bool:
        self.result.set_result((self._received, time.perf_counter() - self._first))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.result.done():
            self.result.set_exception(exc or ConnectionError("the receiver closed before the end of the transfer"))


class CipherReceiver(Receiver):
    """Opens each message as soon as all of it has arrived; a part of one moves to the front of the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self._decrypt = ChaCha20Poly1305(KEY).decrypt_into
        self._plain = memoryview(bytearray(MESSAGE))
        self._kept = 0
        self._nonce = 0

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer[self._kept :]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._nonce and not self._kept:
            self._first = time.perf_counter()
        buffer, plain, decrypt = self._buffer, self._plain, self._decrypt
        nonce = self._nonce
        position, end = 0, self._kept + nbytes
        while end - position >= 2:
            start = position + 2
            stop = start + (buffer[position] << 8 | buffer[position + 1])
            if stop > end:
                break
            self._received += decrypt(nonce.to_bytes(12, "big"), buffer[start:stop], None, plain[: stop - start - TAG])
            nonce += 1
            position = stop
        self._nonce = nonce
        self._kept = end - position
        if position and self._kept:
            buffer[: self._kept] = buffer[position:end]


async def _send_tcp(sender: Sender, total: int) -> None:
    chunk = memoryview(bytearray(TCP_WRITE))
    whole, rest = divmod(total, TCP_WRITE)
    for _ in range(whole):
        await sender.write(chunk)
    await sender.write(chunk[:rest])


async def _send_cipher(sender: Sender, total: int) -> None:
    encrypt = ChaCha20Poly1305(KEY).encrypt_into
    plain = memoryview(bytearray(MESSAGE))
    batch = bytearray(FRAME * CIPHER_BATCH)
    places = []  # where each ciphertext of a batch goes
    for at in range(0, len(batch), FRAME):
        struct.pack_into(">H", batch, at, MESSAGE + TAG)
        places.append(memoryview(batch)[at + 2 : at + FRAME])
    whole, rest = divmod(total, MESSAGE)
    batches, single = divmod(whole, CIPHER_BATCH)
    nonce = 0
    for _ in range(batches):
        for place in places:
            encrypt(nonce.to_bytes(12, "big"), plain, None, place)
            nonce += 1
        await sender.write(batch)
    for size in [MESSAGE] * single + [rest] * (rest > 0):
        frame = memoryview(batch)[: 2 + size + TAG]
        struct.pack_into(">H", batch, 0, size + TAG)
        encrypt(nonce.to_bytes(12, "big"), plain[:size], None, frame[2:])
        nonce += 1
        await sender.write(frame)


_KINDS = {"tcp": (Receiver, _send_tcp), "cipher": (CipherReceiver, _send_cipher)}


async def _send(kind: str, port: int, total: int) -> None:
    _, sender = await asyncio.get_running_loop().create_connection(Sender, "127.0.0.1", port)
    await _KINDS[kind][1](sender, total)
    await sender.finish()


async def _receive(kind: str, total: int) -> float:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.setblocking(False)
        child = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--send", kind, str(listener.getsockname()[1]), str(total)
        )
        try:
            async with asyncio.timeout(TIME_LIMIT):
                accepted, _ = await loop.sock_accept(listener)
                _, receiver = await loop.create_connection(_KINDS[kind][0], sock=accepted)
                received, seconds = await receiver.result
                await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    if child.returncode or received != total:
        raise RuntimeError(f"{kind}: {received} of {total} bytes arrived, sender exited with {child.returncode}")
    return total / seconds / 1e6


def run_tcp(total_bytes: int) -> float:
    """MB/s of a bare asyncio TCP connection."""
    return asyncio.run(_receive("tcp", total_bytes))


def run_cipher(total_bytes: int) -> float:
    """MB/s of plaintext through ChaCha20-Poly1305 messages over an asyncio TCP connection."""
    return asyncio.run(_receive("cipher", total_bytes))


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the floor's MB/s, one JSON line a run.")
    parser.add_argument("--mb", type=int, default=2000, help="MB moved in each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--send", nargs=3, metavar=("KIND", "PORT", "BYTES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        kind, port, total = options.send
        asyncio.run(_send(kind, int(port), int(total)))
        return
    for _ in range(options.runs):
        for name, run in (("tcp", run_tcp), ("cipher", run_cipher)):
            print(json.dumps({"floor": name, "mb_per_s": round(run(options.mb * 1_000_000), 1)}), flush=True)


if __name__ == "__main__":
    main()

"""Plain aioquic beside our QUIC, which is built on it: its own asyncio API and its default settings, without libp2p.

    python -m bench.aioquic_peer listen [MULTIADDR]          prints {"ready": true, "addrs": [...]}, serves until stdin
                                                             closes
    python -m bench.aioquic_peer dial ADDR bench WHAT N ...  any of: connect N, upload BYTES, download BYTES; prints a
                                                             JSON object for each

It is run, and prints, as `peer.py` is and does; of an address only the IPv4 address and the port count. The server's
certificate is self-signed with a P-256 key, as libp2p's is; the client verifies nothing and has none. Each transfer is
one stream, on which each side ends its direction when it is done:

    client                  'u' or 'd', size (u64, big-endian)
    who sends the bytes     the bytes
    who receives them       one byte for each whole block (256 KiB) that was read

aioquic's `StreamWriter.drain` never waits: whatever is written piles up in memory. So a sender that is `AHEAD` blocks
ahead waits for one of the receiver's bytes. They are one small packet among hundreds, and there always is more to send
than aioquic sends at once: it is as fast as with all bytes written in advance.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import statistics
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .command import Line, Wanted, report, run, serve_until_stdin_closes

BLOCK = 1 << 18  # bytes
AHEAD = 16  # blocks that a sender may be ahead of the receiver
HEADER = struct.Struct(">cQ")
SETTLE = 0.01  # seconds before hanging up, as in peer.py

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Address: TypeAlias = tuple[str, int]


async def send(reader: Reader, writer: Writer, size: int) -> None:
    """Write `size` bytes; returns when the receiver has read all of them."""
    block = bytes(BLOCK)
    read = 0  # blocks, by the receiver
    for written in range(size // BLOCK):
        while written - read >= AHEAD:
            if not (told := await reader.read(AHEAD)):
                raise ConnectionError("the receiver ended the transfer")
            read += len(told)
        writer.write(block)
    writer.write(block[: size % BLOCK])
    writer.write_eof()
    read += len(await reader.read())
    if read != size // BLOCK:
        raise ConnectionError(f"the receiver has read {read} of {size // BLOCK} blocks")


async def receive(reader: Reader, writer: Writer, size: int) -> None:
    """Read to the end, which must come after `size` bytes, and tell of each block."""
    received = told = 0
    while data := await reader.read(BLOCK):
        received += len(data)
        if received // BLOCK > told:
            writer.write(bytes(received // BLOCK - told))
            told = received // BLOCK
    writer.write_eof()
    if received != size:
        raise ConnectionError(f"{received} of {size} bytes arrived")


async def transfer(protocol: QuicConnectionProtocol, direction: bytes, size: int) -> float:
    """MB/s, from before the stream is opened until all bytes have arrived."""
    start = time.perf_counter()
    reader, writer = await protocol.create_stream()
    writer.write(HEADER.pack(direction, size))
    await (send if direction == b"u" else receive)(reader, writer, size)
    return size / 1e6 / (time.perf_counter() - start)


async def serve_transfer(reader: Reader, writer: Writer) -> None:
    direction, size = HEADER.unpack(await reader.readexactly(HEADER.size))
    await (receive if direction == b"u" else send)(reader, writer, size)


def to_server(address: Address) -> AbstractAsyncContextManager[QuicConnectionProtocol]:
    return connect(*address, configuration=QuicConfiguration(verify_mode=ssl.CERT_NONE))


async def bulk(address: Address, direction: bytes, size: int) -> float:
    """MB/s; a tenth of the bytes first, to warm up."""
    async with to_server(address) as protocol:
        await transfer(protocol, direction, size // 10)
        return await transfer(protocol, direction, size)


async def bench_upload(address: Address, size: int) -> Line:
    return {"upload_mb_per_s": await bulk(address, b"u", size)}


async def bench_download(address: Address, size: int) -> Line:
    return {"download_mb_per_s": await bulk(address, b"d", size)}


async def bench_connect(address: Address, count: int) -> Line:
    """The time until the client's handshake is complete; hanging up, which takes aioquic 0.1 s, is not timed."""
    times = []
    for turn in range(-(count // 10) - 1, count):
        start = time.perf_counter()
        async with to_server(address):
            if turn >= 0:
                times.append(time.perf_counter() - start)
            await asyncio.sleep(SETTLE)
    return {"connect_ms": statistics.median(times) * 1000}


BENCHES: dict[str, Callable[[Address, int], Awaitable[Line]]] = {
    "connect": bench_connect,
    "upload": bench_upload,
    "download": bench_download,
}


def server_configuration() -> QuicConfiguration:
    """The default one, with a certificate made for this run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return QuicConfiguration(is_client=False, certificate=certificate, private_key=key)


def parse(multiaddr: str) -> Address:
    """Of `/ip4/HOST/udp/PORT...`."""
    _, _, host, _, port, *_ = multiaddr.split("/")
    return host, int(port)


async def listen(multiaddr: str = "/ip4/127.0.0.1/udp/0/quic-v1") -> None:
    host, port = parse(multiaddr)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # `serve` does not say which port it got
        probe.bind((host, port))
        port = probe.getsockname()[1]
    transfers: set[asyncio.Task[None]] = set()

    def accept(reader: Reader, writer: Writer) -> None:
        task = asyncio.get_running_loop().create_task(serve_transfer(reader, writer))
        transfers.add(task)
        task.add_done_callback(transfers.discard)

    server = await serve(host, port, configuration=server_configuration(), stream_handler=accept)
    await serve_until_stdin_closes(f"/ip4/{host}/udp/{port}/quic-v1")
    server.close()


async def dial(multiaddr: str, wanted: Wanted) -> None:
    for what, count in wanted:
        report(what, count, await BENCHES[what](parse(multiaddr), count))


if __name__ == "__main__":
    sys.exit(run("bench.aioquic_peer", listen=listen, dial=dial, benches=BENCHES, errors=(OSError,)))

"""What requests are compared with: gRPC for asyncio, and asyncio's own TLS with numbered frames by hand.

    python -m bench.requests_peer grpc|asyncio listen                        serves until stdin closes
    python -m bench.requests_peer grpc|asyncio dial ADDR bench requests-N COUNT

Both echo 1 KiB over TLS, N requests in flight, as `bench.peer` does. `ADDR` is a port, and the file of the listener's
certificate, which is made anew.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from .command import Wanted, report, run, serve_until_stdin_closes
from .requests import IN_FLIGHT, Call, requests

HEAD = struct.Struct(">II")  # the number of a request, and how many bytes follow
METHOD = "/bench.Echo/Echo"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key, as files in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


# asyncio's TLS


async def serve_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo each frame in a task of its own, as requests are served whose handlers may wait."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(number: int, data: bytes) -> None:
        writer.write(HEAD.pack(number, len(data)) + data)
        await writer.drain()

    try:
        while True:
            number, size = HEAD.unpack(await reader.readexactly(HEAD.size))
            task = asyncio.create_task(answer(number, await reader.readexactly(size)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


@asynccontextmanager
async def listen_asyncio(certificate: Path, key: Path) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve_frames, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def dial_asyncio(port: int, certificate: Path) -> AsyncIterator[Call]:
    context = ssl.create_default_context(cafile=str(certificate))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context, family=2)
    waiting: dict[int, asyncio.Future[bytes]] = {}
    numbers = itertools.count()

    async def receive() -> None:
        while True:
            number, size = HEAD.unpack(await reader.readexactly(HEAD.size))
            waiting.pop(number).set_result(await reader.readexactly(size))

    async def call(data: bytes) -> bytes:
        number = next(numbers)
        answer = waiting[number] = asyncio.get_running_loop().create_future()
        writer.write(HEAD.pack(number, len(data)) + data)
        await writer.drain()
        async with asyncio.timeout(60):
            return await answer

    receiving = asyncio.create_task(receive())
    try:
        yield call
    finally:
        receiving.cancel()
        writer.close()


# gRPC


@asynccontextmanager
async def listen_grpc(certificate: Path, key: Path) -> AsyncIterator[int]:
    import grpc.aio  # noqa: PLC0415 - of the two, only one needs it

    async def echo(request: bytes, _: object) -> bytes:
        return request

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(echo)
    service, _, name = METHOD[1:].partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
    credentials = grpc.ssl_server_credentials([(_read(key), _read(certificate))])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def dial_grpc(port: int, certificate: Path) -> AsyncIterator[Call]:
    import grpc.aio  # noqa: PLC0415

    credentials = grpc.ssl_channel_credentials(_read(certificate))
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        echo = channel.unary_unary(METHOD)

        async def call(data: bytes) -> bytes:
            answer: bytes = await echo(data, timeout=60)
            return answer

        yield call


def _read(path: Path) -> bytes:
    return path.read_bytes()


LISTEN = {"asyncio": listen_asyncio, "grpc": listen_grpc}
DIAL = {"asyncio": dial_asyncio, "grpc": dial_grpc}


def main(kind: str) -> int:
    async def listen() -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = make_certificate(Path(folder))
            async with LISTEN[kind](*files) as port:
                await serve_until_stdin_closes(f"{port}:{files[0]}")

    async def dial(address: str, wanted: Wanted) -> None:
        port, _, certificate = address.partition(":")
        async with DIAL[kind](int(port), Path(certificate)) as call:
            for what, count in wanted:
                report(what, count, await requests(call, IN_FLIGHT[what], count))

    benches: dict[str, Callable[..., Awaitable[object]]] = dict.fromkeys(IN_FLIGHT, requests)
    return run("bench.requests_peer", listen=listen, dial=dial, benches=benches, errors=(OSError, ExceptionGroup))


if __name__ == "__main__":
    sys.exit(main(sys.argv.pop(1)))

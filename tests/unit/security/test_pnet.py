"""Private networks: the cipher, the key's file, and who is refused."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from libp2p.connection import Direction
from libp2p.connection.negotiation import incoming_of
from libp2p.errors import HandshakeError, InvalidKey, Libp2pError
from libp2p.identity import PrivateKey
from libp2p.muxers.yamux import Yamux
from libp2p.security.noise import Noise
from libp2p.security.pnet import PrivateNetwork, format_swarm_key, load_swarm_key, parse_swarm_key
from libp2p.security.pnet.xsalsa20 import hsalsa20, xsalsa20
from libp2p.testing.conformance.security import Wire
from libp2p.transports.memory import MemoryConnection, pipe
from libp2p.upgrader import Upgrader

PSK = bytes(range(32))
HEADER = b"/key/swarm/psk/1.0.0/"
GREETING = b"\x13/multistream/1.0.0\n"


class TestXSalsa20:
    """The figures of "Cryptography in NaCl" (Bernstein, 2009), sections 8 and 9."""

    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    first = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    second = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    stream = bytes.fromhex("eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880")

    def test_hsalsa20(self) -> None:
        assert hsalsa20(self.shared, bytes(16)) == self.first
        assert hsalsa20(self.first, self.nonce[:16]) == self.second

    def test_the_key_stream(self) -> None:
        assert xsalsa20(self.first, self.nonce)(bytes(32)) == self.stream

    def test_a_stream_goes_on_where_it_was(self) -> None:
        whole = xsalsa20(PSK, bytes(24))(bytes(100_000))
        pieces, cipher = b"", xsalsa20(PSK, bytes(24))
        for size in (0, 1, 63, 64, 65, 1000, 98_807):
            pieces += cipher(memoryview(bytes(size)))
        assert pieces == whole


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"/base16/", PSK.hex().encode()),
        (b"/base16/", PSK.hex().upper().encode() + b"\n"),
        (b"/base64/", b64encode(PSK)),
        (b"/base64/", b64encode(PSK) + b"\r\n"),
        (b"/bin/", PSK),
        (b"/bin/", PSK + b"\n"),
    ],
)
def test_a_key_is_read_in_each_encoding(encoding: bytes, body: bytes, newline: bytes, tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    path.write_bytes(newline.join((HEADER, encoding, body)))
    path.chmod(0o600)
    assert load_swarm_key(path) == PSK


def test_a_binary_key_may_end_in_white_space() -> None:
    key = bytes(31) + b"\n"
    assert parse_swarm_key(HEADER + b"\n/bin/\n" + key) == key


def test_a_written_key_is_read_again() -> None:
    text = format_swarm_key(PSK)
    assert text == f"/key/swarm/psk/1.0.0/\n/base16/\n{PSK.hex()}\n"
    assert parse_swarm_key(text.encode()) == PSK


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "first line"),
        (b"/key/swarm/psk/2.0.0/\n/base16/\n" + b"ff" * 32, "first line"),
        (HEADER, "unknown encoding ''"),
        (HEADER + b"\n/base32/\nabc", "unknown encoding '/base32/'"),
        (HEADER + b"\n/base16/\n" + b"ff" * 31, "32 bytes, not 31"),
        (HEADER + b"\n/base16/\n" + b"ff" * 33, "32 bytes, not 33"),
        (HEADER + b"\n/base16/\n" + b"xy" * 32, "not in the encoding"),
        (HEADER + b"\n/base16/\n" + b"\xff" * 32, "not in the encoding"),
        (HEADER + b"\n/base64/\n" + b"=" * 44, "not in the encoding"),
        (HEADER + b"\n/bin/\n" + bytes(33), "32 bytes, not 33"),
        (HEADER + b"\n/bin/\n" + bytes(2000), "more than 1024 bytes"),
    ],
)
def test_a_broken_key_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKey, match=reason) as caught:
        load_swarm_key(path)
    assert str(path) in str(caught.value)
    assert "ffff" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidKey, match=f"32 bytes, not {size}"):
        PrivateNetwork(bytes(size))
    with pytest.raises(InvalidKey, match=f"32 bytes, not {size}"):
        format_swarm_key(bytes(size))


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    path.write_text(format_swarm_key(PSK))
    path.chmod(0o644)
    with pytest.raises(InvalidKey, match="mode 0644"):
        load_swarm_key(path)
    assert load_swarm_key(path, allow_shared=True) == PSK


def test_a_key_of_zeros_is_none() -> None:
    with pytest.raises(InvalidKey, match="zeros"):
        PrivateNetwork(bytes(32))
    with pytest.raises(InvalidKey, match="zeros"):
        parse_swarm_key(HEADER + b"\n/base16/\n" + b"00" * 32)


def test_the_key_does_not_leave_with_the_object() -> None:
    network = PrivateNetwork(PSK)
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copied(network)
    for shown in (repr(network), str(network), f"{network}"):
        assert PSK.hex() not in shown
        assert repr(PSK) not in shown


def test_the_fingerprint_tells_networks_apart_but_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("libp2p.security.pnet.network.check_psk", bytes)
        network = PrivateNetwork(bytes(32))  # whose fingerprint is known
    assert network.fingerprint == "708a75afd05affb08736cbf17c73773e"
    assert network.fingerprint != PrivateNetwork(PSK).fingerprint
    assert repr(network) == "<PrivateNetwork 708a75afd05affb08736cbf17c73773e>"


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Crypto.Cipher", None)
    with pytest.raises(ImportError, match=r"py-libp2p\[pnet\]"):
        PrivateNetwork(PSK)


async def test_the_bytes_on_the_wire() -> None:
    left, right = pipe()
    protected = PrivateNetwork(PSK).protect(left)
    nonce = await right.readexactly(24)
    await protected.write(GREETING)
    await protected.write(b"and more")
    assert xsalsa20(PSK, nonce)(await right.readexactly(len(GREETING) + 8)) == GREETING + b"and more"
    answer = xsalsa20(PSK, bytes(24))(GREETING + b"yes")
    for byte in bytes(24) + answer:
        await right.write(bytes((byte,)))
    assert await protected.readexactly(len(GREETING) + 3) == GREETING + b"yes"
    await end(left, right)


async def test_nonces_are_never_the_same() -> None:
    nonces = set()
    for _ in range(10):
        left, right = pipe()
        PrivateNetwork(PSK).protect(left)
        nonces.add(await right.readexactly(24))
        await end(left, right)
    assert len(nonces) == 10


async def test_nobody_between_can_read() -> None:
    """Not even which protocols are negotiated."""
    wire, seen = Wire(), bytearray()
    wire.tamper["dialer"] = wire.tamper["listener"] = lambda _, data: seen.extend(data)
    errors = await upgrade(wire.dialer, wire.listener, PSK, PSK)
    assert errors == [None, None]
    assert len(seen) > 500
    for word in (b"/multistream", b"/noise", b"/yamux"):
        assert word not in seen
    await wire.close()


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (PSK, bytes(31) + b"\1", "has another swarm key than network|hung up at once"),
        (PSK, None, "is in no private network|hung up at once"),
    ],
)
@pytest.mark.parametrize("dialing", [True, False])
async def test_who_is_outside_is_refused(
    ours: bytes, theirs: bytes | None, reason: str, dialing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To one outside the nonce is no message, which most nonces are not; some are the beginning of one, and it waits.
    monkeypatch.setattr("libp2p.security.pnet.network.os.urandom", lambda size: b"\xff" * size)
    errors = await upgrade(*pipe(), *((ours, theirs) if dialing else (theirs, ours)))
    mine, other = errors if dialing else errors[::-1]
    assert isinstance(mine, HandshakeError)
    assert re.search(reason, str(mine))
    assert isinstance(other, (Libp2pError, OSError))


async def test_nothing_of_a_peer_with_another_key_is_passed_on() -> None:
    left, right = pipe()
    protected = PrivateNetwork(PSK).protect(left)
    await right.write(bytes(24) + xsalsa20(bytes(32), bytes(24))(GREETING + b"hello"))
    with pytest.raises(HandshakeError, match="/memory/0 has another swarm key than network "):
        await protected.read(1)
    assert incoming_of(protected).available == 0
    await end(left, right)


@pytest.mark.parametrize("sent", [b"", bytes(10), bytes(24), bytes(24) + xsalsa20(PSK, bytes(24))(GREETING[:5])])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_who_hangs_up_at_once_may_have_another_key(sent: bytes, how: str) -> None:
    left, right = pipe()
    protected = PrivateNetwork(PSK).protect(left)
    await right.write(sent)
    await asyncio.sleep(0.1)
    result = getattr(right, how)()
    if result is not None:
        await result
    with pytest.raises(HandshakeError, match="hung up at once: it may have another swarm key"):
        await protected.readexactly(len(GREETING))
    await end(left, right)


async def upgrade(
    dialer: MemoryConnection, listener: MemoryConnection, dialers: bytes | None, listeners: bytes | None
) -> list[BaseException | None]:
    """Upgrade both ends, in the networks of the given keys; each side's error."""

    async def one(raw: MemoryConnection, psk: bytes | None, *, outbound: bool) -> None:
        upgrader = Upgrader(PrivateKey.generate(), security=[Noise()], muxers=[Yamux()])
        subject = PrivateNetwork(psk).protect(raw) if psk is not None else raw
        upgraded = upgrader.upgrade(subject, Direction.OUTBOUND if outbound else Direction.INBOUND)
        connection = await upgraded
        await asyncio.sleep(1)
        connection.abort()

    work = one(dialer, dialers, outbound=True), one(listener, listeners, outbound=False)
    errors = await asyncio.gather(*work, return_exceptions=True)
    await end(dialer, listener)
    return list(errors)


async def end(*raws: MemoryConnection) -> None:
    for raw in raws:
        raw.abort()
    for raw in raws:
        await raw.close()

"""Whom a target names, and what a caller may have meant who gave something else. No I/O, no asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ..errors import InvalidInput
from ..identity import PeerId, PrivateKey
from ..multiaddr import Multiaddr

Named: TypeAlias = PeerId | Multiaddr | str | Sequence[Multiaddr | str]
"""Every target that is not a connection already."""


def whom(target: Named) -> tuple[PeerId | None, list[Multiaddr]]:
    """The peer (None: whoever is at the addresses) and the addresses that a target names, without the peer's id.

    Raises `InvalidMultiaddr` and `InvalidPeerId` for malformed text, `InvalidInput` for addresses of several peers and
    for none, `TypeError` for what is no target.
    """
    if isinstance(target, PeerId):
        return target, []
    if isinstance(target, str):
        return _of_addrs([Multiaddr(target)]) if target.startswith("/") else (PeerId.from_string(target), [])
    if isinstance(target, Multiaddr):
        return _of_addrs([target])
    if not isinstance(target, Sequence) or isinstance(target, bytes | bytearray | memoryview):
        raise TypeError(f"a target is a peer id, addresses of a peer, or a connection, not {target!r:.80}")
    for addr in target:
        if not isinstance(addr, Multiaddr | str):
            raise TypeError(f"a target of several addresses has Multiaddr or text in it, not {addr!r:.80}")
    return _of_addrs([Multiaddr(addr) for addr in target])


def _of_addrs(addrs: Sequence[Multiaddr]) -> tuple[PeerId | None, list[Multiaddr]]:
    if not addrs:
        raise InvalidInput("a target without any address leads nowhere")
    peers = {text: PeerId.from_string(text) for addr in addrs if (text := addr.peer_id_text) is not None}
    if len(set(peers.values())) > 1:
        raise InvalidInput(f"one target is one peer, these are addresses of several: {', '.join(peers)}")
    bare = [addr.without_peer() for addr in addrs]
    return next(iter(peers.values()), None), [addr for addr in bare if len(addr)]


def check_key(key: object) -> None:
    """Raises `TypeError` for what is no private key, and says what would be."""
    if key is None or isinstance(key, PrivateKey):
        return
    if isinstance(key, str | bytes):
        hint = (
            "of a key file make one by load_private_key(path), "
            "of hex digits by PrivateKey(KeyType.SECP256K1, bytes.fromhex(digits)), naming the key's own type"
        )
    else:
        hint = "a host's addresses are its second argument: Host(listen_addrs=[...])"
    raise TypeError(f"a host's key is a PrivateKey, not {type(key).__name__}: {hint}")


def check_addrs(addrs: object) -> list[Multiaddr]:
    """The addresses to listen on. Raises `TypeError` for one that is not in a list, `InvalidMultiaddr`."""
    if isinstance(addrs, str | Multiaddr):
        raise TypeError(f"listen_addrs are several addresses: put the one in a list, [{str(addrs)!r}]")
    if not isinstance(addrs, Iterable):
        raise TypeError(f"listen_addrs are addresses in a list, not {addrs!r:.80}")
    return [Multiaddr(addr) for addr in addrs]


def check_peer(peer: object) -> None:
    """Raises `TypeError` for what is no peer id, and says how to get one."""
    if isinstance(peer, str):
        raise TypeError(f"a PeerId is expected, not text: PeerId.from_string({peer[:64]!r}) makes one")
    if not isinstance(peer, PeerId):
        raise TypeError(f"a PeerId is expected, not {type(peer).__name__}: {peer!r:.80}")


def check_offer(protocols: Sequence[object]) -> None:
    """Raises `ValueError` where no protocol is offered, `TypeError` for what is no protocol id."""
    if not protocols:
        raise ValueError("a stream needs at least one protocol to offer")
    for protocol in protocols:
        if not isinstance(protocol, str):
            listed = isinstance(protocol, list | tuple)
            hint = "give them one by one: new_stream(peer, *protocols)" if listed else "such as '/echo/1.0.0'"
            raise TypeError(f"a protocol id is text, not {type(protocol).__name__} {protocol!r:.80}: {hint}")

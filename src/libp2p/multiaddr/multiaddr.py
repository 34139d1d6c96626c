"""Multiaddr: a network address as a sequence of protocols, in text and in bytes.

    text    (/<name>[/<value>])+                     /ip4/127.0.0.1/udp/1234/quic-v1
    bytes   (<code varint>[<length varint>]<value>)+  04 7f000001  9102 04d2  cd03

Rules:
- a `Multiaddr` is valid by construction, immutable, hashable, and equal to another if the bytes are equal;
- text is read strictly and printed in one canonical form; slashes at its end don't count, as in go-multiaddr;
- nothing can stand behind a path (/unix): in text it would be a part of the path;
- the empty address can't be written in either form. It is what is left when an address is taken apart to its end
  (`decapsulate`, `without_peer`, slices), and it is false.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from typing import SupportsIndex, TypeAlias, final, overload

from ..ground_errors import InvalidInput, InvalidMultiaddr, InvalidVarint
from ..varint import decode_varint, encode_varint
from .protocols import PROTOCOL_BY_CODE, PROTOCOL_BY_NAME, VARIABLE, Protocol, protocol_named

MAX_LENGTH = 4096
"""Bytes in the longest binary address that is accepted."""

MAX_TEXT_LENGTH = 10 * MAX_LENGTH
"""Characters in the longest text that is accepted: no component's text is longer than ten times its bytes."""

CACHE_SIZE = 4096
"""Addresses kept for each of text and bytes, so that reading the same again costs a lookup; the least recent go."""

MAX_CACHED_LENGTH = 512
"""Longer texts and bytes are not kept in the cache, to bound its memory to a few megabytes."""

MAX_PEER_LENGTH = 512
"""Bytes in the longest address that is taken of a peer."""

MAX_PEER_COMPONENTS = 16
"""Components in the longest one: what honest peers tell of has ten at most."""


@final
@dataclass(frozen=True, slots=True)
class Component:
    """One protocol of an address with its value: `value` as text (None if it takes none), `raw` as bytes."""

    protocol: Protocol
    value: str | None
    raw: bytes

    @classmethod
    def from_text(cls, name: str, value: str | None = None) -> Component:
        """The component `/name/value`. Raises `InvalidMultiaddr`; a slash in `value` is no separator here."""
        protocol = protocol_named(name)
        if protocol.size == 0 and value is None:
            return cls(protocol, None, b"")
        if value is None:
            raise InvalidMultiaddr(f"/{name} needs a value")
        try:
            raw = protocol.to_bytes(value)
            return cls(protocol, protocol.to_text(raw), raw)
        except InvalidInput as error:
            raise InvalidMultiaddr(f"{_shorten(value)} is no value of /{name}: {error}") from error

    def __reduce__(self) -> tuple[object, ...]:
        return _component, (self.protocol.name, self.raw)

    @classmethod
    def from_raw(cls, protocol: Protocol, raw: bytes) -> Component:
        """The component of `protocol` whose value in bytes is `raw`. Raises `InvalidMultiaddr`."""
        if protocol.size == 0 and not raw:
            return cls(protocol, None, b"")
        if not raw or (protocol.size >= 0 and len(raw) * 8 != protocol.size):
            raise InvalidMultiaddr(f"{len(raw)} bytes are no value of /{protocol.name}")
        try:
            return cls(protocol, protocol.to_text(raw), raw)
        except InvalidInput as error:
            raise InvalidMultiaddr(f"{_shorten(raw)} is no value of /{protocol.name}: {error}") from error

    @property
    def name(self) -> str:
        return self.protocol.name

    @property
    def code(self) -> int:
        return self.protocol.code

    def to_bytes(self) -> bytes:
        """The component as it stands in a binary address."""
        if self.protocol.size == VARIABLE:
            return self.protocol.prefix + encode_varint(len(self.raw)) + self.raw
        return self.protocol.prefix + self.raw

    def __str__(self) -> str:
        if self.value is None:
            return f"/{self.protocol.name}"
        # The value of a path protocol begins with the slash.
        return f"/{self.protocol.name}{'' if self.protocol.path else '/'}{self.value}"


@final
@total_ordering
@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Multiaddr:
    """A network address, such as `/ip4/198.51.100.7/tcp/4001/p2p/12D3KooW...`; see the head of the module.

    `Multiaddr(text)` and `Multiaddr(binary)` raise `InvalidMultiaddr`, which names the part at fault and its position.
    Iteration and `len` go over the components, `"tcp" in address` asks for a protocol, `address / "tcp/80"`
    encapsulates, `address[:2]` is the address of the first two components. Addresses are ordered by their bytes.
    """

    components: tuple[Component, ...]
    _binary: bytes
    _text: str

    def __new__(cls, address: str | bytes | bytearray | memoryview | Multiaddr) -> Multiaddr:
        if isinstance(address, str):
            return _from_text(address) if len(address) <= MAX_CACHED_LENGTH else _from_text.__wrapped__(address)
        if isinstance(address, Multiaddr):
            return address
        binary = bytes(address)
        return _from_binary(binary) if len(binary) <= MAX_CACHED_LENGTH else _from_binary.__wrapped__(binary)

    @classmethod
    def from_bytes(cls, binary: bytes | bytearray | memoryview) -> Multiaddr:
        """Read a binary address. Raises `InvalidMultiaddr`."""
        return cls(binary)

    @classmethod
    def from_peer(cls, binary: bytes) -> Multiaddr:
        """Read a binary address that a peer has told us: as `from_bytes`, but of at most `MAX_PEER_LENGTH` bytes and
        `MAX_PEER_COMPONENTS` components, so that what it costs to hold and to read again is bounded.
        """
        if len(binary) > MAX_PEER_LENGTH:
            raise InvalidMultiaddr(f"multiaddr of {len(binary)} bytes, of peers the limit is {MAX_PEER_LENGTH}")
        # No component takes less than two bytes. What has too many must not even get into the cache.
        if len(binary) > 2 * MAX_PEER_COMPONENTS and _has_more(binary, MAX_PEER_COMPONENTS):
            raise InvalidMultiaddr(f"multiaddr of more than {MAX_PEER_COMPONENTS} components, the limit of peers")
        return cls(binary)

    @classmethod
    def from_components(cls, components: Iterable[Component]) -> Multiaddr:
        """The address of `components`, empty if there are none. Raises `InvalidMultiaddr`: behind a path, too long."""
        return _assemble(tuple(components))

    def to_bytes(self) -> bytes:
        """The binary form, empty only for the empty address."""
        return self._binary

    __bytes__ = to_bytes

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Multiaddr({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return self._binary == other._binary if isinstance(other, Multiaddr) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._binary < other._binary if isinstance(other, Multiaddr) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._binary)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._binary,)

    def __len__(self) -> int:
        return len(self.components)

    def __iter__(self) -> Iterator[Component]:
        return iter(self.components)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Component: ...
    @overload
    def __getitem__(self, index: slice) -> Multiaddr: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Component | Multiaddr:
        return _assemble(self.components[index]) if isinstance(index, slice) else self.components[index]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) >= 0

    def _find(self, name: str) -> int:
        """Index of the first component of the protocol called `name`, -1 if there is none."""
        protocol = PROTOCOL_BY_NAME.get(name)
        for index, component in enumerate(self.components):
            if component.protocol is protocol:
                return index
        return -1

    def get(self, name: str) -> str | None:
        """Text value of the first component called `name`; None if there is none, or if that protocol has no values."""
        index = self._find(name)
        return self.components[index].value if index >= 0 else None

    def get_all(self, name: str) -> tuple[str, ...]:
        """Text values of all components called `name`, such as the several `certhash` of a WebTransport address."""
        protocol = PROTOCOL_BY_NAME.get(name)
        return tuple(c.value for c in self.components if c.protocol is protocol and c.value is not None)

    @property
    def head(self) -> Component | None:
        """The first component, None for the empty address."""
        return self.components[0] if self.components else None

    def split(self, name: str) -> tuple[Multiaddr, Multiaddr]:
        """What stands before the first component called `name`, and the rest from there; (self, empty) without one."""
        index = self._find(name)
        return (self, self[len(self) :]) if index < 0 else (self[:index], self[index:])

    def startswith(self, prefix: AddressLike) -> bool:
        """Whether the first components are those of `prefix`."""
        wanted = _coerce(prefix).components
        return self.components[: len(wanted)] == wanted

    def encapsulate(self, inner: AddressLike) -> Multiaddr:
        """This address with `inner` behind it (text with or without its first slash). Also written `self / inner`.

        Raises `InvalidMultiaddr` if `inner` is none, or if this address ends in a path.
        """
        added = _coerce(inner).components
        return _assemble(self.components + added) if added else self

    __truediv__ = encapsulate

    def decapsulate(self, inner: AddressLike) -> Multiaddr:
        """This address "up to the last occurrence of the decapsulated multiaddr"; all of it where there is none."""
        wanted = _coerce(inner).components
        for index in range(len(self) - len(wanted), -1, -1):
            if wanted and self.components[index : index + len(wanted)] == wanted:
                return self[:index]
        return self

    def decapsulate_code(self, name: str) -> Multiaddr:
        """This address up to the last component of the protocol called `name`; all of it where there is none."""
        protocol = protocol_named(name)
        for index in range(len(self) - 1, -1, -1):
            if self.components[index].protocol is protocol:
                return self[:index]
        return self

    @property
    def peer_id_text(self) -> str | None:
        """The peer that the address leads to, in base58btc: the value of its last component if that is /p2p."""
        last = self.components[-1] if self.components else None
        return last.value if last is not None and last.name == "p2p" else None

    def without_peer(self) -> Multiaddr:
        """This address without the /p2p at its end; for a relayed address, the one that ends in /p2p-circuit."""
        return self[:-1] if self.peer_id_text is not None else self

    def with_peer(self, peer_id_text: str) -> Multiaddr:
        """This address with `/p2p/<peer_id_text>` at its end.

        Raises `InvalidMultiaddr` if the text is no peer id, or if the address already leads to another peer.
        """
        peer = Component.from_text("p2p", peer_id_text)
        if self.peer_id_text is None:
            return self.encapsulate(peer)
        if self.peer_id_text != peer.value:
            raise InvalidMultiaddr(f"{self} leads to another peer than {peer.value}")
        return self


AddressLike: TypeAlias = Multiaddr | Component | str | bytes
"""What the operations on addresses take for the other address."""


def _coerce(address: AddressLike) -> Multiaddr:
    if isinstance(address, Component):
        return _assemble((address,))
    if isinstance(address, str) and not address.startswith("/"):
        return Multiaddr(f"/{address}")
    return Multiaddr(address)


def _shorten(value: str | bytes) -> str:
    shown = repr(value[:80])
    return shown if len(value) <= 80 else f"{shown}... ({len(value)} long)"


def _assemble(components: tuple[Component, ...], binary: bytes | None = None) -> Multiaddr:
    """The address of `components`, and the last checks: nothing behind a path, not too long."""
    for component in components[:-1]:
        if component.protocol.path:
            raise InvalidMultiaddr(f"nothing can stand behind the path of {_shorten(str(component))}")
    if binary is None:
        binary = b"".join([component.to_bytes() for component in components])
    if len(binary) > MAX_LENGTH:
        raise InvalidMultiaddr(f"multiaddr of {len(binary)} bytes, the limit is {MAX_LENGTH}")
    address = object.__new__(Multiaddr)
    object.__setattr__(address, "components", components)
    object.__setattr__(address, "_binary", binary)
    object.__setattr__(address, "_text", "".join([str(component) for component in components]))
    return address


def _restore(binary: bytes) -> Multiaddr:
    """What `pickle` and `copy` call: unlike `Multiaddr`, it takes the empty address."""
    return Multiaddr(binary) if binary else _assemble(())


@lru_cache(CACHE_SIZE)
def _from_text(text: str) -> Multiaddr:
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidMultiaddr(f"multiaddr of {len(text)} characters, the limit is {MAX_TEXT_LENGTH}")
    parts = text.rstrip("/").split("/")
    if parts == [""]:
        raise InvalidMultiaddr(f"multiaddr {_shorten(text)} is empty")
    if parts[0]:
        raise InvalidMultiaddr(f"multiaddr {_shorten(text)} does not begin with a slash")
    components: list[Component] = []
    index = position = 1  # in `parts` and, of the same part, in `text`
    while index < len(parts):
        name = parts[index]
        protocol = PROTOCOL_BY_NAME.get(name)
        if protocol is None:
            raise InvalidMultiaddr(
                f"multiaddr {_shorten(text)}: unknown protocol {_shorten(name)} at character {position}"
            )
        value: str | None = None
        taken = 1
        if protocol.size != 0:
            if index + 1 == len(parts):
                raise InvalidMultiaddr(
                    f"multiaddr {_shorten(text)}: /{name} at character {position} ends without its value"
                )
            value, taken = parts[index + 1], 2
            if protocol.path:
                taken = len(parts) - index
                value = "/" + "/".join(parts[index + 1 :])
        try:
            components.append(Component.from_text(name, value))
        except InvalidMultiaddr as error:
            at = position + len(name) + 1
            raise InvalidMultiaddr(f"multiaddr {_shorten(text)}, at character {at}: {error}") from error
        position += sum(len(part) + 1 for part in parts[index : index + taken])
        index += taken
    return _assemble(tuple(components))


@lru_cache(CACHE_SIZE)
def _from_binary(binary: bytes) -> Multiaddr:
    if not binary:
        raise InvalidMultiaddr("multiaddr b'' is empty")
    if len(binary) > MAX_LENGTH:
        raise InvalidMultiaddr(f"multiaddr of {len(binary)} bytes, the limit is {MAX_LENGTH}")
    components: list[Component] = []
    offset = 0
    while offset < len(binary):
        try:
            component, end = _read_component(binary, offset)
        except (InvalidMultiaddr, InvalidVarint) as error:
            raise InvalidMultiaddr(f"multiaddr {_shorten(binary)}, at byte {offset}: {error}") from error
        components.append(component)
        offset = end
    return _assemble(tuple(components), binary)


def _has_more(binary: bytes, count: int) -> bool:
    """Whether `binary` goes on behind `count` components; False where it is malformed before."""
    offset = 0
    try:
        for _ in range(count):
            if offset >= len(binary):
                return False
            code, offset = decode_varint(binary, offset)
            if (protocol := PROTOCOL_BY_CODE.get(code)) is None:
                return False
            length = protocol.size // 8
            if protocol.size == VARIABLE:
                length, offset = decode_varint(binary, offset)
            offset += length
    except InvalidVarint:
        return False
    return offset < len(binary)


def _read_component(binary: bytes, offset: int) -> tuple[Component, int]:
    code, offset = decode_varint(binary, offset)
    protocol = PROTOCOL_BY_CODE.get(code)
    if protocol is None:
        raise InvalidMultiaddr(f"unknown protocol code {code}")
    length = protocol.size // 8
    if protocol.size == VARIABLE:
        length, offset = decode_varint(binary, offset)
    end = offset + length
    if end > len(binary):
        raise InvalidMultiaddr(
            f"the value of /{protocol.name} is cut short: {len(binary) - offset} of {length} bytes are there"
        )
    return Component.from_raw(protocol, binary[offset:end]), end


def _component(name: str, raw: bytes) -> Component:
    """What `pickle` and `copy` call: protocols hold functions, which are found again by their names."""
    return Component.from_raw(protocol_named(name), raw)

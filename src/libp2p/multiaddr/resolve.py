"""Names in multiaddrs: from /dns, /dns4, /dns6 and /dnsaddr to addresses that can be dialed.

    /dns4/example.com/tcp/80   ->  /ip4/192.0.2.7/tcp/80                                  A records
    /dnsaddr/example.com       ->  the multiaddrs in `dnsaddr=...` records of _dnsaddr.example.com (TXT)

Rules:
- only a name at the head is resolved: one behind /p2p-circuit is for the relay to make sense of;
- "items whose suffix doesn't match the provided one are dropped" (DNSADDR.md): what stands behind /dnsaddr/<name> must
  be the end of the record;
- all of one level is looked up at once; the results keep the order of the records, IPv6 before IPv4 (for /dns "IPv6
  will be preferred"), without repetitions;
- depth, lookups, results and time are bounded, so records that name each other in a circle end;
- a WebSocket address under TLS keeps its host name as /sni, without which no certificate could be checked:
  /dns4/example.com/tcp/443/wss  ->  /ip4/192.0.2.7/tcp/443/tls/sni/example.com/ws

Host names are asked of the operating system, so that its hosts file, mDNS and search rules hold; TXT records, which it
has no call for, are asked through dnspython, loaded at the first use.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypeVar, cast

from ..ground_errors import InvalidMultiaddr, ResolveError
from .multiaddr import Component, Multiaddr
from .net import from_ip

if TYPE_CHECKING:
    import dns.asyncresolver

T = TypeVar("T")

NameFamily: TypeAlias = Literal["dns", "dns4", "dns6"]

_FAMILIES: Final = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_DNSADDR_PREFIX: Final = "dnsaddr="


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """Limits of a `Resolver`; each holds for one call of `resolve`. Those of go-libp2p, and two more."""

    max_addresses: int = 100
    """Addresses in the result, and at any stage before it; what comes behind them is dropped."""

    max_depth: int = 4
    """/dnsaddr lookups on the way to one address; a /dnsaddr below is dropped."""

    max_lookups: int = 64
    """Names asked for in all; names beyond are not asked for."""

    timeout: float = 10.0
    """Seconds for all lookups together; what came in by then is the result."""


class NameLookup(Protocol):
    """Where names are looked up. Both return an empty list where the name has no such records."""

    async def addresses(self, name: str, family: NameFamily) -> Sequence[str]:
        """IP addresses of a host, IPv6 ones with their `%zone` if they need one. Raises `ResolveError`."""
        ...

    async def texts(self, name: str) -> Sequence[str]:
        """TXT records of a name. Raises `ResolveError`."""
        ...


class SystemLookup:
    """The operating system for host names, dnspython for TXT records.

    `nameservers` (IP addresses) and `port` say which DNS servers to ask for TXT records instead of the system's. At
    most `max_threads` lookups of host names are under way. The system may take long for one, which nobody can stop: it
    goes on behind a caller that has given up, and ends with the process.
    """

    def __init__(self, *, nameservers: Sequence[str] = (), port: int = 53, max_threads: int = 32) -> None:
        self._nameservers = list(nameservers)
        self._port = port
        self._threads = asyncio.Semaphore(max_threads)

    async def addresses(self, name: str, family: NameFamily) -> list[str]:
        """See `NameLookup.addresses`."""
        try:
            found = await self._on_a_thread(
                lambda: socket.getaddrinfo(name, None, family=_FAMILIES[family], type=socket.SOCK_STREAM)
            )
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                return []
            raise ResolveError(f"cannot look up {name!r}: {error.strerror}") from error
        except (OSError, UnicodeError) as error:
            raise ResolveError(f"cannot look up {name!r}: {error}") from error
        return [_host_text(*sockaddr) for *_, sockaddr in found]

    async def texts(self, name: str) -> list[str]:
        """See `NameLookup.texts`."""
        resolver = await self._on_a_thread(self._load)
        from dns.exception import DNSException  # noqa: PLC0415
        from dns.resolver import NXDOMAIN  # noqa: PLC0415

        try:
            answer = await resolver.resolve(name, "TXT", search=False, raise_on_no_answer=False)
        except NXDOMAIN:
            return []
        except DNSException as error:
            raise ResolveError(f"cannot look up the TXT records of {name!r}: {error}") from error
        return [b"".join(record.strings).decode(errors="replace") for record in answer]

    async def _on_a_thread(self, call: Callable[[], T]) -> T:
        """What `call` returns. On a thread that nobody waits for at the end, as the loop does for those of its own."""
        await self._threads.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def finish(result: T | None, error: BaseException | None) -> None:
            self._threads.release()
            if done.done():
                return  # the caller has given up
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(cast("T", result))

        def run() -> None:
            result, error = None, None
            try:
                result = call()
            except BaseException as raised:  # goes to the caller
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, result, error)

        Thread(target=run, name="looking up a name", daemon=True).start()
        return await done

    def _load(self) -> dns.asyncresolver.Resolver:
        """Load dnspython, which takes a tenth of a second, and read the system's configuration, which may change."""
        from dns.asyncresolver import Resolver as DnsResolver  # noqa: PLC0415
        from dns.exception import DNSException  # noqa: PLC0415

        try:
            resolver = DnsResolver(configure=not self._nameservers)
        except DNSException as error:
            raise ResolveError(f"no DNS servers are configured: {error}") from error
        if self._nameservers:
            resolver.nameservers = list(self._nameservers)
        resolver.port = self._port
        return resolver


def _host_text(host: object, _port: object, _flow: object = 0, scope_id: object = 0) -> str:
    """The host of a socket address, with the zone that stands beside it."""
    return f"{host}%{scope_id}" if scope_id and "%" not in str(host) else str(host)


class Resolver:
    """Turns addresses that begin with a name into addresses that begin with none."""

    def __init__(self, config: ResolverConfig | None = None, lookup: NameLookup | None = None) -> None:
        self._config = config or ResolverConfig()
        self._lookup = lookup or SystemLookup()

    async def resolve(self, address: Multiaddr, *, peer_id_text: str | None = None) -> list[Multiaddr]:
        """The addresses that `address` stands for, at least one; itself if it begins with no name.

        With `peer_id_text`, addresses that lead to another peer are dropped; one that names no peer stays, since its
        handshake will tell. Raises `ResolveError`, which names the address and the reason, if no address is left, and
        `InvalidMultiaddr` if `peer_id_text` is no peer id and that matters.
        """
        return list(await self.resolve_with_names(address, peer_id_text=peer_id_text))

    async def resolve_with_names(self, address: Multiaddr, *, peer_id_text: str | None = None) -> dict[Multiaddr, str]:
        """The same, each with the host name whose record led to it; "" where there was none."""
        if _query(address) is None and address.peer_id_text in (None, peer_id_text):
            return {address: ""}
        peer = None if peer_id_text is None else Component.from_text("p2p", peer_id_text).value
        run = _Run(self._config, self._lookup, asyncio.get_running_loop().time() + self._config.timeout)
        resolved = await run.resolve(address)
        found = [a for a in resolved if peer is None or a.peer_id_text in (None, peer)]
        if found:
            return {a: run.names.get(a, "") for a in found}
        reasons = [f"its addresses lead to other peers than {peer}"] if resolved else run.reasons[:5]
        raise ResolveError(f"cannot resolve {address}: {'; '.join(reasons)}") from run.cause


_Query: TypeAlias = tuple[NameFamily | Literal["dnsaddr"], str]
"""The protocol and the name: what is looked up."""

_RESOLVABLE: Final[Mapping[str, NameFamily | Literal["dnsaddr"]]] = {
    "dns": "dns",
    "dns4": "dns4",
    "dns6": "dns6",
    "dnsaddr": "dnsaddr",
}


class _Run:
    """One call of `Resolver.resolve`: the list of addresses, rewritten one level of names at a time."""

    def __init__(self, config: ResolverConfig, lookup: NameLookup, deadline: float) -> None:
        self._config = config
        self._lookup = lookup
        self._deadline = deadline
        self._answers: dict[_Query, Sequence[str]] = {}
        self.names: dict[Multiaddr, str] = {}
        """By address, the host name that was looked up for it."""
        self.reasons: list[str] = []
        self.cause: Exception | None = None

    async def resolve(self, address: Multiaddr) -> list[Multiaddr]:
        """The addresses, in order; `reasons` tells what was dropped on the way."""
        addresses = [address]
        # Each level takes one /dnsaddr off; the last one has host names only.
        for level in range(self._config.max_depth + 1):
            queries = dict.fromkeys(query for a in addresses if (query := _query(a)) is not None)
            if level == self._config.max_depth:
                queries = {query: None for query in queries if query[0] != "dnsaddr"}
            await self._ask([query for query in queries if query not in self._answers])
            # In the place of a name stand its results, so that the order of the records is kept.
            expanded: dict[Multiaddr, None] = {}
            for a in addresses:
                expanded.update(dict.fromkeys(self._expand(a, level)))
                if len(expanded) >= self._config.max_addresses:
                    break
            addresses = list(expanded)[: self._config.max_addresses]
            if all(_query(a) is None for a in addresses):
                break
        return addresses

    async def _ask(self, queries: list[_Query]) -> None:
        room = self._config.max_lookups - len(self._answers)
        if len(queries) > room:
            self._drop(f"more than {self._config.max_lookups} names to look up")
        async with asyncio.TaskGroup() as group:
            for query in queries[:room]:
                group.create_task(self._ask_one(query))

    async def _ask_one(self, query: _Query) -> None:
        protocol, name = query
        self._answers[query] = ()
        try:
            async with asyncio.timeout_at(self._deadline):
                if protocol == "dnsaddr":
                    self._answers[query] = await self._lookup.texts(f"_dnsaddr.{name}")
                else:
                    self._answers[query] = await self._lookup.addresses(name, protocol)
        except TimeoutError as error:
            self._drop(f"no answer for {name!r} within {self._config.timeout:g} s", error)
        except ResolveError as error:
            self._drop(str(error), error)
        else:
            if not self._answers[query]:
                self._drop(f"{name!r} has no records for /{protocol}")

    def _drop(self, reason: str, cause: Exception | None = None) -> None:
        self.reasons.append(reason)
        self.cause = self.cause or cause

    def _expand(self, address: Multiaddr, level: int) -> list[Multiaddr]:
        query = _query(address)
        if query is None:
            return [address]
        protocol, name = query
        if protocol == "dnsaddr" and level == self._config.max_depth:
            self._drop(f"/dnsaddr/{name} is nested deeper than {self._config.max_depth} levels")
            return []
        answers = self._answers.get(query, ())
        rest = address[1:]
        if protocol == "dnsaddr":
            return self._records(name, answers, rest)
        try:
            hosts = [from_ip(answer) / _with_server_name(rest, name) for answer in answers]
        except InvalidMultiaddr as error:
            self._drop(f"addresses of {name!r}: {error}", error)
            return []
        if protocol != "dns":
            hosts = [host for host in hosts if (host[0].name == "ip4") == (protocol == "dns4")]
            if answers and not hosts:
                self._drop(f"{name!r} has no records for /{protocol}")
        for host in hosts:
            self.names.setdefault(host, name)
        return sorted(hosts, key=lambda host: host[0].name == "ip4")

    def _records(self, name: str, texts: Sequence[str], suffix: Multiaddr) -> list[Multiaddr]:
        """The multiaddrs of `dnsaddr=` records that end in `suffix` and have more than that."""
        found = []
        for text in texts:
            # "Valid dnsaddr TXT records begin with dnsaddr=, followed by a single multiaddr."
            if not text.startswith(_DNSADDR_PREFIX):
                continue
            try:
                record = Multiaddr(text.removeprefix(_DNSADDR_PREFIX))
            except InvalidMultiaddr as error:
                self._drop(f"record of {name!r}: {error}", error)
                continue
            ahead = len(record) - len(suffix)
            if ahead > 0 and record[ahead:] == suffix:
                found.append(record)
        if texts and not found:
            self._drop(f"no record of {name!r} ends in {suffix}" if suffix else f"{name!r} has no dnsaddr= record")
        return found


def begins_with_name(address: Multiaddr) -> bool:
    """Whether `address` has to be resolved before it can be dialed."""
    return _query(address) is not None


def _query(address: Multiaddr) -> _Query | None:
    head = address.head
    protocol = None if head is None else _RESOLVABLE.get(head.name)
    return None if head is None or head.value is None or protocol is None else (protocol, head.value)


def _with_server_name(rest: Multiaddr, name: str) -> Multiaddr:
    """`rest` with /sni/<name> in it, if it is a secure WebSocket that has none yet."""
    names = [component.name for component in rest]
    if "sni" in names:
        return rest
    # "/wss: deprecated alias for /tls/ws" (protocols.csv)
    for index, protocol in enumerate(names):
        if protocol == "wss":
            before, after = rest[:index], rest[index + 1 :]
        elif names[index : index + 2] == ["tls", "ws"]:
            before, after = rest[:index], rest[index + 2 :]
        elif protocol == "p2p-circuit":
            break
        else:
            continue
        secure = (Component.from_text("tls"), Component.from_text("sni", name), Component.from_text("ws"))
        return Multiaddr.from_components((*before, *secure, *after))
    return rest

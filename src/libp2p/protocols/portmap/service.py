"""Port mapping: the gateway is asked to lead ports to this host, for as long as the service runs.

    async with Host(listen_addrs=["/ip4/0.0.0.0/tcp/4001"]) as host, PortMapping(host): ...

    search -- none: again after check_interval, doubled each time up to search_interval
      '-- found: map what the host listens on --> every check_interval: due ones renewed, an epoch that fell behind or
                                                  another external address: all mapped anew; silent: search

Rules:
- Nothing waits for it: a host without a gateway starts as fast as ever.
- Who listens on no private address of IPv4 asks nobody.
- IPv4 only. An external address that is not public, as behind a carrier's NAT, is told by the event and not announced.
- What was mapped is taken back at the end, within `unmap_timeout`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from ...connection import Service
from ...host import Host
from ...host.addrs import AddrSource
from ...host.events import AddrsChanged
from ...multiaddr import Multiaddr, Reach, reach_of
from .config import PortMapConfig
from .core import Epoch, Leases, Mapped, Port, outside, ports_of
from .events import PortMapped, PortUnmapped
from .finding import find_gateways
from .gateway import Gateway, MappingError

logger = logging.getLogger(__name__)

_TRIES = 2
"""Times that a gateway is asked to take back a mapping."""


class PortMapping(Service):
    """Opens the ports that the host listens on. `find` looks for gateways."""

    def __init__(
        self,
        host: Host,
        config: PortMapConfig | None = None,
        *,
        find: Callable[[PortMapConfig], Awaitable[list[Gateway]]] = find_gateways,
    ) -> None:
        super().__init__(host)
        self.config = config or PortMapConfig()
        self._find = find
        self._own = host.own_addrs
        self._leases = Leases(self.config)
        self._gateway: Gateway | None = None
        self._epoch = Epoch()
        self._external: object = None
        self._changed = asyncio.Event()
        self._searched = asyncio.Event()

    @property
    def gateway(self) -> Gateway | None:
        """The one in use, if there is any."""
        return self._gateway

    @property
    def mapped(self) -> dict[Port, Mapped]:
        """What it leads to us."""
        return self._leases.mapped

    async def searched(self) -> None:
        """Wait until the first search has ended, and what was found was asked."""
        await self._searched.wait()

    async def start(self) -> None:
        """Search for a gateway, in the background."""
        self.follow(AddrsChanged, lambda _: self._changed.set())
        self.spawn(self._run(), name="port mapping")

    async def stop(self) -> None:
        """Take back what was mapped."""
        await self._tasks.close()  # nothing is mapped any more behind our back
        if self._gateway is not None and self.mapped:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.unmap_timeout):
                    for port, mapped in self.mapped.items():  # many gateways do one thing at a time
                        await self._unmap(self._gateway, port, mapped)

    def abort(self) -> set[asyncio.Task[Any]]:
        """See `Service`: nothing mapped is announced any more."""
        self._own.set(AddrSource.MAPPED, (), by="gateway")
        return super().abort()

    # Inside

    async def _run(self) -> None:
        pause = self.config.check_interval
        while True:
            for gateway in await self._find(self.config) if self._is_wanted() else ():
                if await self._use(gateway):
                    break
            self._searched.set()
            if self._gateway is not None:
                await self._keep(self._gateway)
                pause = self.config.check_interval  # it may be restarting
            await self._pause(pause)
            pause = min(2 * pause, self.config.search_interval)

    def _is_wanted(self) -> bool:
        """Whether the host listens where a gateway may lead to."""
        return any(addr.get("ip4") and reach_of(addr) is Reach.PRIVATE for addr in self.host.listen_addrs)

    async def _use(self, gateway: Gateway) -> bool:
        """Whether `gateway` maps what is wanted; then it is the one."""
        self._gateway, self._epoch = gateway, Epoch()
        with suppress(MappingError):
            await self._look(gateway)
            if self.mapped or not self._leases.due(float("inf")):
                return True
        self._leases.clear()
        self._gateway = None
        return False

    async def _keep(self, gateway: Gateway) -> None:
        """Renew what it has mapped, until it is gone."""
        failures = 0
        while failures < self.config.max_failures:
            await self._pause(self.config.check_interval)
            try:
                await self._look(gateway)
                failures = 0
            except MappingError as error:
                failures += 1
                logger.debug("the gateway does not answer: %s", error)
        for port in self.mapped:
            self.host.events.emit(PortUnmapped(port.transport, port.number, "the gateway is gone"))
        self._leases.clear()
        self._gateway = None
        self._announce(gateway)

    async def _look(self, gateway: Gateway) -> None:
        """See how the gateway is, and ask for what is due."""
        state = await gateway.check()
        external, self._external = self._external, state.external_ip
        if self._epoch.is_restarted(state.epoch, _now()) or (external is not None and external != state.external_ip):
            self._leases.forgotten()
        ports = ports_of(self.host.listen_addrs, gateway.local_ip)
        for port, mapped in self._leases.want(ports):
            await self._unmap(gateway, port, mapped)
        for port in self._leases.due(_now()):
            await self._map(gateway, port)
        self._announce(gateway)

    async def _map(self, gateway: Gateway, port: Port) -> None:
        before = self.mapped.get(port)
        try:
            mapped = await gateway.map(port, self._leases.external_port(port), self.config.lifetime)
        except MappingError as error:
            if not error.refused:
                raise
            logger.debug("%s port %d is not mapped: %s", port.transport, port.number, error)
            self._leases.refused(port, _now())
            if before is not None:
                self.host.events.emit(PortUnmapped(port.transport, port.number, str(error)))
            return
        self._leases.made(port, mapped, _now())
        if before is None or (before.external_ip, before.external_port) != (mapped.external_ip, mapped.external_port):
            where = mapped.external_ip, mapped.external_port
            self.host.events.emit(PortMapped(gateway.kind, port.transport, port.number, *where))

    async def _unmap(self, gateway: Gateway, port: Port, mapped: Mapped) -> None:
        for _ in range(_TRIES):
            try:
                await gateway.unmap(port, mapped)
                break
            except MappingError as error:
                logger.debug("%s port %d stays mapped: %s", port.transport, port.number, error)
        self.host.events.emit(PortUnmapped(port.transport, port.number, "it is wanted no more"))

    def _announce(self, gateway: Gateway) -> None:
        ports = ports_of(self.host.listen_addrs, gateway.local_ip)
        mapped = self.mapped
        addrs: list[Multiaddr] = [
            outside(addr, mapped[port]) for port, addrs in ports.items() if port in mapped for addr in addrs
        ]
        public = [addr for addr in addrs if reach_of(addr) is Reach.PUBLIC]
        self._own.set(AddrSource.MAPPED, public, by="gateway")

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until a lease is due or the host's addresses have changed."""
        if self._gateway is not None and (due := self._leases.next_at()) is not None:
            seconds = min(seconds, max(due - _now(), 0.1))
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()

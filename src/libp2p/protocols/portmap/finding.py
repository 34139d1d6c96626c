"""Finding gateways: that of the default route by PCP and NAT-PMP, any by UPnP's search. All at the same time."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from ...errors import RemoteProtocolError
from . import upnp, wire
from .config import PortMapConfig
from .gateway import Gateway, MappingError, PcpGateway, PmpGateway, UpnpGateway, http, udp

logger = logging.getLogger(__name__)

_ROUTES = Path("/proc/net/route")
_GATEWAY_FLAG = 0x2
_MAX_DEVICES = 8
"""Devices that are looked at after a search."""


def default_gateway(routes: str) -> IPv4Address | None:
    """That of the default route, by Linux's table of routes as text (proc(5), /proc/net/route)."""
    for line in routes.splitlines()[1:]:
        fields = line.split()
        with suppress(ValueError, IndexError, struct.error):
            if int(fields[1], 16) == 0 and int(fields[3], 16) & _GATEWAY_FLAG:
                return IPv4Address(struct.pack("=L", int(fields[2], 16)))
    return None


async def find_gateways(config: PortMapConfig) -> list[Gateway]:
    """Those that answer, in the order of `kinds`. Takes `answer_timeout` at most, or twice that for UPnP."""
    address = config.gateway
    if address is None and (found := _system_gateway()) is not None:
        address = str(found)
    local_ip = None if address is None else _local_ip(address)
    searches = []
    for kind in config.kinds:
        if kind == "upnp":
            searches.append(_search(config, local_ip))
        elif address is not None and local_ip is not None:
            made = PcpGateway if kind == "pcp" else PmpGateway
            searches.append(_probe(made(local_ip, address, config)))
    return [gateway for found in await asyncio.gather(*searches) for gateway in found]


def _system_gateway() -> IPv4Address | None:
    with suppress(OSError):
        return default_gateway(_ROUTES.read_text())
    return None


async def _probe(gateway: Gateway) -> list[Gateway]:
    try:
        await gateway.check()
    except MappingError as error:
        logger.debug("no gateway: %s", error)
        return []
    return [gateway]


async def _search(config: PortMapConfig, local_ip: IPv4Address | None) -> list[Gateway]:
    """Gateways that speak UPnP; one for each address."""
    locations: dict[str, str] = {}
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(config.answer_timeout), udp(local_ip or IPv4Address(0)) as (sock, received):
            for target in upnp.TARGETS:
                sock.sendto(upnp.search(target), upnp.SSDP_GROUP)
            while len(locations) < _MAX_DEVICES:
                data, source = await received.get()
                if config.gateway not in (None, source):
                    continue
                with suppress(RemoteProtocolError):
                    locations.setdefault(source, upnp.decode_found(data, source))
                if local_ip is not None and locations:
                    break  # the gateway of the default route's network: there is hardly another
    described = [_described(source, location, config) for source, location in locations.items()]
    return [gateway for gateway in await asyncio.gather(*described) if gateway is not None]


async def _described(source: str, location: str, config: PortMapConfig) -> Gateway | None:
    local_ip = _local_ip(source)
    try:
        status, body = await http(location, config)
        if status != 200 or local_ip is None:
            raise MappingError(f"upnp: status {status} of {location}")
        gateway = UpnpGateway(local_ip, upnp.decode_description(body, location), config)
        await gateway.check()
    except (MappingError, RemoteProtocolError) as error:
        logger.debug("no gateway: %s", error)
        return None
    return gateway


def _local_ip(address: str) -> IPv4Address | None:
    """The address of this host that talks to `address`. Sends nothing."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, wire.PORT))
        return IPv4Address(sock.getsockname()[0])
    return None

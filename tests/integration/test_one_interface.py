"""Hosts that listen on one address of the machine: they dial from the port that they listen on, as on all addresses."""

from __future__ import annotations

import pytest

from libp2p.host import Host
from libp2p.multiaddr import Multiaddr, host_port, is_loopback
from libp2p.transports.interfaces import Interfaces

pytestmark = pytest.mark.real


@pytest.mark.parametrize("rest", ["tcp/0", "udp/0/quic-v1"])
async def test_dials_come_from_the_listening_port(rest: str) -> None:
    ips = [ip for ip in Interfaces().ips("ip4") if not is_loopback(Multiaddr(f"/ip4/{ip}"))]
    if not ips:
        pytest.skip("this machine has the loopback only")
    addr = f"/ip4/{ips[0]}/{rest}"
    async with Host(listen_addrs=[addr]) as dialer, Host(listen_addrs=[addr]) as listener:
        await dialer.identify.identify(await dialer.connect(listener.addrs[0]))
        (connection,) = listener.connections_to(dialer.id)
        assert host_port(connection.remote_addr) == host_port(dialer.listen_addrs[0])

"""A transport for simulations of thousands of hosts: its connections are finished, without cryptography and frames.

    async with Network(link=Link(latency=0.05)) as network:
        node = network.node("10.0.0.1")
        host = Host(transports=[CheapTransport(node)], listen_addrs=["/ip4/10.0.0.1/tcp/4001"])

It dials, listens and is cut by the same machines, links and addresses as a `SimulatedTransport`.
"""

from .connection import PROTOCOL, CheapConfig, CheapConnection
from .transport import CheapTransport

__all__ = ["PROTOCOL", "CheapConfig", "CheapConnection", "CheapTransport"]

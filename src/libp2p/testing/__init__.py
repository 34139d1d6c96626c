"""Tools for testing programs that use libp2p, and for testing implementations of its interfaces.

- `loop`: run a coroutine in virtual time: hours pass in no time, a deadlock is an error, nothing may be left over
- `network`: machines joined by simulated links: latency, bandwidth, loss, partitions
- `links`: how long what is sent is under way, and what a cut does
- `datagrams`: the UDP sockets of these machines: lost, late, doubled and reordered datagrams, spoofing, rebinding
- `transports`: stand-ins for what surrounds a transport: its context, its upgrader, who accepts
- `cheap`: a transport for these machines without cryptography and frames, for thousands of hosts
- `simulation`, `topology`: whole networks of hosts, connected by a plan
- `conformance`: a test suite for each interface: byte streams, security protocols, muxers, transports
"""

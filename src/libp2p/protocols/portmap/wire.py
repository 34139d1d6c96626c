"""NAT-PMP and PCP to the byte: RFC 6886, RFC 6887. Big-endian; UDP, port 5351 of the gateway.

NAT-PMP

    address ->  version 0 | op 0                                        2 bytes
    <- address  version 0 | op 128 | result 2 | epoch 4 | IPv4 4
    map ->      version 0 | op 1 UDP, 2 TCP | 0 2 | internal port 2 | external port 2 | lifetime 4
    <- map      version 0 | op + 128 | result 2 | epoch 4 | internal port 2 | external port 2 | lifetime 4

PCP

    request ->  version 2 | opcode | 0 2 | lifetime 4 | client's IP 16 | MAP
    <- answer   version 2 | opcode + 128 | 0 | result | lifetime 4 | epoch 4 | 0 12 | MAP
    MAP         nonce 12 | protocol | 0 3 | internal port 2 | external port 2 | external IP 16      (opcode 1)
    ANNOUNCE    nothing                                                                             (opcode 0)

Rules: an IPv4 address of PCP is one of IPv6, ::ffff:a.b.c.d. A lifetime of 0 takes a mapping back. The epoch is how
many seconds the gateway has been running: where it falls behind, the gateway has forgotten all mappings.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ...errors import RemoteProtocolError

PORT = 5351
MAX_DATAGRAM = 1100
NONCE_SIZE = 12
_RESPONSE = 128
_PMP_OPS = {"udp": 1, "tcp": 2}
_PCP_PROTOCOLS = {"udp": 17, "tcp": 6}
_PCP_HEADER, _PCP_MAP = 24, 36
UNSUPPORTED_VERSION = 1
"""The result, of either protocol, of a gateway that speaks another version."""
_RESULTS = {
    "nat-pmp": "success,unsupported version,not authorized,network failure,out of resources,unsupported opcode",
    "pcp": "SUCCESS,UNSUPP_VERSION,NOT_AUTHORIZED,MALFORMED_REQUEST,UNSUPP_OPCODE,UNSUPP_OPTION,MALFORMED_OPTION,"
    "NETWORK_FAILURE,NO_RESOURCES,UNSUPP_PROTOCOL,USER_EX_QUOTA,CANNOT_PROVIDE_EXTERNAL,ADDRESS_MISMATCH,"
    "EXCESSIVE_REMOTE_PEERS",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gateway has answered; of a mapping that was made, the fields behind `epoch`."""

    result: int
    epoch: int
    external_ip: IPv4Address | None = None
    internal_port: int = 0
    external_port: int = 0
    lifetime: int = 0
    nonce: bytes = b""


def pmp_address() -> bytes:
    """Ask for the external address, and the epoch."""
    return b"\0\0"


def pmp_map(transport: str, internal_port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for a mapping; `transport` is tcp or udp. To take it back, lifetime and external port are 0."""
    return struct.pack(">BBHHHI", 0, _PMP_OPS[transport], 0, internal_port, external_port, lifetime)


def decode_pmp(data: bytes, request: bytes) -> Answer:
    """The answer to `request`. Raises `RemoteProtocolError`."""
    if len(data) < 8 or data[0] != 0 or data[1] != request[1] | _RESPONSE:
        raise RemoteProtocolError(f"NAT-PMP: {data[:16].hex()} answers nothing that was asked")
    result, epoch = struct.unpack_from(">HI", data, 2)
    if result:
        return Answer(result, epoch)
    if request[1] == 0:
        if len(data) < 12:
            raise RemoteProtocolError(f"NAT-PMP: an address in {len(data)} bytes")
        return Answer(0, epoch, IPv4Address(data[8:12]))
    if len(data) < 16:
        raise RemoteProtocolError(f"NAT-PMP: a mapping in {len(data)} bytes")
    internal, external, lifetime = struct.unpack_from(">HHI", data, 8)
    if internal != int.from_bytes(request[4:6]):
        raise RemoteProtocolError(f"NAT-PMP: port {internal} was mapped, which was not asked for")
    return Answer(0, epoch, None, internal, external, lifetime)


def pcp_announce(client: IPv4Address) -> bytes:
    """Ask for the epoch."""
    return struct.pack(">BBHI", 2, 0, 0, 0) + _mapped(client)


def pcp_map(
    client: IPv4Address, nonce: bytes, transport: str, internal_port: int, external_port: int, lifetime: int
) -> bytes:
    """Ask for a mapping; `transport` is tcp or udp. The same nonce renews it, and, with lifetime 0, takes it back."""
    header = struct.pack(">BBHI", 2, 1, 0, lifetime) + _mapped(client)
    ports = struct.pack(">B3xHH", _PCP_PROTOCOLS[transport], internal_port, external_port)
    return header + nonce + ports + _mapped(IPv4Address(0))


def decode_pcp(data: bytes, request: bytes) -> Answer:
    """The answer to `request`. Raises `RemoteProtocolError`. A gateway that speaks NAT-PMP only says so by `result`."""
    if len(data) >= 8 and data[0] == 0:
        return Answer(UNSUPPORTED_VERSION, 0)
    if len(data) < _PCP_HEADER or data[0] != 2 or data[1] != request[1] | _RESPONSE:
        raise RemoteProtocolError(f"PCP: {data[:16].hex()} answers nothing that was asked")
    result, lifetime, epoch = struct.unpack_from(">BII", data, 3)
    if result or request[1] == 0:
        return Answer(result, epoch)
    body, asked = data[_PCP_HEADER:], request[_PCP_HEADER:]
    if len(body) < _PCP_MAP or body[:13] != asked[:13] or body[16:18] != asked[16:18]:
        raise RemoteProtocolError("PCP: a mapping was made that was not asked for")
    external_ip = IPv6Address(body[20:36]).ipv4_mapped
    if external_ip is None:
        raise RemoteProtocolError("PCP: the external address is none of IPv4")
    internal, external = struct.unpack_from(">HH", body, 16)
    return Answer(0, epoch, external_ip, internal, external, lifetime, bytes(body[:NONCE_SIZE]))


def result_name(kind: str, result: int) -> str:
    """What a result is called; `kind` is pcp or nat-pmp."""
    names = _RESULTS[kind].split(",")
    return names[result] if result < len(names) else f"result {result}"


def _mapped(ip: IPv4Address) -> bytes:
    return bytes(10) + b"\xff\xff" + ip.packed

"""NAT-PMP, PCP and UPnP to the byte."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from libp2p.errors import RemoteProtocolError
from libp2p.protocols.portmap import upnp, wire
from libp2p.protocols.portmap.finding import default_gateway

CLIENT = IPv4Address("192.168.1.2")
NONCE = bytes(range(12))
MAPPED = "00000000000000000000ffff"


def test_nat_pmp() -> None:
    assert wire.pmp_address() == bytes(2)
    answer = wire.decode_pmp(bytes.fromhex("0080 0000 00000102 0b000001"), wire.pmp_address())
    assert answer == wire.Answer(0, 258, IPv4Address("11.0.0.1"))
    request = wire.pmp_map("tcp", 4001, 4001, 3600)
    assert request.hex() == "000200000fa10fa100000e10"
    assert wire.pmp_map("udp", 4001, 0, 0).hex() == "000100000fa1000000000000"
    answer = wire.decode_pmp(bytes.fromhex("0082 0000 00000007 0fa1 1388 00000e10"), request)
    assert answer == wire.Answer(0, 7, None, 4001, 5000, 3600)
    assert wire.decode_pmp(bytes.fromhex("0082 0002 00000007"), request).result == 2
    assert wire.result_name("nat-pmp", 2) == "not authorized"


@pytest.mark.parametrize(
    "answer",
    ["", "0082", "0081000000000007", "0182000000000007", "008200000000000713880fa100000e10", "00820000000000070fa1"],
)
def test_what_answers_no_question_of_nat_pmp(answer: str) -> None:
    with pytest.raises(RemoteProtocolError, match="NAT-PMP"):
        wire.decode_pmp(bytes.fromhex(answer), wire.pmp_map("tcp", 4001, 4001, 3600))


def test_pcp() -> None:
    assert wire.pcp_announce(CLIENT).hex() == f"0200000000000000{MAPPED}c0a80102"
    request = wire.pcp_map(CLIENT, NONCE, "udp", 4001, 4002, 120)
    assert request.hex() == (f"0201000000000078{MAPPED}c0a80102" + NONCE.hex() + f"110000000fa10fa2{MAPPED}00000000")
    head, body = "028100000000007800000009" + "00" * 12, NONCE.hex() + f"110000000fa11388{MAPPED}0b000001"
    answer = wire.decode_pcp(bytes.fromhex(head + body), request)
    assert answer == wire.Answer(0, 9, IPv4Address("11.0.0.1"), 4001, 5000, 120, NONCE)
    refused = wire.decode_pcp(bytes.fromhex("02810008" + "00000000" + "00000009" + "00" * 12), request)
    assert wire.result_name("pcp", refused.result) == "NO_RESOURCES"
    assert wire.result_name("pcp", 99) == "result 99"
    older = wire.decode_pcp(bytes.fromhex("0081000100000000"), request)
    assert older.result == wire.UNSUPPORTED_VERSION


@pytest.mark.parametrize(("at", "value"), [(0, 1), (1, 1), (24, 9), (36, 6), (41, 0), (54, 0)])
def test_a_pcp_mapping_that_was_not_asked_for(at: int, value: int) -> None:
    """Of another version, a request, of another nonce, protocol or port, and of an address of IPv6."""
    request = wire.pcp_map(CLIENT, NONCE, "udp", 4001, 4002, 120)
    answer = bytearray.fromhex("028100000000007800000009" + "00" * 12)
    answer += NONCE + bytes.fromhex(f"110000000fa11388{MAPPED}0b000001")
    wire.decode_pcp(bytes(answer), request)
    answer[at] = value
    with pytest.raises(RemoteProtocolError, match="PCP"):
        wire.decode_pcp(bytes(answer), request)


FOUND = b"HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n"
DESCRIPTION = b"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceList><device>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/no</controlURL>
</service><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>/ctl/IPConn</controlURL></service></serviceList></device></deviceList></device></root>"""
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"


def test_upnp() -> None:
    assert upnp.decode_found(FOUND, "192.168.1.1") == "http://192.168.1.1:5000/root.xml"
    control = upnp.decode_description(DESCRIPTION, "http://192.168.1.1:5000/root.xml")
    assert control == upnp.Control("http://192.168.1.1:5000/ctl/IPConn", SERVICE)
    body = upnp.call(SERVICE, "DeletePortMapping", NewRemoteHost="", NewExternalPort=1, Text="<&")
    assert f'<u:DeletePortMapping xmlns:u="{SERVICE}"><NewRemoteHost></NewRemoteHost>'.encode() in body
    assert b"<Text>&lt;&amp;</Text>" in body
    fault = b"<e><Fault><errorCode>718</errorCode><errorDescription>taken</errorDescription></Fault></e>"
    with pytest.raises(upnp.UpnpError, match="UPnP error 718: taken") as caught:
        upnp.decode_call(500, fault)
    assert caught.value.code in upnp.CONFLICTS
    assert upnp.decode_call(200, b"<e><NewUptime>12</NewUptime></e>")["NewUptime"] == "12"


def test_http() -> None:
    assert upnp.decode_http(b"HTTP/1.0 200 OK\r\n\r\nabc") == (200, b"abc")
    assert upnp.decode_http(b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nabc") == (500, b"ab")
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n"
    assert upnp.decode_http(chunked) == (200, b"abcd")
    for broken in (
        chunked[:-12],
        chunked.replace(b"3", b"-3"),
        b"HTTP/1.1 200",
        b"HTTP/1.1 2000 x\r\n\r\n",
        b"\r\n\r\n",
    ):
        with pytest.raises(RemoteProtocolError, match="HTTP"):
            upnp.decode_http(broken)
    with pytest.raises(RemoteProtocolError, match="3 bytes of 4"):
        upnp.decode_http(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc")


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.9/x",
        "https://192.168.1.1/x",
        "http://192.168.1.1:99999/x",
        "file:///etc/passwd",
        "http://[",
        "",
    ],
)
def test_a_gateway_leads_to_itself_only(location: str) -> None:
    with pytest.raises(RemoteProtocolError, match="UPnP"):
        upnp.decode_found(FOUND.replace(b"http://192.168.1.1:5000/root.xml", location.encode()), "192.168.1.1")
    with pytest.raises(RemoteProtocolError, match="UPnP"):
        upnp.decode_description(
            DESCRIPTION.replace(b"/ctl/IPConn", location.encode()), "http://192.168.1.1:5000/root.xml"
        )


def test_documents_with_a_dtd_are_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "xx"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    with pytest.raises(RemoteProtocolError, match="DTD"):
        upnp.decode_call(200, bomb)


def test_the_gateway_of_the_default_route() -> None:
    table = "Iface\tDestination\tGateway\tFlags\neth0\t0001A8C0\t00000000\t0001\neth0\t00000000\t0101A8C0\t0003\n"
    assert default_gateway(table) == IPv4Address("192.168.1.1")
    assert default_gateway(table.replace("\t0003", "\t0001")) is None
    assert default_gateway("Iface\nnonsense\n\n") is None

"""UPnP Internet Gateway Device, as text: SSDP, the description of a device, SOAP calls. UPnP IGD:1 and IGD:2.

    M-SEARCH * HTTP/1.1  -> 239.255.255.250:1900, UDP        <- HTTP/1.1 200 OK, LOCATION: http://192.168.1.1:5000/x.xml
    GET /x.xml                                               <- device > ... > service: serviceType, controlURL
    POST controlURL, SOAPACTION: "<service>#AddPortMapping"  <- s:Envelope > s:Body > u:AddPortMappingResponse
                                                             or 500, s:Fault > ... > UPnPError: errorCode

Rules:
- A gateway leads to itself only: a location, or a control URL, at another address than its own is refused.
- Documents with a DTD are refused, since entities could blow them up; all are bounded by who reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from ...errors import RemoteProtocolError

SSDP_GROUP = ("239.255.255.250", 1900)
TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
_SERVICE = re.compile(r"urn:schemas-upnp-org:service:WAN(IP|PPP)Connection:[12]")
_HEADERS_END = b"\r\n\r\n"

NO_SUCH_ENTRY = 714
"""The error of taking back what is not there."""
ONLY_PERMANENT_LEASES = 725
"""The error of a gateway that knows mappings without an end only."""
CONFLICTS = frozenset({718, 724, 727, 729})
"""The errors that another external port may avoid."""


@dataclass(frozen=True, slots=True)
class Control:
    """Where a gateway takes calls."""

    url: str
    service: str
    """The service type, whose name the calls bear."""


class UpnpError(RemoteProtocolError):
    """A gateway refuses a call; `code` says why (IGD:1, 2.4.16)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"UPnP error {code}: {text}")
        self.code = code


def search(target: str) -> bytes:
    """Ask the local network for devices of the type `target`."""
    return (
        f'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: {target}\r\n\r\n'
    ).encode()


def decode_found(data: bytes, source: str) -> str:
    """Where the device at the IP address `source`, which has answered a search, describes itself. Raises
    `RemoteProtocolError`.
    """
    status, headers = _head(data.partition(_HEADERS_END)[0])
    if status != 200:
        raise RemoteProtocolError(f"SSDP: status {status}")
    return _own_url(headers.get("location", ""), source)


def decode_http(data: bytes) -> tuple[int, bytes]:
    """Status and body of an HTTP answer, which has come to its end. Raises `RemoteProtocolError`."""
    head, end, body = data.partition(_HEADERS_END)
    if not end:
        raise RemoteProtocolError("HTTP: the answer has no end of headers")
    status, headers = _head(head)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return status, _dechunk(body)
    length = headers.get("content-length", str(len(body)))
    if not (length.isascii() and length.isdigit()) or int(length) > len(body):
        raise RemoteProtocolError(f"HTTP: {len(body)} bytes of {length[:20]}")
    return status, body[: int(length)]


def decode_description(data: bytes, location: str) -> Control:
    """Where the device, which is described at `location`, takes calls. Raises `RemoteProtocolError`."""
    root = _parse(data)
    base = next((one.text for one in root.iter() if _tag(one) == "URLBase" and one.text), location)
    for service in root.iter():
        if _tag(service) != "service":
            continue
        fields = {_tag(child): (child.text or "").strip() for child in service}
        name, url = fields.get("serviceType", ""), fields.get("controlURL", "")
        if _SERVICE.fullmatch(name) and url:
            return Control(_own_url(_joined(base, url), urlsplit(location).hostname or ""), name)
    raise RemoteProtocolError(f"UPnP: the device at {location} is no gateway")


def call(service: str, action: str, **arguments: object) -> bytes:
    """The body of a call of `action`."""
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service}">{inner}</u:{action}></s:Body></s:Envelope>'
    ).encode()


def decode_call(status: int, body: bytes) -> dict[str, str]:
    """What a call has returned, by name. Raises `UpnpError` where the gateway refuses, `RemoteProtocolError`."""
    root = _parse(body)
    fields = {_tag(one): (one.text or "").strip() for one in root.iter()}
    if status == 200:
        return fields
    code = fields.get("errorCode", "")
    if code.isascii() and code.isdigit() and len(code) < 6:
        raise UpnpError(int(code), fields.get("errorDescription", "")[:100])
    raise RemoteProtocolError(f"UPnP: status {status}")


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    first, *rest = data.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not re.fullmatch(r"[1-5]\d\d(?: .*)?", status, re.ASCII):
        raise RemoteProtocolError(f"HTTP: {first[:40]!r} is no status line")
    headers = (line.partition(":") for line in rest)
    return int(status[:3]), {name.strip().lower(): value.strip() for name, _, value in headers}


def _dechunk(data: bytes) -> bytes:
    chunks: list[bytes] = []
    while True:
        size, end, data = data.partition(b"\r\n")
        text = size.partition(b";")[0].strip()
        if not end or not re.fullmatch(rb"[0-9a-fA-F]{1,8}", text):
            raise RemoteProtocolError("HTTP: a chunk of no size")
        if not (length := int(text, 16)):
            return b"".join(chunks)
        if len(data) < length + 2:
            raise RemoteProtocolError("HTTP: a chunk is cut short")
        chunks.append(data[:length])
        data = data[length + 2 :]


def _own_url(url: str, ip: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RemoteProtocolError(f"UPnP: {url[:80]!r}: {error}") from error
    if parts.scheme != "http" or host != ip or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        raise RemoteProtocolError(f"UPnP: {url[:80]!r} is no place at {ip}")
    return url


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise RemoteProtocolError(f"UPnP: {url[:80]!r}: {error}") from error


def _parse(data: bytes) -> ET.Element:
    if b"<!" in data.replace(b"<!--", b""):
        raise RemoteProtocolError("UPnP: a document with a DTD")
    try:
        return ET.fromstring(data)  # noqa: S314 - bounded, and without a DTD there are no entities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise RemoteProtocolError(f"UPnP: no XML: {error}") from error


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]

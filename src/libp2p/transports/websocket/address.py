"""The addresses of WebSockets (libp2p/specs websockets, "Addressing").

/ip4/192.0.2.0/tcp/1234/ws                          "an insecure address with a TCP port"
/ip4/192.0.2.0/tcp/1234/tls/ws                      a secure one; /wss is its old name
/ip4/192.0.2.0/tcp/1234/tls/sni/foo.example.com/ws  with the name that the certificate must be for
/ip4/192.0.2.0/ws                                   TCP port 80, and 443 for a secure one
/.../ws/http-path/path%2Fto%2Fendpoint              with the path to ask for
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from ...errors import InvalidMultiaddr
from ...multiaddr import HostPort, Multiaddr, host_port

_HOSTS = (["ip4"], ["ip6"], ["ip6zone", "ip6"])
_FORMS = (["ws"], ["wss"], ["tls", "ws"], ["tls", "sni", "ws"])

PLAIN, SECURE = Multiaddr("/ws"), Multiaddr("/tls/ws")
"""What stands behind the TCP address of a socket of either kind."""


@dataclass(frozen=True, slots=True)
class WsAddress:
    """An address taken apart."""

    target: HostPort
    form: Multiaddr
    """What stands behind the TCP port, as it was written."""
    secure: bool
    server_name: str | None
    """The /sni."""
    path: str
    """What the HTTP request asks for, percent-encoded; "/" by default."""

    @property
    def name(self) -> str:
        """Whom the certificate must be for: the /sni, else the IP address."""
        return self.server_name or self.target.host.partition("%")[0]

    @property
    def kind(self) -> Multiaddr:
        """`PLAIN` or `SECURE`."""
        return SECURE if self.secure else PLAIN


def read_address(addr: Multiaddr) -> WsAddress | None:
    """Take `addr` apart, with or without /p2p at its end; None if it is no WebSocket address, or begins with a name."""
    addr = addr.without_peer()
    names = [component.name for component in addr]
    host = next((len(host) for host in _HOSTS if names[: len(host)] == host), 0)
    port = host + (names[host : host + 1] == ["tcp"])
    stop = len(addr) - (names[-1:] == ["http-path"])
    if not host or names[port:stop] not in _FORMS:
        return None
    secure = names[port:stop] != ["ws"]
    tcp = addr[:port] if port > host else addr[:host] / f"/tcp/{443 if secure else 80}"
    path = quote(addr[-1].raw, safe="/:@!$&'()*+,;=~?") if stop < len(addr) else ""
    return WsAddress(host_port(tcp), addr[port:], secure, addr.get("sni"), "/" + path.lstrip("/"))


def parse_address(addr: Multiaddr) -> WsAddress:
    """The same; raises `InvalidMultiaddr` instead."""
    if (parsed := read_address(addr)) is None:
        raise InvalidMultiaddr(f"{addr} is no WebSocket address")
    return parsed


def http_host(name: str) -> str:
    """`name` as HTTP's Host header has it; "" where it is no host name."""
    try:
        text = name.encode("idna").decode()
    except UnicodeError:
        return ""
    return text if all(letter.isalnum() or letter in "-._" for letter in text) else ""

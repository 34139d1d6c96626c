"""NATs and firewalls as rules of nftables. RFC 4787 names the kinds; here mapping and filtering are chosen apart.

    mapping     to all peers the same port (NOTHING), or to each address and port another (ADDRESS_AND_PORT)
    filtering   who may answer: anybody, addresses that were talked to, or these addresses' ports

Linux's masquerade maps to the port that the host uses, unless told to take any, and lets in answers only. Who lets in
more keeps, by a map of its own, which host is behind which port.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .kit import WAN, Namespace

_KEPT = "flags dynamic,timeout; timeout 120s; size 65535;"


class Depends(Enum):
    """What a NAT's mapping, or filtering, depends on."""

    NOTHING = "nothing"
    ADDRESS = "address"
    ADDRESS_AND_PORT = "address and port"


@dataclass(frozen=True, slots=True)
class Nat:
    """A kind of NAT."""

    name: str
    mapping: Depends
    filtering: Depends

    def rules(self, *, refuses: bool) -> str:
        """What makes a router one. `refuses`: strangers get a reset, else nothing."""
        return "\n".join((_strangers("ip", "input", refuses=refuses), self._translation(), self._letting_in()))

    def _translation(self) -> str:
        how = "masquerade random,fully-random" if self.mapping is Depends.ADDRESS_AND_PORT else "masquerade"
        return _masquerade("ip", how)

    def _letting_in(self) -> str:
        if self.filtering is Depends.ADDRESS_AND_PORT:
            return ""
        who = "ip saddr @talked " if self.filtering is Depends.ADDRESS else ""
        maps = "\n".join(
            f"  map {protocol} {{ type inet_service : ipv4_addr . inet_service; {_KEPT} }}" for protocol in ("u", "t")
        )
        return f"""table ip inward {{
  set talked {{ type ipv4_addr; {_KEPT} }}
{maps}
  chain pre {{
    type nat hook prerouting priority -100;
    iifname "{WAN}" {who}dnat ip to udp dport map @u
    iifname "{WAN}" {who}dnat ip to tcp dport map @t
  }}
  chain forw {{
    type filter hook forward priority 0;
    oifname "{WAN}" update @talked {{ ip daddr }}
    oifname "{WAN}" update @u {{ udp sport : ip saddr . udp sport }}
    oifname "{WAN}" update @t {{ tcp sport : ip saddr . tcp sport }}
  }}
}}"""


FULL_CONE = Nat("full cone", Depends.NOTHING, Depends.NOTHING)
RESTRICTED = Nat("restricted", Depends.NOTHING, Depends.ADDRESS)
PORT_RESTRICTED = Nat("port-restricted", Depends.NOTHING, Depends.ADDRESS_AND_PORT)
SYMMETRIC = Nat("symmetric", Depends.ADDRESS_AND_PORT, Depends.ADDRESS_AND_PORT)


def _masquerade(family: str, how: str) -> str:
    return f"""table {family} out {{
  chain post {{
    type nat hook postrouting priority 100;
    oifname "{WAN}" {how}
  }}
}}"""


def _strangers(family: str, hook: str, *, refuses: bool) -> str:
    """What a router does with what nobody behind it has asked for. It is no answer of the router's own ports."""
    icmp = "icmpv6" if family == "ip6" else "icmp"
    neighbours = "    meta l4proto icmpv6 accept\n" if family == "ip6" else ""
    refusal = f"    meta l4proto tcp reject with tcp reset\n    reject with {icmp} type port-unreachable\n"
    return f"""table {family} strangers {{
  chain strange {{
    type filter hook {hook} priority 0; policy accept;
    iifname != "{WAN}" accept
    ct state established,related accept
{neighbours}{refusal if refuses else "    drop"}
  }}
}}"""


def install(router: Namespace, nat: Nat, *, refuses: bool = False) -> None:
    """Make `router` a NAT between its `lan0` and its `wan0`."""
    router.sysctl(net__ipv4__ip_forward=1)
    router.nft(nat.rules(refuses=refuses))


def install_firewall(router: Namespace, *, refuses: bool = False, translates: bool = False) -> None:
    """Make `router` a stateful IPv6 firewall; `translates`: NAT66 too."""
    router.sysctl(net__ipv6__conf__all__forwarding=1)
    router.nft(_strangers("ip6", "input" if translates else "forward", refuses=refuses))
    if translates:
        router.nft(_masquerade("ip6", "masquerade"))

"""Port mapping against Debian's miniupnpd, in namespaces of their own: a router, and a host behind it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or not all(map(shutil.which, ("miniupnpd", "nft", "ip"))),
        reason="needs root, nftables, and Debian's miniupnpd-nftables",
    ),
]

WAN, LAN, HOST = "11.7.0.1", "192.168.77.1", "192.168.77.2"

TABLE = """
table inet miniupnpd {
  chain forward {
    type filter hook forward priority -25; policy accept;
    jump miniupnpd
  }
  chain miniupnpd {
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump prerouting_miniupnpd
  }
  chain prerouting_miniupnpd {
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump postrouting_miniupnpd
  }
  chain postrouting_miniupnpd {
  }
}
"""

CONFIG = """
ext_ifname=wan0
listening_ip=lan0
enable_natpmp=yes
enable_upnp=yes
secure_mode=no
system_uptime=no
uuid=12345678-1234-1234-1234-123456789abc
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 0.0.0.0/0 1024-65535
"""

PROGRAM = """
import asyncio, json, sys
from libp2p.host import Host
from libp2p.host.events import AddrsChanged
from libp2p.protocols.portmap import *

def say(**fields):
    print(json.dumps(fields), flush=True)

async def main():
    config = PortMapConfig(kinds=(sys.argv[1],), check_interval=0.5)
    async with Host(listen_addrs=["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]) as host:
        host.events.on(PortMapped, lambda event: say(mapped=event.transport, kind=event.kind, port=event.external_port))
        async with PortMapping(host, config) as mapping:
            await mapping.searched()
            (port, mapped), *_ = mapping.mapped.items()
            again = await mapping.gateway.map(port, mapped.external_port, 300)
            addrs = [str(addr.without_peer()) for addr in host.addrs]
            say(addrs=addrs, same=again.external_port == mapped.external_port)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        say(addrs=[str(addr.without_peer()) for addr in host.addrs])

asyncio.run(main())
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


class Router:
    """A router with a gateway service, in the namespace `name`."""

    def __init__(self, stack: ExitStack, name: str, folder: Path) -> None:
        self.name = name
        self._stack = stack
        self._config = folder / "miniupnpd.conf"
        self._config.write_text(CONFIG)
        self._pid = folder / "miniupnpd.pid"  # which the service removes before it writes it
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service, with nothing mapped."""
        subprocess.run(["ip", "netns", "exec", self.name, "nft", "flush", "ruleset"], check=True)
        subprocess.run(["ip", "netns", "exec", self.name, "nft", "-f", "-"], input=TABLE, text=True, check=True)
        command = ["ip", "netns", "exec", self.name, "miniupnpd", "-d", "-f", str(self._config), "-P", str(self._pid)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(self.stop)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rules(self) -> str:
        """What is mapped."""
        return run(
            "ip", "netns", "exec", self.name, "nft", "list", "chain", "inet", "miniupnpd", "prerouting_miniupnpd"
        )

    def until(self, condition: Callable[[str], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition(rules := self.rules()):
            assert time.monotonic() < deadline, rules
            time.sleep(0.1)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    outer, inner = f"pm{os.getpid()}r", f"pm{os.getpid()}h"
    with ExitStack() as stack:
        for name in (outer, inner):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", outer, "link", "add", "wan0", "type", "veth", "peer", "name", "far0")
        run("ip", "-n", outer, "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", inner)
        for name, link, addr in (
            (outer, "wan0", WAN),
            (outer, "far0", ""),
            (outer, "lan0", LAN),
            (inner, "eth0", HOST),
        ):
            if addr:
                run("ip", "-n", name, "addr", "add", f"{addr}/24", "dev", link)
            run("ip", "-n", name, "link", "set", link, "up")
        run("ip", "-n", inner, "route", "add", "default", "via", LAN)
        made = Router(stack, outer, tmp_path)
        made.start()
        yield made


@pytest.mark.parametrize("kind", ["pcp", "nat-pmp", "upnp"])
def test_ports_are_mapped_renewed_mapped_again_after_a_restart_and_unmapped(router: Router, kind: str) -> None:
    # A restart shows by a clock that has gone back by more than two seconds (RFC 6886, 3.6): it has to run for a while.
    time.sleep(6)
    command = ["ip", "netns", "exec", router.name[:-1] + "h", sys.executable, "-c", PROGRAM, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        lines = [json.loads(program.stdout.readline()) for _ in range(3)]
        assert sorted(line["mapped"] for line in lines[:2]) == ["tcp", "udp"], lines
        assert {line["kind"] for line in lines[:2]} == {kind}
        assert lines[2]["same"]
        for addr in (f"/ip4/{WAN}/tcp/4001", f"/ip4/{WAN}/udp/4001/quic-v1"):
            assert addr in lines[2]["addrs"]
        router.until(lambda rules: "4001" in rules, 5)
        router.stop()
        time.sleep(1.5)
        router.start()
        router.until(lambda rules: rules.count("4001") >= 2, 30)
        program.stdin.close()
        *again, last = (json.loads(line) for line in program.stdout)
        assert all(line["port"] == 4001 for line in again)
        assert not any(WAN in addr for addr in last["addrs"])
        assert program.wait(10) == 0
    assert "4001" not in router.rules()

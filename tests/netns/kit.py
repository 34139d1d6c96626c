"""Network namespaces: made under names that no other run has, and gone at the end.

Only namespaces that a `Lab` has made itself are touched. What is between them is made within them, and goes with them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.build import Command

REPOSITORY = Path(__file__).resolve().parents[2]
WAN = "wan0"
LAN = "lan0"
HOST = "eth0"

_NAT_TABLE = "add table ip probe { chain post { type nat hook postrouting priority 100; }; }"


def missing() -> str | None:
    """What this machine lacks for namespaces with NATs, in words; None where it has all."""
    if os.name != "posix" or not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid():
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("sysctl", "procps")):
        if shutil.which(program) is None:
            return f"{program} is missing: install {package}"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is missing: the switch needs it"
    probe = f"lp2p-{secrets.token_hex(3)}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces can't be made here: {made.stderr.strip()}"
    try:
        nft = ["ip", "netns", "exec", probe, "nft", _NAT_TABLE]
        tried = subprocess.run(nft, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", probe], check=False)
    return f"nftables can't translate addresses here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True, slots=True)
class Namespace:
    """One of ours."""

    name: str

    def command(self, *words: str) -> Command:
        """The command that runs `words` in it; without them, what leads there."""
        return ("ip", "netns", "exec", self.name, *words)

    def run(self, *words: str, given: str | None = None) -> str:
        """What a command in it prints. Raises `RuntimeError` with what it complained about."""
        return _run(self.command(*words), given)

    def ip(self, *words: str) -> None:
        """`ip` in it."""
        _run(["ip", "-n", self.name, *words])

    def sysctl(self, **settings: int) -> None:
        """Kernel settings of it; a dot is written as two underscores."""
        self.run("sysctl", "-qw", *(f"{name.replace('__', '.')}={value}" for name, value in settings.items()))

    def nft(self, rules: str) -> None:
        """Add rules of nftables to it."""
        self.run("nft", "-f", "-", given=rules)


def _run(command: Sequence[str], given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(slots=True)
class Lab:
    """Namespaces, and the switch that joins their `wan0`. A context manager: behind it they are gone."""

    token: str = field(default_factory=lambda: secrets.token_hex(3))
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    _switch: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what runs in the namespaces, and the namespaces."""
        if self._switch is not None:
            self._switch.terminate()
            self._switch.communicate()
            self._switch = None
        for namespace in self.namespaces.values():
            listed = subprocess.run(
                ["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=False
            )
            for pid in map(int, listed.stdout.split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", namespace.name], check=False)
        self.namespaces.clear()

    def add(self, label: str) -> Namespace:
        """A namespace with a loopback interface."""
        namespace = Namespace(f"lp2p-{self.token}-{label}")
        _run(["ip", "netns", "add", namespace.name])
        self.namespaces[label] = namespace
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def join(self, members: dict[Namespace, list[str]]) -> None:
        """Give each of `members` an interface `wan0` with these addresses (ADDRESS/LENGTH), joined by a switch."""
        names = [namespace.name for namespace in members]
        command = [sys.executable, "-m", "tests.netns.switch", *names]
        pipe = subprocess.PIPE
        self._switch = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY)
        assert self._switch.stdout is not None
        if self._switch.stdout.readline().strip() != "up":
            raise RuntimeError("the switch did not come up")
        for namespace, addresses in members.items():
            for address in addresses:
                namespace.ip("addr", "add", address, "dev", WAN, *(["nodad"] if ":" in address else []))
            namespace.ip("link", "set", WAN, "up")

    def set_link(self, *, delay: float = 0.0, loss: float = 0.0) -> None:
        """What a frame meets at the switch from now on: `delay` seconds one way, and the chance to be lost."""
        assert self._switch is not None
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.write(f"{delay} {loss}\n")
        self._switch.stdin.flush()
        if self._switch.stdout.readline().strip() != "set":
            raise RuntimeError("the switch has ended")


def cable(router: Namespace, host: Namespace, network: str, network6: str | None = None) -> None:
    """Join `router`'s `lan0` with `host`'s `eth0`, in NETWORK.0/24; the router is .1, the host .2."""
    router.ip("link", "add", LAN, "type", "veth", "peer", "name", HOST, "netns", host.name)
    for namespace, device, last in ((router, LAN, 1), (host, HOST, 2)):
        namespace.ip("addr", "add", f"{network}.{last}/24", "dev", device)
        if network6 is not None:
            namespace.ip("addr", "add", f"{network6}::{last}/64", "dev", device, "nodad")
        namespace.ip("link", "set", device, "up")
    host.ip("route", "add", "default", "via", f"{network}.1")
    if network6 is not None:
        host.ip("-6", "route", "add", "default", "via", f"{network6}::1")

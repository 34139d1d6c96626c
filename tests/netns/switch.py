"""An Ethernet switch in user space: `python -m tests.netns.switch NAMESPACE...`.

In each namespace it makes a TAP named wan0, and passes frames between them: each after a delay, or not at all. So it
does without the kernel's netem, which many machines lack. A line `DELAY LOSS` (seconds one way; a chance) on its
standard input changes what frames meet from then on, and is answered by `set`. It ends with its input, and the
interfaces with it.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

from .kit import WAN
from .setns import entered

_TUNSETIFF = 0x400454CA
_TAP, _NO_HEADER = 0x0002, 0x1000
_FRAME = 65_536
_AT_ONCE = 64
_MULTICAST = 0x01


def tap(namespace: str) -> int:
    """The descriptor of a new interface in `namespace`."""
    with entered(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", WAN.encode(), _TAP | _NO_HEADER))
    return descriptor


class Switch:
    """Passes frames between its ports."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._behind: dict[bytes, int] = {}  # by hardware address, the port behind which it was seen
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self.delay = 0.0
        self.loss = 0.0

    def wait(self) -> float:
        """Seconds until a frame is due; -1 where none is."""
        return max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else -1

    def take(self, port: int) -> None:
        """Read what has come at `port`."""
        for _ in range(_AT_ONCE):
            try:
                frame = os.read(port, _FRAME)
            except BlockingIOError:
                return
            self._behind[frame[6:12]] = port
            if self.loss and random.random() < self.loss:
                continue
            self._count += 1
            heapq.heappush(self._queue, (time.monotonic() + self.delay, self._count, port, frame))

    def deliver(self) -> None:
        """Pass on what is due."""
        now = time.monotonic()
        while self._queue and self._queue[0][0] <= now:
            _, _, source, frame = heapq.heappop(self._queue)
            known = None if frame[0] & _MULTICAST else self._behind.get(frame[:6])
            for port in [known] if known is not None else [port for port in self._ports if port != source]:
                try:
                    os.write(port, frame)
                except OSError:
                    continue  # its queue is full, or it is down: the frame is lost, as on any network


def main(namespaces: list[str]) -> int:
    switch = Switch([tap(namespace) for namespace in namespaces])
    poll = select.epoll()
    for port in switch._ports:
        poll.register(port, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    print("up", flush=True)
    while True:
        for ready, _ in poll.poll(switch.wait()):
            if ready != sys.stdin.fileno():
                switch.take(ready)
            elif line := sys.stdin.readline():
                switch.delay, switch.loss = map(float, line.split())
                print("set", flush=True)
            else:
                return 0
        switch.deliver()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

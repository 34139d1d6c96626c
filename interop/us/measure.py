"""The framework's perf test: upload, download and latency, as YAML."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

from libp2p.connection import Connection
from libp2p.host import Host
from libp2p.protocols.perf import measure


async def measure_all(host: Host, connection: Connection) -> None:
    """Run what the environment asks for, and print it."""
    for name, default in (("upload", 10), ("download", 10)):
        size = int(os.environ.get(f"{name.upper()}_BYTES", str(1 << 30)))
        rates = []
        for _ in range(iterations(name, default)):
            start = time.perf_counter()
            up, down = (size, 0) if name == "upload" else (0, size)
            await measure(host, connection, upload=up, download=down)
            rates.append(size * 8 / (time.perf_counter() - start) / 1e9)
        report(name, rates, "Gbps")
    times = []
    for _ in range(iterations("latency", 100)):
        start = time.perf_counter()
        await measure(host, connection, upload=1, download=1)
        times.append((time.perf_counter() - start) * 1000)
    report("latency", times, "ms")


def iterations(name: str, default: int) -> int:
    text = os.environ.get(f"{name.upper()}_ITERATIONS", "null")
    return default if text in {"", "null"} else int(text)


def report(name: str, samples: Sequence[float], unit: str) -> None:
    """Outliers are further than 1.5 times the interquartile range from the quartiles; min and max are of the others."""
    ordered = sorted(samples)
    q1, median, q3 = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    reach = 1.5 * (q3 - q1)
    usual = [sample for sample in ordered if q1 - reach <= sample <= q3 + reach]
    outliers = [sample for sample in ordered if sample not in usual]
    print(f"{name}:\n  iterations: {len(ordered)}")
    for key, value in (("min", usual[0]), ("q1", q1), ("median", median), ("q3", q3), ("max", usual[-1])):
        print(f"  {key}: {value:.3f}")
    for key, values in (("outliers", outliers), ("samples", ordered)):
        print(f"  {key}: [{', '.join(f'{value:.3f}' for value in values)}]")
    print(f"  unit: {unit}", flush=True)

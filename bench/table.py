"""What is measured, the targets, and the table (Markdown) of the results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

UNCHANGED = 0.97  # how many times better than another revision ours must be: what differs less is the machine's mood

PAIRS = {"ours dials go": ("ours", "go"), "go dials ours": ("go", "ours")}
"""Columns of two implementations: who dials, who listens."""

_TRANSPORTS = {"quic": "quic-v1", "wildcard": "wildcard"}  # by the beginning of a row's name; else it is "tcp"

Rounds = Sequence[Mapping[str, float]]
"""The values of a row: for each round, by column; a measurement that failed is missing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure: its name on the command line, and the `key` of its number in what the peers print, times `scale`."""

    what: str
    """The name; after `quic-` or `wildcard-`, or all of it, what the peers call the measure."""
    title: str
    key: str
    counts: Mapping[str, int]
    """How much is measured of each column: about the same time for each. A column that is missing is not measured."""
    higher_is_better: bool = False
    scale: float = 1.0
    digits: int = 2
    rounds: int | None = None
    """Rounds at most, for what hardly varies and takes long; None: all."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """How many times better than a column ours must be."""
    limit: float | None = None
    """What ours must not exceed."""

    @property
    def transport(self) -> str:
        """What the peers are told to use."""
        prefix, _, _ = self.what.partition("-")
        return _TRANSPORTS.get(prefix, "tcp")

    @property
    def bench(self) -> str:
        """What the peers call the measure."""
        prefix, _, rest = self.what.partition("-")
        return rest if prefix in _TRANSPORTS else self.what

    def times_better(self, ours: float, other: float) -> float:
        """How many times better ours is."""
        return ours / other if self.higher_is_better else other / ours

    def best(self, rounds: Rounds, column: str) -> float | None:
        """The best value of a column."""
        values = [values[column] for values in rounds if column in values]
        return (max if self.higher_is_better else min)(values) if values else None

    def ratio(self, rounds: Rounds, column: str) -> float | None:
        """The median over the rounds of how many times better ours was than `column` in the same round."""
        ratios = [self.times_better(one["ours"], one[column]) for one in rounds if "ours" in one and column in one]
        return statistics.median(ratios) if ratios else None


def _counts(ours: int, older_py: int | None = None, js: int | None = None) -> dict[str, int]:
    """As many for the others where nothing is said."""
    return {"ours": ours, "older py": older_py or ours, "js": js or ours}


def _with_go(counts: Mapping[str, int]) -> dict[str, int]:
    """As many of go with itself, and with ours in both roles, as of ours."""
    return {**counts, **dict.fromkeys(("go", *PAIRS), counts["ours"])}


def _bulk_counts(ours: int, older_py: int, js: int) -> dict[str, int]:
    return {**_counts(ours, older_py, js), "floor tcp": ours, "floor cipher": ours}


_MB = 1_000_000
_BULK = _with_go(_bulk_counts(2000 * _MB, 100 * _MB, 400 * _MB))
_BULK_TARGETS = {"older py": 8.0, "js": 4.0, "floor cipher": 0.75}
_QUIC_BULK = _with_go({"ours": 200 * _MB, "js": 100 * _MB, "aioquic": 100 * _MB})
_QUIC_BULK_TARGETS = {"js": 1.0, "aioquic": 1.6}
_QUIC_CONNECT = _with_go({"ours": 100, "js": 100, "aioquic": 50})
_QUIC_RTT = _with_go({"ours": 1000, "js": 1000})


def _requests(width: int, ours: int, grpc: int) -> tuple[Row, Row]:
    title = f"requests/s of 1 KiB, {width} in flight"
    tcp = {"ours": ours, "grpc": grpc, "asyncio tls": ours}
    quic = {"ours": ours // 2, "grpc": grpc}
    many = width > 1
    return (
        Row(
            f"requests-{width}",
            title,
            "requests_per_s",
            tcp,
            True,
            digits=0,
            targets={"grpc": 4.0, "asyncio tls": 0.7} if many else {},
        ),
        Row(
            f"quic-requests-{width}",
            f"{title}, QUIC",
            "requests_per_s",
            quic,
            True,
            digits=0,
            targets={"grpc": 2.0} if many else {},
        ),
    )


ROWS = (
    Row("upload", "bulk upload, MB/s", "upload_mb_per_s", _BULK, True, digits=0, targets=_BULK_TARGETS),
    Row("download", "bulk download, MB/s", "download_mb_per_s", _BULK, True, digits=0, targets=_BULK_TARGETS),
    Row("connect", "connect, ms", "connect_ms", _with_go(_counts(100)), targets={"js": 2.0}),
    Row("wildcard-connect", "connect, six wildcard listeners a side, ms", "connect_ms", {"ours": 100}),
    Row(
        "rtt",
        "new stream, 1 byte there and back, ms",
        "rtt_ms",
        _with_go(_counts(2000, 500, 1000)),
        targets={"js": 5.0},
    ),
    Row(
        "streams",
        "the same, 64 at a time, streams/s",
        "streams_per_s",
        _with_go(_counts(20000, 2000, 5000)),
        True,
        digits=0,
    ),
    Row("quic-upload", "QUIC upload, MB/s", "upload_mb_per_s", _QUIC_BULK, True, digits=1, targets=_QUIC_BULK_TARGETS),
    Row(
        "quic-download",
        "QUIC download, MB/s",
        "download_mb_per_s",
        _QUIC_BULK,
        True,
        digits=1,
        targets=_QUIC_BULK_TARGETS,
    ),
    Row("quic-connect", "QUIC connect, ms", "connect_ms", _QUIC_CONNECT, targets={"aioquic": 1 / 1.5}),
    Row("quic-rtt", "QUIC new stream, 1 byte there and back, ms", "rtt_ms", _QUIC_RTT),
    Row(
        "idle",
        "idle connection, listener, KiB",
        "bytes_per_connection",
        _counts(1000),
        False,
        1 / 1024,
        1,
        2,
        limit=40.0,
    ),
    Row(
        "idle-dialer",
        "idle connection, dialer, KiB",
        "bytes_per_connection",
        {"ours": 1000},
        False,
        1 / 1024,
        1,
        2,
        limit=40.0,
    ),
    *_requests(1, 10_000, 3_000),
    *_requests(64, 60_000, 6_000),
    *_requests(1000, 60_000, 6_000),
    Row(
        "pubsub",
        "pubsub messages of 1 KiB forwarded, 8 in, 6 out, per CPU second",
        "messages_per_cpu_s",
        {"ours": 40_000, "older py": 2_000, "js": 10_000, "go": 40_000},
        True,
        digits=0,
        targets={"older py": 5.0, "js": 1.0},
    ),
    Row("import", "import, ms", "seconds", _counts(1), scale=1000.0, digits=0),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A table to fill: its rows, its columns, and to which of them ours is compared."""

    rows: Sequence[Row]
    columns: Sequence[str]
    compared: Sequence[str]


AMONG_OTHERS = Plan(
    ROWS,
    ("ours", "older py", "js", "go", *PAIRS, "aioquic", "grpc", "asyncio tls", "floor tcp", "floor cipher"),
    ("older py", "js", "go", "aioquic", "grpc", "asyncio tls", "floor cipher"),
)


def against(revision: str) -> Plan:
    """The plan that sets all rows of ours beside the same of another revision."""

    def both(row: Row) -> Row:
        counts = dict.fromkeys(("ours", revision), row.counts["ours"])
        return replace(row, counts=counts, rounds=None, targets={revision: UNCHANGED})

    return Plan([both(row) for row in ROWS], ("ours", revision), (revision,))


def render(plan: Plan, results: Mapping[str, Rounds]) -> str:
    """The table of `results`, by `Row.what`."""
    rows = [row for row in plan.rows if row.what in results]
    columns = [column for column in plan.columns if any(column in row.counts for row in rows)]
    compared = [column for column in plan.compared if column in columns]
    head = ["", *columns, *(f"ours to {column}" for column in compared)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    lines += [_line(row, results[row.what], columns, compared) for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join("| " + " | ".join(map(_padded, line, widths)) + " |" for line in lines)


def missed(plan: Plan, results: Mapping[str, Rounds]) -> list[str]:
    """The targets that were missed, or not measured, in words."""
    misses = []
    for row in plan.rows:
        if row.what not in results:
            continue
        rounds = results[row.what]
        for column, target in row.targets.items():
            ratio = row.ratio(rounds, column)
            if ratio is None or ratio < target:
                misses.append(f"{row.title}, ours to {column}: {_number(ratio, 2, 'x')}, wanted {target:.3g}")
        best = row.best(rounds, "ours")
        if row.limit is not None and (best is None or best > row.limit):
            misses.append(f"{row.title}: {_number(best, row.digits)}, wanted {row.limit:g} at most")
    return misses


def _line(row: Row, rounds: Rounds, columns: Sequence[str], compared: Sequence[str]) -> list[str]:
    cells = [row.title]
    for column in columns:
        cell = _number(row.best(rounds, column), row.digits) if column in row.counts else ""
        cells.append(f"{cell} (at most {row.limit:g})" if row.limit is not None and column == "ours" else cell)
    for column in compared:
        cell = _number(row.ratio(rounds, column), 2, "x") if column in row.counts else ""
        cells.append(f"{cell} (wanted {row.targets[column]:.3g})" if column in row.targets else cell)
    return cells


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return "failed" if value is None else f"{value:.{digits}f}{unit}"


def _padded(cell: str, width: int) -> str:
    return cell.replace("---", "-" * (width - len(cell) + 3)) if cell.startswith("---") else cell.ljust(width)

"""Draws a crawled network, where matplotlib is installed: each server stands on a circle at its place in the key space,
and a line joins it with each server that it knows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from math import cos, sin, tau
from pathlib import Path

from ..errors import InvalidInput
from ..identity import PeerId
from ..protocols.kad import Crawled
from ..protocols.kad.keys import BITS, peer_position

_MAX_LINES = 50_000
"""Lines that are drawn: more would be one grey disc."""


def check_plotting(file: Path) -> None:
    """Raises `InvalidInput` where nothing can be drawn, before a long crawl is made for nothing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidInput('--plot needs matplotlib; install it with: pip install "py-libp2p[plot]"')
    if file.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"{file} is none of .png, .svg and .pdf")


def place(peer: PeerId) -> tuple[float, float]:
    """Where a peer stands on the circle."""
    angle = tau * peer_position(peer) / 2**BITS
    return cos(angle), sin(angle)


def lines(crawled: Sequence[Crawled]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The lines between servers that answered and those that they know, so many as can be drawn."""
    found = [(place(one.info.peer), place(other)) for one in crawled for other in one.neighbours]
    return found[:: -(-len(found) // _MAX_LINES) or 1]


def draw(crawled: Sequence[Crawled], file: Path) -> None:
    """Write the plot. Raises `OSError`."""
    from matplotlib.collections import LineCollection  # noqa: PLC0415 - loaded where it is needed
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 10))
    axes = figure.add_subplot()
    axes.add_collection(LineCollection(lines(crawled), colors="#0b6e99", linewidths=0.3, alpha=0.2))
    for failed, colour, name in ((False, "#2e8b57", "answer"), (True, "#c0392b", "do not answer")):
        places = [place(one.info.peer) for one in crawled if bool(one.error) is failed]
        axes.scatter([x for x, _ in places], [y for _, y in places], s=8, c=colour, zorder=2, label=name)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.legend(title=f"{len(crawled)} servers, by their place in the key space")
    figure.savefig(file)

"""Draws the results as SVG, without a library: a curve for each scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .spread import Figures

_COLOURS = ("#0b6e99", "#c0392b", "#2e8b57", "#8e44ad", "#b8860b", "#444444")
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 360, 60, 20
_RIGHT, _BOTTOM = _WIDTH - 20, _HEIGHT - 50


def draw(results: Sequence[Figures], folder: Path) -> list[tuple[str, str]]:
    """Write the plots into a folder; their titles and file names."""
    title, name = "Arrivals: which part of them took at most so long", "pubsub-arrivals.svg"
    folder.joinpath(name).write_text(_arrivals(results))
    return [(title, name)]


def _arrivals(results: Sequence[Figures]) -> str:
    end = max(max(figures.delays) for figures in results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for step in range(6):
        y, x = _BOTTOM - (_BOTTOM - _TOP) * step / 5, _LEFT + (_RIGHT - _LEFT) * step / 5
        parts += [
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{step * 20} %</text>',
            f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{end * step / 5 * 1000:.0f} ms</text>',
        ]
    for n, figures in enumerate(results):
        colour = _COLOURS[n % len(_COLOURS)]
        ordered = sorted(figures.delays)
        points = []
        for percent in range(101):
            delay = ordered[min(len(ordered) - 1, percent * len(ordered) // 100)]
            x = _LEFT + (_RIGHT - _LEFT) * delay / end
            points.append(f"{x:.1f},{_BOTTOM - (_BOTTOM - _TOP) * percent / 100:.1f}")
        parts += [
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_RIGHT - 170}" y="{_BOTTOM - 100 + 16 * n}" fill="{colour}">{figures.scenario.name}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"

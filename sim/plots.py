"""Draws the results as SVG, without a library: a curve for each scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    return _curves({figures.scenario.name: figures.delays for figures in results}, lambda x: f"{x * 1000:.0f} ms")


def distribution(curves: Mapping[str, Sequence[float]], axis: str) -> str:
    """An SVG of which part of the values of each curve are at most so large; `axis` says what they are."""
    return _curves(curves, lambda x: f"{x:.1f}", axis)


def _curves(curves: Mapping[str, Sequence[float]], label: Callable[[float], str], axis: str = "") -> str:
    end = max(max(values) for values in curves.values()) or 1.0
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
            f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{label(end * step / 5)}</text>',
        ]
    if axis:
        middle = (_LEFT + _RIGHT) / 2
        parts.append(f'<text x="{middle:.0f}" y="{_BOTTOM + 38}" text-anchor="middle">{axis}</text>')
    for n, (name, values) in enumerate(curves.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        ordered = sorted(values)
        points = []
        for percent in range(101):
            value = ordered[min(len(ordered) - 1, percent * len(ordered) // 100)]
            x = _LEFT + (_RIGHT - _LEFT) * value / end
            points.append(f"{x:.1f},{_BOTTOM - (_BOTTOM - _TOP) * percent / 100:.1f}")
        parts += [
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_RIGHT - 170}" y="{_BOTTOM - 100 + 16 * n}" fill="{colour}">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"

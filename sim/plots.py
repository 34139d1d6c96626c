"""Draws the results as SVG, without a library: a curve for each scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_COLOURS = ("#0b6e99", "#c0392b", "#2e8b57", "#8e44ad", "#b8860b", "#444444")
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 360, 60, 20
_RIGHT, _BOTTOM = _WIDTH - 20, _HEIGHT - 50


def distribution(curves: Mapping[str, Sequence[float]], axis: str) -> str:
    """An SVG of which part of the values of each curve are at most so large; `axis` says what they are."""
    points = {}
    for name, values in curves.items():
        ordered = sorted(values)
        points[name] = [
            (ordered[min(len(ordered) - 1, percent * len(ordered) // 100)], percent) for percent in range(101)
        ]
    return _curves(points, axis, "{:.1f}")


def timeline(lines: Mapping[str, Sequence[float]], axis: str) -> str:
    """An SVG of percentages, second by second."""
    return _curves({name: list(enumerate(values)) for name, values in lines.items()}, axis, "{:.0f}")


def _curves(curves: Mapping[str, Sequence[tuple[float, float]]], axis: str, label: str) -> str:
    """Each curve through its points, of which the y are percentages."""
    end = max(max(x for x, _ in points) for points in curves.values()) or 1.0
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
            f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{label.format(end * step / 5)}</text>',
        ]
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{_BOTTOM + 38}" text-anchor="middle">{axis}</text>')
    for n, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[n % len(_COLOURS)]
        drawn = " ".join(
            f"{_LEFT + (_RIGHT - _LEFT) * x / end:.1f},{_BOTTOM - (_BOTTOM - _TOP) * y / 100:.1f}" for x, y in points
        )
        parts += [
            f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_RIGHT - 170}" y="{_BOTTOM - 100 + 16 * n}" fill="{colour}">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"

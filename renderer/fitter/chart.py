"""Curves as SVG, for pages and pictures that need no program but a browser."""

import html
from collections.abc import Mapping, Sequence

import numpy as np

COLOURS = ("#0b62c4", "#d1495b", "#2e933c", "#edae49", "#7b4fb5", "#5c6770", "#00a6a6", "#8d5b4c")
WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 130, 16, 34
TICKS = 5

Points = Sequence[tuple[float, float]]


def chart(curves: Mapping[str, Points], title: str, across: str, *, logarithmic: bool = False) -> str:
    """Return a figure with one line per curve, a scale on both axes, and names where the lines end.

    Args:
        curves: name to points (x, y); those with fewer than two points are left out.
        title: above it, with the unit of y.
        across: what x is, with its unit.
        logarithmic: of y.

    Returns:
        An SVG element; empty where there is nothing to draw.
    """
    shown = {name: np.array(points, float) for name, points in curves.items() if len(points) > 1}
    if not shown:
        return ""
    every = np.concatenate(list(shown.values()))
    heights = np.log10(np.maximum(every[:, 1], 1e-12)) if logarithmic else every[:, 1]
    x0, x1, y0, y1 = every[:, 0].min(), every[:, 0].max(), heights.min(), heights.max()
    y0, y1 = (y0, y1) if y1 - y0 > 1e-9 else (y0 - 1, y1 + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across_part, up_part = (x - x0) / max(x1 - x0, 1e-9), (y - y0) / (y1 - y0)
        return LEFT + across_part * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up_part * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="11" font-weight="600">{html.escape(title)}</text>']
    for tick in np.linspace(0, 1, TICKS):
        value = y0 + tick * (y1 - y0)
        _, y = place(x0, value)
        text = f"{10**value if logarithmic else value:.3g}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e2e2"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        x, _ = place(x0 + tick * (x1 - x0), y0)
        foot = f"{x0 + tick * (x1 - x0):.4g}"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{foot}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{html.escape(across)}</text>')
    ends: list[float] = []
    for (name, points), colour in zip(shown.items(), COLOURS * len(shown), strict=False):
        line = [place(x, np.log10(max(y, 1e-12)) if logarithmic else y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(shown) > 1:
            label = _free(line[-1][1], ends)
            ends.append(label)
            text = f'<text x="{WIDTH - RIGHT + 6}" y="{label + 4:.1f}" fill="{colour}">{html.escape(name)}</text>'
            parts.append(text)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'{head} font-family="system-ui,sans-serif" font-size="11">{"".join(parts)}</svg>'


def _free(wanted: float, taken: Sequence[float]) -> float:
    """Return the place nearest below `wanted` that is a line of text away from all that are taken."""
    place = wanted
    while any(abs(place - other) < 12 for other in taken):
        place += 2
    return place

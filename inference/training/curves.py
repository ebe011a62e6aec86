"""Loss curves as a picture: one panel per figure, iterations to the right. Drawn with OpenCV; no plotting library."""

import json
from pathlib import Path

import cv2
import numpy as np

from streamer.types import U8

WIDTH, PANEL, MARGIN = 900, 180, 60
INK, GRID = (40, 40, 40), (225, 225, 225)
LINE = (200, 90, 20)
LOG_FROM = 20.0
"""Figures that fall by more than this factor are drawn on a logarithmic axis."""


def read_curve(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Figure to (iteration, value) of a `<task>.curve.jsonl`; lines that a resumed training wrote again count once."""
    points: dict[str, dict[float, float]] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name not in ("iteration", "samples"):
                points.setdefault(name, {})[float(row["iteration"])] = float(value)
    return {name: sorted(values.items()) for name, values in points.items()}


def draw_curves(curves: dict[str, list[tuple[float, float]]], title: str) -> U8:
    """Draw every figure in a panel of its own: (H, W, 3) BGR."""
    picture = np.full((PANEL * max(1, len(curves)) + MARGIN, WIDTH, 3), 255, np.uint8)
    _text(picture, title, (MARGIN, 30), 0.6)
    for number, (name, points) in enumerate(curves.items()):
        _panel(picture, name, np.array(points, np.float64), MARGIN + number * PANEL)
    return picture


def save_curves(curve: Path) -> None:
    """Draw a `<task>.curve.jsonl` into a `.png` beside it."""
    picture = draw_curves(read_curve(curve), curve.name.partition(".")[0])
    cv2.imwrite(str(curve.with_suffix(".png")), picture)


def _panel(picture: U8, name: str, points: np.ndarray, top: int) -> None:
    left, right, bottom = MARGIN + 30, WIDTH - 30, top + PANEL - 50
    x, y = points.T
    log = bool(y.min() > 0 and y.max() / y.min() > LOG_FROM)
    height = np.log10(y) if log else y
    low, high = float(height.min()), float(height.max())
    span = high - low or max(1e-9, abs(high))
    first, last = float(x.min()), float(x.max())
    for share in (0.0, 0.5, 1.0):
        row = round(bottom - share * (bottom - top - 10))
        cv2.line(picture, (left, row), (right, row), GRID, 1)
        value = low + share * span
        _text(picture, f"{10**value if log else value:.3g}", (8, row + 4), 0.4)
    columns = left + (x - first) / max(1e-9, last - first) * (right - left)
    rows = bottom - (height - low) / span * (bottom - top - 10)
    line = np.stack([columns, rows], 1).round().astype(np.int32)
    cv2.polylines(picture, [line[:, None]], False, LINE, 2, cv2.LINE_AA)
    _text(picture, name + (" (log)" if log else "") + f": {y[-1]:.4g}", (left, top + 4), 0.5)
    _text(picture, f"{first:g}", (left, bottom + 16), 0.4)
    _text(picture, f"{last:g}", (right - 40, bottom + 16), 0.4)


def _text(picture: U8, text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)

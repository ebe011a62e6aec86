"""The cumulative error curve as a PNG, drawn with OpenCV alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from streamer.errors import ConfigError
from streamer.types import U8

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 50, 60
COLOURS = ((40, 40, 40), (200, 90, 20), (40, 140, 40), (30, 30, 200), (160, 40, 160), (150, 120, 20), (20, 130, 200))
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_curves(title: str, distances_mm: Sequence[float], shares: Mapping[str, Sequence[float]]) -> U8:
    """Draw shares of points (0..1) below each distance: (HEIGHT, WIDTH, 3) BGR."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    right, bottom, most = WIDTH - RIGHT, HEIGHT - BOTTOM, max(distances_mm)

    def spot(mm: float, share: float) -> tuple[int, int]:
        return round(LEFT + (right - LEFT) * mm / most), round(bottom - (bottom - TOP) * share)

    for tenth in range(0, 11, 2):
        cv2.line(picture, spot(0, tenth / 10), spot(most, tenth / 10), (225, 225, 225), 1, cv2.LINE_AA)
        _write(picture, f"{10 * tenth} %", (12, spot(0, tenth / 10)[1] + 5))
    for mm in range(int(most) + 1):
        cv2.line(picture, spot(mm, 0), spot(mm, 1), (225, 225, 225), 1, cv2.LINE_AA)
        _write(picture, str(mm), (spot(mm, 0)[0] - 5, bottom + 22))
    _write(picture, "mm from true point to surface", (LEFT + 160, HEIGHT - 14))
    _write(picture, title, (LEFT, 30), 0.6)
    for row, (name, values) in enumerate(shares.items()):
        colour = COLOURS[row % len(COLOURS)]
        line = np.array([spot(mm, share) for mm, share in zip(distances_mm, values, strict=True)], np.int32)
        cv2.polylines(picture, [line], False, colour, 2, cv2.LINE_AA)
        cv2.line(picture, (right + 15, TOP + 24 * row), (right + 45, TOP + 24 * row), colour, 2, cv2.LINE_AA)
        _write(picture, name, (right + 55, TOP + 24 * row + 5))
    return picture


def _write(picture: U8, text: str, at: tuple[int, int], size: float = 0.5) -> None:
    cv2.putText(picture, text, at, FONT, size, (40, 40, 40), 1, cv2.LINE_AA)


def save_curves(path: Path, title: str, distances_mm: Sequence[float], shares: Mapping[str, Sequence[float]]) -> None:
    """Write the picture.

    Raises:
        ConfigError: it cannot be written.
    """
    ok, data = cv2.imencode(".png", draw_curves(title, distances_mm, shares))
    if not ok:
        raise ConfigError(f"{path}: the curve could not be coded as PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error

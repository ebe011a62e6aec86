"""Which parts of a picture still lack views of the board: counts, words and a picture. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.types import F64, U8

COLUMNS, ROWS = 8, 6
ENOUGH = 6
"""Corners in a cell that suffice."""
DONE_SHARE = 0.85
TILES = (("upper left", "top", "upper right"), ("left", "middle", "right"), ("lower left", "bottom", "lower right"))
VIEWS_WANTED = 15
TILTED_WANTED = 5
TILT = 0.12
"""Relative change of scale across the board from which a view counts as tilted."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well the views of one camera fill its picture."""

    counts: NDArray[np.int64]
    """(6, 8) corners per cell of the picture, from the top."""
    views: int
    """Views of the board."""
    tilted: int
    """Views in which it was tilted, without which focal length and distance cannot be told apart."""

    @property
    def share(self) -> float:
        """Share of the cells with enough corners."""
        return float((self.counts >= ENOUGH).mean())

    @property
    def done(self) -> bool:
        """Whether nothing is lacking."""
        return not self.lacking()

    def lacking(self) -> list[str]:
        """Return what is still to be shown, the most urgent first; empty if nothing is."""
        wanted = []
        if self.views < VIEWS_WANTED:
            wanted.append(f"{VIEWS_WANTED - self.views} more views")
        if self.tilted < TILTED_WANTED:
            wanted.append("the board tilted by 30 to 45 degrees")
        if self.share < DONE_SHARE:
            thin = self.counts < ENOUGH
            tiles = [
                (float(thin[r * 2 : r * 2 + 2, c * 8 // 3 : (c + 1) * 8 // 3].mean()), TILES[r][c])
                for r in range(3)
                for c in range(3)
            ]
            wanted += [name for empty, name in sorted(tiles, key=lambda t: -t[0]) if empty >= 0.5][:3]
        return wanted


def coverage(pixels: Sequence[F64], planes: Sequence[F64], size: tuple[int, int]) -> Coverage:
    """Count where the corners of all views lie.

    Args:
        pixels: (M, 2) of each view, px.
        planes: (M, 2) the same corners on the board, metres.
        size: width and height of the picture, px.
    """
    counts = np.zeros((ROWS, COLUMNS), np.int64)
    for own in pixels:
        column = np.clip((own[:, 0] / size[0] * COLUMNS).astype(int), 0, COLUMNS - 1)
        row = np.clip((own[:, 1] / size[1] * ROWS).astype(int), 0, ROWS - 1)
        np.add.at(counts, (row, column), 1)
    tilted = sum(_tilt(own, plane) > TILT for own, plane in zip(pixels, planes, strict=True))
    return Coverage(counts, len(pixels), tilted)


def _tilt(pixels: F64, plane: F64) -> float:
    """Return how much the scale of a plane's picture changes from one side to the other."""
    homography, _ = cv2.findHomography(plane, pixels)
    if np.size(homography) != 9:  # OpenCV gives none for corners on a line
        return 0.0
    depth = np.concatenate([plane, np.ones((len(plane), 1))], 1) @ np.asarray(homography, np.float64)[2]
    return float(np.ptp(depth) / abs(depth.mean()))


def draw(
    found: Coverage, size: tuple[int, int], pixels: Sequence[F64], background: U8 | None = None, width: int = 480
) -> U8:
    """Draw the picture's cells, lacking ones in red, and all corners.

    Args:
        found: the coverage.
        size: width and height of the camera's picture, px.
        pixels: (M, 2) of each view, px.
        background: (H, W, 3) RGB of the camera, or None.
        width: of the drawing, px.

    Returns:
        (H, width, 3) RGB.
    """
    scale = width / size[0]
    height = max(1, round(size[1] * scale))
    canvas = np.full((height, width, 3), 32, np.uint8)
    if background is not None:
        canvas = np.asarray(cv2.resize(background, (width, height), interpolation=cv2.INTER_AREA), np.uint8) // 2
    for row in range(ROWS):
        for column in range(COLUMNS):
            a = (column * width // COLUMNS, row * height // ROWS)
            b = ((column + 1) * width // COLUMNS, (row + 1) * height // ROWS)
            full = min(1.0, found.counts[row, column] / ENOUGH)
            tint = np.array([150 * (1 - full), 110 * full, 30 * full])
            cell = canvas[a[1] : b[1], a[0] : b[0]]
            cell[:] = np.clip(cell * 0.6 + tint * 0.6, 0, 255).astype(np.uint8)
            cv2.rectangle(canvas, a, b, (70, 70, 70), 1)
    for own in pixels:
        for u, v in (own + 0.5) * scale:
            cv2.circle(canvas, (round(u), round(v)), 1, (235, 235, 235), -1, cv2.LINE_AA)
    return canvas

"""A picture in memory to write and draw on: premultiplied RGBA, cv2's built-in TrueType font, lines cached."""

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from renderer.viewer.layout import Rect
from streamer.types import F64, U8

Colour = tuple[int, int, int]
Align = Literal["left", "right", "centre"]


@lru_cache(maxsize=1)
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


@lru_cache(maxsize=384)  # several screens full; numbers change, and memory must not grow for minutes
def _line(token: str, size: int, weight: int) -> tuple[U8, int, int, int]:
    """Coverage of a line of text, its offset from the pen (x, y), and how far the pen moves; setting one costs 1 ms."""
    pad = size
    mask = np.zeros((3 * size, pad * 2 + size * len(token) * 2), np.uint8)
    end, drawn = cv2.putText(mask, token, (pad, 2 * size), (255,), _font(), size, weight)
    mask = np.asarray(drawn, np.uint8)
    advance = int(end[0]) - pad
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return np.zeros((0, 0), np.uint8), 0, 0, advance
    top, left = int(ys.min()), int(xs.min())
    cut = np.ascontiguousarray(mask[top : ys.max() + 1, left : xs.max() + 1])
    return cut, left - pad, top - 2 * size, advance


@lru_cache(maxsize=256)
def _rounded(width: int, height: int, radius: int) -> U8:
    fine = 4  # drawn four times as large: cv2's own smoothing leaves corners on small circles
    mask = np.zeros((fine * height, fine * width), np.uint8)
    radius = round(fine * min(radius, width / 2, height / 2))
    cv2.rectangle(mask, (radius, 0), (fine * width - 1 - radius, fine * height - 1), (255,), -1)
    cv2.rectangle(mask, (0, radius), (fine * width - 1, fine * height - 1 - radius), (255,), -1)
    for x in (radius, fine * width - 1 - radius):
        for y in (radius, fine * height - 1 - radius):
            cv2.circle(mask, (x, y), radius, (255,), -1)
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def text_width(text: str, size: int, weight: int = 400) -> int:
    """Width of a line of text, px."""
    return _line(text, size, weight)[3] if text else 0


def shortened(text: str, size: int, room: int, weight: int = 400) -> str:
    """Cut a line at the end so that it fits into `room` px; a cut is shown by an ellipsis."""
    if text_width(text, size, weight) <= room:
        return text
    while text and text_width(text + "…", size, weight) > room:
        text = text[:-1]
    return text.rstrip() + "…"


class Canvas:
    """Premultiplied RGBA pixels and what was touched.

    Args:
        width: px.
        height: px.
    """

    def __init__(self, width: int, height: int) -> None:
        """Start transparent."""
        self.pixels: U8 = np.zeros((height, width, 4), np.uint8)

    def clear(self, rect: Rect) -> None:
        """Make a rectangle transparent."""
        self.pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] = 0

    def _stamp(self, mask: U8, x: int, y: int, colour: Colour, opacity: float) -> None:
        height, width = self.pixels.shape[:2]
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + mask.shape[1], width), min(y + mask.shape[0], height)
        if x0 >= x1 or y0 >= y1:
            return
        part = mask[y0 - y : y1 - y, x0 - x : x1 - x]
        under = self.pixels[y0:y1, x0:x1]
        ink = np.array([*colour, 255], np.float32)
        if not under.any():  # nothing to mix with, as under large boxes: a table does
            under[...] = (np.arange(256)[:, None] * (opacity / 255) * ink + 0.5).astype(np.uint8)[part]
            return
        cover = part[..., None].astype(np.float32) * (opacity / 255)
        under[...] = (under * (1 - cover) + ink * cover + 0.5).astype(np.uint8)

    def text(
        self,
        text: str,
        x: int,
        y: int,
        size: int,
        colour: Colour,
        *,
        weight: int = 400,
        align: Align = "left",
        opacity: float = 1.0,
    ) -> int:
        """Write one line.

        Args:
            text: what to write.
            x: left end, right end or middle of the line, px, by `align`.
            y: base line, px.
            size: of the font, px.
            colour: RGB.
            weight: 400 regular, 600 semi-bold, 700 bold.
            align: what `x` means.
            opacity: 0..1.

        Returns:
            Where the next word would begin, px.
        """
        if align != "left":
            width = text_width(text, size, weight)
            x -= width if align == "right" else width // 2
        if not text:
            return x
        mask, left, top, advance = _line(text, size, weight)
        if mask.size:
            self._stamp(mask, x + left, y + top, colour, opacity)
        return x + advance

    def box(self, rect: Rect, colour: Colour, opacity: float, radius: int = 0) -> None:
        """Fill a rectangle with round corners."""
        self._stamp(_rounded(rect.width, rect.height, radius), rect.x, rect.y, colour, opacity)

    def dot(self, x: int, y: int, radius: int, colour: Colour) -> None:
        """Fill a circle."""
        self._stamp(_rounded(2 * radius + 1, 2 * radius + 1, radius + 1), x - radius, y - radius, colour, 1.0)

    def fill(self, points: F64, colour: Colour) -> None:
        """Fill a polygon (K, 2), px, with smooth edges."""
        low = np.floor(points.min(0)).astype(int) - 1
        high = np.ceil(points.max(0)).astype(int) + 2
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(mask, [np.round((points - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        self._stamp(mask, int(low[0]), int(low[1]), colour, 1.0)

    def curve(self, points: F64, rect: Rect, colour: Colour, thickness: int = 1, fill: float = 0.0) -> None:
        """Draw a smooth line through points, and shade what lies below it.

        Args:
            points: (K, 2) px, x ascending; K >= 2.
            rect: where it is drawn; the shade ends at its lower edge.
            colour: RGB.
            thickness: of the line, px.
            fill: opacity of the shade.
        """
        local = points - (rect.x, rect.y)
        fixed = np.round(local * 16).astype(np.int32)  # cv2 takes 4 fractional bits
        if fill:
            floor = 16 * rect.height
            outline = np.concatenate([fixed, [[fixed[-1, 0], floor], [fixed[0, 0], floor]]]).astype(np.int32)
            shade = np.zeros((rect.height, rect.width), np.uint8)
            cv2.fillPoly(shade, [outline], 255, cv2.LINE_AA, 4)
            self._stamp(shade, rect.x, rect.y, colour, fill)
        line = np.zeros((rect.height, rect.width), np.uint8)
        cv2.polylines(line, [fixed], False, 255, thickness, cv2.LINE_AA, 4)
        self._stamp(line, rect.x, rect.y, colour, 1.0)

    def over(self, rgb: U8) -> None:
        """Lay the canvas over an opaque picture (H, W, 3) of the same size, in place."""
        alpha = self.pixels[..., 3]
        ys, xs = np.nonzero(alpha)
        if not len(ys):
            return
        cut = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        keep = (255 - alpha[cut])[..., None].astype(np.uint16)
        rgb[cut] = (rgb[cut] * keep // 255 + self.pixels[cut][..., :3]).clip(0, 255).astype(np.uint8)

"""Draws figures and labels on a canvas; the words come from `hud`, the places from `layout`."""

import math
from collections.abc import Sequence

import numpy as np

from renderer.viewer.canvas import Canvas, Colour, shortened, text_width
from renderer.viewer.hud import HudText, Tone
from renderer.viewer.hud_parts import draw_bar, draw_keys, draw_legend
from renderer.viewer.keys import HINT
from renderer.viewer.layout import Layout, Rect
from renderer.viewer.materials import Scale
from renderer.viewer.timeline import Bar

TONES: dict[Tone, Colour] = {
    "plain": (232, 236, 241),
    "good": (94, 214, 168),
    "warn": (250, 190, 96),
    "bad": (255, 112, 104),
    "dim": (142, 151, 164),
}
ACCENT: Colour = (84, 205, 214)
_DIM = TONES["dim"]
_TRACE_S = 10.0


class HudPainter:
    """Paints one layout's canvas again whenever words change.

    Args:
        layout: where things stand.
        keys: whether the help line of the window is shown.
    """

    def __init__(self, layout: Layout, *, keys: bool = False) -> None:
        """Start with an empty canvas."""
        self.layout = layout
        self.canvas = Canvas(layout.width, layout.height)
        self.legend: Rect | None = None
        """Where the legend of a heat map stands; it stays where the figures are hidden."""
        self._keys = keys

    def _px(self, size: float) -> int:
        return max(round(size * self.layout.scale), 1)

    def paint(
        self,
        text: HudText,
        trace_ms: Sequence[tuple[float, float]],
        labels: Sequence[tuple[str, str]],
        *,
        legend: tuple[Scale, bool] | None = None,
        bar: Bar | None = None,
        table: bool = False,
    ) -> list[Rect]:
        """Paint everything.

        Args:
            text: the words.
            trace_ms: (age in s, latency in ms), oldest first.
            labels: name and note of each tile.
            legend: scale of the heat map that is shown, and whether it has numbers.
            bar: the time line of a take.
            table: whether the table of keys lies over the view.

        Returns:
            The rectangles that hold anything.
        """
        self.canvas.pixels[...] = 0
        drawn = [self._title(text)]
        drawn += [self._label(tile, *label) for tile, label in zip(self.layout.tiles, labels, strict=True)]
        self.legend = None
        if legend is not None:
            self.legend = draw_legend(self.canvas, self.layout.main, *legend, self.layout.scale)
            drawn.append(self.legend)
        drawn += self.paint_bar(bar)
        if self.layout.stats is not None:
            self._stats(self.layout.stats, text, trace_ms)
            drawn.append(self.layout.stats)
        drawn += self._bottom(text)
        if table:
            draw_keys(self.canvas, self.layout.main, self.layout.scale)
            return [Rect(0, 0, self.layout.width, self.layout.height)]  # it lies over others: each pixel once
        return drawn

    def paint_bar(self, bar: Bar | None) -> list[Rect]:
        """Paint the time line alone; it moves with every mesh."""
        if bar is None or self.layout.bar is None:
            return []
        draw_bar(self.canvas, self.layout.bar, bar, self.layout.scale)
        return [self.layout.bar]

    def _title(self, text: HudText) -> Rect:
        px, main, ink = self._px, self.layout.main, self.canvas
        x, y = main.x + px(22), main.y + px(40)
        room = main.width - px(44)
        ink.text(shortened(text.source, px(23), room, 600), x, y, px(23), TONES["plain"], weight=600)
        words, tone = text.badge
        y += px(26)
        ink.dot(x + px(5), y - px(5), px(5), TONES[tone])
        end = ink.text(words, x + px(18), y, px(13), TONES[tone], weight=600)
        if text.recording:
            ink.dot(end + px(19), y - px(5), px(5), TONES["bad"])
            end = ink.text(text.recording, end + px(32), y, px(13), TONES["bad"], weight=600)
        ink.text(shortened(text.identity, px(13), main.x + main.width - end - px(20)), end + px(14), y, px(13), _DIM)
        return Rect(main.x, main.y, main.width, px(82))

    def _label(self, tile: Rect, name: str, note: str) -> Rect:
        px, ink = self._px, self.canvas
        size = px(12)
        strip = Rect(tile.x, tile.y + tile.height - px(24), tile.width, px(24))
        name = shortened(name, size, tile.width - px(24), 600)
        width = text_width(name, size, 600) + px(14)
        ink.box(Rect(strip.x + px(5), strip.y, width, px(19)), (10, 12, 15), 0.62, px(5))
        ink.text(name, strip.x + px(12), strip.y + px(14), size, TONES["plain"], weight=600)
        if note:
            noted = text_width(note, size) + px(14)
            if noted + width < tile.width - px(16):
                x = strip.x + tile.width - px(5) - noted
                ink.box(Rect(x, strip.y, noted, px(19)), (10, 12, 15), 0.62, px(5))
                ink.text(note, x + px(7), strip.y + px(14), size, TONES["warn"])
        return strip

    def _stats(self, rect: Rect, text: HudText, trace_ms: Sequence[tuple[float, float]]) -> None:
        px, ink = self._px, self.canvas
        ink.box(rect, (255, 255, 255), 0.045, px(8))
        left, right = rect.x + px(16), rect.x + rect.width - px(16)
        y = rect.y + px(27)
        ink.text(text.headline.label, left, y, px(13), _DIM)
        ink.text(text.headline.value, left, y + px(32), px(28), TONES["plain"], weight=600)
        ink.text(text.headline_note, left, y + px(52), px(12), _DIM)
        if trace_ms or text.headline_note or text.headline.value == "–":
            self._trace(Rect(left + px(158), rect.y + px(14), right - left - px(158), px(70)), trace_ms)
        top = rect.y + px(114)
        middle = (left + right) // 2
        columns = ((left, middle - px(12)), (middle + px(12), right))
        for index, row in enumerate(text.rows):
            x0, x1 = columns[index % 2]
            base = top + (index // 2) * px(24)
            ink.text(row.label, x0, base, px(13), _DIM)
            room = x1 - x0 - text_width(row.label, px(13)) - px(8)
            value = shortened(row.value, px(14), room, 600)
            ink.text(value, x1, base, px(14), TONES[row.tone], weight=600, align="right")
        if text.unused:
            note = shortened(f"unused: {text.unused}", px(12), right - left)
            ink.text(note, left, rect.y + rect.height - px(52), px(12), _DIM)
        self._processes(left, rect.y + rect.height - px(17), right, text)

    def _processes(self, x: int, y: int, right: int, text: HudText) -> None:
        px, ink = self._px, self.canvas
        ink.box(Rect(x, y - px(24), right - x, max(px(1), 1)), (255, 255, 255), 0.10)
        if not text.processes:
            words = "a take without heartbeats" if text.badge[0] == "TAKE" else "no heartbeat from any process"
            ink.text(words, x, y, px(13), _DIM)
        for name, tone in text.processes:
            ink.dot(x + px(4), y - px(4), px(4), TONES[tone])
            x = ink.text(name, x + px(14), y, px(13), TONES["plain"] if tone == "good" else TONES[tone]) + px(18)

    def _trace(self, rect: Rect, trace_ms: Sequence[tuple[float, float]]) -> None:
        px, ink = self._px, self.canvas
        top_ms = nice_ceiling(max((value for _, value in trace_ms), default=0.0))
        for share in (0.0, 0.5, 1.0):
            y = rect.y + round((rect.height - 1) * share)
            ink.box(Rect(rect.x, y, rect.width, 1), (255, 255, 255), 0.10)
        ink.text(f"{top_ms:g} ms", rect.x + rect.width, rect.y + px(12), px(11), _DIM, align="right")
        ink.text(f"{_TRACE_S:g} s", rect.x + px(4), rect.y + px(12), px(11), _DIM)
        if len(trace_ms) < 2:
            return
        ages, values = np.asarray(trace_ms, np.float64).T
        x = rect.x + rect.width * (1.0 - np.clip(ages, 0.0, _TRACE_S) / _TRACE_S)
        y = rect.y + rect.height * (1.0 - np.clip(values, 0.0, top_ms) / top_ms)
        ink.curve(np.stack([x, y], 1), rect, ACCENT, px(1.6), fill=0.16)

    def _bottom(self, text: HudText) -> list[Rect]:
        px, main, ink = self._px, self.layout.main, self.canvas
        y = main.y + main.height - px(14)
        drawn = []
        if self._keys:
            line = shortened(HINT, px(12), main.width - px(44))
            ink.text(line, main.x + px(22), y, px(12), _DIM)
            drawn.append(Rect(main.x, y - px(16), main.width, px(24)))
            y -= px(30)
        if self.layout.bar is not None:
            y = self.layout.bar.y - px(20)
        if text.message:
            line = shortened(text.message, px(13), main.width - px(72))
            box = Rect(main.x + px(18), y - px(20), text_width(line, px(13)) + px(24), px(30))
            ink.box(box, (10, 12, 15), 0.72, px(6))
            ink.text(line, box.x + px(12), y, px(13), TONES["warn"])
            drawn.append(box)
        return drawn


def nice_ceiling(value: float) -> float:
    """Return the next of 10, 20, 50, 100, ... that is not below `value`."""
    if value <= 10.0:
        return 10.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)

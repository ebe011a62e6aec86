"""Parts of the screen that come and go: time line, legend of a heat map, table of keys."""

from collections.abc import Callable

import numpy as np

from renderer.viewer.canvas import Canvas, Colour, text_width
from renderer.viewer.keys import Key, groups
from renderer.viewer.layout import Rect
from renderer.viewer.materials import Scale, colour_table
from renderer.viewer.timeline import Bar

INK: Colour = (232, 236, 241)
DIM: Colour = (142, 151, 164)
ACCENT: Colour = (84, 205, 214)
PAPER: Colour = (10, 12, 15)


def draw_bar(ink: Canvas, rect: Rect, bar: Bar, scale: float) -> None:
    """Draw a time line.

    Args:
        ink: where it is drawn; what stands in the rectangle is wiped out.
        rect: its place.
        bar: what it shows.
        scale: of the layout.
    """

    def px(size: float) -> int:
        return max(round(size * scale), 1)

    ink.clear(rect)
    ink.box(rect, PAPER, 0.62, px(6))
    base, size = rect.y + rect.height - px(11), px(12)
    x = rect.x + px(12)
    _button(ink, Rect(x, rect.y + px(11), px(12), px(12)), bar.playing)
    words = f"{bar.seconds:.2f} / {bar.length_s:.2f} s   mesh {bar.row + 1} of {bar.rows}"
    if bar.speed != 1.0:
        words += f"   × {bar.speed:g}"
    if not bar.looping:
        words += "   once"
    ink.text(words, rect.x + rect.width - px(12), base, size, DIM, align="right")
    rail = bar_rail(rect, scale)
    ink.box(rail, (255, 255, 255), 0.16, px(2))
    left, right = (rail.x + round(rail.width * share) for share in bar.loop)
    if bar.loop != (0.0, 1.0):
        ink.box(Rect(left, rail.y - px(4), max(right - left, 2), rail.height + px(8)), ACCENT, 0.22, px(2))
    at = rail.x + round(rail.width * bar.place)
    ink.box(Rect(rail.x, rail.y, max(at - rail.x, 1), rail.height), ACCENT, 0.9, px(2))
    for place, _ in bar.marks:
        ink.box(
            Rect(rail.x + round(rail.width * place), rail.y - px(5), px(2), rail.height + px(10)), (250, 190, 96), 0.9
        )
    ink.dot(at, rail.y + rail.height // 2, px(6), INK)


def bar_rail(rect: Rect, scale: float) -> Rect:
    """Where the rail lies inside a time line; a drag on it scrubs."""
    left, right, thick = round(38 * scale), round(292 * scale), max(round(4 * scale), 2)
    return Rect(rect.x + left, rect.y + (rect.height - thick) // 2, max(rect.width - left - right, 8), thick)


def _button(ink: Canvas, rect: Rect, playing: bool) -> None:
    if playing:
        third = max(rect.width // 3, 1)
        for x in (rect.x, rect.x + rect.width - third):
            ink.box(Rect(x, rect.y, third, rect.height), INK, 0.95, 1)
        return
    points = np.array(
        [[rect.x, rect.y], [rect.x + rect.width, rect.y + rect.height / 2], [rect.x, rect.y + rect.height]]
    )
    ink.fill(points, INK)


def draw_legend(ink: Canvas, place: Rect, scale: Scale, known: bool, size: float) -> Rect:
    """Draw the legend of a heat map at the right edge of a place.

    Args:
        ink: where it is drawn.
        place: the free view.
        scale: what the colours mean.
        known: whether there are numbers.
        size: scale of the layout.

    Returns:
        What was drawn on.
    """

    def px(value: float) -> int:
        return max(round(value * size), 1)

    rect = Rect(place.x + place.width - px(236), place.y + px(18), px(220), px(58 if known else 44))
    ink.box(rect, PAPER, 0.62, px(6))
    ink.text(scale.title, rect.x + px(12), rect.y + px(19), px(12), INK, weight=600)
    if not known:
        ink.text(scale.empty, rect.x + px(12), rect.y + px(36), px(11), (250, 190, 96))
        return rect
    strip = Rect(rect.x + px(12), rect.y + px(27), rect.width - px(24), px(9))
    columns = np.linspace(0, 255, strip.width).astype(np.intp)
    ink.pixels[strip.y : strip.y + strip.height, strip.x : strip.x + strip.width, :3] = colour_table(scale)[columns]
    ink.pixels[strip.y : strip.y + strip.height, strip.x : strip.x + strip.width, 3] = 255
    for share, align in ((0.0, "left"), (0.5, "centre"), (1.0, "right")):
        value = scale.low + share * (scale.high - scale.low)
        words = f"{value:g}" + (f" {scale.unit}" if share == 1.0 and scale.unit else "")
        ink.text(words, strip.x + round(strip.width * share), strip.y + px(23), px(11), DIM, align=align)  # type: ignore[arg-type]
    return rect


def draw_keys(ink: Canvas, place: Rect, scale: float) -> Rect:
    """Draw the table of keys in the middle of a place.

    Returns:
        What was drawn on.
    """

    def px(value: float) -> int:
        return max(round(value * scale), 1)

    table = groups()
    rows = sum(len(keys) for keys in table.values()) + len(table)
    step = min(px(20), max((place.height - px(60)) // max(rows, 1), 8))
    size = min(px(12), max(step - 5, 7))
    wide = max(text_width(key.does, size) for keys in table.values() for key in keys) + px(146)
    width, height = min(wide, place.width - px(16)), rows * step + px(28)
    rect = Rect(place.x + (place.width - width) // 2, place.y + max((place.height - height) // 2, 0), width, height)
    ink.box(rect, PAPER, 0.88, px(8))
    y = rect.y + px(14)
    for group, keys in table.items():
        y += step
        ink.text(group, rect.x + px(16), y - px(4), size, ACCENT, weight=600)
        for key in keys:
            y += step
            _key_row(ink, rect, y - px(4), key, size, px)
    return rect


def _key_row(ink: Canvas, rect: Rect, y: int, key: Key, size: int, px: Callable[[float], int]) -> None:
    ink.text(key.shown, rect.x + px(16), y, size, INK, weight=600)
    ink.text(key.does, rect.x + px(130), y, size, DIM)

"""Where everything stands on the screen. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from renderer.viewer.controls import View

_PANEL_SHARE = 0.40
_STATS_HEIGHT = 308
_MARGIN = 14
_GAP = 8
_HEAD, _FOOT, _BAR = 84, 44, 34


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole pixels, origin at the top left of the picture."""

    x: int
    """Left edge."""
    y: int
    """Top edge."""
    width: int
    """Width, px."""
    height: int
    """Height, px."""

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in it."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height

    def common(self, other: "Rect") -> "Rect | None":
        """Return what two rectangles share, None if that is nothing."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Rect(left, top, right - left, bottom - top) if left < right and top < bottom else None

    def inside(self, aspect: float) -> "Rect":
        """Return the largest rectangle of this aspect ratio centred in this one."""
        width = max(1, min(self.width, round(self.height * aspect)))
        height = max(1, min(self.height, round(self.width / aspect)))
        return Rect(self.x + (self.width - width) // 2, self.y + (self.height - height) // 2, width, height)


@dataclass(frozen=True, slots=True)
class Layout:
    """One screen."""

    width: int
    """Width of the picture, px."""
    height: int
    """Height of the picture, px."""
    scale: float
    """Size of text and margins; 1 at 1280x720."""
    main: Rect
    """The head; always at the left edge and of full height."""
    panel: Rect | None
    """Column at the right, behind tiles and figures; None where there is no room."""
    tiles: tuple[Rect, ...]
    """Camera pictures, in reading order."""
    stats: Rect | None
    """Figures; None where there is no room."""
    bar: Rect | None = None
    """The time line; None where there is none."""


def arrange(
    width: int, height: int, aspects: Sequence[float], figures: bool = True, view: View = "free", timeline: bool = False
) -> Layout:
    """Lay out a screen.

    Args:
        width: of the picture, px.
        height: of the picture, px.
        aspects: width / height of each camera picture to show.
        figures: whether there is a block of figures.
        view: what the main part shows: the head, the first of the pictures, or all of them.
        timeline: whether there is a time line at the foot of the main part.
    """
    scale = min(max(min(width / 1280, height / 720), 0.7), 4.0)
    margin, gap = round(_MARGIN * scale), round(_GAP * scale)
    stats_height = round(_STATS_HEIGHT * scale)
    with_stats = figures and height >= stats_height + 2 * margin and width >= 560
    beside = aspects if view == "free" else aspects[1:] if view == "camera" else ()
    panel, main = None, Rect(0, 0, width, height)
    if beside or with_stats:
        panel_width = round((_PANEL_SHARE if beside else 0.30) * width)
        panel, main = Rect(width - panel_width, 0, panel_width, height), Rect(0, 0, width - panel_width, height)
    bar = _bar(main, scale) if timeline else None
    tiles, stats = _column(panel, beside, stats_height if with_stats else 0, margin, gap)
    if view != "free":
        foot = round(_FOOT * scale) if bar is None else main.height - bar.y
        head = round(_HEAD * scale)
        room = Rect(main.x + margin, head, max(main.width - 2 * margin, 1), max(main.height - head - foot, 1))
        large = _tiles(room, aspects, gap) if view == "wall" else tuple(room.inside(a) for a in aspects[:1])
        tiles = (*large, *tiles)
    return Layout(width, height, scale, main, panel, tiles, stats, bar)


def _bar(main: Rect, scale: float) -> Rect:
    """Where the time line stands."""
    margin, height = round(_MARGIN * scale), round(_BAR * scale)
    return Rect(main.x + margin, main.height - height - round(30 * scale), main.width - 2 * margin, height)


def _column(
    panel: Rect | None, aspects: Sequence[float], stats_height: int, margin: int, gap: int
) -> tuple[tuple[Rect, ...], Rect | None]:
    """Tiles and figures of the column at the right."""
    if panel is None:
        return (), None
    inner = Rect(panel.x + margin, margin, panel.width - 2 * margin, panel.height - 2 * margin)
    room = inner.height - (stats_height + gap if stats_height else 0)
    tiles = _tiles(Rect(inner.x, inner.y, inner.width, max(room, 1)), aspects, gap)
    below = max((tile.y + tile.height for tile in tiles), default=inner.y - gap) + gap
    top = max(below, inner.y + inner.height - stats_height)
    stats = Rect(inner.x, top, inner.width, inner.y + inner.height - top) if stats_height else None
    return tiles, stats


def _tiles(room: Rect, aspects: Sequence[float], gap: int) -> tuple[Rect, ...]:
    count = len(aspects)
    if not count:
        return ()
    widest = max(aspects)
    columns, cell_width = 1, 0
    for candidate in range(1, count + 1):
        rows = -(-count // candidate)
        by_width = (room.width - (candidate - 1) * gap) // candidate
        by_height = (room.height - (rows - 1) * gap) / rows * widest
        fitting = int(min(by_width, by_height))
        if fitting > cell_width:
            columns, cell_width = candidate, fitting
    cell_width = max(cell_width, 8)
    cell_height = max(round(cell_width / widest), 8)
    left = room.x + (room.width - columns * cell_width - (columns - 1) * gap) // 2
    rects = []
    for index, aspect in enumerate(aspects):
        row, column = divmod(index, columns)
        cell = Rect(left + column * (cell_width + gap), room.y + row * (cell_height + gap), cell_width, cell_height)
        rects.append(cell.inside(aspect))
    return tuple(rects)


def mosaic(aspects: Sequence[float], width: int) -> tuple[int, tuple[Rect, ...]]:
    """Lay out pictures in a near-square grid of a given width.

    Args:
        aspects: width / height of each picture.
        width: of the whole, px.

    Returns:
        Height of the whole (even, as video needs it), and one rectangle per picture.
    """
    count = len(aspects)
    columns = 1
    while columns * columns < count:
        columns += 1
    rows = -(-count // columns)
    cell_width = width // columns
    cell_height = round(cell_width / max(aspects))
    places = [((i % columns) * cell_width, (i // columns) * cell_height) for i in range(count)]
    cells = [Rect(x, y, cell_width, cell_height) for x, y in places]
    height = rows * cell_height
    return height + height % 2, tuple(cell.inside(aspect) for cell, aspect in zip(cells, aspects, strict=True))

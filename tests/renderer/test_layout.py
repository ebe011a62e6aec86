import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderer.viewer.layout import Rect, arrange, mosaic

aspects_of = st.lists(st.sampled_from([4 / 3, 16 / 9, 3 / 4, 1.0]), max_size=20)


def apart(one: Rect, other: Rect) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return beside or one.y + one.height <= other.y or other.y + other.height <= one.y


@given(st.integers(160, 4000), st.integers(120, 3000), aspects_of)
def test_nothing_overlaps_and_everything_is_on_the_screen(width: int, height: int, aspects: list[float]) -> None:
    layout = arrange(width, height, aspects)
    assert layout.main.x == 0 and layout.main.height == height
    assert len(layout.tiles) == len(aspects)
    blocks = [layout.main, *layout.tiles, *([layout.stats] if layout.stats else [])]
    for index, block in enumerate(blocks):
        assert block.width > 0 and block.height > 0
        assert all(apart(block, other) for other in blocks[index + 1 :])
    usable = width >= 640 and height >= 480 and len(aspects) <= 8
    if usable:
        for block in blocks:
            assert block.x >= 0 and block.x + block.width <= width and block.y + block.height <= height


@given(
    st.integers(900, 4000), st.integers(700, 3000), st.lists(st.sampled_from([4 / 3, 16 / 9]), min_size=1, max_size=8)
)
def test_tiles_keep_the_shape_of_their_pictures(width: int, height: int, aspects: list[float]) -> None:
    for tile, aspect in zip(arrange(width, height, aspects).tiles, aspects, strict=True):
        # Whole pixels: each side is off by half a pixel at most.
        assert tile.width / tile.height == pytest.approx(aspect, abs=aspect / tile.height + 1 / tile.height)


def test_four_pictures_at_720p_make_two_columns() -> None:
    layout = arrange(1280, 720, [4 / 3] * 4)
    assert len({tile.x for tile in layout.tiles}) == len({tile.y for tile in layout.tiles}) == 2
    assert layout.tiles[0].width >= 230 and layout.stats is not None and layout.stats.height >= 300


def test_without_pictures_and_figures_the_head_has_the_screen() -> None:
    layout = arrange(800, 600, (), figures=False)
    assert layout.main == Rect(0, 0, 800, 600) and layout.panel is None


@given(st.lists(st.sampled_from([4 / 3, 16 / 9]), min_size=1, max_size=20))
def test_a_mosaic_is_even_and_holds_all(aspects: list[float]) -> None:
    height, rects = mosaic(aspects, 1920)
    assert height % 2 == 0 and len(rects) == len(aspects)
    for index, rect in enumerate(rects):
        assert rect.x + rect.width <= 1920 and rect.y + rect.height <= height
        assert all(apart(rect, other) for other in rects[index + 1 :])

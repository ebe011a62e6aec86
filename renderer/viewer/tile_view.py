"""The camera pictures with the mesh over each."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import moderngl
import numpy as np

from renderer.viewer.controls import Look
from renderer.viewer.layout import Layout, Rect
from renderer.viewer.lens import lens_of
from renderer.viewer.lens_pass import LensPass
from renderer.viewer.sheets import Sheets, lower_left
from renderer.viewer.surface import Surface
from renderer.viewer.target import Target
from streamer.types import U8, Camera

PANEL = (0.052, 0.057, 0.068)
"""Colour behind tiles and figures, display RGB."""
_EMPTY = (0.095, 0.102, 0.118)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A camera picture to show."""

    camera: Camera
    """Whose picture."""
    picture: U8 | None
    """(H, W, 3) RGB at any size, not changed afterwards; None while there is none."""


class TileView:
    """Draws the tiles of a screen; the result is kept and may be shown again.

    Args:
        context: where they are drawn.
        layout: where things stand; it has at least one tile.
        sheets: draws the pictures.
        samples: of anti-aliasing.
    """

    def __init__(self, context: moderngl.Context, layout: Layout, sheets: Sheets, samples: int) -> None:
        """Allocate."""
        self._context = context
        self._tiles = layout.tiles
        left, top = min(tile.x for tile in self._tiles), min(tile.y for tile in self._tiles)
        right, bottom = (max(t.x + t.width for t in self._tiles), max(t.y + t.height for t in self._tiles))
        self.area = Rect(left, top, right - left, bottom - top)
        self._sheets = sheets
        self._lens_pass = LensPass(context)
        self._target = Target(context, self.area.width, self.area.height, samples)
        self._blank = context.texture((1, 1), 3, bytes(round(255 * value) for value in _EMPTY), alignment=1)
        self._pictures: dict[str, tuple[U8, moderngl.Texture]] = {}
        self._shown: moderngl.Texture | None = None

    def draw(self, surface: Surface | None, look: Look, tiles: Sequence[Tile]) -> None:
        """Draw pictures and overlays.

        Args:
            surface: the mesh, None before the first.
            look: overlay options.
            tiles: for the rectangles of the layout, in their order; fewer are allowed.
        """
        area, size = self.area, (self.area.width, self.area.height)
        for gone in set(self._pictures) - {tile.camera.id for tile in tiles}:
            self._pictures.pop(gone)[1].release()
        self._target.begin(area.width, area.height, (*PANEL, 1.0))
        for rect, tile in zip(self._tiles, tiles, strict=False):
            texture = self._texture(tile, rect)
            local = Rect(rect.x - area.x, rect.y - area.y, rect.width, rect.height)
            self._context.viewport = (0, 0, *size)
            self._context.enable_only(moderngl.NOTHING)
            self._sheets.put(texture, local, size)
            if surface is not None:
                viewport = self._context.scissor = lower_left(local, area.height)
                lens = lens_of(tile.camera, surface.low, surface.high)
                self._lens_pass.draw(surface, lens, texture, viewport, mode=look.overlay, opacity=look.opacity)
                self._context.scissor = None
        self._shown, _ = self._target.resolve()

    def show(self, canvas: tuple[int, int]) -> None:
        """Put the tiles, as last drawn, onto the framebuffer in use, whose size is `canvas`."""
        if self._shown is not None:
            self._sheets.put(self._shown, self.area, canvas, (0.0, 1.0, 1.0, -1.0))

    def _texture(self, tile: Tile, rect: Rect) -> moderngl.Texture:
        if tile.picture is None:
            return self._blank
        kept = self._pictures.get(tile.camera.id)
        if kept is not None and kept[0] is tile.picture and kept[1].size == (rect.width, rect.height):
            return kept[1]
        size = (rect.width, rect.height)
        picture = tile.picture
        if picture.shape[1::-1] != size:
            kind = cv2.INTER_AREA if picture.shape[1] >= size[0] else cv2.INTER_LINEAR
            picture = np.asarray(cv2.resize(picture, size, interpolation=kind), np.uint8)
        texture = None if kept is None else kept[1]
        if texture is None or texture.size != size:
            if texture is not None:
                texture.release()
            texture = self._context.texture(size, 3, alignment=1)
        texture.write(np.ascontiguousarray(picture), alignment=1)
        self._pictures[tile.camera.id] = (tile.picture, texture)
        return texture

    def set_samples(self, samples: int) -> None:
        """Change the samples of anti-aliasing, from the next drawing on."""
        self._target.set_samples(samples)

    def release(self) -> None:
        """Free the GPU's memory."""
        for _, texture in self._pictures.values():
            texture.release()
        self._pictures.clear()
        for item in (self._lens_pass, self._target, self._blank):
            item.release()

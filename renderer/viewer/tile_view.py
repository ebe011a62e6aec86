"""The camera pictures with the mesh over each."""

from collections.abc import Sequence
from dataclasses import dataclass

import moderngl

from renderer.viewer.controls import Look
from renderer.viewer.layout import Layout
from renderer.viewer.lens import lens_of
from renderer.viewer.lens_pass import LensPass
from renderer.viewer.pictures import Textures
from renderer.viewer.sheets import Sheets, lower_left
from renderer.viewer.surface import Surface
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
    """Draws the tiles of a screen.

    Args:
        context: where they are drawn.
        sheets: draws the pictures.
        textures: of the pictures.
    """

    def __init__(self, context: moderngl.Context, sheets: Sheets, textures: Textures) -> None:
        """Compile."""
        self._context = context
        self._sheets, self._lens_pass, self._textures = sheets, LensPass(context), textures
        self._blank = context.texture((1, 1), 3, bytes(round(255 * value) for value in _EMPTY), alignment=1)

    def draw(self, layout: Layout, surface: Surface | None, look: Look, tiles: Sequence[Tile]) -> None:
        """Draw pictures and overlays into the framebuffer in use, whose depth has been cleared.

        Args:
            layout: where they stand.
            surface: the mesh, None before the first.
            look: overlay options.
            tiles: for the rectangles of the layout, in their order; fewer are allowed.
        """
        size = (layout.width, layout.height)
        for rect, tile in zip(layout.tiles, tiles, strict=False):
            texture = self._blank if tile.picture is None else self._textures.of(tile.camera.id, tile.picture)
            self._context.viewport = (0, 0, *size)
            self._context.enable_only(moderngl.NOTHING)
            self._sheets.put(texture, rect, size)
            if surface is not None:
                viewport = self._context.scissor = lower_left(rect, layout.height)
                lens = lens_of(tile.camera, surface.low, surface.high)
                self._lens_pass.draw(surface, lens, texture, viewport, mode=look.overlay, opacity=look.opacity)
                self._context.scissor = None

    def release(self) -> None:
        """Free the GPU's memory."""
        self._lens_pass.release()
        self._blank.release()

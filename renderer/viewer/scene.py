"""One screen: the head, the tiles and the figures. The same code draws into a window and into a picture file."""

from collections.abc import Sequence

import cv2
import moderngl
import numpy as np

from renderer.viewer.controls import Look
from renderer.viewer.head_view import HeadView
from renderer.viewer.layout import Layout, Rect
from renderer.viewer.sheets import Sheets, lower_left
from renderer.viewer.surface import Surface
from renderer.viewer.tile_view import PANEL, Tile, TileView
from streamer.types import F32, F64, U8, Topology


class Scene:
    """Everything on the GPU.

    Args:
        context: where it is drawn; the scene stays in its thread.
        layout: where things stand.
        screen: framebuffer to draw into; None makes one of our own, which `read` then reads.
        samples: of anti-aliasing.
    """

    def __init__(
        self, context: moderngl.Context, layout: Layout, screen: moderngl.Framebuffer | None = None, samples: int = 4
    ) -> None:
        """Compile programs and make targets."""
        self._context = context
        self._samples = samples
        self._given_screen = screen
        self._sheets = Sheets(context)
        self._surface: Surface | None = None
        self._loaded = False
        self._arrange(layout)

    def _arrange(self, layout: Layout) -> None:
        size = (layout.width, layout.height)
        self.layout = layout
        self._screen = self._context.simple_framebuffer(size) if self._given_screen is None else self._given_screen
        self._head = HeadView(self._context, layout, self._sheets, self._samples)
        self._tiles = TileView(self._context, layout, self._sheets, self._samples) if layout.tiles else None
        self._figures = self._context.texture(size, 4)
        self._figures.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._figure_rects: tuple[Rect, ...] = ()
        self._head.lay_floor(self._surface if self._loaded else None)

    def _clear_out(self) -> None:
        self._head.release()
        if self._tiles is not None:
            self._tiles.release()
        self._figures.release()
        if self._given_screen is None:
            self._screen.release()

    def rearrange(self, layout: Layout) -> None:
        """Change size or tiles; the head stays loaded, figures and tiles have to be set again."""
        self._clear_out()
        self._arrange(layout)

    def set_samples(self, samples: int) -> None:
        """Change the samples of anti-aliasing, from the next drawing on."""
        self._samples = samples
        self._head.set_samples(samples)
        if self._tiles is not None:
            self._tiles.set_samples(samples)

    def set_topology(self, topology: Topology) -> None:
        """Take the topology of the meshes that follow; the floor is laid anew under the first of them."""
        if self._surface is not None:
            if self._surface.topology.id == topology.id:
                return
            self._surface.release()
        self._surface = Surface(self._context, topology)
        self._loaded = False
        self._head.lay_floor(None)

    def set_mesh(self, vertices: F32) -> None:
        """Upload a mesh.

        Args:
            vertices: (N, 3) metres, world, of the topology set last.

        Raises:
            ValueError: there is no topology yet.
        """
        if self._surface is None:
            raise ValueError("set_topology comes before set_mesh")
        self._surface.load(vertices)
        if not self._loaded:
            self._loaded = True
            self._head.lay_floor(self._surface)

    @property
    def bounds(self) -> tuple[F64, F64] | None:
        """Lower and upper corner of the mesh, metres, world; None before the first."""
        return (self._surface.low, self._surface.high) if self._surface is not None and self._loaded else None

    def set_figures(self, pixels: U8, rects: Sequence[Rect]) -> None:
        """Upload the painted figures.

        Args:
            pixels: (height, width, 4) premultiplied RGBA.
            rects: the parts that hold anything.
        """
        self._figures.write(pixels)
        self._figure_rects = tuple(rects)

    def draw_tiles(self, look: Look, tiles: Sequence[Tile]) -> None:
        """Draw the tiles; needed again when the mesh, a picture or the overlay changed.

        Args:
            look: overlay options.
            tiles: pictures for the rectangles of the layout, in their order; fewer are allowed.
        """
        if self._tiles is not None:
            self._tiles.draw(self._surface if self._loaded else None, look, tiles)

    def draw(self, look: Look) -> None:
        """Draw the screen: the head anew, the tiles as last drawn, the figures as last set."""
        context, size = self._context, (self.layout.width, self.layout.height)
        self._head.draw(self._screen, self._surface if self._loaded else None, look)
        self._screen.use()
        context.viewport = (0, 0, *size)
        if self.layout.panel is not None:
            self._screen.clear(*PANEL, 1.0, viewport=lower_left(self.layout.panel, self.layout.height))
        context.enable_only(moderngl.NOTHING)
        if self._tiles is not None:
            self._tiles.show(size)
        context.enable_only(moderngl.BLEND)
        context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        for rect in self._figure_rects if look.figures else ():
            part = (rect.x / size[0], rect.y / size[1], rect.width / size[0], rect.height / size[1])
            self._sheets.put(self._figures, rect, size, part)

    def read(self) -> U8:
        """Return the screen as (height, width, 3) RGB, row 0 at the top."""
        shape = (self.layout.height, self.layout.width, 4)
        pixels = np.frombuffer(self._screen.read(components=4, alignment=1), np.uint8).reshape(shape)
        # Ten times faster than numpy's own strided copy.
        return np.asarray(cv2.flip(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), 0), np.uint8)

    def release(self) -> None:
        """Free the GPU's memory."""
        self._clear_out()
        self._sheets.release()
        if self._surface is not None:
            self._surface.release()

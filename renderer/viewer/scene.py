"""One screen: the head, the tiles and the figures. The same code draws into a window and into a picture file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import moderngl
import numpy as np

from renderer.viewer.controls import Look
from renderer.viewer.head_view import Cast, HeadView, Through
from renderer.viewer.layout import Layout, Rect
from renderer.viewer.pictures import Textures
from renderer.viewer.scans import Scan
from renderer.viewer.sheets import Sheets
from renderer.viewer.surface import Shape, Surface
from renderer.viewer.tile_view import PANEL, Tile, TileView
from streamer.types import F32, F64, U8, Camera, Topology

_SHAPES = 4


class Scene:
    """Everything on the GPU.

    Args:
        context: where it is drawn; the scene stays in its thread.
        layout: where things stand.
        window: framebuffer that `show` copies the screen to.
    """

    def __init__(self, context: moderngl.Context, layout: Layout, window: moderngl.Framebuffer | None = None) -> None:
        """Compile programs and make targets."""
        self.context = context
        self._window = window
        self._sheets = Sheets(context)
        self.textures = Textures(context)
        self._tiles = TileView(context, self._sheets, self.textures)
        self._paper = context.texture((1, 1), 3, bytes(round(255 * value) for value in PANEL), alignment=1)
        self._shapes: dict[str, Shape] = {}
        self._surface: Surface | None = None
        self._loaded = False
        self._cast = Cast()
        self._head = HeadView(context, layout)
        self._arrange(layout)

    def _arrange(self, layout: Layout) -> None:
        size = (layout.width, layout.height)
        self.layout = layout
        self._head.arrange(layout)
        self._screen = self.context.simple_framebuffer(size)
        self._screen.clear(*PANEL, 1.0)
        self._figures = self.context.texture(size, 4)
        self._figures.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._figure_rects: tuple[Rect, ...] = ()

    def _clear_out(self) -> None:
        self._figures.release()
        self._screen.release()

    def rearrange(self, layout: Layout) -> None:
        """Change size or tiles; the head stays loaded, figures and tiles have to be set again."""
        self._clear_out()
        self._arrange(layout)

    def shape(self, topology: Topology) -> Shape:
        """Return what all meshes of a topology share, worked out when it is first seen."""
        found = self._shapes.pop(topology.id, None) or Shape(self.context, topology)
        self._shapes[topology.id] = found
        while len(self._shapes) > _SHAPES:
            self._shapes.pop(next(iter(self._shapes))).release()
        return found

    def set_topology(self, topology: Topology) -> None:
        """Take the topology of the meshes that follow; the floor is laid anew under the first of them."""
        if self._surface is not None:
            if self._surface.shape.topology.id == topology.id:
                return
            self._surface.release()
        self._surface = Surface(self.context, self.shape(topology))
        self._loaded = False
        self._head.lay_floor(None)

    def set_mesh(self, vertices: F32, weights: F32 | None = None) -> None:
        """Upload a mesh.

        Args:
            vertices: (N, 3) metres, world, of the topology set last.
            weights: (U,) of the topology's units, for the gaze.

        Raises:
            ValueError: there is no topology yet.
        """
        if self._surface is None:
            raise ValueError("set_topology comes before set_mesh")
        self._surface.load(vertices, weights)
        if not self._loaded:
            self._loaded = True
            self._head.lay_floor(self._surface)

    @property
    def surface(self) -> Surface | None:
        """The head that is loaded."""
        return self._surface if self._loaded else None

    @property
    def bounds(self) -> tuple[F64, F64] | None:
        """Lower and upper corner of the mesh, metres, world; None before the first."""
        return (self._surface.low, self._surface.high) if self._surface is not None and self._loaded else None

    def set_company(
        self,
        through: Sequence[Through],
        cameras: Sequence[Camera],
        pictures: Mapping[str, U8],
        scan: Scan | None = None,
    ) -> None:
        """Say what stands beside the head in the free view.

        Args:
            through: heads seen through.
            cameras: of the rig.
            pictures: camera id to (H, W, 3) RGB, shown where the camera stands.
            scan: raw scan.
        """
        textures = {name: self.textures.of(name, rgb) for name, rgb in pictures.items()}
        self._cast = Cast(None, tuple(through), tuple(cameras), scan, textures)

    def set_figures(self, pixels: U8, rects: Sequence[Rect]) -> None:
        """Upload the painted figures.

        Args:
            pixels: (height, width, 4) premultiplied RGBA.
            rects: the parts that hold anything.
        """
        self.update_figures(pixels, rects)
        self._figure_rects = tuple(rects)

    def update_figures(self, pixels: U8, rects: Sequence[Rect]) -> None:
        """Upload parts of the painted figures; arguments as of `set_figures`."""
        whole = Rect(0, 0, self.layout.width, self.layout.height)
        for rect in (whole.common(rect) for rect in rects):
            if rect is not None:
                part = pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
                self._figures.write(np.ascontiguousarray(part), viewport=(rect.x, rect.y, rect.width, rect.height))

    def _clear_depth(self) -> None:
        """All of it at once: in software a part costs ten times as much as the whole."""
        self._screen.color_mask = False, False, False, False
        self._screen.clear(depth=1.0)
        self._screen.color_mask = True, True, True, True
        self._screen.use()  # what makes the mask count

    def _wipe(self, rect: Rect) -> None:
        self.context.viewport = (0, 0, self.layout.width, self.layout.height)
        self.context.enable_only(moderngl.NOTHING)
        self._sheets.put(self._paper, rect, (self.layout.width, self.layout.height))

    def draw_head(self, look: Look) -> None:
        """Draw the free view; in the other views its place is left to the tiles."""
        if look.view == "free":
            self._clear_depth()
            self._head.draw(self._screen, replace(self._cast, head=self.surface), look)

    def draw_tiles(self, look: Look, tiles: Sequence[Tile], *, figures: bool = True) -> None:
        """Draw everything but the head; needed again when the mesh, a picture, the overlay or a figure changed.

        Args:
            look: overlay options.
            tiles: pictures for the rectangles of the layout, in their order; fewer are allowed.
            figures: whether the block of figures has changed too.
        """
        self._clear_depth()
        if look.view != "free":
            self._wipe(self.layout.main)
        self._tiles.draw(self.layout, self.surface, look, tiles)
        stats = self.layout.stats
        if stats is not None and figures:
            self._wipe(stats)
        self._write_figures(look, beside=True, without=None if figures else stats)

    def compose(self, look: Look) -> None:
        """Lay the figures over the head."""
        self._write_figures(look, beside=False)

    def _write_figures(self, look: Look, *, beside: bool, without: Rect | None = None) -> None:
        """Put the figures on the screen: those over the head, which is drawn anew each time, or those beside it."""
        context, size = self.context, (self.layout.width, self.layout.height)
        self._screen.use()
        context.viewport = (0, 0, *size)
        context.enable_only(moderngl.BLEND)
        context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        for rect in self._figure_rects:
            over_head = look.view == "free" and self.layout.main.common(rect) is not None
            if over_head != beside and rect != without:
                part = (rect.x / size[0], rect.y / size[1], rect.width / size[0], rect.height / size[1])
                self._sheets.put(self._figures, rect, size, part)

    def draw(self, look: Look, tiles: Sequence[Tile] = ()) -> None:
        """Draw the whole screen; arguments as of `draw_tiles`."""
        self.draw_head(look)
        self.draw_tiles(look, tiles)
        self.compose(look)

    def show(self) -> None:
        """Copy the screen into the window, or wait until it is drawn."""
        if self._window is not None:
            self.context.copy_framebuffer(self._window, self._screen)
        else:
            self.context.finish()

    def read(self) -> U8:
        """Return the screen as (height, width, 3) RGB, row 0 at the top."""
        shape = (self.layout.height, self.layout.width, 4)
        pixels = np.frombuffer(self._screen.read(components=4, alignment=1), np.uint8).reshape(shape)
        # Ten times faster than numpy's own strided copy.
        return np.asarray(cv2.flip(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), 0), np.uint8)

    def release(self) -> None:
        """Free the GPU's memory."""
        self._clear_out()
        if self._surface is not None:
            self._surface.release()
        for shape in self._shapes.values():
            shape.release()
        for item in (self._head, self._tiles, self._sheets, self.textures, self._paper):
            item.release()

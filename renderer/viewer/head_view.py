"""The free view: studio backdrop, floor with contact shadow, cameras, heads seen through, and the head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import moderngl

from renderer.viewer.cloud import Cloud
from renderer.viewer.controls import Look
from renderer.viewer.frusta import Frusta
from renderer.viewer.head_pass import HeadPass
from renderer.viewer.layout import Layout
from renderer.viewer.scans import Scan
from renderer.viewer.sheets import Quad, lower_left
from renderer.viewer.surface import Surface
from streamer.types import F64, Camera

_FLOOR_REACH_M = 1.1
_FLOOR_GAP_M = 0.025


@dataclass(frozen=True, slots=True, eq=False)
class Through:
    """A head that is seen through."""

    surface: Surface
    """Its mesh."""
    tint: tuple[float, float, float]
    """Display RGB."""
    opacity: float
    """At its rim, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """What stands in the free view."""

    head: Surface | None = None
    """The head; None before the first mesh."""
    through: Sequence[Through] = ()
    """Heads seen through, drawn after it."""
    cameras: Sequence[Camera] = ()
    """Cameras of the rig."""
    scan: Scan | None = None
    """Raw scan, drawn where the look says so."""
    pictures: Mapping[str, moderngl.Texture] = field(default_factory=dict)
    """Camera id to picture, row 0 at the top."""


class HeadView:
    """Draws the main part of a screen.

    Args:
        context: where it is drawn.
        layout: where things stand; the main part is at the lower left of the screen.
    """

    def __init__(self, context: moderngl.Context, layout: Layout) -> None:
        """Compile, and paint the backdrop, which never changes."""
        self._context = context
        self._layout = layout
        self._floor = Quad(context, "floor")
        self._heads = HeadPass(context)
        self._frusta = Frusta(context)
        self._cloud = Cloud(context)
        self._floor_m: float | None = None
        self._paint_backdrop()

    def _paint_backdrop(self) -> None:
        main = self._layout.main
        # Colour alone: copying it must leave the depth of the screen as it is.
        self._paper = self._context.renderbuffer((main.width, main.height))
        self._backdrop = self._context.framebuffer([self._paper])
        self._backdrop.use()
        self._context.viewport = (0, 0, main.width, main.height)
        self._context.enable_only(moderngl.NOTHING)
        backdrop = Quad(self._context, "backdrop")
        backdrop.draw(aspect=main.aspect)
        backdrop.release()

    def arrange(self, layout: Layout) -> None:
        """Change the size; programs and floor stay."""
        changed = layout.main != self._layout.main
        self._layout = layout
        if changed:
            self._backdrop.release()
            self._paper.release()
            self._paint_backdrop()

    def lay_floor(self, surface: Surface | None) -> None:
        """Put the floor under a head; None takes it away."""
        self._floor_m = None if surface is None else float(surface.low[1]) - _FLOOR_GAP_M

    def draw(self, screen: moderngl.Framebuffer, cast: Cast, look: Look) -> None:
        """Draw onto the screen.

        Args:
            screen: framebuffer of the layout's size, whose depth has been cleared.
            cast: what stands there.
            look: camera and material.
        """
        main = self._layout.main
        viewport = lower_left(main, self._layout.height)
        self._context.copy_framebuffer(screen, self._backdrop)
        if cast.head is None or self._floor_m is None:
            return
        screen.use()
        self._context.viewport = self._context.scissor = viewport
        clip, half = look.camera.clip_from_world(main.aspect), (main.width / 2, main.height / 2)
        if look.camera.eye[1] > self._floor_m:
            self._draw_floor(cast.head, clip, self._floor_m)
        if look.frusta != "none" and cast.cameras:
            self._frusta.place(cast.cameras, (cast.head.low + cast.head.high) / 2)
            self._frusta.draw(clip, half, dict(cast.pictures) if look.frusta == "pictures" else {})
        if look.scan != "none" and cast.scan is not None:
            self._cloud.draw(cast.scan, clip, look.camera.eye_from_world(), main.height, look.scan)
            if look.scan == "alone":
                self._context.scissor = None
                return
        self._heads.draw(
            cast.head, look.camera, clip, half,
            material=look.material, eyes=look.eyes, lines=look.edges, cameras=len(cast.cameras),
        )  # fmt: skip
        for through in cast.through:
            self._heads.draw_through(through.surface, look.camera, clip, through.tint, through.opacity)
        self._context.scissor = None

    def _draw_floor(self, surface: Surface, clip_from_world: F64, height_m: float) -> None:
        self._context.enable_only(moderngl.BLEND)
        self._context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        middle, half = (surface.low + surface.high) / 2, 0.62 * (surface.high - surface.low)
        self._floor.draw(
            clip_from_world=tuple(clip_from_world.T.ravel().tolist()),
            middle=(float(middle[0]), height_m, float(middle[2])),
            reach=_FLOOR_REACH_M,
            footprint=(float(half[0]), float(half[2])),
        )

    def release(self) -> None:
        """Free the GPU's memory."""
        for item in (self._floor, self._heads, self._frusta, self._cloud, self._backdrop, self._paper):
            item.release()

"""The head in the free view: studio backdrop, floor with contact shadow, lit surface."""

import math

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.controls import MATERIALS, Look
from renderer.viewer.layout import Layout, Rect
from renderer.viewer.sheets import Quad, Sheets, lower_left
from renderer.viewer.surface import Surface
from renderer.viewer.target import Target
from streamer.types import F64

_FLOOR_REACH_M = 1.1
_FLOOR_GAP_M = 0.025


class HeadView:
    """Draws the main part of a screen.

    Args:
        context: where it is drawn.
        layout: where things stand; the main part is at the lower left of the screen.
        sheets: for the anti-aliased head.
        samples: of anti-aliasing.
    """

    def __init__(self, context: moderngl.Context, layout: Layout, sheets: Sheets, samples: int) -> None:
        """Compile, and paint the backdrop, which never changes."""
        self._context = context
        self._layout = layout
        self._sheets = sheets
        self._floor = Quad(context, "floor")
        self._program = build_program(context, "head.vert", "head.frag", include="shade.glsl")
        self._target = Target(context, layout.main.width, layout.main.height, samples)
        self._floor_m: float | None = None
        self._backdrop = context.simple_framebuffer((layout.main.width, layout.main.height))
        self._backdrop.use()
        context.viewport = (0, 0, layout.main.width, layout.main.height)
        context.enable_only(moderngl.NOTHING)
        backdrop = Quad(context, "backdrop")
        backdrop.draw(aspect=layout.main.aspect)
        backdrop.release()

    def lay_floor(self, surface: Surface | None) -> None:
        """Put the floor under a head; None takes it away."""
        self._floor_m = None if surface is None else float(surface.low[1]) - _FLOOR_GAP_M

    def draw(self, screen: moderngl.Framebuffer, surface: Surface | None, look: Look) -> None:
        """Draw onto the screen.

        Args:
            screen: framebuffer of the layout's size.
            surface: the head, None before the first mesh.
            look: camera and material.
        """
        self._context.copy_framebuffer(screen, self._backdrop)
        if surface is None or self._floor_m is None:
            return
        main = self._layout.main
        clip_from_world = look.camera.clip_from_world(main.aspect)
        if look.camera.eye[1] > self._floor_m:
            self._draw_floor(screen, surface, clip_from_world, self._floor_m)
        part = covered(clip_from_world, surface.low, surface.high, main)
        if part is None:
            return
        self._target.begin(part.width, part.height, (0.0, 0.0, 0.0, 0.0))
        x, y, _, _ = lower_left(Rect(part.x - main.x, part.y - main.y, part.width, part.height), main.height)
        self._context.viewport = (-x, -y, main.width, main.height)
        self._context.scissor = (0, 0, part.width, part.height)
        self._draw_head(surface, look, clip_from_world)
        self._context.scissor = None
        texture, (across, up) = self._target.resolve()
        screen.use()
        self._blend(screen)
        self._sheets.put(texture, part, (self._layout.width, self._layout.height), (0.0, up, across, -up))

    def _draw_head(self, surface: Surface, look: Look, clip_from_world: F64) -> None:
        program, eye_from_world = self._program, look.camera.eye_from_world()
        up_eye = eye_from_world[:3, 1]
        write_uniforms(program, clip_from_world=clip_from_world, eye_from_world=eye_from_world, up_eye=up_eye)
        program["material"] = MATERIALS.index(look.material)
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        surface.render(program, lids=True)

    def _blend(self, screen: moderngl.Framebuffer) -> None:
        screen.use()
        self._context.viewport = (0, 0, self._layout.width, self._layout.height)
        self._context.enable_only(moderngl.BLEND)
        self._context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA

    def _draw_floor(
        self, screen: moderngl.Framebuffer, surface: Surface, clip_from_world: F64, height_m: float
    ) -> None:
        self._blend(screen)
        self._context.viewport = lower_left(self._layout.main, self._layout.height)
        self._context.scissor = self._context.viewport
        middle, half = (surface.low + surface.high) / 2, 0.62 * (surface.high - surface.low)
        self._floor.draw(
            clip_from_world=tuple(clip_from_world.T.ravel().tolist()),
            middle=(float(middle[0]), height_m, float(middle[2])),
            reach=_FLOOR_REACH_M,
            footprint=(float(half[0]), float(half[2])),
        )
        self._context.scissor = None

    def set_samples(self, samples: int) -> None:
        """Change the samples of anti-aliasing, from the next drawing on."""
        self._target.set_samples(samples)

    def release(self) -> None:
        """Free the GPU's memory."""
        for item in (self._floor, self._program, self._target, self._backdrop):
            item.release()


def covered(clip_from_world: F64, low: F64, high: F64, view: Rect) -> Rect | None:
    """Find the rectangle of a view that a box can touch.

    Args:
        clip_from_world: (4, 4).
        low: (3,) lower corner of the box, metres, world.
        high: (3,) upper corner.
        view: the view on the screen.

    Returns:
        A rectangle inside `view`, the whole view when the box reaches behind the eye, None when the box is outside.
    """
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    clip = corners @ clip_from_world[:, :3].T + clip_from_world[:, 3]
    if clip[:, 3].min() < 1e-6:
        return view
    device = clip[:, :2] / clip[:, 3:]
    spots = (np.stack([device[:, 0], -device[:, 1]], 1) * 0.5 + 0.5) * (view.width, view.height)
    left, top = np.maximum(np.floor(spots.min(0)) - 1, 0)
    right, bottom = np.minimum(np.ceil(spots.max(0)) + 1, (view.width, view.height))
    if left >= right or top >= bottom or not math.isfinite(float(right + bottom)):
        return None
    return Rect(view.x + int(left), view.y + int(top), int(right - left), int(bottom - top))

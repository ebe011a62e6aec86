"""Draws the mesh over a camera's picture, through that camera's lens."""

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.controls import Overlay
from renderer.viewer.lens import Lens
from renderer.viewer.surface import Surface
from streamer.types import F64

TINT = (0.24, 0.80, 0.90)
"""Colour of the overlay, display RGB: no skin is cyan."""
FLESH = (0.78, 0.60, 0.50)
"""What the mesh is taken to look like where its difference from the picture is shown."""
_REACH_PX = 1.0
_OUTLINE_PX = 1.8


class LensPass:
    """Programs of the overlay, compiled when first used.

    Args:
        context: where it is drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Keep the context."""
        self._context = context
        self._programs: dict[str, moderngl.Program] = {}

    def _program(self, kind: str) -> moderngl.Program:
        found = self._programs.get(kind)
        if found is None:
            geometry = "wire.geom" if "WIRE" in kind else "edge.geom" if "EDGE" in kind else ""
            found = build_program(self._context, "lens.vert", "lens.frag", geometry, defines=kind)
            self._programs[kind] = found
        return found

    def draw(
        self,
        surface: Surface,
        lens: Lens,
        picture: moderngl.Texture,
        viewport: tuple[int, int, int, int],
        *,
        mode: Overlay,
        opacity: float,
        tint: tuple[float, float, float] = TINT,
    ) -> None:
        """Draw into the framebuffer in use, whose depth has been cleared.

        Args:
            surface: the mesh.
            lens: the camera.
            picture: what lies below, row 0 at the top; the overlay is mixed with it.
            viewport: x, y, width, height of the picture in the framebuffer, px, origin at the lower left.
            mode: `solid`, `wire`, `silhouette`, `difference`, or `off` (draws nothing).
            opacity: 0..1.
            tint: display RGB, 0..1.
        """
        if mode == "off" or opacity <= 0:
            return
        self._context.viewport = viewport
        picture.use(0)
        extra = "DIFFERENCE" if mode == "difference" else ""
        colour = FLESH if mode == "difference" else tint
        body = {"solid": "LENS", "wire": "LENS WIRE", "silhouette": "LENS HIDE", "difference": "LENS DIFFERENCE"}[mode]
        program = self._set(body, lens, viewport, opacity, colour)
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        surface.render(program)
        if mode == "wire":
            return
        program = self._set(f"LENS EDGE {extra}".strip(), lens, viewport, opacity, colour)
        outlined = mode == "silhouette"
        write_uniforms(
            program,
            half_size=(viewport[2] / 2, viewport[3] / 2),
            reach=_OUTLINE_PX * max(viewport[3] / 480, 1.0) if outlined else _REACH_PX,
        )
        program["plain"] = outlined
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND)
        self._context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        self._context.fbo.depth_mask = False
        surface.render_outline(program, _centre(lens))
        self._context.fbo.depth_mask = True

    def _set(
        self,
        kind: str,
        lens: Lens,
        viewport: tuple[int, int, int, int],
        opacity: float,
        tint: tuple[float, float, float],
    ) -> moderngl.Program:
        program = self._program(kind)
        write_uniforms(
            program,
            camera_from_world=lens.camera_from_world,
            focal=lens.focal,
            centre=lens.centre,
            distortion=lens.distortion,
            size=lens.size,
            depth_range=lens.depth_range,
            limit_r2=lens.limit_r2,
            picture_origin=viewport[:2],
            picture_size=viewport[2:],
            opacity=opacity,
            tint=tint,
        )
        return program

    def release(self) -> None:
        """Free the programs."""
        for program in self._programs.values():
            program.release()
        self._programs.clear()


def _centre(lens: Lens) -> F64:
    """(4,) the optical centre, homogeneous, metres, world."""
    rigid = lens.camera_from_world.astype(np.float64)
    return np.append(-rigid[:3, :3].T @ rigid[:3, 3], 1.0)

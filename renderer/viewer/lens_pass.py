"""Draws the mesh over a camera's picture, through that camera's lens."""

import moderngl
import numpy as np

from renderer.viewer.context import build_program
from renderer.viewer.controls import Overlay
from renderer.viewer.lens import Lens
from renderer.viewer.surface import Surface

TINT = (0.24, 0.80, 0.90)
"""Colour of the overlay, display RGB: no skin is cyan."""


class LensPass:
    """Programs of the overlay.

    Args:
        context: where it is drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Compile both programs."""
        self._context = context
        self._solid = build_program(context, "lens.vert", "lens.frag")
        self._wire = build_program(context, "lens.vert", "lens.frag", "wire.geom", define="WIRE")

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
            mode: `solid`, `wire`, or `off` (draws nothing).
            opacity: 0..1.
            tint: display RGB, 0..1.
        """
        if mode == "off" or opacity <= 0:
            return
        program = self._wire if mode == "wire" else self._solid
        values = {
            "focal": lens.focal.T.tobytes(),  # GLSL matrices are column by column
            "camera_from_world": lens.camera_from_world.T.tobytes(),
            "centre": lens.centre.tobytes(),
            "distortion": lens.distortion.tobytes(),
            "size": np.array(lens.size, np.float32).tobytes(),
            "depth_range": np.array(lens.depth_range, np.float32).tobytes(),
            "limit_r2": np.float32(lens.limit_r2).tobytes(),
            "picture_origin": np.array(viewport[:2], np.float32).tobytes(),
            "picture_size": np.array(viewport[2:], np.float32).tobytes(),
            "opacity": np.float32(opacity).tobytes(),
            "tint": np.array(tint, np.float32).tobytes(),
        }
        for name, value in values.items():
            if name in program:
                program[name].write(value)
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._context.viewport = viewport
        picture.use(0)
        surface.render(program)

    def release(self) -> None:
        """Free the programs."""
        self._solid.release()
        self._wire.release()

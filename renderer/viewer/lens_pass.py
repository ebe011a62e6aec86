"""Draws the mesh over a camera's picture, through that camera's lens."""

import moderngl

from renderer.viewer.context import build_program, write_uniforms
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
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._context.viewport = viewport
        picture.use(0)
        surface.render(program)

    def release(self) -> None:
        """Free the programs."""
        self._solid.release()
        self._wire.release()

"""Flat pictures in rectangles of a framebuffer."""

import moderngl
import numpy as np

from renderer.viewer.context import build_program
from renderer.viewer.layout import Rect

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""All of a texture whose row 0 is the top."""

_QUAD = np.array([-1, -1, 1, -1, -1, 1, 1, 1], np.float32).tobytes()


class Quad:
    """A program over a square from -1 to 1.

    Args:
        context: where it is drawn.
        name: of its two shader files.
    """

    def __init__(self, context: moderngl.Context, name: str) -> None:
        """Compile."""
        self._program = build_program(context, f"{name}.vert", f"{name}.frag")
        self._buffer = context.buffer(_QUAD)
        self._array = context.vertex_array(self._program, [(self._buffer, "2f", "in_place")])

    def draw(self, **values: object) -> None:
        """Set uniforms and draw into the framebuffer in use."""
        for name, value in values.items():
            self._program[name] = value
        self._array.render(moderngl.TRIANGLE_STRIP)

    def release(self) -> None:
        """Free the GPU's memory."""
        for item in (self._array, self._buffer, self._program):
            item.release()


class Sheets(Quad):
    """Draws textures.

    Args:
        context: where they are drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Compile."""
        super().__init__(context, "sheet")

    def put(
        self,
        texture: moderngl.Texture,
        place: Rect,
        canvas: tuple[int, int],
        source: tuple[float, float, float, float] = WHOLE,
    ) -> None:
        """Draw a part of a texture.

        Args:
            texture: what.
            place: where, px, origin at the top left of the framebuffer's viewport.
            canvas: width and height of that viewport, px.
            source: left, top, width, height of the part, as fractions of the texture; a negative height turns it over.
        """
        texture.use(0)
        self.draw(canvas=canvas, place=(place.x, place.y, place.width, place.height), source=source)


def lower_left(rect: Rect, height: int) -> tuple[int, int, int, int]:
    """Rectangle as OpenGL counts it: origin at the lower left of a picture of this height."""
    return rect.x, height - rect.y - rect.height, rect.width, rect.height

"""A raw scan as points in the free view."""

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.controls import ScanShown
from renderer.viewer.scans import Scan
from streamer.types import F64

TINT = (0.62, 0.80, 0.58)
"""Display RGB: neither skin, ghost nor onion skin is green."""
_POINTS = 60_000
"""At most: a scan may have a million."""
_SIZE = {"beside": 1 / 300, "alone": 1 / 160}
"""Of the height of the view: beside the head one sees between the points, alone those of a head that fills it touch."""


class Cloud:
    """Draws the scan that is loaded.

    Args:
        context: where it is drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Compile."""
        self._context = context
        self._program = build_program(context, "cloud.vert", "cloud.frag")
        self._scan: Scan | None = None
        self._drawn: tuple[moderngl.Buffer, moderngl.VertexArray, int] | None = None

    def _load(self, scan: Scan) -> tuple[moderngl.Buffer, moderngl.VertexArray, int]:
        if self._drawn is not None and self._scan is scan:
            return self._drawn
        self._free()
        self._scan = scan
        rows = np.concatenate(scan.spread(_POINTS), 1).astype(np.float32)
        buffer = self._context.buffer(rows.tobytes())
        array = self._context.vertex_array(self._program, [(buffer, "3f 3f", "in_position", "in_normal")])
        self._drawn = buffer, array, len(rows)
        return self._drawn

    def draw(self, scan: Scan, clip_from_world: F64, eye_from_world: F64, height_px: int, shown: ScanShown) -> None:
        """Draw into the framebuffer in use.

        Args:
            scan: what.
            clip_from_world: (4, 4).
            eye_from_world: (4, 4) rigid.
            height_px: of the view.
            shown: beside the head, or alone.
        """
        _, array, count = self._load(scan)
        size = max(height_px * _SIZE["alone" if shown == "alone" else "beside"], 1.0)
        write_uniforms(
            self._program, clip_from_world=clip_from_world, eye_from_world=eye_from_world, size=size, tint=TINT
        )
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.PROGRAM_POINT_SIZE)
        array.render(moderngl.POINTS, vertices=count)

    def _free(self) -> None:
        if self._drawn is not None:
            self._drawn[1].release()
            self._drawn[0].release()
            self._drawn = None

    def release(self) -> None:
        """Free the GPU's memory."""
        self._free()
        self._program.release()

"""Cameras of the rig as they stand in space, with their pictures."""

from collections.abc import Sequence

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.lens import same_rig
from streamer.geometry import inverse_rigid, transform
from streamer.types import F32, F64, Camera

_INK = (0.33, 0.80, 0.84, 0.75)
_REACH_PX = 1.2
_LENGTH_SHARE = 0.22
_LENGTH_M = (0.03, 0.6)


def frustum_length(cameras: Sequence[Camera], target: F64) -> float:
    """Length of the frusta, metres: a share of the median distance from the cameras to a point (3,)."""
    away = np.median([float(np.linalg.norm(camera.centre_world - target)) for camera in cameras])
    return float(np.clip(_LENGTH_SHARE * away, *_LENGTH_M))


def corners_of(camera: Camera, length_m: float) -> F64:
    """(5, 3) metres, world: the optical centre, then the corners of the picture at this depth, from its upper left on.

    The lens's distortion is left out: frusta show where a camera looks, overlays show what it sees.
    """
    edges = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [camera.width, camera.height] - 0.5
    rays = np.concatenate([edges, np.ones((4, 1))], 1) @ np.linalg.inv(camera.K).T
    local = np.concatenate([np.zeros((1, 3)), rays * length_m])
    return np.asarray(transform(inverse_rigid(camera.camera_from_world), local), np.float64)


_LINES = (0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1)
_PLACES = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
_FAN = (1, 2, 4, 3)


class Frusta:
    """Draws them.

    Args:
        context: where it is drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Compile."""
        self._context = context
        self._ribbons = build_program(context, "space.vert", "ribbon.frag", "ribbon.geom")
        self._sheet = build_program(context, "space.vert", "space.frag")
        self._lines: tuple[moderngl.Buffer, moderngl.VertexArray] | None = None
        self._quads: dict[str, tuple[moderngl.Buffer, moderngl.VertexArray]] = {}
        self._placed: tuple[Camera, ...] = ()

    def place(self, cameras: Sequence[Camera], target: F64) -> None:
        """Put the cameras of a rig there.

        Args:
            cameras: in rig order.
            target: (3,) what they look at, metres, world, for the size of the frusta.
        """
        if same_rig(cameras, self._placed):
            return
        self._clear()
        self._placed = tuple(cameras)
        if not cameras:
            return
        length = frustum_length(cameras, target)
        corners = [corners_of(camera, length).astype(np.float32) for camera in cameras]
        lines: F32 = np.concatenate([corner[list(_LINES)] for corner in corners])
        buffer = self._context.buffer(lines.tobytes())
        array = self._context.vertex_array(self._ribbons, [(buffer, "3f", "in_position")])
        self._lines = buffer, array
        for camera, corner in zip(cameras, corners, strict=True):
            rows = np.concatenate([corner[list(_FAN)], _PLACES], 1).astype(np.float32)
            quad = self._context.buffer(rows.tobytes())
            content = [(quad, "3f 2f", "in_position", "in_place")]
            self._quads[camera.id] = quad, self._context.vertex_array(self._sheet, content)

    def draw(
        self,
        clip_from_world: F64,
        half_size: tuple[float, float],
        pictures: dict[str, moderngl.Texture],
        opacity: float = 0.92,
    ) -> None:
        """Draw into the framebuffer in use.

        Args:
            clip_from_world: (4, 4).
            half_size: of the viewport, px.
            pictures: camera id to texture, row 0 at the top; cameras without one are outlines.
            opacity: of the pictures.
        """
        if self._lines is None:
            return
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.BLEND)
        self._context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        write_uniforms(self._sheet, clip_from_world=clip_from_world, opacity=opacity)
        for name, texture in pictures.items():
            if name in self._quads:
                texture.use(0)
                self._quads[name][1].render(moderngl.TRIANGLE_STRIP)
        write_uniforms(self._ribbons, clip_from_world=clip_from_world, half_size=half_size, reach=_REACH_PX, ink=_INK)
        self._lines[1].render(moderngl.LINES)

    def _clear(self) -> None:
        for buffer, array in (*self._quads.values(), *([self._lines] if self._lines else [])):
            array.release()
            buffer.release()
        self._quads.clear()
        self._lines = None

    def release(self) -> None:
        """Free the GPU's memory."""
        self._clear()
        self._ribbons.release()
        self._sheet.release()

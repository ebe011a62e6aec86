"""Which cameras see which vertices: a depth map through each lens, looked up at the vertices."""

from collections.abc import Sequence

import moderngl
import numpy as np
from numpy.typing import NDArray

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.lens import lens_of
from renderer.viewer.surface import Surface
from streamer.geometry import project
from streamer.types import Camera

_WIDTH = 256
_SLACK_M = 0.004
"""A vertex counts as seen when nothing is more than this nearer: about a pixel of the depth map on a slanting cheek."""


class Visibility:
    """Depth maps of cameras.

    Args:
        context: where they are drawn.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Compile."""
        self._context = context
        self._program = build_program(context, "lens.vert", "depth.frag")
        self._targets: dict[tuple[int, int], tuple[moderngl.Texture, moderngl.Framebuffer]] = {}

    def seen(self, surface: Surface, cameras: Sequence[Camera]) -> NDArray[np.bool_]:
        """Look from each camera.

        Args:
            surface: the mesh that is loaded.
            cameras: V of them.

        Returns:
            (V, N): inside the picture, turned to the camera, and with nothing before it.
        """
        out = np.zeros((len(cameras), len(surface.vertices)), bool)
        for row, camera in enumerate(cameras):
            out[row] = self._from(surface, camera)
        return out

    def _from(self, surface: Surface, camera: Camera) -> NDArray[np.bool_]:
        width, height = _WIDTH, max(round(_WIDTH * camera.height / camera.width), 16)
        texture, target = self._target(width, height)
        lens = lens_of(camera, surface.low, surface.high)
        write_uniforms(
            self._program,
            camera_from_world=lens.camera_from_world,
            focal=lens.focal,
            centre=lens.centre,
            distortion=lens.distortion,
            size=lens.size,
            depth_range=lens.depth_range,
            limit_r2=lens.limit_r2,
        )
        target.use()
        target.clear(depth=1.0)
        self._context.viewport = (0, 0, width, height)
        self._context.enable_only(moderngl.DEPTH_TEST)
        surface.render(self._program)
        stored = np.frombuffer(texture.read(), np.float32).reshape(height, width)
        pixels, depth = project(camera, surface.vertices)
        inside = (np.abs(pixels / [camera.width, camera.height] - 0.5) < 0.5).all(1) & (depth > 0)
        towards = ((camera.centre_world - surface.vertices) * surface.normals).sum(1) > 0
        column = np.clip(((pixels[:, 0] + 0.5) * width / camera.width).astype(np.intp), 0, width - 1)
        line = np.clip((height - (pixels[:, 1] + 0.5) * height / camera.height).astype(np.intp), 0, height - 1)
        near, far = lens.depth_range
        nearest = 2.0 * far * near / ((far + near) - (2.0 * stored[line, column] - 1.0) * (far - near))
        return np.asarray(inside & towards & (depth <= nearest + _SLACK_M), np.bool_)

    def _target(self, width: int, height: int) -> tuple[moderngl.Texture, moderngl.Framebuffer]:
        found = self._targets.get((width, height))
        if found is None:
            texture = self._context.depth_texture((width, height))
            found = texture, self._context.framebuffer(depth_attachment=texture)
            self._targets[(width, height)] = found
        return found

    def release(self) -> None:
        """Free the GPU's memory."""
        self._program.release()
        for texture, target in self._targets.values():
            target.release()
            texture.release()

"""Depth pictures of a mesh: a z-buffer, compiled, for the prior (the viewer's pictures come from OpenGL)."""

from typing import Any

import numba
import numpy as np

from streamer.geometry import project
from streamer.types import F32, F64, I32, Camera

_JIT: dict[str, Any] = {"nogil": True, "cache": True}


@numba.njit(**_JIT)
def _fill(pixels: F64, depth: F64, triangles: I32, out: F32) -> None:  # pragma: no cover - compiled
    height, width = out.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not (depth[a] > 0 and depth[b] > 0 and depth[c] > 0):
            continue
        ax, ay, bx, by, cx, cy = pixels[a, 0], pixels[a, 1], pixels[b, 0], pixels[b, 1], pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        left, right = max(int(np.ceil(min(ax, bx, cx))), 0), min(int(np.floor(max(ax, bx, cx))), width - 1)
        top, bottom = max(int(np.ceil(min(ay, by, cy))), 0), min(int(np.floor(max(ay, by, cy))), height - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1 - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                z = 1 / (u / depth[a] + v / depth[b] + w / depth[c])
                if z < out[y, x]:
                    out[y, x] = z


def depth_picture(camera: Camera, vertices: F32, triangles: I32) -> F32:
    """Return the (height, width) depth along the optical axis of the nearest surface, metres; 0 where there is none.

    Both sides of a triangle are seen; a triangle with a corner behind the camera is left out. Depth is interpolated
    with perspective, the lens between corners is not (a triangle's edges stay straight).

    Args:
        camera: at the size of the picture.
        vertices: (N, 3) metres, world.
        triangles: (T, 3).
    """
    pixels, depth = project(camera, vertices)
    out = np.full((camera.height, camera.width), np.inf, np.float32)
    _fill(pixels, np.where(np.isfinite(pixels[:, 0]), depth, -1.0), np.ascontiguousarray(triangles), out)
    out[~np.isfinite(out)] = 0
    return out

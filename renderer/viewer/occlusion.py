"""How much of the sky each vertex of a head sees: soft shade in nostrils, ears and folds. Once per topology."""

import math

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.marks import around
from streamer.geometry import vertex_normals
from streamer.types import F32, F64, I32

_SIZE = 192
_DIRECTIONS = 80


def _directions(count: int) -> F64:
    """(count, 3) unit vectors on a Fibonacci spiral: even cover of the sphere."""
    height = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    angle = math.pi * (3.0 - math.sqrt(5.0)) * np.arange(count)
    radius = np.sqrt(1.0 - height * height)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)


def _look_along(direction: F64) -> F64:
    """(3, 3) rotation whose last row is `direction`."""
    aside = np.cross([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0], direction)
    aside /= np.linalg.norm(aside)
    return np.stack([aside, np.cross(direction, aside), direction])


def open_sky(context: moderngl.Context, vertices: F32, triangles: I32) -> F32:
    """Cosine-weighted share of the hemisphere over each vertex that the head itself does not cover.

    Depth maps are drawn from 80 directions and looked up at the vertices; one round of smoothing along the edges
    removes the grain.

    Args:
        context: where the depth maps are drawn.
        vertices: (N, 3) metres.
        triangles: (T, 3).

    Returns:
        (N,) float32 in 0..1.
    """
    if not len(triangles):
        return np.ones(len(vertices), np.float32)
    middle = (vertices.min(0) + vertices.max(0)) / 2.0
    radius = float(np.linalg.norm(vertices - middle, axis=1).max()) * 1.02
    unit = ((vertices - middle) / radius).astype(np.float64)
    normals = vertex_normals(vertices, triangles).astype(np.float64)
    depth = context.depth_texture((_SIZE, _SIZE))
    target = context.framebuffer(depth_attachment=depth)
    program = build_program(context, "depth.vert", "depth.frag")
    buffers = context.buffer(unit.astype(np.float32).tobytes()), context.buffer(triangles.tobytes())
    array = context.vertex_array(program, [(buffers[0], "3f", "in_position")], buffers[1])
    seen, possible = np.zeros(len(unit)), np.full(len(unit), 1e-9)
    lifted = unit + 0.012 * normals  # a hundredth of the head: beyond the steps of the depth maps
    context.enable_only(moderngl.DEPTH_TEST)
    for direction in _directions(_DIRECTIONS):
        rotation = _look_along(direction)
        clip = np.eye(4)
        clip[:3, :3] = np.diag([1.0, 1.0, -1.0]) @ rotation
        write_uniforms(program, clip_from_head=clip)
        target.use()
        target.clear(depth=1.0)
        array.render(moderngl.TRIANGLES)
        nearest = np.frombuffer(depth.read(), np.float32).reshape(_SIZE, _SIZE)
        here = lifted @ clip[:3, :3].T * 0.5 + 0.5
        column, row = np.clip((here[:, :2] * _SIZE).astype(np.intp), 0, _SIZE - 1).T
        weight = np.maximum(normals @ direction, 0.0)
        seen += weight * (here[:, 2] <= nearest[row, column] + 0.004)
        possible += weight
    for item in (array, *buffers, program, target, depth):
        item.release()
    return around((seen / possible).astype(np.float32), triangles)

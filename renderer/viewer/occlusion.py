"""What a head keeps off itself: soft shade in nostrils, ears and folds, and shadows of lamps. Once per topology."""

from dataclasses import dataclass

import moderngl
import numpy as np

from renderer.viewer.context import build_program, write_uniforms
from renderer.viewer.harmonics import COUNT, fibonacci, harmonics
from renderer.viewer.marks import around
from streamer.geometry import vertex_normals
from streamer.types import F32, F64, I32

_SIZE = 160
_DIRECTIONS = 144


@dataclass(frozen=True, slots=True)
class Sky:
    """Light that reaches the vertices of a head from all around."""

    share: F32
    """(N,) cosine-weighted share of the hemisphere over each vertex that the head itself does not cover, 0..1."""
    transfer: F32
    """(N, 25) irradiance for each function of `harmonics`, axes of the vertices."""
    free: F32
    """(N, 25) the same were nothing in the way."""


def _look_along(direction: F64) -> F64:
    """(3, 3) rotation whose last row is `direction`."""
    aside = np.cross([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0], direction)
    aside /= np.linalg.norm(aside)
    return np.stack([aside, np.cross(direction, aside), direction])


def open_air(count: int) -> Sky:
    """Return the sky of `count` vertices that nothing covers."""
    transfer = np.zeros((count, COUNT), np.float32)
    transfer[:, 0] = 1.0
    return Sky(np.ones(count, np.float32), transfer, transfer)


def look_around(context: moderngl.Context, vertices: F32, triangles: I32) -> Sky:
    """See from each vertex what the head covers.

    Depth maps are drawn from 144 directions and looked up at the vertices; one round of smoothing along the edges
    removes the grain.

    Args:
        context: where the depth maps are drawn.
        vertices: (N, 3) metres.
        triangles: (T, 3).
    """
    if not len(triangles):
        return open_air(len(vertices))
    normals = vertex_normals(vertices, triangles).astype(np.float64)
    ways = fibonacci(_DIRECTIONS)
    weight: F32 = np.maximum(normals @ ways.T, 0.0).astype(np.float32)
    seen: F32 = weight * _visible(context, vertices, normals, triangles, ways)
    functions: F32 = (harmonics(ways) * (4.0 * np.pi / _DIRECTIONS)).astype(np.float32)
    share = (seen.sum(1) / np.maximum(weight.sum(1), 1e-9)).astype(np.float32)
    return Sky(around(share, triangles), around(seen @ functions, triangles), around(weight @ functions, triangles))


def _visible(context: moderngl.Context, vertices: F32, normals: F64, triangles: I32, ways: F64) -> F32:
    """(N, D) 1 where nothing of the head is in the way, else 0."""
    middle = (vertices.min(0) + vertices.max(0)) / 2.0
    radius = float(np.linalg.norm(vertices - middle, axis=1).max()) * 1.02
    unit = ((vertices - middle) / radius).astype(np.float64)
    depth = context.depth_texture((_SIZE, _SIZE))
    target = context.framebuffer(depth_attachment=depth)
    program = build_program(context, "depth.vert", "depth.frag")
    buffers = context.buffer(unit.astype(np.float32).tobytes()), context.buffer(triangles.tobytes())
    array = context.vertex_array(program, [(buffers[0], "3f", "in_position")], buffers[1])
    lifted = unit + 0.012 * normals  # a hundredth of the head: beyond the steps of the depth maps
    out = np.empty((len(ways), len(unit)), np.float32)
    context.enable_only(moderngl.DEPTH_TEST)
    for way, row_of in zip(ways, out, strict=True):
        clip = np.eye(4)
        clip[:3, :3] = np.diag([1.0, 1.0, -1.0]) @ _look_along(way)
        write_uniforms(program, clip_from_head=clip)
        target.use()
        target.clear(depth=1.0)
        array.render(moderngl.TRIANGLES)
        nearest = np.frombuffer(depth.read(), np.float32).reshape(_SIZE, _SIZE)
        here = lifted @ clip[:3, :3].T * 0.5 + 0.5
        column, row = np.clip((here[:, :2] * _SIZE).astype(np.intp), 0, _SIZE - 1).T
        row_of[:] = here[:, 2] <= nearest[row, column] + 0.004
    for item in (array, *buffers, program, target, depth):
        item.release()
    return out.T

"""Sampling of feature maps at points and fusion over the views: one pass over the views, in float32.

Maps are those of `PublishedFeatures.compact`, channels last: a full map is its nearest repeat, so a tap at pixel (x, y)
reads (x >> 1, y >> 1). Rules and quirks as in `inference.tempeh.published.volumes` and `.refine`.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from inference.tempeh.compiled import vectors as v
from inference.tempeh.compiled.lines import compiled

EIGHT = ir.VectorType(v.F32, 8)
ZERO, ONE, HALF, TWO = np.float32(0), np.float32(1), np.float32(0.5), np.float32(2)
NEVER = np.float32(1e-7)
NEAR_MM = np.float32(1.0)
SOFTNESS = np.float32(50.0)
NOTHING = np.float32(np.log(2.0) / 50.0)
"""Softplus of a view that says nothing."""


@intrinsic
def add_sample(typing: Any, corners: Any, offsets: Any, weights: Any, weight: Any, sums: Any) -> Any:
    """Add a bilinear sample of 8 channels: sums[:8] += w f, sums[8:16] += w f f.

    Args: address of the map, four offsets in floats, four factors, w, address of the sums.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        corners, offsets, weights, weight, sums = arguments
        undefined = ir.Constant(EIGHT, ir.Undefined)
        kind = ir.FunctionType(EIGHT, [EIGHT] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f32")

        def splat(scalar: Any) -> Any:
            first = builder.insert_element(undefined, scalar, ir.Constant(v.I32, 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(v.I32, 8), [0] * 8))

        def place(base: Any, floats: Any) -> Any:
            address = builder.add(base, builder.shl(floats, ir.Constant(v.I64, 2)))
            return builder.inttoptr(address, EIGHT.as_pointer())

        value = None
        for k in range(4):
            tap = builder.load(place(corners, builder.extract_value(offsets, k)), align=4)
            factor = splat(builder.extract_value(weights, k))
            value = builder.fmul(factor, tap) if value is None else builder.call(fma, [factor, tap, value])
        weighted = builder.fmul(splat(weight), value)
        for half, term in ((0, None), (8, value)):
            target = place(sums, ir.Constant(v.I64, half))
            before = builder.load(target, align=4)
            after = builder.fadd(before, weighted) if term is None else builder.call(fma, [weighted, term, before])
            builder.store(after, target, align=4)
        return context.get_dummy_value()

    four_integers, four_floats = types.UniTuple(types.int64, 4), types.UniTuple(types.float32, 4)
    return types.void(types.int64, four_integers, four_floats, types.float32, types.int64), generate


@compiled
def _project(points: Any, K: Any, distortion: Any, width: int, height: int, quirks: bool, out: Any) -> None:
    """Picture positions (P, 2) of camera points, for taps at whole numbers; and (P,) 1 inside.

    Args:
        points: (3, P) in the camera's frame, mm.
        K: (2, 3).
        distortion: (2,).
        width: of the picture, px.
        height: of the picture, px.
        quirks: see the package `published`.
        out: (3, P).
    """
    k1, k2 = distortion[0], distortion[1]
    a, b, c, d, e, f = K[0, 0], K[0, 1], K[0, 2], K[1, 0], K[1, 1], K[1, 2]
    w, h = np.float32(width), np.float32(height)
    for p in range(points.shape[1]):
        z = points[2, p]
        hidden = abs(z) < NEVER if quirks else z < NEAR_MM
        z = ONE if hidden else z
        x, y = points[0, p] / z, points[1, p] / z
        r2 = x * x + y * y
        s = ONE + k1 * r2 + k2 * (r2 * r2)
        x, y = x * s, y * s
        u, t = a * x + b * y + c, d * x + e * y + f
        if quirks:
            inside = u >= ZERO and t >= ZERO and u <= w - ONE and t <= h - ONE
            u, t = u * (w / (w - ONE)) - HALF, t * (h / (h - ONE)) - HALF
        else:
            inside = (not hidden) and u >= -HALF and t >= -HALF and u <= w - HALF and t <= h - HALF
            u = np.float32(-1e4) if hidden else u
        out[0, p] = min(max(u, np.float32(-1e4)), np.float32(1e4))
        out[1, p] = min(max(t, np.float32(-1e4)), np.float32(1e4))
        out[2, p] = ONE if inside else ZERO


@compiled
def _add(maps: int, u: float, t: float, width: int, height: int, weight: float, sums: int) -> None:
    """Add the sample at (u, t) of a map (ceil(height / 2), ceil(width / 2), 8); zeros beyond the picture."""
    x, y = int(np.floor(u)), int(np.floor(t))
    if x < -1 or y < -1 or x >= width or y >= height:
        return
    fx, fy = np.float32(u - np.float32(x)), np.float32(t - np.float32(y))
    left = ONE - fx if x >= 0 else ZERO
    right = fx if x + 1 < width else ZERO
    top = ONE - fy if y >= 0 else ZERO
    bottom = fy if y + 1 < height else ZERO
    x0, x1, y0, y1 = max(x, 0) >> 1, min(x + 1, width - 1) >> 1, max(y, 0) >> 1, min(y + 1, height - 1) >> 1
    half = (width + 1) >> 1
    offsets = (8 * (y0 * half + x0), 8 * (y0 * half + x1), 8 * (y1 * half + x0), 8 * (y1 * half + x1))
    add_sample(maps, offsets, (top * left, top * right, bottom * left, bottom * right), weight, sums)


@compiled
def _softplus(raw: Any) -> Any:
    """Softplus of sharpness 50 of a weight, which is its identity above 0.1."""
    if raw <= ZERO:
        return NOTHING
    steep = SOFTNESS * raw
    return raw if steep > np.float32(5) else np.float32(np.log1p(np.exp(steep))) / SOFTNESS


@compiled
def _divide(volume: Any, total: Any) -> None:
    """Sums of w f and w f f (P, 16) to means and variances, by the sums of w (P,)."""
    for p in range(volume.shape[0]):
        share = ONE / total[p]
        for k in range(8):
            mean = volume[p, k] * share
            volume[p, k] = mean
            volume[p, 8 + k] = volume[p, 8 + k] * share - mean * mean


@compiled
def local_volumes(
    maps: Any,
    size: Any,
    K: Any,
    distortion: Any,
    camera_from_world: Any,
    grid: Any,
    vertices: Any,
    normals: Any,
    seen: Any,
    quirks: bool,
    volumes: Any,
    points: Any,
    places: Any,
    total: Any,
) -> None:
    """Fuse the views in a volume around each vertex, weighted by what they see of it.

    Args:
        maps: (V, h, w, 8).
        size: width and height of the pictures.
        K: (V, 2, 3).
        distortion: (V, 2).
        camera_from_world: (V, 3, 4).
        grid: (V, 3, P) displacements of the voxels, turned into each camera's frame.
        vertices: (M, 3) world.
        normals: (M, 3).
        seen: (V, M) factor of each view.
        quirks: see the package `published`.
        volumes: (M, P, 16) receives means and variances.
        points: scratch (3, P).
        places: scratch (4, P).
        total: scratch (P,).
    """
    width, height = size
    count = grid.shape[2]
    for m in range(vertices.shape[0]):
        volumes[m] = ZERO
        total[:] = ZERO
        base = volumes.ctypes.data + 64 * count * m
        for view in range(maps.shape[0]):
            T = camera_from_world[view]
            turned = np.empty(3, np.float32)
            for i in range(3):
                start = T[i, 0] * vertices[m, 0] + T[i, 1] * vertices[m, 1] + T[i, 2] * vertices[m, 2] + T[i, 3]
                turned[i] = T[i, 0] * normals[m, 0] + T[i, 1] * normals[m, 1] + T[i, 2] * normals[m, 2]
                for p in range(count):
                    points[i, p] = start + grid[view, i, p]
            _project(points, K[view], distortion[view], width, height, quirks, places)
            factor, n0, n1, n2 = seen[view, m], turned[0], turned[1], turned[2]
            for p in range(count):
                x, y, z = points[0, p], points[1, p], points[2, p]
                facing = -(x * n0 + y * n1 + z * n2) / np.float32(np.sqrt(x * x + y * y + z * z))
                places[3, p] = factor * max(facing, ZERO) * places[2, p]
            address = maps.ctypes.data + 4 * 8 * maps.shape[1] * maps.shape[2] * view
            for p in range(count):
                weight = _softplus(places[3, p])
                total[p] += weight
                _add(address, places[0, p], places[1, p], width, height, weight, base + 64 * p)
        _divide(volumes[m], total)


@compiled
def coarse_volume(
    maps: Any, size: Any, K: Any, distortion: Any, camera_from_world: Any, world: Any, quirks: bool, volume: Any
) -> None:
    """Mean and unbiased variance over the views at points of the coarse volume.

    Args:
        maps: (V, h, w, 8).
        size: width and height of the pictures.
        K: (V, 2, 3).
        distortion: (V, 2).
        camera_from_world: (V, 3, 4).
        world: (P, 3) mm.
        quirks: a view that does not contain a point counts as zeros; without, it does not count.
        volume: (P, 16) receives means and variances.
    """
    width, height = size
    count = world.shape[0]
    points, places = np.empty((3, count), np.float32), np.empty((3, count), np.float32)
    seen = np.zeros(count, np.float32)
    volume[:] = ZERO
    sample = np.zeros(16, np.float32)
    for view in range(maps.shape[0]):
        T = camera_from_world[view]
        for i in range(3):
            for p in range(count):
                points[i, p] = T[i, 0] * world[p, 0] + T[i, 1] * world[p, 1] + T[i, 2] * world[p, 2] + T[i, 3]
        _project(points, K[view], distortion[view], width, height, quirks, places)
        address = maps.ctypes.data + 4 * 8 * maps.shape[1] * maps.shape[2] * view
        for p in range(count):
            if not quirks and places[2, p] == ZERO:
                continue
            seen[p] += ONE
            share = ONE / seen[p]
            sample[:] = ZERO
            _add(address, places[0, p], places[1, p], width, height, ONE, sample.ctypes.data)
            for k in range(8):  # Welford: no difference of large numbers
                away = sample[k] - volume[p, k]
                volume[p, k] += away * share
                volume[p, 8 + k] += away * (sample[k] - volume[p, k])
    for p in range(count):
        share = ONE / max(seen[p] - ONE, ONE)
        for k in range(8):
            volume[p, 8 + k] *= share

"""Convolutions of many small volumes on the CPU, in float32, with a fraction of the multiplications.

Volumes are (B, D, D, D, C), C 16 or a multiple of 32. A 3x3x3 convolution of 8^3 or 4^3 voxels goes through Winograd's
F(4, 3) along each axis: 216 products per 64 voxels instead of 1728; one of 2^3 voxels, where half of all taps fall
beyond the border, through a Toeplitz product: 27 instead of 216. In between stand small matrix products whose operands
stay in the second-level cache. All functions release the GIL.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.tempeh.compiled import vectors as v
from inference.tempeh.compiled.lines import compiled, finish, into_four, into_six, into_three, into_two, multiply
from streamer.types import F32

pool, finish_skip = v.pool, v.finish_skip

PAD = 16
"""Floats between the products of a transform: without, all would fall into the same few sets of the cache."""

F43 = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
     [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)  # fmt: skip
"""Transform of three taps for F(4, 3)."""
TOEPLITZ = np.array([[0, 1, 0], [0, -1, 1], [1, -1, 0]], np.float64)
"""Transform of three taps for two voxels between zeros."""


def transformed(weight: NDArray[np.floating], size: int) -> F32:
    """Weights of a 3x3x3 convolution (O, I, 3, 3, 3) for volumes of `size` voxels along an edge: (F, I, O)."""
    rule = TOEPLITZ if size == 2 else F43
    spread = np.einsum("xa,yb,zc,oiabc->xyzio", rule, rule, rule, weight.astype(np.float64), optimize=True)
    return np.ascontiguousarray(spread.reshape(-1, weight.shape[1], weight.shape[0]), np.float32)


@compiled
def _tile_in(volume: int, size: int, channels: int, x: int, y: int, z: int, work: int, out: int, pitch: int) -> None:
    """Transform one tile: voxels 4x - 1 ... 4x + 4 along x and so on. `out`: its first product, `pitch` to the next."""
    alone = size == 4
    px, py, pz = 2 if alone else x, 2 if alone else y, 2 if alone else z
    x0, y0, z0 = max(0, 4 * x - 1), max(0, 4 * y - 1), max(0, 4 * z - 1)
    low_y, low_z = 1 if y == 0 else 0, 1 if z == 0 else 0
    count_y, count_z = 4 if alone else 5, 4 if alone else 5
    c = channels
    for j in range(count_y):
        for k in range(count_z):
            source = volume + 4 * c * ((x0 * size + y0 + j) * size + z0 + k)
            into_six(source, size * size * c, work + 4 * c * ((low_y + j) * 6 + low_z + k), 36 * c, c, px)
    for i in range(6):
        for k in range(count_z):
            base = work + 4 * c * (36 * i + low_z + k)
            into_six(base + 4 * c * 6 * low_y, 6 * c, base, 6 * c, c, py)
    for i in range(6):
        for j in range(6):
            source = work + 4 * c * (36 * i + 6 * j + low_z)
            into_six(source, c, out + 4 * pitch * (36 * i + 6 * j), pitch, c, pz)


@compiled
def _tile_out(product: int, pitch: int, channels: int, work: int) -> None:
    """Transform a tile's row back: into the first 4 x 4 x 4 places of (6, 6, 6, C)."""
    c = channels
    for i in range(6):
        for j in range(6):
            into_four(product + 4 * pitch * (36 * i + 6 * j), pitch, work + 4 * c * (36 * i + 6 * j), c, c)
    for i in range(6):
        for k in range(4):
            base = work + 4 * c * (36 * i + k)
            into_four(base, 6 * c, base, 6 * c, c)
    for j in range(4):
        for k in range(4):
            base = work + 4 * c * (6 * j + k)
            into_four(base, 36 * c, base, 36 * c, c)


@compiled
def _put_tile(
    work: int, corner: int, size: int, channels: int, end: int, bias: int, before: int, after: int, target: int
) -> None:
    """End the layer for the 4 x 4 x 4 voxels of a tile whose first voxel is the `corner`-th."""
    for i in range(4):
        for j in range(4):
            for k in range(4):
                offset = 4 * channels * (corner + (i * size + j) * size + k)
                source = work + 4 * channels * (36 * i + 6 * j + k)
                finish(end, source, bias, before + offset, after + offset, target + offset, channels)


@compiled
def _pair_in(volume: int, channels: int, work: int, out: int, pitch: int) -> None:
    """Transform a volume of 2^3 voxels: its 27 products are `pitch` apart."""
    c = channels
    for j in range(4):
        into_three(volume + 4 * c * j, 4 * c, work + 4 * c * (3 * (j // 2) + j % 2), 9 * c, c)
    for i in range(3):
        for k in range(2):
            into_three(work + 4 * c * (9 * i + k), 3 * c, work + 4 * c * (9 * i + k), 3 * c, c)
    for line in range(9):
        into_three(work + 4 * c * 3 * line, c, out + 4 * pitch * 3 * line, pitch, c)


@compiled
def winograd(
    source: Any,
    weights: Any,
    bias: Any,
    before: Any,
    after: Any,
    target: Any,
    end: int,
    spread: Any,
    product: Any,
    work: Any,
) -> None:
    """Convolve volumes of 4^3 or 8^3 voxels, kernel 3x3x3, zeros beyond the border.

    Args:
        source: (B, D, D, D, I), B a multiple of 16 (D = 4) or 2 (D = 8).
        weights: (216, I, O) of `transformed`.
        bias: (O,).
        before: like target, see `end`; any array where it is not used.
        after: like target.
        target: (B, D, D, D, O).
        end: `RELU`, `SUM`, ...
        spread: scratch of 216 * (16 * I + PAD) floats.
        product: scratch of 216 * (16 * O + PAD) floats.
        work: scratch of 216 * max(I, O) floats.
    """
    size, inputs, outputs = source.shape[1], source.shape[4], target.shape[4]
    tiles = size // 4
    per = tiles * tiles * tiles
    rows = 16
    pitch_in, pitch_out = rows * inputs + PAD, rows * outputs + PAD
    a, w, t = spread.ctypes.data, work.ctypes.data, product.ctypes.data
    for first in range(0, source.shape[0], rows // per):
        for row in range(rows):
            tile = row % per
            volume = source.ctypes.data + 4 * inputs * size**3 * (first + row // per)
            x, y, z = tile // (tiles * tiles), tile // tiles % tiles, tile % tiles
            _tile_in(volume, size, inputs, x, y, z, w, a + 4 * inputs * row, pitch_in)
        for f in range(216):
            multiply(
                a + 4 * f * pitch_in,
                weights.ctypes.data + 4 * f * inputs * outputs,
                t + 4 * f * pitch_out,
                rows,
                inputs,
                outputs,
            )
        for row in range(rows):
            tile = row % per
            x, y, z = tile // (tiles * tiles), tile // tiles % tiles, tile % tiles
            _tile_out(t + 4 * outputs * row, pitch_out, outputs, w)
            corner = (first + row // per) * size**3 + (4 * x * size + 4 * y) * size + 4 * z
            b, e, f, g = bias.ctypes.data, before.ctypes.data, after.ctypes.data, target.ctypes.data
            _put_tile(w, corner, size, outputs, end, b, e, f, g)


@compiled
def toeplitz(
    source: Any,
    weights: Any,
    bias: Any,
    before: Any,
    after: Any,
    target: Any,
    end: int,
    spread: Any,
    product: Any,
    work: Any,
) -> None:
    """Convolve volumes of 2^3 voxels, kernel 3x3x3, zeros beyond the border; see `winograd`.

    Args:
        source: (B, 2, 2, 2, I), B a multiple of 32.
        weights: (27, I, O) of `transformed`.
        bias: (O,).
        before: see `winograd`.
        after: see `winograd`.
        target: (B, 2, 2, 2, O).
        end: see `winograd`.
        spread: scratch of 27 * (32 * I + PAD) floats.
        product: scratch of 27 * (32 * O + PAD) floats.
        work: scratch of 27 * max(I, O) floats.
    """
    c, o, rows = source.shape[4], target.shape[4], 32
    pitch_in, pitch_out = rows * c + PAD, rows * o + PAD
    a, w, t = spread.ctypes.data, work.ctypes.data, product.ctypes.data
    for first in range(0, source.shape[0], rows):
        for row in range(rows):
            volume = source.ctypes.data + 4 * c * 8 * (first + row)
            _pair_in(volume, c, w, a + 4 * c * row, pitch_in)
        for f in range(27):
            multiply(a + 4 * f * pitch_in, weights.ctypes.data + 4 * f * c * o, t + 4 * f * pitch_out, rows, c, o)
        for row in range(rows):
            for line in range(9):
                into_two(t + 4 * (pitch_out * 3 * line + o * row), pitch_out, w + 4 * o * 3 * line, o, o)
            for i in range(3):
                for k in range(2):
                    into_two(w + 4 * o * (9 * i + k), 3 * o, w + 4 * o * (9 * i + k), 3 * o, o)
            for j in range(4):
                base = w + 4 * o * (3 * (j // 2) + j % 2)
                into_two(base, 9 * o, base, 9 * o, o)
                for i in range(2):
                    offset = 4 * o * (8 * (first + row) + 4 * i + j)
                    finish(
                        end,
                        base + 4 * o * 9 * i,
                        bias.ctypes.data,
                        before.ctypes.data + offset,
                        after.ctypes.data + offset,
                        target.ctypes.data + offset,
                        o,
                    )


@compiled
def pointwise(source: Any, weights: Any, bias: Any, target: Any, end: int, work: Any) -> None:
    """Multiply every voxel: (P, I) by (I, O) to (P, O), P a multiple of 8; `end` is `RELU` or `PLAIN`.

    Args:
        source: (P, I).
        weights: (I, O).
        bias: (O,).
        target: (P, O).
        end: see `winograd`.
        work: scratch of 8 * O floats.
    """
    inputs, outputs = source.shape[1], target.shape[1]
    w, b = work.ctypes.data, bias.ctypes.data
    for first in range(0, source.shape[0], 8):
        multiply(source.ctypes.data + 4 * first * inputs, weights.ctypes.data, w, 8, inputs, outputs)
        for row in range(8):
            place = target.ctypes.data + 4 * (first + row) * outputs
            finish(end, w + 4 * row * outputs, b, place, place, place, outputs)


@compiled
def enlarge(source: Any, weights: Any, bias: Any, skip: Any, target: Any, work: Any) -> None:
    """Transposed convolution 2x2x2 of stride 2, ReLU, plus a skip: (B, D, D, D, I) to (B, 2D, 2D, 2D, O).

    Args:
        source: (B, D, D, D, I), B D^3 a multiple of 8.
        weights: (I, 8 O), the offset x, y, z before the output channel.
        bias: (O,).
        skip: like target.
        target: (B, 2D, 2D, 2D, O).
        work: scratch of 64 * O floats.
    """
    size, inputs, o = source.shape[1], source.shape[4], target.shape[4]
    w, b, wide = work.ctypes.data, bias.ctypes.data, 2 * size
    for first in range(0, source.shape[0] * size**3, 8):
        multiply(source.ctypes.data + 4 * first * inputs, weights.ctypes.data, w, 8, inputs, 8 * o)
        for row in range(8):
            voxel = first + row
            volume = voxel // size**3
            x, y, z = voxel // (size * size) % size, voxel // size % size, voxel % size
            for corner in range(8):
                i, j, k = 2 * x + corner // 4, 2 * y + corner // 2 % 2, 2 * z + corner % 2
                offset = 4 * o * (((volume * wide + i) * wide + j) * wide + k)
                finish_skip(
                    w + 4 * o * (8 * row + corner), b, b, skip.ctypes.data + offset, target.ctypes.data + offset, o
                )


@compiled
def halve(source: Any, target: Any) -> None:
    """Largest of 2 x 2 x 2 voxels: (B, 2D, 2D, 2D, C) to (B, D, D, D, C)."""
    size, c = target.shape[1], target.shape[4]
    wide = 2 * size
    for volume in range(target.shape[0]):
        for x in range(size):
            for y in range(size):
                for z in range(size):
                    corner = ((volume * wide + 2 * x) * wide + 2 * y) * wide + 2 * z
                    voxel = ((volume * size + x) * size + y) * size + z
                    pool(
                        source.ctypes.data + 4 * c * corner,
                        4 * wide * wide * c // 4,
                        4 * wide * c // 4,
                        c,
                        target.ctypes.data + 4 * c * voxel,
                        c,
                    )

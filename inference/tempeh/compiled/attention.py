"""Soft-argmax over the coarse volume on the CPU: softmax(q k) v with no heat map in memory, in float32.

Keys are packed into panels of 32 voxels that fit the first-level cache; logits of a chunk of voxels are made for eight
queries at a time and folded into running sums (Milakov and Gimelshein 2018). The exponential is a polynomial, its
relative error below 3e-7.
"""

import math
from concurrent.futures import Executor
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from inference.tempeh.compiled import vectors as v
from inference.tempeh.compiled.lines import compiled
from streamer.types import F32

tile_8x2 = v.tile_8x2
PANEL = 32
CHUNK = 1024
"""Voxels whose logits exist at one time, for eight queries: 32 KB."""
QUERIES = 64
"""Queries of one call: keys are read once for all of them."""
INTEGERS = ir.VectorType(v.I32, v.LANES)


def _exp(builder: Any, x: Any) -> Any:
    """e^x of a vector, x at most 0; what is below 1e-37 becomes that."""
    low = v.number(-87.0)
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    y = builder.fmul(x, v.number(1.0 / math.log(2.0)))
    kind = ir.FunctionType(v.VECTOR, [v.VECTOR])
    nearest = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{v.LANES}f32")
    whole = builder.call(nearest, [y])
    part = v.multiply_add(builder, whole, v.number(-0.693359375), x)  # ln 2 in two pieces (Cody and Waite)
    part = v.multiply_add(builder, whole, v.number(2.12194440e-4), part)
    total = v.number(1.0 / math.factorial(6))
    for k in range(5, -1, -1):
        total = v.multiply_add(builder, total, part, v.number(1.0 / math.factorial(k)))
    bits = builder.add(builder.fptosi(whole, INTEGERS), ir.Constant(INTEGERS, [127] * v.LANES))
    power = builder.bitcast(builder.shl(bits, ir.Constant(INTEGERS, [23] * v.LANES)), v.VECTOR)
    return builder.fmul(total, power)


@intrinsic
def largest(typing: Any, logits: Any, count: Any, result: Any) -> Any:
    """Compiled lane-wise maximum of `count` floats at an address with the 16 at `result`, into `result`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        logits, count, result = arguments
        zero = ir.Constant(v.I64, 0)
        best = cgutils.alloca_once_value(builder, v.load(builder, result, zero))
        with cgutils.for_range(builder, builder.lshr(count, ir.Constant(v.I64, 4))) as loop:
            value = v.load(builder, logits, builder.shl(loop.index, ir.Constant(v.I64, 4)))
            held = builder.load(best)
            builder.store(builder.select(builder.fcmp_ordered(">", value, held), value, held), best)
        v.store(builder, builder.load(best), result, zero)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def add_shares(typing: Any, logits: Any, count: Any, top: Any, values: Any, step: Any, sums: Any) -> Any:
    """Compiled sums: with e = exp(logits - top), add e, e x, e y, e z lane-wise to the 4 x 16 floats at `sums`.

    `values` is the address of x, `step` the floats to y and to z.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        logits, count, top, values, step, sums = arguments
        places = [ir.Constant(v.I64, 16 * k) for k in range(4)]
        held = [cgutils.alloca_once_value(builder, v.load(builder, sums, place)) for place in places]
        limit = v.splat(builder, top)
        with cgutils.for_range(builder, builder.lshr(count, ir.Constant(v.I64, 4))) as loop:
            shift = builder.shl(loop.index, ir.Constant(v.I64, 4))
            share = _exp(builder, builder.fsub(v.load(builder, logits, shift), limit))
            builder.store(builder.fadd(builder.load(held[0]), share), held[0])
            for k in range(3):
                place = builder.add(v.times(builder, step, k), shift)
                value = v.load(builder, values, place)
                added = v.multiply_add(builder, share, value, builder.load(held[k + 1]))
                builder.store(added, held[k + 1])
        for place, slot in zip(places, held, strict=True):
            v.store(builder, builder.load(slot), sums, place)
        return context.get_dummy_value()

    kinds = (types.int64, types.int64, types.float32, types.int64, types.int64, types.int64)
    return types.void(*kinds), generate


@compiled
def _attend(queries: Any, panels: Any, values: Any, first: int, last: int, out: Any) -> None:
    """Queries first..last-1, a multiple of 8, against all keys; see `attend`."""
    depth, voxels = queries.shape[1], values.shape[1]
    rows = last - first
    logits = np.empty((8, CHUNK), np.float32)
    tops, sums = np.full((rows, 16), -np.inf, np.float32), np.zeros((rows, 4, 16), np.float32)
    for begin in range(0, voxels, CHUNK):
        count = min(CHUNK, voxels - begin)
        for row in range(0, rows, 8):
            for column in range(0, count, 32):
                panel = panels.ctypes.data + 4 * 32 * depth * ((begin + column) // 32)
                tile_8x2(
                    queries.ctypes.data + 4 * depth * (first + row),
                    panel,
                    logits.ctypes.data + 4 * column,
                    depth,
                    depth,
                    32,
                    CHUNK,
                )
            for k in range(8):
                line, place = logits.ctypes.data + 4 * CHUNK * k, row + k
                before = tops[place].max()
                largest(line, count, tops.ctypes.data + 64 * place)
                top = tops[place].max()
                if top > before and before > -np.inf:
                    sums[place] *= np.exp(before - top)
                add_shares(line, count, top, values.ctypes.data + 4 * begin, voxels, sums.ctypes.data + 4 * 64 * place)
    for row in range(rows):
        whole = sums[row, 0].sum()
        for k in range(3):
            out[first + row, k] = sums[row, k + 1].sum() / whole


def packed(keys: F32) -> F32:
    """Keys (C, P), P a multiple of 32, as panels (P / 32, C, 32)."""
    depth, voxels = keys.shape
    return np.ascontiguousarray(keys.reshape(depth, voxels // PANEL, PANEL).transpose(1, 0, 2))


def attend(queries: F32, keys: F32, values: F32, pool: Executor | None = None) -> F32:
    """Expectation of values under softmax(queries keys).

    Args:
        queries: (N, C).
        keys: (C, P), P a multiple of 32.
        values: (P, 3).
        pool: threads; None: the calling one.

    Returns:
        (N, 3).
    """
    count = len(queries)
    padded = np.zeros((-(-count // 8) * 8, queries.shape[1]), np.float32)
    padded[:count] = queries
    out = np.empty((len(padded), 3), np.float32)
    panels, columns = packed(keys), np.ascontiguousarray(values.T)

    def run(first: int) -> None:
        _attend(padded, panels, columns, first, min(first + QUERIES, len(padded)), out)

    starts = range(0, len(padded), QUERIES)
    if pool is None:
        for first in starts:
            run(first)
    else:
        list(pool.map(run, starts))
    return out[:count]

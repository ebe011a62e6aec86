"""The fast lookup on a CPU: two compiled loops, parallel over levels, so that no two threads write one row.

Results do not depend on the number of threads, which is what lets a fit resume bit for bit. One thread has loops of its
own without numba's threads: starting those sets the number of torch's threads to that of all cores (both ask OpenMP),
and two threads that wait for each other on a busy machine by spinning cost ten times the work.

Rows of two features, which blended tables have, have loops of their own as well, bit for bit like the general ones: two
sums in registers, where a loop over any number of features goes through memory, a third to a half of the time.
"""

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from renderer.fitter.grids import GridShape
from streamer.types import F32, I32

_JIT: dict[str, Any] = {"nogil": True, "cache": True, "boundscheck": False}


@numba.njit(inline="always", **_JIT)
def _row(x: int, y: int, z: int, resolution: int, dense: bool, mask: int) -> int:
    if dense:
        return x + (resolution + 1) * (y + (resolution + 1) * z)
    return (x ^ (y * 2654435761) ^ (z * 805459861)) & mask


@numba.njit(inline="always", **_JIT)
def _cell(
    px: np.float32, py: np.float32, pz: np.float32, resolution: np.int64
) -> tuple[np.int64, np.int64, np.int64, np.float32, np.float32, np.float32]:
    """Return the cell that a point of the unit cube lies in, and where in it, 0..1."""
    scale, last = np.float32(resolution), resolution - 1
    px = min(max(px, np.float32(0)), np.float32(1)) * scale
    py = min(max(py, np.float32(0)), np.float32(1)) * scale
    pz = min(max(pz, np.float32(0)), np.float32(1)) * scale
    x, y, z = min(np.int64(px), last), min(np.int64(py), last), min(np.int64(pz), last)
    return x, y, z, px - np.float32(x), py - np.float32(y), pz - np.float32(z)


def _forward(
    table: F32, points: F32, resolutions: I32, offsets: I32, dense: Any, mask: int, out: F32
) -> None:  # pragma: no cover - compiled
    channels = table.shape[1]
    for level in numba.prange(len(resolutions)):
        resolution, offset = np.int64(resolutions[level]), np.int64(offsets[level])
        for n in range(points.shape[0]):
            x, y, z, fx, fy, fz = _cell(points[n, 0], points[n, 1], points[n, 2], resolution)
            for c in range(channels):
                out[n, level, c] = np.float32(0)
            for corner in range(8):
                i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
                weight = (fx if i else np.float32(1) - fx) * (fy if j else np.float32(1) - fy)
                weight *= fz if k else np.float32(1) - fz
                row = offset + _row(x + i, y + j, z + k, resolution, dense[level], mask)
                for c in range(channels):
                    out[n, level, c] += weight * table[row, c]


def _backward(
    table: F32,
    points: F32,
    resolutions: I32,
    offsets: I32,
    dense: Any,
    mask: int,
    grad: F32,
    to_table: F32,
    to_points: F32,
) -> None:  # pragma: no cover - compiled
    channels = table.shape[1]
    for level in numba.prange(len(resolutions)):
        resolution, offset = np.int64(resolutions[level]), np.int64(offsets[level])
        scale = np.float32(resolution)
        for n in range(points.shape[0]):
            x, y, z, fx, fy, fz = _cell(points[n, 0], points[n, 1], points[n, 2], resolution)
            gx, gy, gz = np.float32(0), np.float32(0), np.float32(0)
            for corner in range(8):
                i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
                wx = fx if i else np.float32(1) - fx
                wy = fy if j else np.float32(1) - fy
                wz = fz if k else np.float32(1) - fz
                row = offset + _row(x + i, y + j, z + k, resolution, dense[level], mask)
                weight, value = wx * wy * wz, np.float32(0)
                for c in range(channels):
                    slope = grad[n, level, c]
                    to_table[row, c] += weight * slope
                    value += slope * table[row, c]
                gx += value * wy * wz if i else -value * wy * wz
                gy += value * wx * wz if j else -value * wx * wz
                gz += value * wx * wy if k else -value * wx * wy
            to_points[level, n, 0] = gx * scale
            to_points[level, n, 1] = gy * scale
            to_points[level, n, 2] = gz * scale


def _forward_pair(
    table: F32, points: F32, resolutions: I32, offsets: I32, dense: Any, mask: int, out: F32
) -> None:  # pragma: no cover - compiled
    for level in numba.prange(len(resolutions)):
        resolution, offset, near = np.int64(resolutions[level]), np.int64(offsets[level]), dense[level]
        for n in range(points.shape[0]):
            x, y, z, fx, fy, fz = _cell(points[n, 0], points[n, 1], points[n, 2], resolution)
            first, second = np.float32(0), np.float32(0)
            for corner in range(8):
                i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
                weight = (fx if i else np.float32(1) - fx) * (fy if j else np.float32(1) - fy)
                weight *= fz if k else np.float32(1) - fz
                row = offset + _row(x + i, y + j, z + k, resolution, near, mask)
                first += weight * table[row, 0]
                second += weight * table[row, 1]
            out[n, level, 0] = first
            out[n, level, 1] = second


def _backward_pair(
    table: F32,
    points: F32,
    resolutions: I32,
    offsets: I32,
    dense: Any,
    mask: int,
    grad: F32,
    to_table: F32,
    to_points: F32,
) -> None:  # pragma: no cover - compiled
    for level in numba.prange(len(resolutions)):
        resolution, offset, near = np.int64(resolutions[level]), np.int64(offsets[level]), dense[level]
        scale = np.float32(resolution)
        for n in range(points.shape[0]):
            x, y, z, fx, fy, fz = _cell(points[n, 0], points[n, 1], points[n, 2], resolution)
            gx, gy, gz = np.float32(0), np.float32(0), np.float32(0)
            first, second = grad[n, level, 0], grad[n, level, 1]
            for corner in range(8):
                i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
                wx = fx if i else np.float32(1) - fx
                wy = fy if j else np.float32(1) - fy
                wz = fz if k else np.float32(1) - fz
                row = offset + _row(x + i, y + j, z + k, resolution, near, mask)
                weight = wx * wy * wz
                to_table[row, 0] += weight * first
                to_table[row, 1] += weight * second
                value = first * table[row, 0] + second * table[row, 1]
                gx += value * wy * wz if i else -value * wy * wz
                gy += value * wx * wz if j else -value * wx * wz
                gz += value * wx * wy if k else -value * wx * wy
            to_points[level, n, 0] = gx * scale
            to_points[level, n, 1] = gy * scale
            to_points[level, n, 2] = gz * scale


_LOOPS = (_forward, _backward, _forward_pair, _backward_pair)
_ONE: dict[str, Any] = {loop.__name__: numba.njit(**_JIT)(loop) for loop in _LOOPS}
_MANY: dict[str, Any] = {loop.__name__: numba.njit(parallel=True, **_JIT)(loop) for loop in _LOOPS}


def _for(loop: str, table: Tensor) -> str:
    """Name the loop for rows of so many features."""
    return f"{loop}_pair" if table.shape[1] == 2 else loop


def _run(loop: str, *arguments: Any) -> None:
    """Run a loop with as many threads as torch has, and leave torch as many as it had."""
    threads = torch.get_num_threads()
    if threads == 1:
        _ONE[loop](*arguments)
        return
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    _MANY[loop](*arguments)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


class _Read(torch.autograd.Function):
    """Both loops as one differentiable operation."""

    @staticmethod
    def forward(ctx: FunctionCtx, table: Tensor, points: Tensor, shape: GridShape) -> Tensor:
        """Look up."""
        ctx.save_for_backward(table, points)
        ctx.shape = shape  # type: ignore[attr-defined]
        out = torch.empty(len(points), shape.levels, table.shape[1])
        where = (shape.resolutions, shape.offsets, shape.dense, (1 << shape.log2_rows) - 1)
        _run(_for("_forward", table), table.detach().numpy(), points.detach().numpy(), *where, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Return the gradients of table and points."""
        table, points = ctx.saved_tensors
        shape: GridShape = ctx.shape
        to_table = torch.zeros_like(table)
        to_points = torch.empty(shape.levels, len(points), 3)
        where = (shape.resolutions, shape.offsets, shape.dense, (1 << shape.log2_rows) - 1)
        arrays = (grads[0].contiguous().numpy(), to_table.numpy(), to_points.numpy())
        _run(_for("_backward", table), table.detach().numpy(), points.detach().numpy(), *where, *arrays)
        if not ctx.needs_input_grad[1]:
            return to_table, None, None
        held = (points >= 0) & (points <= 1)
        return to_table, to_points.sum(0) * held, None


class NumbaLookup:
    """`Lookup` by compiled loops; tensors must be on the CPU."""

    name = "numba"

    def __call__(self, table: Tensor, points: Tensor, shape: GridShape) -> Tensor:
        """Look points up; see `Lookup`."""
        found: Tensor = _Read.apply(table.contiguous(), points.contiguous(), shape)  # type: ignore[no-untyped-call]
        return found

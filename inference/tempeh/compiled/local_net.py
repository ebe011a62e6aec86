"""The refinement's 3D net on the CPU, in float32: blocks of volumes through all its layers while they are in the cache.

Batch norms are folded into the convolutions. The three template coordinates that the published net sees beside its 16
fused features are constant over a volume, so their part of the first convolution is a fixed pattern times the
coordinates and is added at its end.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.tempeh.compiled import convolution as c
from inference.tempeh.compiled.fourier import ELEMENT, PRODUCTS, ROWS, seven, transformed_seven
from inference.tempeh.compiled.lines import PLAIN, RELU, SUM, SUM_SKIP
from inference.tempeh.published.sizes import PublishedSizes
from streamer.errors import EngineError
from streamer.types import F32

BLOCK = 32
"""Volumes that go through all layers together."""
EPSILON = 1e-5
"""Of the batch norms."""
Weights = Mapping[str, NDArray[Any]]
Pair = tuple[F32, F32]
"""Transformed weights and bias of a layer."""


def folded(weights: Weights, name: str, *, transposed: bool = False) -> tuple[NDArray[np.float64], F32]:
    """Return weight (O, I, ...), or transposed (I, O, ...), and bias of convolution `name.0`, norm `name.1` in it."""
    weight = np.asarray(weights[f"{name}.0.weight"], np.float64)
    scale = weights[f"{name}.1.weight"] / np.sqrt(np.asarray(weights[f"{name}.1.running_var"], np.float64) + EPSILON)
    bias = (weights[f"{name}.0.bias"] - weights[f"{name}.1.running_mean"]) * scale + weights[f"{name}.1.bias"]
    shape = (1, -1, 1, 1, 1) if transposed else (-1, 1, 1, 1, 1)
    return weight * scale.reshape(shape), np.asarray(bias, np.float32)


def supported(sizes: PublishedSizes) -> bool:
    """Whether the compiled net can be built for these sizes: those of the release, with any number of vertices."""
    return (
        (sizes.front, sizes.width, sizes.fused, sizes.local_grid) == (16, 32, 16, 8)
        and tuple(sizes.local_levels) == (64, 128, 128)
        and tuple(sizes.local_back) == (32, 32)
    )


@dataclass(frozen=True, slots=True)
class Residual:
    """Weights of a residual block."""

    first: Pair
    """First convolution."""
    second: Pair
    """Second one."""
    shortcut: Pair | None
    """1x1x1 convolution beside them, where the channels change."""


class Scratch:
    """Work space of one thread: allocated once, reused by every block and layer."""

    def __init__(self) -> None:
        """Start empty; arrays are made at the sizes that are asked for first."""
        self._arrays: dict[Any, F32] = {}

    def __call__(self, name: str, *shape: int) -> F32:
        """Return an array of this name and shape, its content undefined."""
        key = (name, shape)
        if key not in self._arrays:
            self._arrays[key] = np.zeros(shape, np.float32)
        return self._arrays[key]


class LocalNet:
    """The refinement's 3D net from its weights.

    Args:
        weights: state of the refinement stage, our names (`net.front.0.0.weight`, ...).
        sizes: of the network.
        embedding: (N, 3) what the net sees of every vertex's template position.
        grid: (512, 3) displacements of a volume's voxels, mm.
        threads: threads of a run.

    Raises:
        EngineError: the network has other sizes than those of the release.
    """

    def __init__(self, weights: Weights, sizes: PublishedSizes, embedding: F32, grid: F32, threads: int) -> None:
        """Fold and transform the weights."""
        if not supported(sizes):
            raise EngineError("the compiled refinement knows the sizes of the release only; use the engine 'torch'")
        self._weights, self._sizes = weights, sizes
        self._embedding, self._grid = embedding, grid
        weight, bias = folded(weights, "net.front.0")
        self._seven = (transformed_seven(weight[:, :16]), bias)
        self._pattern = _constant_response(weight[:, 16:])
        self._front = [self._residual(f"net.front.{k}", 8) for k in (1, 2, 3)]
        size = (8, 4, 2)
        self._skip = [self._residual(f"net.middle.skip.{n}", size[n]) for n in range(3)]
        self._down = [self._residual(f"net.middle.down.{n}", size[min(n + 1, 2)]) for n in range(3)]
        self._middle = self._residual("net.middle.middle", 2)
        self._decode = [self._residual(f"net.middle.decode.{n}", (4, 2, 2)[n]) for n in range(3)]
        self._up = [self._transposed(f"net.middle.up.{n}") for n in range(2)]
        self._back = self._residual("net.back.0", 8)
        self._points = [self._pointwise(f"net.back.{k}") for k in (1, 2)]
        self._output = np.asarray(weights["net.output.weight"], np.float32).reshape(-1)
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="refine") if threads > 1 else None
        self._threads = threads

    def _residual(self, name: str, size: int) -> Residual:
        pairs = [folded(self._weights, f"{name}.{part}") for part in ("first", "second")]
        first, second = ((c.transformed(weight, size), bias) for weight, bias in pairs)
        has = f"{name}.shortcut.0.weight" in self._weights
        return Residual(first, second, self._pointwise(f"{name}.shortcut") if has else None)

    def _pointwise(self, name: str) -> Pair:
        weight, bias = folded(self._weights, name)
        return np.ascontiguousarray(weight[:, :, 0, 0, 0].T, np.float32), bias

    def _transposed(self, name: str) -> Pair:
        weight, bias = folded(self._weights, name, transposed=True)
        inputs, outputs = weight.shape[:2]
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 4, 1).reshape(inputs, 8 * outputs), np.float32), bias

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def offsets(self, fill: Any, count: int) -> F32:
        """Return the expected displacement of every vertex, mm.

        Args:
            fill: called as fill(first, last, volumes) in the threads: writes the fused features of vertices
                first..last-1 into the first rows of volumes (32, 8, 8, 8, 16).
            count: number of vertices.
        """
        out = np.empty((count, 3), np.float32)

        def run(first: int) -> None:
            if not hasattr(self._local, "scratch"):
                self._local.scratch = Scratch()
            self._block(self._local.scratch, fill, first, min(first + BLOCK, count), out)

        starts = range(0, count, BLOCK)
        if self._pool is None:
            for first in starts:
                run(first)
        else:
            list(self._pool.map(run, starts))
        return out

    def _block(self, scratch: Scratch, fill: Any, first: int, last: int, out: F32) -> None:
        volumes = scratch("volumes", BLOCK, 8, 8, 8, 16)
        fill(first, last, volumes)
        embedding = np.zeros((BLOCK, 3), np.float32)
        embedding[: last - first] = self._embedding[first:last]
        keys = self.keys(scratch, volumes, embedding)
        logits = (keys.reshape(-1, keys.shape[-1]) @ self._output).reshape(BLOCK, -1)[: last - first]
        share = np.exp(logits - logits.max(1, keepdims=True))
        out[first:last] = (share @ self._grid) / share.sum(1, keepdims=True)

    def keys(self, scratch: Scratch, volumes: F32, embedding: F32) -> F32:
        """Run the net without its output layer.

        Args:
            scratch: of the calling thread.
            volumes: (32, 8, 8, 8, 16).
            embedding: (32, 3).

        Returns:
            (32, 8, 8, 8, 32), valid until the next call with this scratch.
        """
        before = scratch("pattern", BLOCK, 8, 8, 8, 16)
        np.matmul(embedding, self._pattern, out=before.reshape(BLOCK, -1))
        x = scratch("front", BLOCK, 8, 8, 8, 16)
        spread = scratch("seven", 2 * PRODUCTS * (ROWS * ELEMENT + c.PAD))
        seven(volumes, *self._seven, before, x, spread, scratch("lines", 1120 * ELEMENT))
        for k, block in enumerate(self._front):
            x = self._run(scratch, block, x, f"front {k}")
        skips = []
        for n in range(3):
            skips.append(self._run(scratch, self._skip[n], x, f"skip {n}"))
            if n < 2:
                half = scratch(f"half {n}", BLOCK, *(x.shape[1] // 2,) * 3, x.shape[4])
                c.halve(x, half)
                x = half
            x = self._run(scratch, self._down[n], x, f"down {n}")
        x = self._run(scratch, self._middle, x, "middle")
        x = self._run(scratch, self._decode[2], x, "decode 2", skips[2])
        for n in (1, 0):
            x = self._run(scratch, self._decode[n], x, f"decode {n}")
            up = scratch(f"up {n}", *skips[n].shape)
            weight, bias = self._up[n]
            c.enlarge(x, weight, bias, skips[n], up, scratch("corners", 64 * up.shape[4]))
            x = up
        x = self._run(scratch, self._back, x, "back")
        for k, (weight, bias) in enumerate(self._points):
            y = scratch(f"point {k}", *x.shape)
            c.pointwise(x.reshape(-1, 32), weight, bias, y.reshape(-1, 32), RELU, scratch("row", 8 * 32))
            x = y
        return x

    def _run(self, scratch: Scratch, block: Residual, x: F32, name: str, skip: F32 | None = None) -> F32:
        outputs = block.first[1].size
        shape = (*x.shape[:4], outputs)
        beside = x
        if block.shortcut is not None:
            beside = scratch(f"beside {name}", *shape)
            weight, bias = block.shortcut
            c.pointwise(
                x.reshape(-1, x.shape[4]),
                weight,
                bias,
                beside.reshape(-1, outputs),
                PLAIN,
                scratch("row", 8 * outputs),
            )
        inner, out = scratch("inner", *shape), scratch(name, *shape)
        _convolve(scratch, x, block.first, inner, RELU, inner, inner)
        end = SUM if skip is None else SUM_SKIP
        _convolve(scratch, inner, block.second, out, end, beside, beside if skip is None else skip)
        return out


def _convolve(scratch: Scratch, x: F32, layer: Pair, out: F32, end: int, before: F32, after: F32) -> None:
    function, products, rows = (c.toeplitz, 27, 32) if x.shape[1] == 2 else (c.winograd, 216, 16)
    inputs, outputs = x.shape[4], out.shape[4]
    spread = scratch("spread", products * (rows * inputs + c.PAD))
    product = scratch("product", products * (rows * outputs + c.PAD))
    work = scratch("work", products * max(inputs, outputs))
    function(x, *layer, before, after, out, end, spread, product, work)


def _constant_response(weight: NDArray[np.float64]) -> F32:
    """What a 7x7x7 convolution (16, 3, 7, 7, 7) makes of volumes of ones: (3, 8 * 8 * 8 * 16)."""
    inside = np.zeros((8, 7))
    for place in range(8):
        taps = np.arange(7) + place - 3
        inside[place, (taps >= 0) & (taps < 8)] = 1.0
    response = np.einsum("oiabc,xa,yb,zc->ixyzo", weight, inside, inside, inside, optimize=True)
    return np.ascontiguousarray(response.reshape(weight.shape[1], -1), np.float32)

"""A 7x7x7 convolution of 8^3 voxels by a Fourier transform of twelve: 43 times fewer products than taps.

Twelve points along an axis suffice: of the sum of eight voxels and seven taps only the eight places in the middle are
wanted, and what wraps around falls beside them. Lines are transformed by their symmetries (cosines and sines of
multiples of 30 degrees are 0, 1/2, 0.866 and 1); an element is 16 channels, real parts before imaginary ones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from inference.tempeh.compiled import vectors as v
from inference.tempeh.compiled.convolution import PAD
from inference.tempeh.compiled.lines import compiled, multiply
from streamer.types import F32

finish_sum = v.finish_sum
SIZE, POINTS, HALF = 8, 12, 7
"""Voxels along an edge, points of the transform, and those of a real line that say all."""
PRODUCTS = POINTS * POINTS * HALF
ELEMENT = 2 * v.LANES
ROWS = 32
"""Volumes that are multiplied together."""
ROOT = float(np.sqrt(0.75))
Builder = Any
Value = Any


class _Sums:
    """Sums of vectors with constant factors, as instructions."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def __call__(self, *terms: tuple[float, Value]) -> Value:
        first, *rest = sorted(terms, key=lambda term: -term[0])
        total = first[1] if first[0] == 1.0 else self._builder.fmul(v.number(first[0]), first[1])
        for factor, value in rest:
            if factor == 1.0:
                total = self._builder.fadd(total, value)
            elif factor == -1.0:
                total = self._builder.fsub(total, value)
            else:
                total = v.multiply_add(self._builder, v.number(factor), value, total)
        return total


def _forward(total: _Sums, z: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """Cosine sums C_0..C_6 and sine sums S_1..S_5 of eight values."""
    e0p, e0m = total((1, z[0]), (1, z[6])), total((1, z[0]), (-1, z[6]))
    e2p, e2m = total((1, z[2]), (1, z[4])), total((1, z[2]), (-1, z[4]))
    even = [total((1, e0p), (1, e2p)), total((1, e0m), (0.5, e2m)), total((1, e0p), (-0.5, e2p))]
    p, m = total((1, z[1]), (1, z[5])), total((1, z[1]), (-1, z[5]))
    odd = [
        total((1, p), (1, z[3]), (1, z[7])),
        total((ROOT, total((1, m), (-1, z[7])))),
        total((0.5, total((1, p), (1, z[7]))), (-1, z[3])),
    ]
    cosines: list[Value] = [total((1, even[k]), (1, odd[k])) for k in range(3)]
    cosines.append(total((1, e0m), (-1, e2m)))
    cosines += [total((1, even[k]), (-1, odd[k])) for k in (2, 1, 0)]
    sine_even = [total((ROOT, e2p)), total((ROOT, e2m))]
    sine_odd = [total((0.5, total((1, p), (-1, z[7]))), (1, z[3])), total((ROOT, total((1, m), (1, z[7]))))]
    last = total((1, p), (-1, z[3]), (-1, z[7]))
    sines = [total((1, sine_even[k]), (1, sine_odd[k])) for k in range(2)]
    sines += [last, *(total((1, sine_odd[k]), (-1, sine_even[k])) for k in (1, 0))]
    return cosines, sines


def _backward(total: _Sums, u: Sequence[Value], d: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """Cosine sums of u_0..u_6 and sine sums of d_1..d_5 at the places 0..7."""
    up, um = total((1, u[0]), (1, u[6])), total((1, u[0]), (-1, u[6]))
    vp, vm = total((1, u[2]), (1, u[4])), total((1, u[2]), (-1, u[4]))
    even = [total((1, up), (1, vp)), total((1, um), (0.5, vm)), total((1, up), (-0.5, vp)), total((1, um), (-1, vm))]
    p, m = total((1, u[1]), (1, u[5])), total((1, u[1]), (-1, u[5]))
    odd = [total((1, p), (1, u[3])), total((ROOT, m)), total((0.5, p), (-1, u[3]))]
    plus = [total((1, even[n]), (1, odd[n])) for n in range(3)]
    minus = [total((1, even[n]), (-1, odd[n])) for n in range(3)]
    cosines = [*plus, even[3], minus[2], minus[1], minus[0], minus[1]]
    d1, d2, d3, d4, d5 = d
    sine_even = [total((ROOT, total((1, d2), (1, d4)))), total((ROOT, total((1, d2), (-1, d4))))]
    q, r = total((1, d1), (1, d5)), total((1, d1), (-1, d5))
    sine_odd = [total((0.5, q), (1, d3)), total((ROOT, r))]
    rise = [total((1, sine_even[n]), (1, sine_odd[n])) for n in range(2)]
    fall = [total((1, sine_odd[n]), (-1, sine_even[n])) for n in range(2)]
    third = total((1, q), (-1, d3))
    return cosines, [None, rise[0], rise[1], third, fall[1], fall[0], None, total((-1.0, fall[0]))]


Line = list[tuple[Value, Value]]
"""Real and imaginary parts; an imaginary part None is not stored."""


def _real_in(total: _Sums, line: Line) -> Line:
    cosines, sines = _forward(total, [re for re, _ in line])
    zero = v.number(0.0)
    return [(cosines[0], zero), *((cosines[k], total((-1.0, sines[k - 1]))) for k in range(1, 6)), (cosines[6], zero)]


def _complex_in(total: _Sums, line: Line) -> Line:
    (ca, sa), (cb, sb) = _forward(total, [re for re, _ in line]), _forward(total, [im for _, im in line])
    out: Line = [(ca[0], cb[0])]
    out += [(total((1, ca[k]), (1, sb[k - 1])), total((1, cb[k]), (-1, sa[k - 1]))) for k in range(1, 6)]
    out += [(ca[6], cb[6])]
    out += [(total((1, ca[k]), (-1, sb[k - 1])), total((1, cb[k]), (1, sa[k - 1]))) for k in range(5, 0, -1)]
    return out


def _complex_out(total: _Sums, line: Line) -> Line:
    parts = []
    for part in range(2):
        x = [pair[part] for pair in line]
        sums = [x[0], *(total((1, x[k]), (1, x[12 - k])) for k in range(1, 6)), x[6]]
        parts.append((sums, [total((1, x[k]), (-1, x[12 - k])) for k in range(1, 6)]))
    (ur, dr), (ui, di) = parts
    (cr, si), (ci, sr) = _backward(total, ur, di), _backward(total, ui, dr)
    return [
        (cr[n], ci[n]) if si[n] is None else (total((1, cr[n]), (-1, si[n])), total((1, ci[n]), (1, sr[n])))
        for n in range(SIZE)
    ]


def _real_out(total: _Sums, line: Line) -> Line:
    cosines, sines = _backward(total, [re for re, _ in line], [im for _, im in line[1:6]])
    return [(c if s is None else total((1, c), (-1, s)), None) for c, s in zip(cosines, sines, strict=True)]


def _make_line(count: int, rule: Any, *, real: bool = False) -> Any:
    """Return a compiled transform (source, step, target, step_out): addresses, floats between elements."""

    @intrinsic
    def line(typing: Any, source: Any, step_in: Any, target: Any, step_out: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
            source, step_in, target, step_out = arguments
            half = ir.Constant(v.I64, v.LANES)
            given: Line = []
            for k in range(count):
                place = v.times(builder, step_in, k)
                imaginary = None if real else v.load(builder, source, builder.add(place, half))
                given.append((v.load(builder, source, place), imaginary))
            for k, (re, im) in enumerate(rule(_Sums(builder), given)):
                place = v.times(builder, step_out, k)
                v.store(builder, re, target, place)
                if im is not None:
                    v.store(builder, im, target, builder.add(place, half))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return line


real_in = _make_line(SIZE, _real_in, real=True)
complex_in = _make_line(SIZE, _complex_in)
complex_out = _make_line(POINTS, _complex_out)
real_out = _make_line(HALF, _real_out)


def transformed_seven(weight: NDArray[np.floating]) -> F32:
    """Weights of a 7x7x7 convolution (16, 16, 7, 7, 7) for `seven`: (1008, 32, 32)."""
    placed = np.zeros((*weight.shape[:2], POINTS, POINTS, POINTS))
    at = (3 - np.arange(7)) % POINTS
    placed[:, :, at[:, None, None], at[None, :, None], at[None, None, :]] = weight
    spectrum = np.fft.rfftn(placed, axes=(2, 3, 4)) / POINTS**3
    spectrum[..., 1 : HALF - 1] *= 2.0  # the other half of a real line's spectrum
    factors = spectrum.transpose(2, 3, 4, 1, 0).reshape(PRODUCTS, weight.shape[1], weight.shape[0])
    both = np.concatenate(
        [np.concatenate([factors.real, factors.imag], 2), np.concatenate([-factors.imag, factors.real], 2)], 1
    )
    return np.ascontiguousarray(both, np.float32)


@compiled
def _into_spectrum(volume: int, lines: int, planes: int, out: int, pitch: int) -> None:
    """Transform a volume (8, 8, 8, 16): its 1008 elements are `pitch` apart."""
    for line in range(64):
        real_in(volume + 4 * 16 * 8 * line, 16, lines + 4 * ELEMENT * HALF * line, ELEMENT)
    for x in range(8):
        for k in range(HALF):
            source, target = lines + 4 * ELEMENT * (HALF * 8 * x + k), planes + 4 * ELEMENT * (HALF * POINTS * x + k)
            complex_in(source, HALF * ELEMENT, target, HALF * ELEMENT)
    for k in range(HALF * POINTS):
        complex_in(planes + 4 * ELEMENT * k, HALF * POINTS * ELEMENT, out + 4 * pitch * k, HALF * POINTS * pitch)


@compiled
def _into_lines(product: int, lines: int, planes: int, pitch: int) -> None:
    """Transform a spectrum back along two axes: (8, 8, 7) elements in `lines`."""
    for k in range(HALF * POINTS):
        complex_out(product + 4 * pitch * k, HALF * POINTS * pitch, planes + 4 * ELEMENT * k, HALF * POINTS * ELEMENT)
    for x in range(8):
        for k in range(HALF):
            source, target = planes + 4 * ELEMENT * (HALF * POINTS * x + k), lines + 4 * ELEMENT * (HALF * 8 * x + k)
            complex_out(source, HALF * ELEMENT, target, HALF * ELEMENT)


@compiled
def seven(source: Any, weights: Any, bias: Any, before: Any, target: Any, spread: Any, work: Any) -> None:
    """Convolve volumes of 8^3 voxels and 16 channels, kernel 7x7x7: target = relu(source * weights + bias + before).

    Args:
        source: (B, 8, 8, 8, 16), B a multiple of 32.
        weights: (1008, 32, 32) of `transformed_seven`.
        bias: (16,).
        before: like target.
        target: (B, 8, 8, 8, 16).
        spread: scratch of 2 * 1008 * (32 * 32 + PAD) floats.
        work: scratch of (448 + 672) * 32 floats.
    """
    pitch = ROWS * ELEMENT + PAD
    a = spread.ctypes.data
    t = a + 4 * PRODUCTS * pitch
    lines, planes = work.ctypes.data, work.ctypes.data + 4 * 448 * ELEMENT
    for first in range(0, source.shape[0], ROWS):
        for row in range(ROWS):
            volume = source.ctypes.data + 4 * 16 * 512 * (first + row)
            _into_spectrum(volume, lines, planes, a + 4 * ELEMENT * row, pitch)
        for f in range(PRODUCTS):
            multiply(
                a + 4 * f * pitch,
                weights.ctypes.data + 4 * f * ELEMENT * ELEMENT,
                t + 4 * f * pitch,
                ROWS,
                ELEMENT,
                ELEMENT,
            )
        for row in range(ROWS):
            _into_lines(t + 4 * ELEMENT * row, lines, planes, pitch)
            base = 4 * 16 * 512 * (first + row)
            for line in range(64):
                place = base + 4 * 16 * 8 * line
                real_out(lines + 4 * ELEMENT * HALF * line, ELEMENT, planes, 16)
                for z in range(8):
                    offset = place + 4 * 16 * z
                    finish_sum(
                        planes + 4 * 16 * z,
                        bias.ctypes.data,
                        before.ctypes.data + offset,
                        before.ctypes.data,
                        target.ctypes.data + offset,
                        16,
                    )

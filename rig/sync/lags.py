"""How much earlier or later a camera sees what all cameras see. Pure.

The signals of two cameras are different mixtures of what happens in front of them. For each shift in time the canonical
correlations say how much of one set of signals the other can explain; their mutual information is greatest where the
clocks agree. Each camera is compared with all others together, which are moved by what is known of them so far; after
a few rounds the offsets stand still. Leaving out one stretch of time after the other (jackknife) tells how well they
are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rig.sync.spline import Spline
from streamer.types import F64

ROUNDS = 4
BLOCKS = 8
"""Stretches of time of the jackknife."""
REFERENCE_COMPONENTS = 16
"""Principal components that stand for all other cameras."""
STEPS_PER_PERIOD = 4
"""Shifts tried per frame period before the best one is refined."""
CERTAIN = 0.9999
"""Correlations are capped here: beyond it noise decides, and the logarithm would run away."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What the pictures say of one camera."""

    offset_s: float
    """True exposure minus stamped one, s, relative to the median camera."""
    error_s: float
    """Standard error of it, s."""
    correlation: float
    """Greatest canonical correlation with the other cameras, 0 to 1."""
    contrast: float
    """Information at the best shift against that of shifts far away; 1: nothing stands out."""


def information(a: F64, b: F64) -> tuple[float, float]:
    """Return the mutual information of two sets of signals, and their greatest correlation.

    Args:
        a: (M, m) samples.
        b: (M, n) samples at the same instants.
    """
    left, right = np.linalg.qr(a - a.mean(0))[0], np.linalg.qr(b - b.mean(0))[0]
    found = np.clip(np.linalg.svd(left.T @ right, compute_uv=False), 0.0, CERTAIN)
    return float(-0.5 * np.log1p(-found * found).sum()), float(found[0])


def measure_lags(splines: Sequence[Spline], *, period_s: float, search_s: float) -> list[Lag]:
    """Measure the offset of every camera.

    Args:
        splines: signals per camera as functions of stamped time, at least two cameras that overlap.
        period_s: of the frames, s.
        search_s: largest offset looked for, s.

    Returns:
        One per camera.
    """
    start = max(spline.times_s[0] for spline in splines) + search_s
    end = min(spline.times_s[-1] for spline in splines) - search_s
    grid = np.arange(start, end, period_s)
    offsets = np.zeros(len(splines))
    coarse = np.arange(-search_s, search_s + 1e-9, period_s / STEPS_PER_PERIOD)
    for turn in range(ROUNDS):
        reach = coarse if turn == 0 else coarse[np.abs(coarse) <= 2 * period_s]
        found = np.array(
            [_best(splines, offsets, c, grid, offsets[c] * (turn > 0) + reach) for c in range(len(splines))]
        )
        if turn == 0 and len(splines) == 2:
            found = found / 2  # each saw the whole difference as its own
        offsets = found - np.median(found)
    errors = _jackknife(splines, offsets, grid, period_s)
    return [_lag(splines, offsets, c, grid, coarse, float(errors[c])) for c in range(len(splines))]


def _others(splines: Sequence[Spline], offsets: F64, camera: int, grid: F64) -> F64:
    """(M, n) what all other cameras see at true times `grid`, as few components."""
    sampled = []
    for index, spline in enumerate(splines):
        if index != camera:
            values = spline(grid - offsets[index])
            sampled.append((values - values.mean(0)) / max(float(np.linalg.norm(values - values.mean(0))), 1e-12))
    if splines[camera].values.shape[1] == 1:
        # One lamp is one signal: more freedom would let a mixture of cameras imitate a shift.
        return np.asarray(np.mean(sampled, axis=0), np.float64)
    stacked = np.concatenate(sampled, 1)
    left, values, _ = np.linalg.svd(stacked, full_matrices=False)
    keep = min(REFERENCE_COMPONENTS, stacked.shape[1])
    return np.asarray((left * values)[:, :keep], np.float64)


def _curve(spline: Spline, reference: F64, grid: F64, shifts: F64) -> F64:
    return np.array([information(spline(grid - shift), reference)[0] for shift in shifts])


def _best(splines: Sequence[Spline], offsets: F64, camera: int, grid: F64, shifts: F64) -> float:
    reference = _others(splines, offsets, camera, grid)
    curve = _curve(splines[camera], reference, grid, shifts)
    step = float(shifts[1] - shifts[0])
    near = float(shifts[int(np.argmax(curve))])
    for _ in range(2):  # refine by a parabola through closer shifts
        step /= 2
        around = np.asarray(near + step * np.arange(-2, 3), np.float64)
        a, b, _ = np.polyfit(around - near, _curve(splines[camera], reference, grid, around), 2)
        near = near + float(np.clip(-b / (2 * a), -2 * step, 2 * step)) if a < 0 else near
    return near


def _jackknife(splines: Sequence[Spline], offsets: F64, grid: F64, period_s: float) -> F64:
    """(C,) standard errors from leaving out one stretch of time after the other."""
    blocks = np.array_split(np.arange(len(grid)), BLOCKS)
    shifts = period_s / (2 * STEPS_PER_PERIOD) * np.arange(-2, 3)
    estimates = np.zeros((BLOCKS, len(splines)))
    for number, block in enumerate(blocks):
        rest = np.delete(grid, block)
        for camera, spline in enumerate(splines):
            reference = _others(splines, offsets, camera, rest)
            a, b, _ = np.polyfit(shifts, _curve(spline, reference, rest, offsets[camera] + shifts), 2)
            estimates[number, camera] = np.clip(-b / (2 * a), -period_s, period_s) if a < 0 else period_s
    spread = estimates - estimates.mean(0)
    return np.asarray(np.sqrt((BLOCKS - 1) / BLOCKS * (spread**2).sum(0)), np.float64)


def _lag(splines: Sequence[Spline], offsets: F64, camera: int, grid: F64, coarse: F64, error_s: float) -> Lag:
    reference = _others(splines, offsets, camera, grid)
    best, correlation = information(splines[camera](grid - offsets[camera]), reference)
    away = np.median(_curve(splines[camera], reference, grid, coarse[::STEPS_PER_PERIOD]))
    return Lag(float(offsets[camera]), error_s, correlation, float(best / max(float(away), 1e-9)))

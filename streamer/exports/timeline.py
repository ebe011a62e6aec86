"""When each sample of an export stands, and between which recorded meshes. Pure.

A rate is found in the take. Exposures that keep to the grid of rig frame ids are put on it, so that frames of the file
are whole numbers; a gap in the ids stays a gap. Exposures off the grid (free-running cameras) keep their own times.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SNAP = 0.1
"""Of a period: exposures this near to the grid of frame ids are taken to be on it."""
FALLBACK_RATE = Fraction(30)
"""For a single mesh, which has no rate."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The samples of an export."""

    rate: Fraction
    """Frames per second of the file."""
    recorded_rate: Fraction
    """Sets per second of the take."""
    times_s: F64
    """(S,) from 0, in the file's time."""
    row: I64
    """(S,) index into `rows` of the recorded mesh at or before the sample."""
    blend: F64
    """(S,) 0..1 towards the next recorded mesh; 0: the mesh itself."""
    rows: I64
    """(R,) usable meshes of the whole channel: ids and times rise strictly."""
    recorded_s: F64
    """(R,) their recorded times from the first sample on, in seconds of the take."""
    left_out: int
    """Meshes of the channel whose id or time does not rise."""
    missing: int
    """Frame ids without a mesh between the first and the last sample."""

    @property
    def frame_numbers(self) -> F64:
        """(S,) frames of the file, from 0; whole numbers where the take keeps to its grid."""
        frames = self.times_s * float(self.rate)
        whole = np.rint(frames)
        return np.where(np.abs(frames - whole) < 1e-6, whole, frames)

    @property
    def regular(self) -> bool:
        """Whether sample k stands at frame k."""
        return bool(np.array_equal(self.frame_numbers, np.arange(len(self.times_s))))


def recorded_rate(ids: I64, times_ns: I64) -> Fraction:
    """Return the sets per second of a recording, an exact usual rate if it is within 1e-4 of one.

    Args:
        ids: (R,) rig frame ids, rising.
        times_ns: (R,) exposure times, rising.
    """
    if len(ids) < 2:
        return FALLBACK_RATE
    period_ns = float(np.median(np.diff(times_ns) / np.diff(ids)))
    rate = 1e9 / period_ns
    for usual in (Fraction(round(rate)), Fraction(round(rate * 1.001) * 1000, 1001)):
        if usual > 0 and abs(float(usual) / rate - 1) < 1e-4:
            return usual
    return Fraction(rate).limit_denominator(1000) or FALLBACK_RATE


def make_timeline(
    ids: I64,
    times_ns: I64,
    *,
    frames: tuple[int, int] | None = None,
    fps: Fraction | None = None,
    speed: float = 1.0,
    regular: bool = False,
) -> Timeline:
    """Lay out the samples.

    Args:
        ids: (F,) rig frame ids of the meshes, F >= 1, in order.
        times_ns: (F,) their exposure times.
        frames: first and last mesh, counted from 0, both included.
        fps: resample at this rate; None: a sample for each mesh.
        speed: divides all times.
        regular: the format has no times: resample where the meshes are not evenly spaced.

    Raises:
        TakeError: `frames` is outside of the recording.
    """
    first, last = (0, len(ids) - 1) if frames is None else frames
    if not 0 <= first <= last < len(ids):
        raise TakeError(f"--frames {first}-{last}: there are {len(ids)} meshes, 0 to {len(ids) - 1}")
    rows = _rising(ids, times_ns)
    begin, end = np.searchsorted(rows, first), np.searchsorted(rows, last, side="right")
    if begin >= end:
        raise TakeError(f"--frames {first}-{last}: no mesh there whose id and time rise; run: mien verify")
    rate = recorded_rate(ids[rows], times_ns[rows])
    recorded_s: F64 = _seconds(ids[rows], times_ns[rows], rate, int(begin))
    plain = Timeline(
        rate=fps or rate,
        recorded_rate=rate,
        times_s=recorded_s[begin:end] / speed,
        row=np.arange(begin, end),
        blend=np.zeros(end - begin),
        rows=rows,
        recorded_s=recorded_s,
        left_out=len(ids) - len(rows),
        missing=int(ids[rows[end - 1]] - ids[rows[begin]] + 1 - (end - begin)),
    )
    if fps is None and (plain.regular or not regular):
        return plain
    return _resampled(plain, speed)


def _rising(ids: I64, times_ns: I64) -> I64:
    """Indices of meshes that are later than all before them, by id and by time."""
    ceiling_id = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(ids)[:-1]])
    ceiling_ns = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(times_ns)[:-1]])
    return np.flatnonzero((ids > ceiling_id) & (times_ns > ceiling_ns))


def _seconds(ids: I64, times_ns: I64, rate: Fraction, begin: int) -> F64:
    exposed: F64 = (times_ns - times_ns[begin]) / 1e9
    grid: F64 = (ids - ids[begin]) / float(rate)
    offset = (exposed - grid) * float(rate)
    # Clocks of two rigs differ by some parts per million: a steady drift against the usual rate is no jitter.
    span = max(int(ids[-1] - ids[0]), 1)
    steady = (offset[-1] - offset[0]) * (ids - ids[0]) / span
    return grid if float(np.ptp(offset - steady)) < 2 * SNAP else exposed


def _resampled(plain: Timeline, speed: float) -> Timeline:
    """Sample at the constant rate of `plain`, linear between neighbours."""
    step = 1 / float(plain.rate)
    count = int(np.floor(plain.times_s[-1] / step + 1e-6)) + 1
    times = np.arange(count, dtype=np.float64) * step
    taken = times * speed
    row = np.clip(np.searchsorted(plain.recorded_s, taken + 1e-9, side="right") - 1, plain.row[0], plain.row[-1])
    behind = taken - plain.recorded_s[row]
    ahead = np.append(np.diff(plain.recorded_s), np.inf)[row]
    blend: F64 = np.clip(behind / ahead, 0.0, 1.0)
    blend[(blend < 1e-6) | (row == plain.row[-1])] = 0.0
    return Timeline(
        plain.rate, plain.recorded_rate, times, row, blend,
        plain.rows, plain.recorded_s, plain.left_out, plain.missing,
    )  # fmt: skip

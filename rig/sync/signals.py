"""What the pictures of one camera say about time: signals that other cameras of the same scene see too. Pure.

    light    mean brightness: a lamp that flashes or swells
    motion   principal components of what moves fast in a small grey picture: speech, blinks, a waved hand or board

Slow motion is taken out: it is the same few sines in every camera, and any shift of a sine is a mixture of others.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from rig.sync.spline import Spline
from streamer.types import F32, F64, U8

Method = Literal["light", "motion"]
SIZE = (32, 24)
"""Width and height of the small grey pictures."""
SLOW_FRAMES = {"light": 6.0, "motion": 2.0}
"""Sigma of the smoothing that is subtracted, frames: what is slower than a syllable, or than a hand on a lamp, goes."""
COMPONENTS = 8
"""Principal components kept."""


@dataclass(frozen=True, slots=True)
class Track:
    """The pictures of one camera, made small."""

    camera: str
    """Id of the camera."""
    frame_ids: tuple[int, ...]
    """(N,) rig frame ids, rising."""
    times_ns: tuple[int, ...]
    """(N,) stamped exposure times, ns."""
    counters: tuple[int, ...]
    """(N,) of the camera."""
    receive_ns: tuple[int, ...]
    """(N,) arrivals, CLOCK_REALTIME, ns; 0 in footage."""
    pictures: F32
    """(N, 24, 32) grey, 0 to 255."""


def small_picture(pixels: U8) -> F32:
    """Return the picture as it is kept.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.

    Returns:
        (24, 32) grey, area-averaged, not rounded.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    shrink = min(grey.shape[0] // (4 * SIZE[1]), grey.shape[1] // (4 * SIZE[0]))
    if shrink > 1:  # most of the averaging in integers, which is faster; 16 cells each remain for the exact rest
        grey = cv2.resize(grey, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(grey.astype(np.float32), SIZE, interpolation=cv2.INTER_AREA), np.float32)


def signal(pictures: F32, method: Method) -> F64:
    """Return the signals of one camera.

    Args:
        pictures: (N, 24, 32) grey.
        method: which.

    Returns:
        (N, 1) or (N, 8) float64, zero mean; all 0 where nothing changes.
    """
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    if method == "light":
        flat = np.log(np.maximum(flat.mean(1, keepdims=True), 1.0))
    fast = flat - _smooth(flat, SLOW_FRAMES[method])
    fast -= fast.mean(0)
    if method == "light":
        return np.asarray(fast, np.float64)
    left, values, _ = np.linalg.svd(fast, full_matrices=False)
    return np.asarray((left * values)[:, :COMPONENTS], np.float64)


def as_spline(track: Track, values: F64, origin_ns: int) -> Spline:
    """Return signals as functions of stamped time.

    Args:
        track: its times.
        values: (N, m) its signals.
        origin_ns: time 0, ns.
    """
    times_s = np.array([time - origin_ns for time in track.times_ns], np.float64) / 1e9
    return Spline(times_s, values)


def _smooth(values: F64, sigma: float) -> F64:
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return np.asarray(windows @ (kernel / kernel.sum()), np.float64)

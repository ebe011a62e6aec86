"""What the time stamps say of the cameras of a rig. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rig.sync.line import fit_line
from rig.sync.signals import Track
from streamer.types import F64


@dataclass(frozen=True, slots=True)
class Stamps:
    """One camera's stamps against the median camera of each frame set."""

    offset_s: float
    """Median difference, s; positive: stamped later than the others."""
    jitter_s: float
    """Its spread (standard deviation by the median), s."""
    drift_ppm: float
    """Rate at which the difference grows, parts per million; 0 with fewer than eight sets."""
    sets: int
    """Frame sets in which the camera could be compared."""
    lost: int
    """Pictures missing by the camera's own counter."""
    delay_s: float
    """Median time from stamp to arrival, s; 0 where arrivals are not known."""


def median_times(tracks: Sequence[Track]) -> dict[int, int]:
    """Return frame id to the median exposure time of its members, ns; sets of one camera are left out."""
    members: dict[int, list[int]] = defaultdict(list)
    for track in tracks:
        for frame_id, time_ns in zip(track.frame_ids, track.times_ns, strict=True):
            members[frame_id].append(time_ns)
    return {number: _median(times) for number, times in members.items() if len(times) > 1}


def compare_stamps(tracks: Sequence[Track]) -> list[Stamps]:
    """Compare the stamps of every camera with those of the others in the same frame set."""
    middle = median_times(tracks)
    return [_compare(track, middle) for track in tracks]


def _compare(track: Track, middle: dict[int, int]) -> Stamps:
    shared = [(t, middle[k]) for k, t in zip(track.frame_ids, track.times_ns, strict=True) if k in middle]
    difference_s: F64 = np.array([own - other for own, other in shared], np.float64) / 1e9
    steps = np.diff(track.counters) if len(track.counters) > 1 else np.ones(1, np.int64)
    delays = [arrival - time for arrival, time in zip(track.receive_ns, track.times_ns, strict=True) if arrival]
    offset_s = float(np.median(difference_s)) if len(shared) else 0.0
    spread_s = 1.4826 * float(np.median(np.abs(difference_s - offset_s))) if len(shared) else 0.0
    drift_ppm = 0.0
    if len(shared) >= 8:
        own, other = zip(*shared, strict=True)
        drift_ppm = fit_line(list(own), list(other), one_sided=False).drift_ppm(1.0)
    return Stamps(
        offset_s=offset_s,
        jitter_s=spread_s,
        drift_ppm=drift_ppm,
        sets=len(shared),
        lost=int(np.maximum(steps - 1, 0).sum()),
        delay_s=float(np.median(delays)) / 1e9 if delays else 0.0,
    )


def _median(times: list[int]) -> int:
    ordered = sorted(times)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2

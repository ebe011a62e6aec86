"""The sync check: what the time stamps say, what the pictures say, and whether the two agree."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rig.sync.lags import Lag, measure_lags
from rig.sync.signals import Method, Track, as_spline, signal
from rig.sync.stamps import Stamps, compare_stamps
from streamer.errors import TakeError
from streamer.types import F64

LEAST_FRAMES = 24
"""Pictures that have to remain of each camera after the search range is cut off both ends."""
LEAST_CONTRAST = 1.3
"""A best shift that explains less than this, against shifts far away, is chance."""
LEAST_CORRELATION = {"light": 0.8, "motion": 0.5}
SYSTEMATIC = {"light": 0.002, "motion": 0.03}
"""Part of a frame period by which cameras err together with their view, which leaving out stretches of time does not
show: a jaw from the front and from the side. Measured on the simulated rig (docs/stage.md)."""
CERTAIN_SIGMAS = 3.0
"""An offset this many standard errors from zero is called one."""


@dataclass(frozen=True, slots=True)
class CameraSync:
    """One camera in the report; times in ms, offsets relative to the median camera."""

    frames: int
    """Pictures looked at."""
    lost: int
    """Pictures missing by the camera's own counter."""
    stamped_ms: float
    """Offset by the time stamps."""
    jitter_ms: float
    """Spread of that."""
    drift_ppm: float
    """Growth of that."""
    delay_ms: float
    """From stamp to arrival, 0 if not known."""
    stamp_error_ms: float | None
    """True exposure minus stamped one, by the pictures; None: they do not tell."""
    error_ms: float | None
    """Standard error of it."""
    offset_ms: float | None
    """True offset: stamped and stamp error together."""
    correlation: float | None
    """How well the camera's signal agrees with the others', 0 to 1."""
    verdict: Literal["in sync", "skewed", "stamps lie", "not seen", "unsure"]
    """`skewed`: exposes at another time, and says so; `stamps lie`: exposes at another time than its stamp."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of a check."""

    method: Method | None
    """What in the pictures was used; None: nothing moved or flashed."""
    period_ms: float
    """Median frame period."""
    seconds: float
    """Time looked at."""
    limit_ms: float
    """Offsets up to this are called in sync."""
    cameras: dict[str, CameraSync]
    """By id."""
    skew_stamped_ms: float
    """Largest difference between two cameras, by their stamps."""
    skew_true_ms: float | None
    """The same by the pictures."""
    note: str
    """Why the pictures do not tell, or what to do; empty if they do."""

    @property
    def ok(self) -> bool:
        """Whether all cameras are in sync, and the pictures show it."""
        return all(camera.verdict == "in sync" for camera in self.cameras.values())

    def as_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {"ok": self.ok, **asdict(self)}


def check_sync(
    tracks: Sequence[Track], *, method: Literal["auto", "light", "motion"], limit_ms: float, search_ms: float
) -> SyncReport:
    """Measure the skew of a rig.

    Args:
        tracks: the pictures of its cameras.
        method: what to look for in them; `auto` takes what tells more.
        limit_ms: offsets up to this are called in sync.
        search_ms: largest stamp error looked for.

    Raises:
        TakeError: fewer than two cameras.
    """
    usable = [track for track in tracks if len(track.times_ns) >= 4]
    if len(usable) < 2:
        raise TakeError(f"{len(usable)} camera(s) with pictures: skew is a difference between two; add cameras")
    stamps = compare_stamps(usable)
    period_s = float(np.median([np.median(np.diff(_seconds(track))) for track in usable]))
    seconds = max(t.times_ns[-1] for t in usable) / 1e9 - min(t.times_ns[0] for t in usable) / 1e9
    found, lags, note = _pictures(usable, method, period_s, search_ms / 1000)
    cameras = {
        track.camera: _camera(track, stamp, None if lags is None else lags[index], limit_ms, found)
        for index, (track, stamp) in enumerate(zip(usable, stamps, strict=True))
    }
    stamped = [camera.stamped_ms for camera in cameras.values()]
    true = [camera.offset_ms for camera in cameras.values() if camera.offset_ms is not None]
    return SyncReport(
        method=found,
        period_ms=round(period_s * 1000, 3),
        seconds=round(seconds, 3),
        limit_ms=limit_ms,
        cameras=cameras,
        skew_stamped_ms=round(max(stamped) - min(stamped), 3),
        skew_true_ms=round(max(true) - min(true), 3) if len(true) > 1 else None,
        note=note,
    )


def _pictures(
    tracks: Sequence[Track], wanted: str, period_s: float, search_s: float
) -> tuple[Method | None, list[Lag] | None, str]:
    start_s = max(track.times_ns[0] for track in tracks) / 1e9 + search_s
    end_s = min(track.times_ns[-1] for track in tracks) / 1e9 - search_s
    if end_s - start_s < LEAST_FRAMES * period_s:
        need_s = LEAST_FRAMES * period_s + 2 * search_s
        return None, None, f"too short for the pictures to tell: {need_s:.1f} s of all cameras are needed"
    methods: tuple[Method, ...] = ("light", "motion")
    best: tuple[float, Method, list[Lag]] | None = None
    for method in methods:
        if wanted not in ("auto", method):
            continue
        lags = _measure(tracks, method, period_s, search_s)
        if lags is not None:
            floor_s = SYSTEMATIC[method] * period_s
            lags = [replace(lag, error_s=float(np.hypot(lag.error_s, floor_s))) for lag in lags]
        if lags is None or sum(_seen(lag, method) for lag in lags) < 2:
            continue
        error_s = float(np.median([lag.error_s for lag in lags if _seen(lag, method)]))
        blind = sum(not _seen(lag, method) for lag in lags)
        if best is None or (blind, error_s) < (sum(not _seen(lag, best[1]) for lag in best[2]), best[0]):
            best = error_s, method, lags
    if best is None:
        hint = "swing a lamp or a phone's torch before all cameras, or have the actor speak and blink"
        return None, None, f"nothing that moves or flashes is seen by two cameras; {hint}"
    return best[1], best[2], ""


def _measure(tracks: Sequence[Track], method: Method, period_s: float, search_s: float) -> list[Lag] | None:
    origin_ns = tracks[0].times_ns[0]
    signals = [signal(track.pictures, method) for track in tracks]
    if any(not values.any() for values in signals):
        return None
    splines = [as_spline(track, values, origin_ns) for track, values in zip(tracks, signals, strict=True)]
    return measure_lags(splines, period_s=period_s, search_s=search_s)


def _seen(lag: Lag, method: Method) -> bool:
    return lag.contrast >= LEAST_CONTRAST and lag.correlation >= LEAST_CORRELATION[method]


def _camera(track: Track, stamps: Stamps, lag: Lag | None, limit_ms: float, method: Method | None) -> CameraSync:
    told = lag is not None and method is not None and _seen(lag, method)
    stamped_ms = stamps.offset_s * 1000
    wrong_ms = lag.offset_s * 1000 if lag is not None and told else None
    error_ms = lag.error_s * 1000 if lag is not None and told else None
    return CameraSync(
        frames=len(track.times_ns),
        lost=stamps.lost,
        stamped_ms=round(stamped_ms, 4),
        jitter_ms=round(stamps.jitter_s * 1000, 4),
        drift_ppm=round(stamps.drift_ppm, 2),
        delay_ms=round(stamps.delay_s * 1000, 3),
        stamp_error_ms=None if wrong_ms is None else round(wrong_ms, 3),
        error_ms=None if error_ms is None else round(error_ms, 3),
        offset_ms=None if wrong_ms is None else round(stamped_ms + wrong_ms, 3),
        correlation=None if lag is None else round(lag.correlation, 4),
        verdict=_verdict(stamped_ms, wrong_ms, error_ms, limit_ms),
    )


def _verdict(
    stamped_ms: float, wrong_ms: float | None, error_ms: float | None, limit_ms: float
) -> Literal["in sync", "skewed", "stamps lie", "not seen", "unsure"]:
    if wrong_ms is None or error_ms is None:
        return "skewed" if abs(stamped_ms) > limit_ms else "not seen"
    beyond = abs(wrong_ms) > limit_ms
    if beyond and abs(wrong_ms) > CERTAIN_SIGMAS * error_ms:
        return "stamps lie"
    if abs(stamped_ms + wrong_ms) > limit_ms and abs(stamped_ms) > limit_ms:
        return "skewed"
    return "unsure" if beyond or error_ms > limit_ms else "in sync"


def _seconds(track: Track) -> F64:
    return np.array([time - track.times_ns[0] for time in track.times_ns], np.float64) / 1e9


def as_table(report: SyncReport) -> str:
    """Return the report as lines of text."""
    how = {"light": "by a light that changes", "motion": "by what moves", None: "pictures do not tell"}[report.method]
    lines = [
        f"{len(report.cameras)} cameras, {report.seconds:.1f} s, period {report.period_ms:.2f} ms; {how}",
        f"{'camera':<16} {'frames':>6} {'lost':>5} {'stamped ms':>11} {'jitter':>7} {'drift ppm':>9} "
        f"{'true ms':>17} {'corr':>5}  verdict",
    ]
    for name, camera in report.cameras.items():
        true = "-" if camera.offset_ms is None else f"{camera.offset_ms:+.2f} ± {camera.error_ms:.2f}"
        correlation = "-" if camera.correlation is None else f"{camera.correlation:.2f}"
        lines.append(
            f"{name:<16} {camera.frames:>6} {camera.lost:>5} {camera.stamped_ms:>+11.3f} {camera.jitter_ms:>7.3f} "
            f"{camera.drift_ppm:>+9.1f} {true:>17} {correlation:>5}  {camera.verdict}"
        )
    true_skew = "not known" if report.skew_true_ms is None else f"{report.skew_true_ms:.2f} ms"
    lines.append(f"worst skew: {true_skew} by the pictures, {report.skew_stamped_ms:.2f} ms by the stamps")
    if report.note:
        lines.append(report.note)
    return "\n".join(lines)

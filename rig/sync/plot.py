"""The sync check as one picture: offsets with their errors, and the cameras' signals before and after correction."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rig.sync.check import SyncReport
from rig.sync.signals import Track, signal
from streamer.errors import TakeError
from streamer.types import F64, U8

WIDTH, LEFT, RIGHT, ROW, TOP = 1280, 150, 250, 34, 70
CURVE_HEIGHT = 230
SHOWN_S = 4.0
"""Stretch of the signals that is drawn."""
INK, GREY, STAMP, TRUE = (30, 30, 30), (170, 170, 170), (200, 120, 30), (40, 40, 200)
"""Colours, BGR."""
SHIFT = 4
"""Fractional bits of coordinates."""


def write_plot(report: SyncReport, tracks: Sequence[Track], path: Path) -> None:
    """Write the PNG.

    Args:
        report: what was found.
        tracks: the pictures that it was found in.
        path: file to write; replaced only when it is complete.

    Raises:
        TakeError: it cannot be written.
    """
    canvas = draw(report, tracks)
    done, data = cv2.imencode(".png", canvas)
    if not done:
        raise TakeError(f"{path}: the plot of {canvas.shape[1]}x{canvas.shape[0]} could not be encoded")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_bytes(data.tobytes())
        unfinished.replace(path)
    except OSError as error:
        raise TakeError(f"{path}: cannot be written: {error.strerror}; give another file") from error
    finally:
        unfinished.unlink(missing_ok=True)


def draw(report: SyncReport, tracks: Sequence[Track]) -> U8:
    """Return the picture, (H, 1280, 3) BGR."""
    rows = len(report.cameras)
    curves_top = TOP + rows * ROW + 60
    height = curves_top + (2 * (CURVE_HEIGHT + 40) if report.method else 20)
    canvas: U8 = np.full((height, WIDTH, 3), 255, np.uint8)
    worst = "not known" if report.skew_true_ms is None else f"{report.skew_true_ms:.2f} ms"
    _text(canvas, f"worst skew {worst} by the pictures, {report.skew_stamped_ms:.2f} ms by the stamps", (20, 28), 0.6)
    _text(canvas, "stamped", (20, 52), 0.45, STAMP)
    _text(canvas, "true, with standard error", (100, 52), 0.45, TRUE)
    _offsets(canvas, report)
    if report.method:
        chosen = [track for track in tracks if track.camera in report.cameras]
        signals = [signal(track.pictures, report.method)[:, 0] for track in chosen]
        for number, corrected in enumerate((False, True)):
            top = curves_top + number * (CURVE_HEIGHT + 40)
            _curves(canvas, report, chosen, signals, top, corrected=corrected)
    return canvas


def _offsets(canvas: U8, report: SyncReport) -> None:
    cameras = report.cameras
    values = [abs(c.stamped_ms) for c in cameras.values()]
    values += [abs(c.offset_ms) + (c.error_ms or 0.0) for c in cameras.values() if c.offset_ms is not None]
    reach = 1.1 * max([report.limit_ms, *values])
    middle, scale = (LEFT + WIDTH - RIGHT) / 2, (WIDTH - RIGHT - LEFT) / 2 / reach
    bottom = TOP + len(cameras) * ROW
    band = [(round(middle + sign * report.limit_ms * scale), y) for sign, y in ((-1, TOP), (1, bottom))]
    cv2.rectangle(canvas, band[0], band[1], (235, 245, 235), -1)
    step = 10 ** np.floor(np.log10(reach))
    step = step if reach / step > 2 else step / 5
    for tick in np.arange(-np.floor(reach / step), np.floor(reach / step) + 1) * step:
        x = round(middle + tick * scale)
        cv2.line(canvas, (x, TOP), (x, bottom), GREY, 1)
        _text(canvas, f"{tick:g}", (x - 12, bottom + 18), 0.4)
    _text(canvas, "ms", (WIDTH - RIGHT + 8, bottom + 18), 0.4)
    for row, (name, camera) in enumerate(cameras.items()):
        y = TOP + row * ROW + ROW // 2
        _text(canvas, name[:16], (10, y + 5), 0.5)
        cv2.circle(canvas, (round(middle + camera.stamped_ms * scale), y), 6, STAMP, 2, cv2.LINE_AA)
        said: str = camera.verdict
        if camera.offset_ms is not None and camera.error_ms is not None:
            x, wide = middle + camera.offset_ms * scale, camera.error_ms * scale
            cv2.line(canvas, (round(x - wide), y), (round(x + wide), y), TRUE, 2, cv2.LINE_AA)
            cv2.circle(canvas, (round(x), y), 4, TRUE, -1, cv2.LINE_AA)
            said = f"{camera.offset_ms:+.2f} +- {camera.error_ms:.2f} ms, {said}"
        _text(canvas, said, (WIDTH - RIGHT + 12, y + 5), 0.42)


def _curves(
    canvas: U8, report: SyncReport, tracks: Sequence[Track], signals: Sequence[F64], top: int, *, corrected: bool
) -> None:
    title = "the cameras' signals at corrected times" if corrected else "the cameras' signals at stamped times"
    _text(canvas, title, (20, top - 8), 0.5)
    begin_ns = max(track.times_ns[0] for track in tracks)
    begin_ns += max(0, min(track.times_ns[-1] for track in tracks) - begin_ns - round(SHOWN_S * 1e9)) // 2
    reference = signals[0]
    cv2.rectangle(canvas, (20, top), (WIDTH - 20, top + CURVE_HEIGHT), GREY, 1)
    for index, (track, values) in enumerate(zip(tracks, signals, strict=True)):
        wrong_ms = report.cameras[track.camera].stamp_error_ms or 0.0
        times_s = np.array([t - begin_ns for t in track.times_ns]) / 1e9 + (wrong_ms / 1000 if corrected else 0.0)
        inside = (times_s >= 0) & (times_s <= SHOWN_S)
        count = min(len(values), len(reference))
        sign = 1.0 if float(values[:count] @ reference[:count]) >= 0 else -1.0
        height = sign * values / max(float(np.abs(values).max()), 1e-12) * CURVE_HEIGHT / 2.1
        x, y = 20 + times_s[inside] / SHOWN_S * (WIDTH - 40), top + CURVE_HEIGHT / 2 - height[inside]
        points = np.round(np.stack([x, y], 1) * 2**SHIFT).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [points], False, _colour(index, len(tracks)), 1, cv2.LINE_AA, SHIFT)


def _colour(index: int, count: int) -> tuple[int, int, int]:
    hue = np.array([[[round(170 * index / max(count, 1)), 200, 190]]], np.uint8)
    blue, green, red = np.asarray(cv2.cvtColor(hue, cv2.COLOR_HSV2BGR))[0, 0]
    return int(blue), int(green), int(red)


def _text(canvas: U8, text: str, place: tuple[int, int], size: float, colour: tuple[int, int, int] = INK) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

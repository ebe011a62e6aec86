"""Pictures for the sync check: from a take, from the bus, or from the cameras themselves."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rig.clock import Pulses
from rig.config import RigConfig
from rig.driver import RawFrame, StreamEnded
from rig.drivers import make_driver
from rig.sync.signals import SIZE, Track, small_picture
from streamer.config import BusConfig
from streamer.errors import DriverError, TransportError, WireError
from streamer.pixels import REDUCTIONS, decode_pixels
from streamer.takes import open_take
from streamer.transport import Subscriber, node_endpoints
from streamer.types import F32, Frame

SILENCE_S = 10.0
"""How long the bus may say nothing at all."""
DEPTH = 2000
Progress = Callable[[int, int], object]


class Collector:
    """Makes pictures small as they come, and gives tracks at the end."""

    def __init__(self) -> None:
        """Begin empty."""
        self._rows: dict[str, dict[int, tuple[int, int, int, F32]]] = {}
        self.damaged = 0
        """Pictures that could not be decoded."""

    def add(self, frame: Frame) -> None:
        """Take a frame; a second one of the same camera and id is not used."""
        try:
            picture = small_picture(decode_pixels(frame, _reduction(frame)))
        except WireError:
            self.damaged += 1
            return
        row = (frame.exposure_time_ns, frame.counter, frame.receive_time_ns, picture)
        self._rows.setdefault(frame.camera, {}).setdefault(frame.frame_id, row)

    def tracks(self) -> list[Track]:
        """Return the cameras by name; stamps that do not rise are left out, since no signal runs backwards."""
        return [_track(camera, rows) for camera, rows in sorted(self._rows.items())]


def _track(camera: str, rows: dict[int, tuple[int, int, int, F32]]) -> Track:
    kept: list[tuple[int, tuple[int, int, int, F32]]] = []
    for frame_id, row in sorted(rows.items()):
        if not kept or row[0] > kept[-1][1][0]:
            kept.append((frame_id, row))
    times, counters, arrivals, pictures = zip(*(row for _, row in kept), strict=True)
    return Track(camera, tuple(k for k, _ in kept), times, counters, arrivals, np.stack(pictures))


def _reduction(frame: Frame) -> int:
    """The strongest one that leaves four cells a side for each that is kept."""
    width, height = frame.width, frame.height
    fits = (
        r for r in REDUCTIONS if width % r == height % r == 0 and width >= 4 * SIZE[0] * r and height >= 4 * SIZE[1] * r
    )
    return max(fits, default=1)


def tracks_of_take(path: Path, *, seconds: float | None = None, progress: Progress | None = None) -> list[Track]:
    """Read the pictures of a take.

    Args:
        path: the take.
        seconds: how much of it, from its start; None: all.
        progress: told the frames done and all.

    Raises:
        TakeError: no take, or damaged.
    """
    collector, done = Collector(), 0
    with open_take(path) as take:
        first_ns: int | None = None
        for frame in take.frames():
            first_ns = frame.exposure_time_ns if first_ns is None else first_ns
            if seconds is not None and frame.exposure_time_ns - first_ns > seconds * 1e9:
                break
            collector.add(frame)
            done += 1
            if progress is not None:
                progress(done, take.frame_count)
    return collector.tracks()


def tracks_of_bus(bus: BusConfig, *, seconds: float, progress: Progress | None = None) -> list[Track]:
    """Listen to the camera nodes.

    Raises:
        TransportError: no node says anything.
    """
    collector = Collector()
    with Subscriber(node_endpoints(bus), ["frame"], keys_dir=bus.keys_dir, depth=DEPTH) as subscriber:
        for frame in _timed(_bus_frames(subscriber), seconds, progress):
            collector.add(frame)
    tracks = collector.tracks()
    if not tracks:
        raise TransportError(
            f"no picture came from {', '.join(node_endpoints(bus))} within {SILENCE_S:g} s; start mien node, or "
            "let the check open the cameras itself: --rig"
        )
    return tracks


def _bus_frames(subscriber: Subscriber) -> Iterator[Frame | None]:
    while True:
        received = subscriber.receive(0.2)
        yield received[1] if received is not None and isinstance(received[1], Frame) else None


def tracks_of_rig(rig: RigConfig, *, seconds: float, progress: Progress | None = None) -> list[Track]:
    """Open the configured cameras and look through them.

    Raises:
        DriverError: the device is absent, or no picture came.
    """
    driver, trigger = make_driver(rig)
    collector = Collector()
    driver.open()
    try:
        driver.arm(trigger)
        pulses = Pulses.at(driver.fps)
        frames = (None if raw is None else _as_frame(raw, pulses) for raw in _raw_frames(driver.next_frame))
        for frame in _timed(frames, seconds, progress):
            collector.add(frame)
    finally:
        driver.close()
    tracks = collector.tracks()
    if not tracks:
        raise DriverError(f"no camera delivered a picture within {SILENCE_S:g} s; look at cables, power and trigger")
    return tracks


def _raw_frames(next_frame: Callable[[float], RawFrame | None]) -> Iterator[RawFrame | None]:
    while True:
        try:
            yield next_frame(0.2)
        except StreamEnded:
            return


def _as_frame(raw: RawFrame, pulses: Pulses) -> Frame:
    now_ns = time.time_ns()
    frame_id = pulses.frame_id(raw.exposure_time_ns) if raw.frame_id is None else raw.frame_id
    return Frame(
        camera=raw.camera,
        frame_id=frame_id,
        counter=raw.counter,
        sequence=raw.counter,
        exposure_time_ns=raw.exposure_time_ns,
        clock=raw.clock,
        receive_time_ns=now_ns,
        publish_time_ns=now_ns,
        width=raw.width,
        height=raw.height,
        encoding=raw.encoding,
        data=raw.pixels,
    )


def _timed(frames: Iterable[Frame | None], seconds: float, progress: Progress | None) -> Iterator[Frame]:
    """Frames for so many seconds from the first one on; ends early after a long silence."""
    start_s: float | None = None
    heard_s = time.monotonic()
    for frame in frames:
        now_s = time.monotonic()
        if frame is not None:
            start_s = now_s if start_s is None else start_s
            heard_s = now_s
            yield frame
        if start_s is not None and progress is not None:
            progress(round(10 * min(now_s - start_s, seconds)), round(10 * seconds))
        if now_s - heard_s > SILENCE_S or (start_s is not None and now_s - start_s >= seconds):
            return


def shared_cameras(tracks: Sequence[Track], least: int) -> list[Track]:
    """Return the cameras with at least so many pictures."""
    return [track for track in tracks if len(track.times_ns) >= least]

"""A take, or videos with a calibration, as cameras."""

import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rig.clock import NS
from rig.config import PlaybackConfig, RigConfig
from rig.driver import RawFrame, StreamEnded, TriggerMode, choose_trigger
from rig.recordings import Recording, Repeats, TakeRecording, due_ns
from streamer.errors import DriverError
from streamer.types import Calibration, MeshFrame, Topology


def open_recording(config: PlaybackConfig) -> Recording:
    """Open the recording that `[rig.playback]` names.

    Raises:
        DriverError: nothing is there, or what is there does not fit the calibration.
        TakeError: a take that cannot be read.
        CalibrationError: a calibration that cannot be used.
    """
    source = Path(config.source)
    if (source / "take.json").is_file():
        return TakeRecording(source)
    if not source.is_dir():
        raise DriverError(f"rig.playback.source = {config.source!r}: no such folder; name a take or a folder of videos")
    if not config.calibration:
        raise DriverError(
            f"rig.playback.source = {config.source!r} is not a take (no take.json); "
            "for videos set rig.playback.calibration to their calibration file"
        )
    from rig.videos import VideoRecording

    return VideoRecording(source, Path(config.calibration))


class PlaybackDriver:
    """Plays a recording with its original identities and exposure times, paced by them.

    Args:
        config: the recording and how to play it.
        fps: rate of `[rig]`, for recordings that do not know theirs.
    """

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("recorded",)
    can_wait: ClassVar[bool] = True

    def __init__(self, config: PlaybackConfig, fps: float) -> None:
        """Check the settings; nothing is opened."""
        if not config.source:
            raise DriverError("rig.playback.source is empty; name a take, or a folder of videos with a calibration")
        self._config = config
        self._fps = fps
        self._recording: Recording | None = None
        self._playing: Generator[RawFrame, None, None] | None = None
        self._pending: RawFrame | None = None
        self._first_ns = 0
        self._start_ns = 0
        self._truths: deque[MeshFrame] = deque()
        self._passes = 0

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        """Build the driver of `[rig.playback]`."""
        return cls(rig.playback, rig.fps)

    @property
    def calibration(self) -> Calibration:
        """The calibration inside the take, or the one beside the videos."""
        return self._opened().calibration

    @property
    def topologies(self) -> Sequence[Topology]:
        """Topologies inside the take."""
        return self._opened().topologies

    @property
    def fps(self) -> float:
        """The rate of the recording if it is known."""
        return self._opened().fps or self._fps

    @property
    def counters(self) -> Mapping[str, int]:
        """`passes`: how often the recording has been played to its end."""
        return {"passes": self._passes}

    def open(self) -> None:
        """Open the recording and read what describes it."""
        if self._recording is not None:
            raise DriverError("the recording is open already; close it first")
        self._recording = open_recording(self._config)

    def arm(self, trigger: TriggerMode) -> None:
        """Begin at the start of the recording."""
        recording = self._opened()
        choose_trigger("playback", self.triggers, trigger)
        if self._playing is not None:
            raise DriverError("the recording plays already; close it first")
        self._playing = self._play(recording)
        self._pending = None
        self._start_ns = 0

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        """Return the next picture when its time has come."""
        if self._playing is None:
            raise DriverError("the recording does not play; call arm first")
        if self._pending is None:
            self._pending = next(self._playing, None)
        frame = self._pending
        if frame is None:
            raise StreamEnded(f"{self._config.source}: the recording is over")
        now_ns = time.monotonic_ns()
        if self._start_ns == 0:
            self._start_ns, self._first_ns = now_ns, frame.exposure_time_ns
        wait_ns = due_ns(frame.exposure_time_ns, self._first_ns, self._start_ns, self._config.speed) - now_ns
        if wait_ns > timeout_s * NS:
            time.sleep(timeout_s)
            return None
        if wait_ns > 0:
            time.sleep(wait_ns / NS)
        self._pending = None
        return frame

    def take_truths(self) -> list[MeshFrame]:
        """Return the true meshes recorded before the last picture; one that follows it comes with the next."""
        return [self._truths.popleft() for _ in range(len(self._truths))]

    def close(self) -> None:
        """Close the files."""
        if self._playing is not None:
            self._playing.close()
        self._recording = self._playing = self._pending = None

    def _opened(self) -> Recording:
        if self._recording is None:
            raise DriverError("the recording is not open; call open first")
        return self._recording

    def _play(self, recording: Recording) -> Generator[RawFrame, None, None]:
        repeats = Repeats(period_ns=round(NS / self.fps))
        while True:
            empty = True
            for item in recording.play():
                if isinstance(item, MeshFrame):
                    self._truths.append(repeats.mesh(item))
                    continue
                empty = False
                yield repeats.frame(item)
            self._passes += 1
            repeats.begin_again()
            if empty or not self._config.loop:
                return

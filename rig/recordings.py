"""Recordings as sources of pictures: what playback needs of a take or of videos, and how a recording repeats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rig.driver import RawFrame
from streamer.errors import TakeError
from streamer.takes import open_take
from streamer.types import Calibration, Frame, MeshFrame, Topology


class Recording(Protocol):
    """Pictures that were taken earlier."""

    @property
    def calibration(self) -> Calibration:
        """The cameras, full size."""

    @property
    def topologies(self) -> Sequence[Topology]:
        """Topologies of the true meshes."""

    @property
    def fps(self) -> float | None:
        """Rate on whose grid the frames are numbered; None: not known, and not needed, since frames carry numbers."""

    def play(self) -> Iterator[RawFrame | MeshFrame]:
        """Begin at the start: pictures with their original identities, true meshes among them.

        Raises:
            TakeError: the recording is damaged here.
        """


class TakeRecording:
    """A take on disk.

    Args:
        path: folder of the take.

    Raises:
        TakeError: no take, or one that cannot be read.
    """

    fps: float | None = None

    def __init__(self, path: Path) -> None:
        """Read what describes the take; pictures are read while playing."""
        self._take = open_take(path)
        self.calibration: Calibration = self._take.calibration
        self.topologies: Sequence[Topology] = tuple(self._take.topologies.values())

    def play(self) -> Iterator[RawFrame | MeshFrame]:
        """Frames and true meshes in the order in which they were recorded."""
        for _, _, message in self._take.messages(("frame", "truth")):
            if isinstance(message, MeshFrame):
                yield message
            elif isinstance(message, Frame):
                yield RawFrame(
                    camera=message.camera,
                    counter=message.counter,
                    exposure_time_ns=message.exposure_time_ns,
                    clock=message.clock,
                    pixels=message.data,
                    encoding=message.encoding,
                    width=message.width,
                    height=message.height,
                    frame_id=message.frame_id,
                    timecode=message.timecode,
                )


@dataclass(slots=True)
class _Span:
    """First and last picture of one camera."""

    first: RawFrame
    last: RawFrame


class Repeats:
    """Continues identities and times when a recording begins again, as if the rig had never stopped.

    Repeated numbers would look like duplicates and late frames to every consumer. The first pass is left as it was.

    Args:
        period_ns: time between pulses, for a recording of a single one.
    """

    def __init__(self, period_ns: int) -> None:
        """Begin with the first pass."""
        self._period_ns = period_ns
        self._passes = 0
        self._spans: dict[str, _Span] = {}
        self._ids = self._time_ns = 0

    def begin_again(self) -> None:
        """Note that a pass is complete."""
        if self._passes == 0 and self._spans:
            spans = self._spans.values()
            self._ids = max(_number(s.last) for s in spans) - min(_number(s.first) for s in spans) + 1
            longest = max(spans, key=lambda s: _number(s.last) - _number(s.first))
            pulses = _number(longest.last) - _number(longest.first)
            elapsed_ns = longest.last.exposure_time_ns - longest.first.exposure_time_ns
            self._time_ns = round(self._ids * elapsed_ns / pulses) if pulses > 0 else self._ids * self._period_ns
        self._passes += 1

    def frame(self, frame: RawFrame) -> RawFrame:
        """Return the picture as it appears in this pass.

        Raises:
            TakeError: the picture has no number.
        """
        frame_id = _number(frame)
        if self._passes == 0:
            self._spans.setdefault(frame.camera, _Span(frame, frame)).last = frame
            return frame
        span = self._spans[frame.camera]
        return replace(
            frame,
            frame_id=frame_id + self._passes * self._ids,
            exposure_time_ns=frame.exposure_time_ns + self._passes * self._time_ns,
            counter=frame.counter + self._passes * (span.last.counter - span.first.counter + 1),
        )

    def mesh(self, mesh: MeshFrame) -> MeshFrame:
        """Return the true mesh as it appears in this pass."""
        return replace(
            mesh,
            frame_id=mesh.frame_id + self._passes * self._ids,
            exposure_time_ns=mesh.exposure_time_ns + self._passes * self._time_ns,
        )


def _number(frame: RawFrame) -> int:
    if frame.frame_id is None:
        raise TakeError(f"camera '{frame.camera}': recorded picture {frame.counter} has no frame id; import it again")
    return frame.frame_id


def due_ns(exposure_time_ns: int, first_ns: int, start_ns: int, speed: float) -> int:
    """Return when a recorded picture is delivered, on the clock of `start_ns`.

    Args:
        exposure_time_ns: its exposure on the clock of the recording, ns.
        first_ns: exposure of the first picture, ns.
        start_ns: when that one was delivered, ns.
        speed: 1 as recorded, 2 twice as fast; 0 as fast as it goes.
    """
    return start_ns if speed == 0 else start_ns + round((exposure_time_ns - first_ns) / speed)

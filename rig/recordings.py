"""Recordings as sources of pictures: what playback needs of a take or of videos, and how a recording repeats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
class Repeats:
    """Continues identities and times when a recording begins again, as if the rig had never stopped.

    Repeated numbers would look like duplicates and late frames to every consumer. The first pass is left as it was.
    """

    period_ns: int
    """Step from the last pulse of one pass to the first of the next, if the pass itself shows none."""
    passes: int = 0
    """Passes completed."""
    _ids: tuple[int, int] | None = None
    _times_ns: tuple[int, int] | None = None
    _counters: dict[str, tuple[int, int]] = field(default_factory=dict)

    def frame(self, frame: RawFrame) -> RawFrame:
        """Return the picture as it appears in this pass.

        Raises:
            TakeError: the picture has no number.
        """
        frame_id = frame.frame_id
        if frame_id is None:
            raise TakeError(
                f"camera '{frame.camera}': recorded picture {frame.counter} has no frame id; import it again"
            )
        if self.passes == 0:
            self._ids = _extend(self._ids, frame_id)
            self._times_ns = _extend(self._times_ns, frame.exposure_time_ns)
            self._counters[frame.camera] = _extend(self._counters.get(frame.camera), frame.counter)
            return frame
        ids, time_ns = self._step()
        first, last = self._counters[frame.camera]
        return replace(
            frame,
            frame_id=frame_id + self.passes * ids,
            exposure_time_ns=frame.exposure_time_ns + self.passes * time_ns,
            counter=frame.counter + self.passes * (last - first + 1),
        )

    def mesh(self, mesh: MeshFrame) -> MeshFrame:
        """Return the true mesh as it appears in this pass."""
        if self.passes == 0:
            return mesh
        ids, time_ns = self._step()
        return replace(
            mesh,
            frame_id=mesh.frame_id + self.passes * ids,
            exposure_time_ns=mesh.exposure_time_ns + self.passes * time_ns,
        )

    def _step(self) -> tuple[int, int]:
        """Frame ids and ns from one pass to the next."""
        first_id, last_id = self._ids or (0, 0)
        first_ns, last_ns = self._times_ns or (0, 0)
        period_ns = round((last_ns - first_ns) / (last_id - first_id)) if last_id > first_id else self.period_ns
        return last_id - first_id + 1, last_ns - first_ns + period_ns


def _extend(span: tuple[int, int] | None, value: int) -> tuple[int, int]:
    return (value, value) if span is None else (min(span[0], value), max(span[1], value))


def due_ns(exposure_time_ns: int, first_ns: int, start_ns: int, speed: float) -> int:
    """Return when a recorded picture is delivered, on the clock of `start_ns`.

    Args:
        exposure_time_ns: its exposure on the clock of the recording, ns.
        first_ns: exposure of the first picture, ns.
        start_ns: when that one was delivered, ns.
        speed: 1 as recorded, 2 twice as fast; 0 as fast as it goes.
    """
    return start_ns if speed == 0 else start_ns + round((exposure_time_ns - first_ns) / speed)

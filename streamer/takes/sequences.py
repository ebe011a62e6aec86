"""The meshes and the frame sets of a take as sequences: ordered, each read when it is asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError
from streamer.takes import sets
from streamer.takes.moments import nearest, time_of_timecode
from streamer.takes.table import Entries
from streamer.types import Frame, FrameSet, MeshFrame

if TYPE_CHECKING:
    from streamer.takes.reader import Take


class MeshSequence(Sequence[MeshFrame]):
    """The meshes of one channel in order of frame id, each read when it is asked for."""

    def __init__(self, take: "Take", entries: Entries, keys: NDArray[np.int64]) -> None:
        """Order the meshes.

        Args:
            take: where they are.
            entries: (F,) their entries.
            keys: (F, 2) their frame ids and times.
        """
        order = np.lexsort((np.arange(len(keys)), keys[:, 0]))
        self._take, self._entries = take, entries[order]
        self.frame_ids: NDArray[np.int64] = keys[order, 0]
        """(F,) frame ids, rising."""
        self.times_ns: NDArray[np.int64] = keys[order, 1]
        """(F,) exposure times, ns."""

    def __len__(self) -> int:
        """Return the number of meshes."""
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> MeshFrame: ...

    @overload
    def __getitem__(self, index: slice) -> list[MeshFrame]: ...

    def __getitem__(self, index: int | slice) -> MeshFrame | list[MeshFrame]:
        """Read a mesh, or several.

        Raises:
            TakeError: it is damaged.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        message = self._take.read(self._entries[index])
        if not isinstance(message, MeshFrame):
            raise TakeError(
                f"{self._take.path}: a mesh channel holds a {type(message).__name__}; run: "
                f"mien verify {self._take.path}"
            )
        return message

    def at_frame(self, frame_id: int) -> MeshFrame | None:
        """Read the mesh of a rig frame id, None if there is none."""
        row = int(np.searchsorted(self.frame_ids, frame_id))
        return self[row] if row < len(self) and self.frame_ids[row] == frame_id else None

    def at_time(self, time_ns: int) -> MeshFrame:
        """Read the mesh exposed nearest to a time, ns on the take's clock.

        Raises:
            IndexError: there are no meshes.
        """
        return self[nearest(self.times_ns, time_ns)]

    def at_timecode(self, text: str) -> MeshFrame:
        """Read the mesh exposed nearest to the beginning of a timecode label.

        Raises:
            TakeError: the take has no timecode.
            ConfigError: it is no label at the take's rate.
            IndexError: there are no meshes.
        """
        return self[nearest(self.times_ns, time_of_timecode(self._take, text))]


class SetSequence(Sequence[FrameSet]):
    """The frame sets of a take as it matches them itself; every set counts, cameras without a frame are `absent`."""

    def __init__(self, take: "Take", table: sets.Table) -> None:
        """Match the frames by ids and times alone.

        Args:
            take: where they are.
            table: frames of each camera.
        """
        self._take, self._table = take, table
        self._matches = sets.match_frames(table, take.sync)
        self._seen = frozenset(camera for camera, rows in table.items() if len(rows))
        self.frame_ids: NDArray[np.int64] = np.array([match.frame_id for match in self._matches], np.int64)
        """(S,) rig frame ids, rising."""
        stamps = [sorted(int(table[c][row, 1]) for c, row in match.rows.items()) for match in self._matches]
        self.times_ns: NDArray[np.int64] = np.array([times[len(times) // 2] for times in stamps], np.int64)
        """(S,) median exposure times, ns."""
        self._skews = np.array([times[-1] - times[0] for times in stamps], np.int64)

    def __len__(self) -> int:
        """Return the number of sets."""
        return len(self._matches)

    @overload
    def __getitem__(self, index: int) -> FrameSet: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameSet]: ...

    def __getitem__(self, index: int | slice) -> FrameSet | list[FrameSet]:
        """Read the frames of a set, or of several.

        Raises:
            TakeError: a frame is damaged.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        match = self._matches[index]
        members: dict[str, Frame] = {camera: self._take.frame(camera, row) for camera, row in match.rows.items()}
        builder = sets.SetBuilder(self._take.calibration.ids, self._seen, self._take.sync)
        built = builder.build(match, members)
        if built is None:
            raise TakeError(f"{self._take.path}: set {match.frame_id} is empty; run: mien verify {self._take.path}")
        return built

    def at_time(self, time_ns: int) -> FrameSet:
        """Read the set exposed nearest to a time, ns on the take's clock.

        Raises:
            IndexError: there are no sets.
        """
        return self[nearest(self.times_ns, time_ns)]

    def at_timecode(self, text: str) -> FrameSet:
        """Read the set exposed nearest to the beginning of a timecode label.

        Raises:
            TakeError: the take has no timecode.
            ConfigError: it is no label at the take's rate.
            IndexError: there are no sets.
        """
        return self[nearest(self.times_ns, time_of_timecode(self._take, text))]

    def ledger(self) -> dict[str, NDArray[Any]]:
        """Return what is known of every set without reading a picture, as columns: `pandas.DataFrame(sets.ledger())`.

        Returns:
            `frame_id`, `time_ns`, `cameras` (how many), `skew_ns`, (S,) int64 each; `complete` (S,) bool; and for
            each camera `time_ns.<camera>` (S,) int64, -1 where it is missing.
        """
        columns: dict[str, NDArray[Any]] = {
            "frame_id": self.frame_ids,
            "time_ns": self.times_ns,
            "cameras": np.array([len(match.rows) for match in self._matches], np.int64),
            "skew_ns": self._skews,
        }
        columns["complete"] = columns["cameras"] == len(self._take.calibration.ids)
        for camera, table in self._table.items():
            column = np.full(len(self), -1, np.int64)
            for number, match in enumerate(self._matches):
                if camera in match.rows:
                    column[number] = table[match.rows[camera], 1]
            columns[f"time_ns.{camera}"] = column
        return columns

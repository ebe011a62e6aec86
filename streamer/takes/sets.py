"""Frames to frame sets from ids and times alone: the same sets in whatever order the frames arrived. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.config import SyncConfig
from streamer.errors import TakeError
from streamer.types import Frame, FrameSet

Table = Mapping[str, NDArray[np.int64]]
"""Camera to (M, 2): frame id and exposure time in ns of each of its frames."""


Load = Callable[[str, int], Frame]
"""Fetches the frame of a camera in a row of the table."""


@dataclass(frozen=True, slots=True)
class Match:
    """Which frames belong together."""

    frame_id: int
    """Rig frame id of the set; ids of a sequence rise strictly."""
    rows: Mapping[str, int]
    """Camera to row of its frame in the table."""


def match_by_id(table: Table) -> list[Match]:
    """Group frames by rig frame id; of two frames of a camera with one id the first counts."""
    groups: dict[int, dict[str, int]] = {}
    for camera, rows in table.items():
        ids, first = np.unique(rows[:, 0], return_index=True)
        for frame_id, row in zip(ids.tolist(), first.tolist(), strict=True):
            groups.setdefault(frame_id, {})[camera] = row
    return [Match(frame_id, groups[frame_id]) for frame_id in sorted(groups)]


def match_by_time(table: Table, tolerance_ns: int) -> list[Match]:
    """Group frames of free-running cameras by exposure time.

    The earliest frame that is left opens a set; every other camera gives its earliest frame that is left, if it lies
    within the tolerance. So the spread of a set never exceeds the tolerance, and a frame is in exactly one set.

    Args:
        table: frames of each camera.
        tolerance_ns: largest spread; should be below half a frame period.

    Returns:
        Sets in order of time. Their id is that of the earliest member, raised where needed to stay above the previous.
    """
    orders = {camera: np.argsort(rows[:, 1], kind="stable") for camera, rows in table.items() if len(rows)}
    times = {camera: table[camera][order, 1].tolist() for camera, order in orders.items()}
    heads = dict.fromkeys(orders, 0)
    matches: list[Match] = []
    last_id: int | None = None
    while True:
        left = {camera: times[camera][head] for camera, head in heads.items() if head < len(times[camera])}
        if not left:
            return matches
        opener = min(left, key=lambda camera: (left[camera], camera))
        rows = {
            camera: int(orders[camera][heads[camera]]) for camera, t in left.items() if t - left[opener] <= tolerance_ns
        }
        for camera in rows:
            heads[camera] += 1
        frame_id = int(table[opener][rows[opener], 0])
        last_id = frame_id if last_id is None else max(frame_id, last_id + 1)
        matches.append(Match(last_id, rows))


def match_frames(table: Table, config: SyncConfig) -> list[Match]:
    """Group frames as `config.match` says."""
    return match_by_id(table) if config.match == "frame_id" else match_by_time(table, config.tolerance_us * 1000)


class SetBuilder:
    """Applies the policy for missing cameras to one match after the other, in order."""

    def __init__(self, cameras: Sequence[str], seen: frozenset[str], config: SyncConfig) -> None:
        """Begin a sequence.

        Args:
            cameras: all cameras of the rig, in rig order.
            seen: cameras of which there are frames at all.
            config: policies and smallest set.
        """
        self._cameras, self._seen, self._config = cameras, seen, config
        self._latest: dict[str, Frame] = {}

    def build(self, match: Match, members: Mapping[str, Frame]) -> FrameSet | None:
        """Return the set, or None if the policy drops it.

        Args:
            match: which frames belong together.
            members: camera to frame, at least those of the match.

        Raises:
            TakeError: a camera is missing whose policy is `stop`.
        """
        present = {camera: members[camera] for camera in self._cameras if camera in match.rows}
        absent: dict[str, str] = {}
        frozen: set[str] = set()
        drop = False
        for camera in self._cameras:
            if camera in present:
                continue
            absent[camera] = "missing" if camera in self._seen else "not-recorded"
            policy = self._config.per_camera.get(camera, self._config.on_missing)
            if policy == "stop":
                raise TakeError(
                    f"frame {match.frame_id}: camera '{camera}' is {absent[camera]} and its policy is 'stop'"
                )
            drop = drop or policy == "drop"
            if policy == "freeze" and camera in self._latest:
                frozen.add(camera)
        self._latest |= present
        times = [frame.exposure_time_ns for frame in present.values()]
        if drop or not present or len(present) + len(frozen) < self._config.min_cameras:
            return None
        held = {camera: self._latest[camera] for camera in self._cameras if camera in present or camera in frozen}
        reasons = {camera: why for camera, why in absent.items() if camera not in frozen}
        last = max(present, key=lambda camera: present[camera].exposure_time_ns)
        waited_for = next(iter(absent), last)
        return FrameSet(match.frame_id, held, reasons, max(times) - min(times), waited_for, 0, frozenset(frozen))


def frame_sets(table: Table, cameras: Sequence[str], config: SyncConfig, load: Load) -> Iterator[FrameSet]:
    """Yield the sets of a recording in order.

    Args:
        table: frames of each camera.
        cameras: all cameras of the rig, in rig order.
        config: matching and policies; deadlines and stalls mean nothing here.
        load: fetches the frame of a camera in a row of the table.

    Raises:
        TakeError: see `SetBuilder.build`.
    """
    builder = SetBuilder(cameras, frozenset(camera for camera, rows in table.items() if len(rows)), config)
    for match in match_frames(table, config):
        built = builder.build(match, {camera: load(camera, row) for camera, row in match.rows.items()})
        if built is not None:
            yield built


def default_sync(match: str, tolerance_us: int) -> SyncConfig:
    """Return the matching that a take itself asks for: every set counts, missing cameras are left out."""
    return replace(SyncConfig(), match=match, tolerance_us=tolerance_us, min_cameras=1)  # type: ignore[arg-type]

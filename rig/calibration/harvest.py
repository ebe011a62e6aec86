"""From pictures to corners worth using: detection everywhere, then few blurred and few redundant views."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from rig.calibration.boards import Board
from rig.calibration.detection import BoardFinder, Detection, explain_nothing_found, other_board
from rig.calibration.footage import Source, sets_of
from streamer.errors import CalibrationError
from streamer.types import F64, U8

Progress = Callable[[int, int], None]
BLUR_FACTOR = 2.0
"""A view is blurred if its edges are this much wider than the sharp fifth of its camera's."""
MOVED_PX = 1.0
"""A view is out of step if the board moved this far between its exposure and that of its set."""
SAMPLES = 8


@dataclass(slots=True)
class Harvest:
    """What was found."""

    board: Board
    """The board, as it is (see `notes`)."""
    sizes: Mapping[str, tuple[int, int]]
    """Camera to width and height, px, in rig order."""
    views: dict[str, dict[int, Detection]]
    """Camera to set to what was found."""
    looked: Mapping[str, int]
    """Camera to pictures looked at."""
    labels: Mapping[tuple[str, int], int]
    """Camera and set to the number of its picture, for people."""
    skew_px: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Camera and set to how far the board moved between its exposure and that of the set, where times tell."""
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    """Camera to reason to views that are not used."""
    notes: list[str] = field(default_factory=list)
    """What people should know."""

    @property
    def names(self) -> tuple[str, ...]:
        """Cameras in rig order."""
        return tuple(self.sizes)

    def drop(self, name: str, number: int, reason: str) -> None:
        """Leave a view out, and count why."""
        del self.views[name][number]
        reasons = self.left_out.setdefault(name, {})
        reasons[reason] = reasons.get(reason, 0) + 1


def harvest(sources: Sequence[Source], board: Board, *, max_sets: int, progress: Progress | None = None) -> Harvest:
    """Look for the board in all pictures.

    Args:
        sources: the cameras, ids unique.
        board: what to look for.
        max_sets: sets looked at; of more, evenly spread ones are.
        progress: told pictures done and pictures in all.

    Raises:
        CalibrationError: a picture cannot be read, sizes are mixed, or a camera never sees the board; says what may be
            wrong.
        TakeError: a video or take is damaged.
    """
    board, notes = _counted_squares(board, sources[0])
    sets = sets_of(sources)
    if len(sets) > max_sets:
        sets = [sets[k] for k in np.linspace(0, len(sets) - 1, max_sets).astype(int)]
    wanted = {s.name: {members[s.name]: k for k, members in enumerate(sets) if s.name in members} for s in sources}
    total, done, lock = sum(map(len, wanted.values())), 0, threading.Lock()

    def look(source: Source) -> dict[int, Detection]:
        nonlocal done
        finder, found = BoardFinder(board), {}
        chosen = wanted[source.name]
        for index, picture in source.pictures(sorted(chosen)):
            detection = finder(picture)
            if detection is not None:
                found[chosen[index]] = detection
            with lock:
                done += 1
                if progress is not None:
                    progress(done, total)
        return found

    with ThreadPoolExecutor(min(len(sources), os.cpu_count() or 1)) as pool:
        views = dict(zip([s.name for s in sources], pool.map(look, sources), strict=True))
    for source in sources:
        if not views[source.name]:
            raise explain_nothing_found(board, samples(source), f"camera '{source.name}'")
        # a board that is a part of the true one is found now and then
        if len(views[source.name]) * 4 < len(wanted[source.name]) and (other := other_board(board, samples(source))):
            raise CalibrationError(f"camera '{source.name}': {other}; correct BOARD.toml")
    return Harvest(
        board,
        {s.name: s.size for s in sources},
        views,
        {s.name: len(wanted[s.name]) for s in sources},
        {(name, k): index for name, chosen in wanted.items() for index, k in chosen.items()},
        _skews(sources, sets, views),
        notes=notes,
    )


def samples(source: Source) -> list[U8]:
    """Return a few pictures, evenly spread."""
    chosen = sorted({int(k) for k in np.linspace(0, source.count - 1, min(SAMPLES, source.count))})
    return [picture for _, picture in source.pictures(chosen)]


def _counted_squares(board: Board, source: Source) -> tuple[Board, list[str]]:
    """Understand a chessboard whose squares were counted in place of its inner corners."""
    fewer = replace(board, columns=board.columns - 1, rows=board.rows - 1)
    if board.kind != "chessboard" or min(fewer.grid) < 3:
        return board, []
    pictures = samples(source)
    right, wrong = BoardFinder(board), BoardFinder(fewer)
    if any(right(picture) is not None for picture in pictures):
        return board, []
    if not any(wrong(picture) is not None for picture in pictures):
        return board, []
    note = (
        f"the board has {fewer.columns}x{fewer.rows} inner corners: columns = {board.columns}, rows = {board.rows} "
        "were taken as its squares"
    )
    return fewer, [note]


def _skews(
    sources: Sequence[Source], sets: Sequence[Mapping[str, int]], views: Mapping[str, Mapping[int, Detection]]
) -> dict[tuple[str, int], float]:
    """Return how far the board moved between the exposure of a view and the middle of its set, px."""
    times = {source.name: source.times_ns for source in sources}
    found: dict[tuple[str, int], float] = {}
    for name, own in views.items():
        stamps = times[name]
        if stamps is None:
            continue
        speeds = _speeds(own, {k: stamps[sets[k][name]] * 1e-9 for k in own})
        for k in own:
            members = [(t[sets[k][other]]) for other, t in times.items() if t is not None and other in sets[k]]
            late_s = (stamps[sets[k][name]] - float(np.median(members))) * 1e-9
            found[name, k] = abs(late_s) * speeds[k]
    return found


def _speeds(views: Mapping[int, Detection], times_s: Mapping[int, float]) -> dict[int, float]:
    """Return the speed of the board in each view, px/s, from the neighbouring sets; 0 where there are none."""
    speeds = dict.fromkeys(views, 0.0)
    for k in views:
        for other in (k - 1, k + 1):
            if other not in views:
                continue
            _, a, b = np.intersect1d(views[k].ids, views[other].ids, return_indices=True)
            gap = abs(times_s[k] - times_s[other])
            if len(a) and gap > 0:
                way = np.linalg.norm(views[k].pixels[a] - views[other].pixels[b], axis=1)
                speeds[k] = max(speeds[k], float(np.median(way)) / gap)
    return speeds


def clean(found: Harvest) -> None:
    """Leave out blurred views and those whose exposure was out of step, unless most of a camera's views are such."""
    for name in found.names:
        own = found.views[name]
        sharp = float(np.quantile([d.blur_px for d in own.values()], 0.2))
        blurred = [k for k, d in own.items() if d.blur_px > BLUR_FACTOR * sharp]
        if len(blurred) * 2 <= len(own):
            for k in blurred:
                found.drop(name, k, "blurred")
        late = [k for k in own if found.skew_px.get((name, k), 0.0) > MOVED_PX]
        if len(late) * 2 <= len(own):
            for k in late:
                found.drop(name, k, "out of step")


def thin(found: Harvest, max_used: int) -> None:
    """Keep the sets that differ most, by where the board's corners lie in all cameras.

    Args:
        found: changed in place.
        max_used: sets to keep.
    """
    numbers = sorted({k for own in found.views.values() for k in own})
    if len(numbers) <= max_used:
        return
    place = np.full((len(numbers), len(found.names), 8), np.nan)
    row = {k: i for i, k in enumerate(numbers)}
    for column, name in enumerate(found.names):
        for k, detection in found.views[name].items():
            place[row[k], column] = _outline(found.board, detection, found.sizes[name])
    keep = {numbers[i] for i in spread_out(place, max_used)}
    for name in found.names:
        for k in [k for k in found.views[name] if k not in keep]:
            found.drop(name, k, "redundant")


def spread_out(place: F64, count: int) -> list[int]:
    """Choose sets that differ most: each next one adds the most distance, summed over cameras, to those chosen.

    Args:
        place: (S, C, D) descriptor per set and camera, NaN where there is no view.
        count: how many.

    Returns:
        Their indices, in order of choice.
    """
    seen = np.isfinite(place[..., 0])
    nearest = np.where(seen, 1.0, 0.0)  # an unseen part of a picture counts as far as a whole picture's width
    chosen: list[int] = []
    left = np.ones(len(place), bool)
    for _ in range(min(count, len(place))):
        gain = np.where(left, nearest.sum(1), -1.0)
        best = int(gain.argmax())
        chosen.append(best)
        left[best] = False
        way = np.linalg.norm(place - place[best], axis=2) / np.sqrt(place.shape[2])
        nearest = np.where(np.isfinite(way), np.minimum(nearest, way), nearest)
    return chosen


def _outline(board: Board, detection: Detection, size: tuple[int, int]) -> F64:
    """Return where the board's four corners lie (8,), in pictures."""
    import cv2

    plane = board.points()[detection.ids, :2]
    homography, _ = cv2.findHomography(plane, detection.pixels)
    if np.size(homography) != 9:
        raise CalibrationError("a detected board lies on a line")  # `BoardFinder` never gives such
    corners = cv2.perspectiveTransform(board.outline()[None, :, :2], np.asarray(homography, np.float64))[0]
    return np.asarray(np.clip(np.asarray(corners, np.float64) / np.array(size), -1, 2).ravel(), np.float64)

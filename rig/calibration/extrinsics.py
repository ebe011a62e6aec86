"""All cameras at once: a first guess, then bundle adjustment, then a world."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rig.calibration.boards import Board
from rig.calibration.bundle import Corners, Free, Solution, deviations, errors, settle
from rig.calibration.harvest import Harvest
from rig.calibration.initial import Guess, guess
from rig.calibration.intrinsics import Intrinsics, fit_camera, middle_of
from rig.calibration.lens import LENSES, camera_matrix, free_parameters, pack_intrinsics
from rig.calibration.poses import matrix_of, pose_of
from rig.calibration.second_look import choose_again, with_tangential
from rig.calibration.world import board_world, ring_world
from streamer.errors import CalibrationError
from streamer.geometry import inverse_rigid
from streamer.types import F64, Calibration, Camera

FULL = "k1k2p1p2k3"


@dataclass(frozen=True, slots=True)
class Rig:
    """A calibrated rig and what it stands on."""

    board: Board
    """The board."""
    calibration: Calibration
    """The cameras, in the world."""
    corners: Corners
    """All corners found in views that were used; cameras in the order of the calibration."""
    kept: NDArray[np.bool_]
    """(M,) which of them the result stands on; the others were wrong."""
    boards: F64
    """(S, 6) world from board, per set."""
    numbers: tuple[int, ...]
    """The set of each board pose."""
    lenses: Mapping[str, str]
    """Camera to lens model."""
    spread: Mapping[str, tuple[F64, F64]]
    """Camera to standard deviations of its nine intrinsics and of its six pose numbers."""
    singles: Mapping[str, Intrinsics] = field(default_factory=dict)
    """Camera to what it gave alone; empty where intrinsics were given."""
    pairs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Cameras joined for the first guess to the number of sets that agreed."""

    @property
    def names(self) -> tuple[str, ...]:
        """Cameras in rig order."""
        return self.calibration.ids

    def errors_px(self) -> F64:
        """Return the reprojection errors (M, 2) of all corners."""
        return errors(self.board.points(), self.corners, solution_of(self.calibration, self.boards))


def solution_of(calibration: Calibration, boards: F64) -> Solution:
    """Return cameras and boards (S, 6) as numbers."""
    cameras = calibration.cameras
    return Solution(
        np.stack([pack_intrinsics(c.K, c.distortion) for c in cameras]),
        np.stack([pose_of(c.camera_from_world) for c in cameras]),
        boards,
    )


def corners_of(names: tuple[str, ...], numbers: tuple[int, ...], views: Mapping[str, Mapping[int, object]]) -> Corners:
    """Put the views of all cameras into one table."""
    place = {k: i for i, k in enumerate(numbers)}
    parts = [
        (np.full(len(v.ids), c), np.full(len(v.ids), place[k]), v.ids, v.pixels)  # type: ignore[attr-defined]
        for c, name in enumerate(names)
        for k, v in sorted(views[name].items())
        if k in place
    ]
    camera, numbered, ids, pixels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Corners(camera.astype(np.int64), numbered.astype(np.int64), ids.astype(np.int64), pixels)


def calibrate_lenses(
    found: Harvest, *, lens: str | None = None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Intrinsics]:
    """Calibrate each camera for itself.

    Args:
        found: what was seen.
        lens: name in `LENSES` for all; None: chosen by evidence.
        progress: told fits done and fits in all.

    Raises:
        CalibrationError: too few or unsuitable views of a camera.
    """
    points = found.board.points()
    total, done = len(found.names) * 3 * (len(LENSES) + 2), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(done, total), total)

    return {
        name: fit_camera(points, list(found.views[name].values()), found.sizes[name], f"camera '{name}'", lens, tick)
        for name in found.names
    }


def calibrate_rig(
    found: Harvest,
    *,
    given: Calibration | None = None,
    lens: str | None = None,
    world: str = "ring",
    source: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Rig:
    """Calibrate a rig.

    Args:
        found: what was seen.
        given: intrinsics that stay as they are; None: estimated together with the poses.
        lens: name in `LENSES` for all; None: chosen by evidence, for each camera alone.
        world: `ring` (upright, by the cameras), `board` (the board of the first set is the origin) or `board:K`.
        source: what to write into the calibration.
        progress: told fits done and fits in all.

    Raises:
        CalibrationError: fewer than two cameras, too few views, cameras that share no view, or sizes that differ from
            the given calibration.
    """
    if len(found.names) < 2:
        raise CalibrationError("extrinsics need two cameras or more; for one camera run: mien calibrate intrinsic")
    points = found.board.points()
    singles = {} if given is not None else calibrate_lenses(found, lens=lens, progress=progress)
    intrinsics = _given(found, given) if given is not None else {n: one.values for n, one in singles.items()}
    start = guess(points, found.views, intrinsics, turned_alike=found.board.turned_alike)
    corners = corners_of(found.names, start.numbers, start.views)
    lenses = {n: singles[n].lens if singles else FULL for n in found.names}
    middles = np.stack([middle_of(found.sizes[n]) for n in found.names])
    moving = np.array([n != start.root for n in found.names])
    fixed = Free(np.zeros((len(moving), 9), bool), moving)
    solution, kept = settle(points, corners, fixed, start.solution)
    free = fixed
    if given is None:
        richer = with_tangential(lenses) if lens is None else lenses
        free, solution, kept = _with_lenses(points, corners, richer, fixed, middles, solution)
        if richer != lenses:
            lenses = choose_again(points, corners.where(kept), free, solution, lenses)
        if richer != lenses:
            free, solution, kept = _with_lenses(points, corners, lenses, fixed, middles, solution)
    spread = deviations(points, corners.where(kept), free, solution)
    made = Rig(
        found.board,
        _calibration(found, solution, source),
        corners,
        kept,
        solution.boards,
        start.numbers,
        lenses,
        {n: (spread[0][i], spread[1][i]) for i, n in enumerate(found.names)},
        singles,
        start.pairs,
    )
    return moved(made, _world(made, start, world))


def _with_lenses(
    points: F64, corners: Corners, lenses: Mapping[str, str], fixed: Free, middles: F64, start: Solution
) -> tuple[Free, Solution, NDArray[np.bool_]]:
    """Adjust cameras, boards and lenses of these models, in rig order; return what was free, and what `settle` does."""
    free = replace(fixed, intrinsics=np.stack([free_parameters(one) for one in lenses.values()]), middles=middles)
    begin = replace(start, intrinsics=np.where(free.intrinsics, start.intrinsics, 0.0))
    return free, *settle(points, corners, free, begin)


def _given(found: Harvest, given: Calibration) -> dict[str, F64]:
    intrinsics = {}
    for name, size in found.sizes.items():
        camera = given[name]
        if (camera.width, camera.height) != size:
            raise CalibrationError(
                f"camera '{name}': its pictures are {size[0]}x{size[1]}, the given intrinsics are meant for "
                f"{camera.width}x{camera.height}; calibrate at the size that is used"
            )
        intrinsics[name] = pack_intrinsics(camera.K, camera.distortion)
    return intrinsics


def _calibration(found: Harvest, solution: Solution, source: str) -> Calibration:
    cameras = []
    for index, (name, (width, height)) in enumerate(found.sizes.items()):
        values = solution.intrinsics[index]
        place = matrix_of(solution.cameras[index])
        cameras.append(Camera(name, name, width, height, camera_matrix(values), values[4:], place))
    return Calibration(tuple(cameras), source)


def _world(made: Rig, start: Guess, world: str) -> F64:
    """Return world from the frame that the rig is in now."""
    kind, _, number = world.partition(":")
    if kind == "ring":
        return ring_world(made.calibration)
    wanted = start.numbers[0] if not number else int(number)
    if wanted not in start.numbers:
        raise CalibrationError(
            f"--world {world}: the board was not seen in set {wanted}; sets with the board begin "
            f"{', '.join(map(str, start.numbers[:8]))}"
        )
    return board_world(made.board, matrix_of(made.boards[start.numbers.index(wanted)]))


def moved(rig: Rig, world_from_now: F64) -> Rig:
    """Return the rig in another world."""
    now_from_world = inverse_rigid(world_from_now)
    boards = np.stack([pose_of(world_from_now @ matrix_of(pose)) for pose in rig.boards])
    return replace(rig, calibration=moved_cameras(rig.calibration, now_from_world), boards=boards)


def moved_cameras(calibration: Calibration, old_from_new: F64) -> Calibration:
    """Return the cameras for a new world."""
    cameras = tuple(replace(c, camera_from_world=c.camera_from_world @ old_from_new) for c in calibration.cameras)
    return replace(calibration, cameras=cameras)

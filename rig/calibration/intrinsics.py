"""One camera: focal length, principal point and the lens model that the evidence asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rig.calibration.bundle import Corners, Free, Solution, errors, settle, solve
from rig.calibration.detection import Detection
from rig.calibration.lens import LENSES, camera_matrix, free_parameters
from rig.calibration.poses import matrix_of, pose_of
from streamer.errors import CalibrationError
from streamer.types import F64

MIN_VIEWS = 4
"""Fewer views do not separate focal length, principal point and lens."""
FOLDS = 3
EVIDENCE_VIEWS = 24
RICHER = ("rational", "fisheye")
"""Lens models that Mien does not carry; fitted where its own fullest one is asked for, to tell when they are needed."""
SOON = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 20, 1e-6)
HELD_OUT_CAP = 25.0
"""Squared error, px², beyond which a corner counts no more: a wrong one must not decide."""
RICHER_GAIN, RICHER_PX = 0.15, 0.03


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a lens model: errors in views that the lens was not fitted to."""

    held_out_px: Mapping[str, float]
    """Lens model to rms error, also of richer models than Mien carries, where they could be fitted."""
    chosen: str
    """Name in `LENSES`: the simplest that is not significantly worse than the best."""
    wanted: str = ""
    """A richer model that would be clearly better; empty if none."""


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A calibrated camera without a place."""

    values: F64
    """(9,) in the order of `lens.PARAMETERS`."""
    lens: str
    """Name in `LENSES`."""
    evidence: Evidence | None
    """Why this lens model; None where it was prescribed."""
    rms_px: float
    """Reprojection error over the corners used."""
    views: int
    """Views used."""


def as_corners(views: Sequence[Detection]) -> Corners:
    """Return the corners of one camera's views, one set each."""
    count = [len(view.ids) for view in views]
    return Corners(
        np.zeros(sum(count), np.int64),
        np.repeat(np.arange(len(views)), count),
        np.concatenate([view.ids for view in views]).astype(np.int64),
        np.concatenate([view.pixels for view in views]),
    )


def fit_camera(
    points: F64,
    views: Sequence[Detection],
    size: tuple[int, int],
    who: str,
    lens: str | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Intrinsics:
    """Calibrate one camera.

    Args:
        points: (N, 3) corners of the board, metres.
        views: what it saw.
        size: width and height, px.
        who: the camera, for messages.
        lens: name in `LENSES`; None: chosen by evidence.
        tick: called after each fit of the evidence.

    Raises:
        CalibrationError: too few views, or views that do not determine a camera.
    """
    if len(views) < MIN_VIEWS:
        raise CalibrationError(
            f"{who}: the board was found in {len(views)} usable picture(s); at least {MIN_VIEWS} are needed, 15 or "
            "more are good: show it at other places, distances and tilts"
        )
    rough = _start(points, views, size, who)
    evidence = choose_lens(points, views, size, rough, tick) if lens is None else None
    chosen = lens or (evidence.chosen if evidence else "k1k2")
    corners = as_corners(views)
    start = Solution(_begin(rough, chosen), np.zeros((1, 6)), view_poses(points, views, rough))
    solution, kept = settle(points, corners, _free(chosen, size), start)
    used = corners.where(kept)
    if not len(used.set):
        raise CalibrationError(
            f"{who}: no camera explains its pictures of the board; do they show one and the same board?"
        )
    values = solution.intrinsics[0]
    _plausible(values, size, who)
    rms = float(np.sqrt((errors(points, used, solution) ** 2).sum(1).mean()))
    return Intrinsics(values, chosen, evidence, rms, len(np.unique(used.set)))


def view_poses(points: F64, views: Sequence[Detection], intrinsics: F64) -> F64:
    """Return camera from board (S, 6) of each view, one camera."""
    return np.stack([pose_of(best_pose(points, view, intrinsics)) for view in views])


def best_pose(points: F64, view: Detection, intrinsics: F64) -> F64:
    """Return camera from board (4, 4) of a view, the better of the two poses of a plane."""
    return plane_poses(points, view, intrinsics)[0]


def plane_poses(points: F64, view: Detection, intrinsics: F64) -> list[F64]:
    """Return the one or two poses (4, 4) camera from board that a view of a plane allows, the better first."""
    K, distortion = camera_matrix(intrinsics), intrinsics[4:]
    target = points[view.ids]
    middle = target.mean(0)
    found = cv2.solvePnPGeneric(target - middle, view.pixels, K, distortion, flags=cv2.SOLVEPNP_IPPE)
    poses = []
    for rotation, shift in zip(found[1], found[2], strict=True):
        pose = matrix_of(np.concatenate([np.asarray(rotation).ravel(), np.asarray(shift).ravel()]))
        pose[:3, 3] -= pose[:3, :3] @ middle
        if np.isfinite(pose).all() and (target @ pose[2, :3] + pose[2, 3] > 1e-3).all():
            poses.append(pose)
    if not poses:
        raise CalibrationError("a view of the board allows no pose; remove pictures in which the board is seen edge-on")
    return poses


def _start(points: F64, views: Sequence[Detection], size: tuple[int, int], who: str) -> F64:
    """Return a first guess: focal length from the views, middle of the picture, no distortion; then k1 and k2."""
    width, height = size
    targets = [points[v.ids].astype(np.float32) for v in views]
    pixels = [v.pixels.astype(np.float32) for v in views]
    K = np.asarray(cv2.initCameraMatrix2D(targets, pixels, size, 0.0))
    guesses = [K[0, 0], float(width), 0.6 * width, 2.0 * width]
    best: tuple[float, F64] | None = None
    for focal in guesses:
        if not (np.isfinite(focal) and 0.2 * width < focal < 50 * width):
            continue
        guess = np.array([focal, focal, (width - 1) / 2, (height - 1) / 2, 0, 0, 0, 0, 0])
        try:
            state = Solution(guess[None], np.zeros((1, 6)), view_poses(points, views, guess))
        except CalibrationError:
            continue
        corners = as_corners(views)
        mask = np.array([[True, True, False, False, True, False, False, False, False]])
        free = Free(mask, np.array([False]), middle_of(size)[None])
        state = solve(points, corners, free, state, robust=True, exact=1e-4)
        cost = float(np.median(np.linalg.norm(errors(points, corners, state), axis=1)))
        if state.intrinsics[0, 0] > 0 and (best is None or cost < best[0]):
            best = cost, state.intrinsics[0]
        if cost < 1.0:
            break
    if best is None:
        raise CalibrationError(
            f"{who}: no focal length explains the pictures; tilt the board, do not hold it square on only"
        )
    return best[1]


def _begin(rough: F64, lens: str) -> F64:
    """Return a first guess (1, 9) without the coefficients that a lens model does not have."""
    return np.where(free_parameters(lens), rough, 0.0)[None]


def middle_of(size: tuple[int, int]) -> F64:
    """Return the middle (2,) of a picture of width and height, px."""
    return (np.array(size, np.float64) - 1) / 2


def _free(lens: str, size: tuple[int, int]) -> Free:
    return Free(free_parameters(lens)[None], np.array([False]), middle_of(size)[None])


def _plausible(values: F64, size: tuple[int, int], who: str) -> None:
    width, height = size
    fx, fy, cx, cy = values[:4]
    sound = 0.2 * width < fx < 100 * width and 0.8 < fx / fy < 1.25
    if not (sound and -0.1 * width < cx < 1.1 * width and -0.1 * height < cy < 1.1 * height):
        raise CalibrationError(
            f"{who}: the pictures give fx {fx:.0f}, fy {fy:.0f}, c ({cx:.0f}, {cy:.0f}) for {width}x{height} px, which "
            "no camera has; tilt the board by 30 to 45 degrees, and show it at all edges of the picture"
        )


def choose_lens(
    points: F64,
    views: Sequence[Detection],
    size: tuple[int, int],
    rough: F64,
    tick: Callable[[], None] = lambda: None,
) -> Evidence:
    """Choose a lens model by the errors in views that it was not fitted to.

    Each model is fitted to two thirds of the views; in those left out only the pose is fitted. Of the models within one
    standard error of the best, the simplest wins.

    Args:
        points: (N, 3) corners of the board, metres.
        views: what the camera saw.
        size: width and height, px.
        rough: (9,) first guess.
        tick: called after each fit.
    """
    step = max(1, len(views) // EVIDENCE_VIEWS)
    some = list(views)[::step][:EVIDENCE_VIEWS]
    found: dict[str, F64] = {}
    fullest = list(LENSES)[-1]
    for lens in (*LENSES, *RICHER):
        if lens in RICHER and _simplest(found) != fullest:
            continue
        squares = []
        for fold in range(FOLDS):
            train = [v for k, v in enumerate(some) if k % FOLDS != fold]
            test = [v for k, v in enumerate(some) if k % FOLDS == fold]
            model = _fit_lens(points, train, size, rough, lens)
            tick()
            if model is None or not test:
                break
            squares += [_held_out(points, view, *model) for view in test]
        else:
            found[lens] = np.array(squares)
    chosen = _simplest(found)
    rms = {lens: float(np.sqrt(squares.mean())) for lens, squares in found.items()}
    richer = [r for r in RICHER if r in rms and rms[r] < (1 - RICHER_GAIN) * rms[chosen] - RICHER_PX]
    return Evidence(rms, chosen, min(richer, key=lambda r: rms[r]) if richer else "")


def _simplest(found: Mapping[str, F64]) -> str:
    """Return the simplest lens model within one standard error of the best, given squared errors by view."""
    own = [lens for lens in LENSES if lens in found]
    best = min(own, key=lambda lens: found[lens].mean())
    for lens in own:
        worse = found[lens] - found[best]
        if worse.mean() <= worse.std() / np.sqrt(len(worse)):
            return lens
    return best


def _fit_lens(
    points: F64, views: Sequence[Detection], size: tuple[int, int], rough: F64, lens: str
) -> tuple[F64, F64, bool] | None:
    """Return K, coefficients, and whether they are of a fisheye; None where it cannot be fitted."""
    if lens in LENSES:
        start = Solution(_begin(rough, lens), np.zeros((1, 6)), view_poses(points, views, rough))
        values = solve(points, as_corners(views), _free(lens, size), start, robust=True, exact=1e-5).intrinsics[0]
        return camera_matrix(values), values[4:], False
    K = camera_matrix(rough)
    try:
        if lens == "rational":
            targets = [points[v.ids].astype(np.float32) for v in views]
            pixels = [v.pixels.astype(np.float32) for v in views]
            flags = cv2.CALIB_RATIONAL_MODEL | cv2.CALIB_USE_INTRINSIC_GUESS
            _, fitted, d, _, _ = cv2.calibrateCamera(targets, pixels, size, K, np.zeros(8), flags=flags, criteria=SOON)
            return np.asarray(fitted, np.float64), np.asarray(d, np.float64).ravel(), False
        rows = [points[v.ids].reshape(1, -1, 3) for v in views]
        seen = [v.pixels.reshape(1, -1, 2) for v in views]
        flags = cv2.CALIB_RECOMPUTE_EXTRINSIC | cv2.CALIB_FIX_SKEW | cv2.CALIB_USE_INTRINSIC_GUESS
        _, fitted, d, _, _ = cv2.fisheye.calibrate(rows, seen, size, K, np.zeros((4, 1)), flags=flags, criteria=SOON)
        return np.asarray(fitted, np.float64), np.asarray(d, np.float64).ravel(), True
    except cv2.error:
        return None  # OpenCV gives up on views that a model cannot explain; then there is no evidence for it


def _held_out(points: F64, view: Detection, K: F64, distortion: F64, fisheye: bool) -> float:
    """Return the mean squared error of a view that the lens was not fitted to; its pose is."""
    target, pixels = points[view.ids], view.pixels
    ideal, model = pixels, distortion
    if fisheye:
        flat = cv2.fisheye.undistortPoints(pixels.reshape(1, -1, 2), K, distortion, P=K)
        ideal, model = np.asarray(flat, np.float64).reshape(-1, 2), np.zeros(5)
    middle = target.mean(0)
    _, rotations, shifts, _ = cv2.solvePnPGeneric(target - middle, ideal, K, model, flags=cv2.SOLVEPNP_IPPE)
    best = HELD_OUT_CAP
    for first_r, first_t in zip(rotations, shifts, strict=True):
        turn, shift = cv2.solvePnPRefineLM(target - middle, ideal, K, model, first_r.copy(), first_t.copy())
        if fisheye:
            moved = (target - middle).reshape(1, -1, 3)
            seen = cv2.fisheye.projectPoints(moved, turn, shift, K, distortion)[0]
        else:
            seen = cv2.projectPoints(target - middle, turn, shift, K, distortion)[0]
        squares = ((np.asarray(seen, np.float64).reshape(-1, 2) - pixels) ** 2).sum(1)
        best = min(best, float(np.minimum(np.nan_to_num(squares, nan=HELD_OUT_CAP), HELD_OUT_CAP).mean()))
    return best

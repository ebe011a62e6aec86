"""Bundle adjustment: cameras, lenses and board poses that explain all corners at once.

Exact derivatives, boards eliminated (Schur complement), Levenberg-Marquardt. Why not scipy's least squares stands in
docs/decisions.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rig.calibration.lens import image_with_derivatives
from rig.calibration.poses import right_jacobians
from streamer.errors import CalibrationError
from streamer.geometry import rotation_matrices, skew
from streamer.types import F64

MAX_STEPS = 200
OUTLIER_SIGMAS = 5.0
"""Corners farther off than this many robust standard deviations of their camera are wrong, not noisy."""
PRIOR_ASPECT, PRIOR_CENTRE, PRIOR_TANGENTIAL = 0.0005, 0.02, 0.0005
"""What is known of any camera: square pixels, an axis near the middle (share of the width), lenses well centred."""
NOISE_FACTOR, LEAST_NOISE_PX, MOST_NOISE_PX = 2.0, 0.02, 1.0
"""What is known of any camera is weighed against corners that err by so many times their scatter, since those of a
picture err together; within limits."""
RAYLEIGH = 1.1774
"""Median length of errors over their standard deviation in one direction."""
LEAST_LIMIT_PX = 0.5
"""No corner nearer than this is ever called wrong."""


@dataclass(frozen=True, slots=True)
class Corners:
    """All corners that were seen, one row each."""

    camera: NDArray[np.int64]
    """(M,) index of the camera."""
    set: NDArray[np.int64]
    """(M,) index of the set: one pose of the board."""
    point: NDArray[np.int64]
    """(M,) index of the corner on the board."""
    pixels: F64
    """(M, 2) px."""

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Corners":
        """Return some rows."""
        return Corners(self.camera[rows], self.set[rows], self.point[rows], self.pixels[rows])


@dataclass(frozen=True, slots=True)
class Solution:
    """Cameras and boards in the frame of a reference."""

    intrinsics: F64
    """(C, 9) in the order of `lens.PARAMETERS`."""
    cameras: F64
    """(C, 6) camera from reference: rotation vector, translation in metres."""
    boards: F64
    """(S, 6) reference from board."""


@dataclass(frozen=True, slots=True)
class Free:
    """What may change."""

    intrinsics: NDArray[np.bool_]
    """(C, 9)."""
    cameras: NDArray[np.bool_]
    """(C,)."""
    middles: F64 | None = None
    """(C, 2) middle of each picture, px: where an optical axis is expected; None: nothing is expected."""
    noise_px: float = MOST_NOISE_PX
    """What the corners err by, beside which the expectations count."""


class Adjustment:
    """The least-squares problem of some corners, and its normal equations with the boards eliminated.

    Args:
        points: (N, 3) corners of the board, metres.
        corners: what was seen.
        free: what may change; the boards always may.
    """

    def __init__(self, points: F64, corners: Corners, free: Free) -> None:
        """Sort the corners by view, so that sums over views are sums over slices."""
        order = np.lexsort((corners.camera, corners.set))
        self.order = order
        self.corners = corners.where(order)
        self.points = points[self.corners.point]
        self._middles, self._noise_px = free.middles, free.noise_px
        mask = np.concatenate([free.intrinsics, np.repeat(free.cameras[:, None], 6, 1)], 1)
        self.free = np.flatnonzero(mask.ravel())
        view = self.corners.set * len(mask) + self.corners.camera
        starts = np.flatnonzero(np.diff(view, prepend=-1))
        self._views = [
            (int(self.corners.camera[a]), int(self.corners.set[a]), slice(int(a), int(b)))
            for a, b in zip(starts, [*starts[1:], len(view)], strict=True)
        ]

    def residuals(self, solution: Solution) -> F64:
        """Return the reprojection errors (M, 2) in the order of the sorted corners, px."""
        return self._evaluate(solution, derivatives=False)[0]

    def rows(self, solution: Solution) -> tuple[F64, F64]:
        """Return residuals (M, 2) and their derivatives (M, 2, 21) by the camera's 9 + 6 and the board's 6 numbers."""
        return self._evaluate(solution, derivatives=True)

    def _evaluate(self, solution: Solution, *, derivatives: bool) -> tuple[F64, F64]:
        at = self.corners
        board_r, camera_r = rotation_matrices(solution.boards[:, :3]), rotation_matrices(solution.cameras[:, :3])
        turned = np.einsum("mij,mj->mi", board_r[at.set], self.points)
        world = turned + solution.boards[at.set, 3:]
        seen = np.einsum("mij,mj->mi", camera_r[at.camera], world) + solution.cameras[at.camera, 3:]
        pixels, by_point, by_lens = image_with_derivatives(seen, solution.intrinsics[at.camera])
        residuals = pixels - at.pixels
        if not derivatives:
            return residuals, np.empty(0)
        # d(R p)/dv = -R [p] J(v), for the rotation vectors of the camera and of the board
        rows = np.empty((len(seen), 2, 21))
        rows[:, :, :9] = by_lens
        by_world = by_point @ camera_r[at.camera]
        rows[:, :, 9:12] = -by_world @ skew(world) @ right_jacobians(solution.cameras[:, :3])[at.camera]
        rows[:, :, 12:15] = by_point
        rows[:, :, 15:18] = -(by_world @ board_r[at.set]) @ skew(self.points)
        rows[:, :, 15:18] = rows[:, :, 15:18] @ right_jacobians(solution.boards[:, :3])[at.set]
        rows[:, :, 18:21] = by_world
        return residuals, rows

    def prior(self, solution: Solution) -> F64:
        """Return how far the intrinsics are from what is expected of any camera, (C, 5) in units of px."""
        if self._middles is None:
            return np.zeros((len(solution.intrinsics), 5))
        fx, fy = solution.intrinsics[:, 0], solution.intrinsics[:, 1]
        off = (solution.intrinsics[:, 2:4] - self._middles) / (2 * PRIOR_CENTRE * self._middles[:, :1])
        bent = solution.intrinsics[:, 6:8] / PRIOR_TANGENTIAL
        return self._noise_px * np.column_stack([np.log(fx / fy) / PRIOR_ASPECT, off, bent])

    def _prior_rows(self, solution: Solution) -> F64:
        """Return the derivatives (C, 5, 15) of `prior` by a camera's numbers."""
        rows = np.zeros((len(solution.intrinsics), 5, 15))
        if self._middles is not None:
            rows[:, 0, 0] = self._noise_px / PRIOR_ASPECT / solution.intrinsics[:, 0]
            rows[:, 0, 1] = -self._noise_px / PRIOR_ASPECT / solution.intrinsics[:, 1]
            rows[:, 1, 2] = rows[:, 2, 3] = self._noise_px / (2 * PRIOR_CENTRE * self._middles[:, 0])
            rows[:, 3, 6] = rows[:, 4, 7] = self._noise_px / PRIOR_TANGENTIAL
        return rows

    def normal(self, solution: Solution, robust: bool) -> "Normal":
        """Return the normal equations at a solution."""
        residuals, rows = self.rows(solution)
        if robust:
            weight = 1 / np.sqrt(np.sqrt(1 + (residuals**2).sum(1)))
            residuals, rows = residuals * weight[:, None], rows * weight[:, None, None]
        cameras, sets = len(solution.cameras), len(solution.boards)
        own, both = np.zeros((cameras, 15, 15)), np.zeros((sets, cameras, 15, 6))
        board, pull = np.zeros((sets, 6, 6)), np.zeros((sets, 6))
        expected, by = self.prior(solution), self._prior_rows(solution)
        own += by.transpose(0, 2, 1) @ by
        slope = np.einsum("cri,cr->ci", by, expected)
        for camera, number, view in self._views:
            a, r = rows[view].reshape(-1, 21), residuals[view].ravel()
            h, g = a.T @ a, a.T @ r
            own[camera] += h[:15, :15]
            both[number, camera] = h[:15, 15:]
            board[number] += h[15:, 15:]
            slope[camera] += g[:15]
            pull[number] += g[15:]
        return Normal(own, both.reshape(sets, cameras * 15, 6), board, slope.ravel(), pull, self.free)


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal equations of cameras and boards."""

    own: F64
    """(C, 15, 15) of the cameras."""
    both: F64
    """(S, 15 C, 6) between cameras and boards."""
    board: F64
    """(S, 6, 6) of the boards."""
    slope: F64
    """(15 C,) gradient of the cameras."""
    pull: F64
    """(S, 6) gradient of the boards."""
    free: NDArray[np.int64]
    """Columns of the cameras that may change."""

    def reduced(self, damping: float) -> tuple[F64, F64, F64]:
        """Eliminate the boards.

        Returns:
            The matrix of the free camera parameters (F, F), its right side (F,), and the boards' inverses (S, 6, 6).
        """
        size = len(self.slope)
        full = np.zeros((size, size))
        for index, block in enumerate(self.own):
            full[index * 15 : index * 15 + 15, index * 15 : index * 15 + 15] = block
        full[np.diag_indices(size)] *= 1 + damping
        boards = self.board + damping * self.board * np.eye(6)
        inverse = np.linalg.inv(boards + 1e-12 * np.eye(6))
        gain = self.both @ inverse
        flat = gain.transpose(1, 0, 2).reshape(size, -1)
        full -= flat @ self.both.transpose(1, 0, 2).reshape(size, -1).T
        side = -self.slope + flat @ self.pull.ravel()
        return full[np.ix_(self.free, self.free)], side[self.free], np.asarray(inverse, np.float64)

    def step(self, damping: float) -> tuple[F64, F64]:
        """Return the damped step of cameras (C, 15) and boards (S, 6)."""
        matrix, side, inverse = self.reduced(damping)
        scale = 1 / np.sqrt(np.maximum(np.diag(matrix), 1e-12))
        found = np.linalg.solve(matrix * scale * scale[:, None] + 1e-14 * np.eye(len(scale)), side * scale) * scale
        cameras = np.zeros(len(self.slope))
        cameras[self.free] = found
        boards = -np.einsum("sij,sj->si", inverse, self.pull + np.einsum("sci,c->si", self.both, cameras))
        return cameras.reshape(-1, 15), boards


def solve(points: F64, corners: Corners, free: Free, start: Solution, *, robust: bool, exact: float = 1e-9) -> Solution:
    """Minimise the reprojection errors by Levenberg and Marquardt's method.

    Args:
        points: (N, 3) corners of the board, metres.
        corners: what was seen.
        free: what may change.
        start: where to begin.
        robust: count large errors linearly, not squared (soft L1 at 1 px).
        exact: end when the sum improves by less than this share, twice.

    Raises:
        CalibrationError: it diverges, or the corners do not determine what is free.
    """
    problem = Adjustment(points, corners, free)

    def cost(at: Solution) -> float:
        squares = (problem.residuals(at) ** 2).sum(1)
        expected = float((problem.prior(at) ** 2).sum())
        return expected + float((2 * (np.sqrt(1 + squares) - 1)).sum() if robust else squares.sum())

    now, best, damping, still = start, cost(start), 1e-3, 0
    for _ in range(MAX_STEPS):
        normal = problem.normal(now, robust)
        while damping < 1e8:
            try:
                cameras, boards = normal.step(damping)
            except np.linalg.LinAlgError:
                damping *= 10
                continue
            trial = Solution(now.intrinsics + cameras[:, :9], now.cameras + cameras[:, 9:], now.boards + boards)
            reached = cost(trial)
            if np.isfinite(reached) and reached <= best:
                break
            damping *= 4
        else:
            break
        still = still + 1 if best - reached <= exact * best + 1e-15 else 0
        now, best, damping = trial, reached, max(damping / 5, 1e-9)
        if still >= 2:
            break
    if not np.isfinite(best):
        raise CalibrationError("the bundle adjustment diverged; take pictures with the board turned, tilted and nearer")
    return now


def deviations(points: F64, corners: Corners, free: Free, solution: Solution) -> tuple[F64, F64]:
    """Return standard deviations of intrinsics (C, 9) and camera poses (C, 6); 0 for what is not free."""
    spread = np.diag(covariance(points, corners, free, solution))
    table = np.sqrt(np.maximum(spread, 0)).reshape(-1, 15)
    return table[:, :9], table[:, 9:]


def covariance(points: F64, corners: Corners, free: Free, solution: Solution) -> F64:
    """Return the covariance (15 C, 15 C) of each camera's 9 intrinsics and 6 pose numbers; 0 for what is not free.

    The noise is that of the residuals; it is taken as independent, which flatters by a factor of about two.
    """
    problem = Adjustment(points, corners, weighed(points, corners, free, solution))
    squares = float((problem.residuals(solution) ** 2).sum())
    matrix, _, _ = problem.normal(solution, robust=False).reduced(0.0)
    variance = squares / max(2 * len(corners.set) - len(matrix) - solution.boards.size, 1)
    size = solution.intrinsics.size + solution.cameras.size
    found = np.zeros((size, size))
    found[np.ix_(problem.free, problem.free)] = np.linalg.pinv(matrix) * variance
    return found


def weighed(points: F64, corners: Corners, free: Free, solution: Solution) -> Free:
    """Return what may change, the expectations weighed against the scatter of the corners about a solution."""
    off = np.linalg.norm(errors(points, corners, solution), axis=1)
    sigma = NOISE_FACTOR * float(np.median(off)) / RAYLEIGH if len(off) else MOST_NOISE_PX
    return replace(free, noise_px=float(np.clip(sigma, LEAST_NOISE_PX, MOST_NOISE_PX)))


def errors(points: F64, corners: Corners, solution: Solution) -> F64:
    """Return the reprojection errors (M, 2), px."""
    free = Free(np.zeros(solution.intrinsics.shape, bool), np.zeros(len(solution.cameras), bool))
    problem = Adjustment(points, corners, free)
    found = np.empty((len(corners.set), 2))
    found[problem.order] = problem.residuals(solution)
    return found


def wrong_corners(residuals: F64, camera: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell wrong corners from noisy ones.

    Args:
        residuals: (M, 2) px.
        camera: (M,) index of the camera.

    Returns:
        (M,) whether the error is beyond 5 robust standard deviations of the camera, and beyond half a pixel.
    """
    size = np.linalg.norm(residuals, axis=1)
    wrong = np.zeros(len(size), bool)
    for index in np.unique(camera):
        mine = camera == index
        sigma = float(np.median(size[mine])) / RAYLEIGH
        wrong[mine] = size[mine] > max(OUTLIER_SIGMAS * sigma, LEAST_LIMIT_PX)
    return wrong


def settle(points: F64, corners: Corners, free: Free, start: Solution) -> tuple[Solution, NDArray[np.bool_]]:
    """Solve robustly, throw wrong corners out, and solve plainly, until nothing more is wrong.

    Returns:
        The solution, and (M,) which corners it stands on.
    """
    solution = solve(points, corners, free, start, robust=True)
    kept = np.ones(len(corners.set), bool)
    for _ in range(3):
        wrong = wrong_corners(errors(points, corners, solution), corners.camera)
        kept = keep_whole(corners, ~wrong)
        good = corners.where(kept)
        solution = solve(points, good, weighed(points, good, free, solution), solution, robust=False)
        if not (wrong_corners(errors(points, corners, solution), corners.camera) & kept).any():
            break
    return solution, kept


def keep_whole(corners: Corners, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Let go of what is left of a view once fewer than 4 of its corners, or less than half, are good."""
    view = corners.camera * (int(corners.set.max(initial=0)) + 1) + corners.set
    _, inverse = np.unique(view, return_inverse=True)
    good, every = np.bincount(inverse, kept), np.bincount(inverse)
    return np.asarray(kept & ((good >= 4) & (2 * good >= every))[inverse], bool)

"""The shape prior: mean head, linear basis with variances, and rigid pose, fitted to noisy points. Numpy, millimetres.

A free heat map per vertex needs a long training to become smooth; a linear model of plausible heads makes every
observed point inform all others. The fit is one Gauss-Newton step in (pose, coefficients) with the prior as Tikhonov
term; iterate it.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelError
from streamer.geometry import rotation_matrices
from streamer.types import F32, F64, I32

ROTATION_SD_RAD, TRANSLATION_SD_MM = 0.5, 100.0
"""A pose is hardly held back: the observations decide it."""


@dataclass(frozen=True, slots=True)
class ShapePrior:
    """Heads as mean + basis coefficients, in units of standard deviations."""

    mean: F32
    """(N, 3) mm, head frame."""
    basis: F32
    """(N, 3, K) mm per standard deviation, largest first."""
    gram: F32 = field(init=False, repr=False, compare=False)
    """(K, K) products of the components: what a fit to points needs again and again."""

    def __post_init__(self) -> None:
        """Check that basis and mean belong together, and multiply the components.

        Raises:
            ModelError: different vertex counts.
        """
        if self.basis.shape[:2] != self.mean.shape:
            raise ModelError(f"shape prior: basis of {len(self.basis)} vertices, mean of {len(self.mean)}")
        flat = self.basis.reshape(-1, self.components)
        object.__setattr__(self, "gram", flat.T @ flat)

    @property
    def components(self) -> int:
        """Number of coefficients K."""
        return int(self.basis.shape[2])

    def vertices(self, coefficients: NDArray[np.floating]) -> F32:
        """(N, 3) mm in the head frame."""
        # flat, so that it is one product of BLAS: stacked matrices are multiplied one by one
        moves = self.basis.reshape(-1, self.components) @ coefficients.astype(np.float32)
        return np.asarray(self.mean + moves.reshape(self.mean.shape), np.float32)

    def at(self, indices: I32) -> "ShapePrior":
        """The prior restricted to some vertices."""
        return ShapePrior(self.mean[indices], self.basis[indices])


@dataclass(frozen=True, slots=True)
class Fit:
    """A head in some frame a."""

    a_from_head: F64
    """(4, 4) rigid, mm."""
    coefficients: F64
    """(K,) standard deviations."""


def step(prior: ShapePrior, fit: Fit, information: F32 | float, pull: F32) -> Fit:
    """One Gauss-Newton step.

    Minimises sum_i (d_i - e_i)^T A_i (d_i - e_i) + |c|^2 over pose and coefficients, d_i being how far vertex i moves.

    Args:
        prior: restricted to the M observed vertices.
        fit: where to start.
        information: (M, 3, 3) A_i in the head frame, or one number where it is the same for all and in all directions;
            inverse square millimetres.
        pull: (M, 3) A_i e_i, e_i being the wanted displacement in the head frame.
    """
    count, basis = len(prior.mean), prior.basis.reshape(-1, prior.components)
    x, y, z = prior.vertices(fit.coefficients).T
    motion = np.zeros((count, 3, 6), np.float32)
    motion[:, 1, 0], motion[:, 2, 0] = -z, y
    motion[:, 0, 1], motion[:, 2, 1] = z, -x
    motion[:, 0, 2], motion[:, 1, 2] = -y, x
    motion[:, :, 3:] = np.eye(3, dtype=np.float32)
    unknowns = 6 + prior.components
    hessian = np.empty((unknowns, unknowns))
    if isinstance(information, float):
        weighted = (motion * np.float32(information)).reshape(-1, 6)
        hessian[6:, 6:] = prior.gram * information
    else:
        weighted = np.matmul(information, motion).reshape(-1, 6)
        hessian[6:, 6:] = basis.T @ np.matmul(information, prior.basis).reshape(basis.shape)
    hessian[:6, :6] = motion.reshape(-1, 6).T @ weighted
    hessian[:6, 6:] = weighted.T @ basis
    hessian[6:, :6] = hessian[:6, 6:].T
    flat = pull.reshape(-1).astype(np.float32)
    gradient = np.concatenate([motion.reshape(-1, 6).T @ flat, basis.T @ flat])
    held = np.concatenate(
        [np.full(3, ROTATION_SD_RAD**-2.0), np.full(3, TRANSLATION_SD_MM**-2.0), np.ones(prior.components)]
    )
    hessian[np.diag_indices(unknowns)] += held
    right = gradient.astype(np.float64)
    right[6:] -= fit.coefficients
    change = np.linalg.solve(hessian, right)
    turn = np.eye(4)
    turn[:3, :3] = rotation_matrices(change[:3])
    turn[:3, 3] = change[3:6]
    return Fit(fit.a_from_head @ turn, fit.coefficients + change[6:])


def fit_points(
    prior: ShapePrior, start: Fit, points_a: NDArray[np.floating], sigma_mm: float, iterations: int = 3
) -> Fit:
    """Fit the head to observed points of its vertices.

    Args:
        prior: restricted to the M observed vertices.
        start: first guess.
        points_a: (M, 3) mm in frame a.
        sigma_mm: standard deviation of a coordinate.
        iterations: steps; rotations of 30 degrees need three.
    """
    information = float(sigma_mm**-2)
    fit = start
    for _ in range(iterations):
        local = (points_a - fit.a_from_head[:3, 3]) @ fit.a_from_head[:3, :3]
        fit = step(
            prior, fit, information, ((local - prior.vertices(fit.coefficients)) / sigma_mm**2).astype(np.float32)
        )
    return fit


def learn_prior(heads: NDArray[np.floating], components: int) -> ShapePrior:
    """Principal components of heads in their head frames.

    Args:
        heads: (S, N, 3) mm; S > components.
        components: K.
    """
    mean = heads.mean(0)
    flat = (heads - mean).reshape(len(heads), -1).astype(np.float32)
    values, vectors = np.linalg.eigh((flat @ flat.T / len(flat)).astype(np.float64))
    order = np.argsort(values)[::-1][:components]
    directions = flat.T @ (vectors[:, order] / np.sqrt(len(flat))).astype(np.float32)
    return ShapePrior(mean.astype(np.float32), directions.reshape(*mean.shape, components))


def spread(points: F32, count: int, first: int, allowed: I32 | None = None) -> I32:
    """Indices of `count` points spread evenly over a set (farthest-point sampling), beginning with `first`.

    Args:
        points: (N, 3).
        count: how many.
        first: index of the first.
        allowed: indices to choose from; all by default.
    """
    pool = np.arange(len(points), dtype=np.int32) if allowed is None else allowed
    chosen = [first]
    distance = np.linalg.norm(points[pool] - points[first], axis=1)
    while len(chosen) < count:
        chosen.append(int(pool[distance.argmax()]))
        distance = np.minimum(distance, np.linalg.norm(points[pool] - points[chosen[-1]], axis=1))
    return np.array(chosen, np.int32)

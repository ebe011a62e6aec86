"""The free surface of `reprocess`: heights from the pictures, the shape prior drawn towards them, and what is left.

Three rounds, each with a shorter reach: read heights around the present head, smooth them over the mesh, and fit pose
and shape to that surface and to the correspondence maps together. The map's error lies in the surface and is common to
all views, so what it says along the surface is taken with slack; the heights then tell the shape, and the shape moves
the vertices along the surface too. The last round's heights stay on the mesh: a face need not be a mixture of others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.tempeh import frames, shape
from inference.tempeh.frames import Views
from inference.tempeh.heights import Heights, grey_pictures, read_heights
from inference.tempeh.refine import Refiner
from inference.tempeh.shape import Fit
from streamer.geometry import transform, vertex_normals
from streamer.types import F32, F64, I32, U8

ROUNDS_MM = ((5.0, 1.0), (3.0, 0.75), (1.5, 0.5))
"""Reach and step of each round."""
SLACK_MM = 3.0
"""How far a map may be wrong along the surface, at every vertex."""
SURFACE_TRUST = 0.3
"""Information of a height in the fit of the shape, inverse square millimetres."""
DOUBT_MM = 3.0
"""A height that is off by this counts half in the fit of the shape."""
BENDING, STRETCHING, HELD = 0.125, 0.1, 0.01
"""What the smoothness of the heights costs: second and first differences over edges, and the heights themselves."""
OUTLIER_MM = 1.0
"""A reading that is off the smooth surface by this counts a quarter."""
SWEEPS, DIRECTIONS = 4, 40
"""Reweighted solves, and conjugate directions of each."""


@dataclass(frozen=True)
class SurfaceRefiner:
    """Solves for pose, shape and a free surface."""

    refiner: Refiner
    """Of the maps; its `trust` is that of the first round."""
    where: I32
    """Vertices whose heights are read: skin, not hair."""
    heights: bool = True
    """Whether heights are read at all; without them the maps alone make the head, for ablations."""
    neighbours: I32 = field(init=False, repr=False)
    """(N, D) neighbours of each vertex along edges, itself where it has fewer."""

    def __post_init__(self) -> None:
        """List the neighbours."""
        object.__setattr__(self, "neighbours", neighbours_of(self.refiner.triangles, len(self.refiner.prior.mean)))

    def __call__(
        self, fit: Fit, maps: F32, crop_views: Views, pictures: U8, views: Views, present: F32
    ) -> tuple[Fit, F32]:
        """Refine a head.

        Args:
            fit: pose in some frame a, and shape.
            maps: (V, 4 or more, h, w) correspondence maps of the crops.
            crop_views: cameras of the crops for points in frame a.
            pictures: (V, H, W, 3) whole pictures.
            views: their cameras for points in frame a.
            present: (V,) 1 where a view exists.

        Returns:
            Pose and shape, and the vertices (N, 3) in the head frame.
        """
        refiner = self.refiner
        for _ in range(refiner.steps):
            normals = refiner.normals(fit)
            seen = slackened(*refiner.observed(fit, maps, crop_views, present, normals), normals, SLACK_MM)
            fit = shape.step(refiner.near, fit, *seen)
        surface = refiner.prior.vertices(fit.coefficients)
        if not self.heights:
            return fit, surface
        grey = grey_pictures(pictures)
        for number, round_mm in enumerate(ROUNDS_MM):
            x, normals, heights = self._read(fit, views, grey, present, round_mm)
            surface = x + self.smooth(heights)[:, None] * normals
            if number < len(ROUNDS_MM) - 1:
                fit = self._drawn(fit, surface, heights, maps, crop_views, present)
        return fit, surface

    def _read(
        self, fit: Fit, views: Views, grey: Sequence[F32], present: F32, round_mm: tuple[float, float]
    ) -> tuple[F32, F32, Heights]:
        x = self.refiner.prior.vertices(fit.coefficients)
        normals = vertex_normals(x, self.refiner.triangles)
        in_head = frames.moved(views, fit.a_from_head)
        heights = read_heights(x, normals, self.refiner.triangles, self.where, in_head, grey, present, round_mm)
        return x, normals, heights

    def _drawn(self, fit: Fit, surface: F32, heights: Heights, maps: F32, crop_views: Views, present: F32) -> Fit:
        """Pose and shape drawn towards a surface (N, 3) in the head frame of `fit`, where heights are known."""
        refiner = self.refiner
        known = heights.certainty[refiner.indices] > 0
        wanted = transform(fit.a_from_head, surface[refiner.indices])
        for _ in range(2):
            normals = refiner.normals(fit)
            information, pull = slackened(*refiner.observed(fit, maps, crop_views, present, normals), normals, SLACK_MM)
            head_from_a: F64 = np.asarray(np.linalg.inv(fit.a_from_head), np.float64)
            local = transform(head_from_a, wanted) - refiner.near.vertices(fit.coefficients)
            off = np.einsum("mi,mi->m", local, normals)
            trust = np.where(known, SURFACE_TRUST / (1 + (off / DOUBT_MM) ** 2), 0).astype(np.float32)
            information = information + trust[:, None, None] * normals[:, :, None] * normals[:, None, :]
            pull = pull + (trust * off.astype(np.float32))[:, None] * normals
            fit = shape.step(refiner.near, fit, information, pull)
        return fit

    def smooth(self, heights: Heights) -> F32:
        """Smooth heights (N,) that follow the readings where these agree with their neighbours (robust, reweighted)."""
        found = np.zeros(len(heights.height))
        certainty = heights.certainty.astype(np.float64)
        for _ in range(SWEEPS):
            found = self._solve(certainty, certainty * heights.height, found)
            certainty = heights.certainty / (1 + ((found - heights.height) / OUTLIER_MM) ** 2) ** 2
        return found.astype(np.float32)

    def _solve(self, certainty: F64, right: F64, start: F64) -> F64:
        """Conjugate gradients, with the diagonal as preconditioner."""
        degree = (self.neighbours != np.arange(len(start))[:, None]).sum(1)
        scale = 1.0 / (certainty + BENDING * (degree * degree + degree) + STRETCHING * degree + HELD)
        x = start.copy()
        rest = right - self._stiff(certainty, x)
        direction = scale * rest
        size = rest @ direction
        for _ in range(DIRECTIONS):
            if size < 1e-12:
                break
            image = self._stiff(certainty, direction)
            length = size / (direction @ image)
            x += length * direction
            rest -= length * image
            turned = scale * rest
            fresh = rest @ turned
            direction = turned + (fresh / size) * direction
            size = fresh
        return x

    def _stiff(self, certainty: F64, x: F64) -> F64:
        first = self._differences(x)
        return np.asarray(
            certainty * x + BENDING * self._differences(first) + STRETCHING * first + HELD * x, np.float64
        )

    def _differences(self, x: F64) -> F64:
        """The graph Laplacian: sum over neighbours of the difference to them."""
        return np.asarray(self.neighbours.shape[1] * x - x[self.neighbours].sum(1), np.float64)


def slackened(information: F32, pull: F32, normals: F32, slack_mm: float) -> tuple[F32, F32]:
    """Observations that may all be wrong along the surface: their information with such an error marginalised.

    Args:
        information: (M, 3, 3).
        pull: (M, 3).
        normals: (M, 3).
        slack_mm: standard deviation of the error in each direction across the normal.
    """
    across = (np.eye(3) - normals[:, :, None] * normals[:, None, :]) * slack_mm**2
    # (A^-1 + T)^-1 = A (1 + T A)^-1, which needs no inverse of A: views of one side leave a direction open
    mixed = np.linalg.inv(np.eye(3) + across @ information)
    marginal = information @ mixed
    return marginal.astype(np.float32), np.einsum("mji,mj->mi", mixed, pull).astype(np.float32)


def neighbours_of(triangles: I32, count: int) -> I32:
    """(count, D) neighbours of each vertex along edges; rows are filled up with the vertex itself."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    both = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    degree = np.bincount(both[:, 0], minlength=count)
    table: NDArray[np.int32] = np.tile(np.arange(count, dtype=np.int32)[:, None], (1, max(1, int(degree.max()))))
    first = np.cumsum(degree) - degree
    table[both[:, 0], np.arange(len(both)) - first[both[:, 0]]] = both[:, 1]
    return table

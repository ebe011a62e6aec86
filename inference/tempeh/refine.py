"""Surface-aware refinement: what every view says about every visible vertex, solved together in the shape prior. Numpy.

As in TEMPEH's second stage a view counts by how much it faces the surface and whether it sees it. But instead of
local volumes, each view's correspondence map is read where a vertex projects: it tells which point of the template is
really seen there, hence how far the vertex is off, except along the ray. Weighted by the map's own uncertainty these
displacements form a linear least-squares problem in pose and shape coefficients; a few Gauss-Newton steps solve it. A
vertex that is hidden reads the map of what hides it, disagrees by far, and loses its weight.
"""

from dataclasses import dataclass, field

import numpy as np

from inference.tempeh import frames, shape
from inference.tempeh.frames import Views
from inference.tempeh.layout import MAP_SCALE_MM, SCALE_MM
from inference.tempeh.shape import Fit, ShapePrior
from streamer.geometry import vertex_normals
from streamer.types import F32, I32

FACING = 0.05
"""Cosine from which a view begins to count."""
AGREEMENT_MM = 25.0
"""Displacements of this size have lost 63 % of their weight."""


@dataclass(frozen=True)
class Refiner:
    """Solves for pose and shape from correspondence maps."""

    prior: ShapePrior
    """Of all N vertices."""
    triangles: I32
    """(T, 3)."""
    template: F32
    """(N, 3) mm: what the maps speak of."""
    indices: I32
    """(M,) vertices that are looked at."""
    trust: float = 0.8
    """Factor on the information: neighbouring readings of a map err together, so that each counts for less than one."""
    steps: int = 2
    """Gauss-Newton steps; a third changes the face by less than 0.02 mm."""
    scale_mm: tuple[float, float] = SCALE_MM
    """Range of the maps' Laplace scale."""
    aware: bool = True
    """Views count by how they face the surface and whether they agree; without it all count alike, for ablations."""

    near: ShapePrior = field(init=False, repr=False)
    """The prior at the vertices that are looked at."""
    around: ShapePrior = field(init=False, repr=False)
    """The prior at the corners of their triangles."""
    around_triangles: I32 = field(init=False, repr=False)
    """(T', 3) those triangles, in indices of `around`."""
    within: I32 = field(init=False, repr=False)
    """(M,) where the vertices that are looked at stand in `around`."""

    def __post_init__(self) -> None:
        """Restrict the prior once: copying it costs a millisecond."""
        object.__setattr__(self, "near", self.prior.at(self.indices))
        touching = self.triangles[np.isin(self.triangles, self.indices).any(1)]
        corners = np.union1d(touching, self.indices).astype(np.int32)
        object.__setattr__(self, "around", self.prior.at(corners))
        object.__setattr__(self, "around_triangles", np.searchsorted(corners, touching).astype(np.int32))
        object.__setattr__(self, "within", np.searchsorted(corners, self.indices).astype(np.int32))

    def __call__(self, fit: Fit, maps: F32, views: Views, present: F32) -> Fit:
        """Refine a head.

        Args:
            fit: pose in some frame a, and shape.
            maps: (V, 4 or more, h, w) feature maps of the crops, the correspondence map first.
            views: cameras of the crops for points in frame a, mm.
            present: (V,) 1 where a view exists.
        """
        return self.told(fit, maps, views, present)[0]

    def told(self, fit: Fit, maps: F32, views: Views, present: F32) -> tuple[Fit, float]:
        """Refine a head, as calling does, and say how much the maps told: mean trace of the information, 1 / mm^2."""
        # normals of the start serve all steps: the surface turns by a few degrees at most while it is refined
        normals, trace = self.normals(fit), 0.0
        for _ in range(self.steps):
            information, pull = self.observed(fit, maps, views, present, normals)
            fit = shape.step(self.near, fit, information, pull)
            trace = float(np.trace(information, axis1=1, axis2=2).mean())
        return fit, trace

    def normals(self, fit: Fit) -> F32:
        """(M, 3) normals at the vertices that are looked at, head frame."""
        return vertex_normals(self.around.vertices(fit.coefficients), self.around_triangles)[self.within]

    def observed(self, fit: Fit, maps: F32, views: Views, present: F32, normals: F32) -> tuple[F32, F32]:
        """What the maps say about each vertex: information (M, 3, 3) and pull (M, 3), as `shape.step` takes them."""
        x = self.near.vertices(fit.coefficients)
        in_head = frames.moved(views, fit.a_from_head)
        place, spread, inside = read_maps(maps, frames.project_all(in_head, x), views.size, self.scale_mm)
        error = (self.template[self.indices] - place).transpose(2, 0, 1)  # (3, V, M), as everything below
        rotation, shift = in_head.camera_from_a[:, :, :3], in_head.camera_from_a[:, :, 3]
        centres = -np.einsum("vij,vi->jv", rotation, shift).astype(np.float32)
        ray = x.T[:, None] - centres[:, :, None]
        ray /= np.sqrt((ray * ray).sum(0))
        facing = -(ray * normals.T[:, None]).sum(0) - np.float32(FACING)
        agreement = np.exp((error * error).sum(0) * np.float32(-1 / AGREEMENT_MM**2))
        weight = np.maximum(facing, 0) * agreement if self.aware else np.ones_like(facing)
        weight *= inside * present[:, None]
        weight *= np.float32(self.trust / 2) / (spread * spread)
        along = weight * ray
        total = weight.sum(0)
        information = np.empty((len(x), 3, 3), np.float32)
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
            information[:, i, j] = information[:, j, i] = (total if i == j else 0) - (along[i] * ray[j]).sum(0)
        pull = (weight * error - along * (ray * error).sum(0)).sum(1)
        return information, np.ascontiguousarray(pull.T)


def read_maps(
    maps: F32, pixels: F32, size: tuple[int, int], scale_mm: tuple[float, float] = SCALE_MM
) -> tuple[F32, F32, F32]:
    """Read correspondence maps bilinearly.

    Args:
        maps: (V, C >= 4, h, w).
        pixels: (V, M, 2) in crops of `size`.
        size: width and height of the crops, px.
        scale_mm: range of the Laplace scale.

    Returns:
        (V, M, 3) template coordinates in mm, (V, M) Laplace scale in mm, (V, M) 1.0 inside the map.
    """
    views, _, height, width = maps.shape
    u = (pixels[..., 0] + 0.5) * np.float32(width / size[0]) - 0.5
    v = (pixels[..., 1] + 0.5) * np.float32(height / size[1]) - 0.5
    inside = ((u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)).astype(np.float32)
    u, v = np.clip(u, 0, width - 1.001), np.clip(v, 0, height - 1.001)
    column, row = u.astype(np.int32), v.astype(np.int32)
    fu, fv = (u - column)[..., None], (v - row)[..., None]
    pixelwise = np.ascontiguousarray(maps[:, :4].transpose(0, 2, 3, 1)).reshape(-1, 4)
    base = (np.arange(views, dtype=np.int32)[:, None] * height + row) * width + column
    top = pixelwise[base] * (1 - fu) + pixelwise[base + 1] * fu
    bottom = pixelwise[base + width] * (1 - fu) + pixelwise[base + width + 1] * fu
    value = top * (1 - fv) + bottom * fv
    low, high = scale_mm
    spread = low + (high - low) / (1 + np.exp(-value[..., 3]))
    return value[..., :3] * np.float32(MAP_SCALE_MM), spread, inside

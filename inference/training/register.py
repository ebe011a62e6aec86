"""Registration of raw scans: the mesh of every scan in one topology, by robust non-rigid least squares. Millimetres.

The same terms as in training (losses.py) for the vertices of one scan: scan points to surface with a Geman-McClure
weight, and edges that keep those of the first guess, weighted by region. Training has a network predict the vertices;
here they are free, and each round is one sparse linear system: closest points, robust weights, solve.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from scipy.sparse.linalg import splu  # type: ignore[import-untyped]

from inference.meshes import SurfaceMesh
from inference.training.losses import region_vertices, unique_edges, vertex_weights
from inference.training.scan_corpus import ScanCorpus, ScanSet, draw_places, sample_surface
from inference.training.surface import closest_points
from streamer.errors import TakeError
from streamer.geometry import rotation_matrices, vertex_normals
from streamer.types import F32, F64, I32, Topology

FARTHEST_MM = 60.0
"""Scans whose points are further from the first guess (median) are in another frame."""
FACING = 0.3
"""Scan and mesh normals must agree by this cosine where points are matched."""
ALONG = 0.1
"""Weight of a match across its normal: little, so that the surface can slide."""
ANCHOR = 1e-4
"""Weight that holds every vertex at the rigidly moved first guess: decides only where nothing else does."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the fit."""

    sigma_mm: float
    """Width of the robust weight."""
    stiffness: float
    """Weight of the edges beside a scan point per vertex."""


ALIGN_MM = (30.0, 30.0, 20.0, 20.0, 10.0, 10.0, 10.0, 10.0)
"""Widths of the robust weight while the first guess is moved rigidly."""
ALIGNED, FEWEST = 1500, 100
"""Scan points used for that, and the fewest that must be near."""

ROUNDS = (*[Round(20.0, 30.0)] * 3, *[Round(10.0, 5.0)] * 3, *[Round(5.0, 1.0)] * 3, *[Round(3.0, 0.3)] * 3)
"""From stiff and forgiving to soft and exact."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The registered mesh of a scan."""

    vertices: F32
    """(N, 3) world, mm."""
    before_mm: float
    """Median distance of scan points to the first guess."""
    after_mm: float
    """Median distance of scan points to the registered mesh."""
    p90_mm: float
    """Nine tenths of the scan points are nearer."""


class Registrar:
    """Registers scans to one topology.

    Args:
        topology: triangles and regions; scan points are matched to the region `head` if there is one, which leaves out
            eyes and mouth behind the skin.
        points: scan points per round.
    """

    def __init__(self, topology: Topology, points: int = 6000) -> None:
        """Gather edges, weights and the triangles that a scanner sees."""
        self._points = points
        self._edges = unique_edges(topology.triangles)
        self._edge_weights = vertex_weights(topology)[self._edges].mean(1).astype(np.float64)
        self._triangles = topology.triangles
        outer = region_vertices(topology.regions, "head")
        keep = np.ones(topology.vertex_count, bool)
        if outer.size:
            keep[:] = False
            keep[outer] = True
        self._matched = np.ascontiguousarray(topology.triangles[keep[topology.triangles].all(1)])
        self._border = _border(self._matched, topology.vertex_count)
        rows = np.arange(len(self._edges))
        ones = np.ones(len(rows))
        shape = (len(rows), topology.vertex_count)
        self._difference = sparse.csr_matrix(
            (np.r_[ones, -ones], (np.r_[rows, rows], np.r_[self._edges[:, 0], self._edges[:, 1]])), shape
        )

    def __call__(self, scan: SurfaceMesh, start: F32, rng: np.random.Generator) -> Registered:
        """Register one scan.

        Args:
            scan: mm.
            start: (N, 3) first guess, mm, in the scan's frame.
            rng: draws the scan points.

        Raises:
            TakeError: the scan is nowhere near the first guess.
        """
        points, normals = scan_points(scan, self._points, rng)
        before = self._distances(points, start.astype(np.float64))
        if np.median(before) > FARTHEST_MM:
            raise TakeError(
                f"its points are {np.median(before):.0f} mm (median) from the mesh of that frame: they are "
                "not in one frame, or not of one moment"
            )
        vertices = self._align(points, normals, start.astype(np.float64))
        reference = vertices.copy()
        for stage in ROUNDS:
            vertices = self._step(points, normals, vertices, reference, stage)
        after = self._distances(scan_points(scan, self._points, rng)[0], vertices)
        return Registered(
            vertices.astype(np.float32),
            float(np.median(before)),
            float(np.median(after)),
            float(np.percentile(after, 90)),
        )

    def _distances(self, points: F32, vertices: F64) -> F64:
        triangle, weights = closest_points(points, vertices, self._matched)
        place = np.einsum("pk,pki->pi", weights, vertices[self._matched[triangle]])
        return np.asarray(np.linalg.norm(points - place, axis=1), np.float64)

    def _matches(
        self, points: F32, normals: F32 | None, vertices: F64, sigma_mm: float
    ) -> tuple[I32, NDArray[np.floating], F64, F64]:
        """Corners (P, 3), barycentric weights (P, 3), surface normals (P, 3) and robust weights (P,)."""
        triangle, bary = closest_points(points, vertices, self._matched)
        corners = self._matched[triangle]
        facing = vertex_normals(vertices, self._triangles).astype(np.float64)
        surface = np.einsum("pk,pki->pi", bary, facing[corners])
        surface /= np.maximum(np.linalg.norm(surface, axis=1, keepdims=True), 1e-9)
        offset = points - np.einsum("pk,pki->pi", bary, vertices[corners])
        robust = sigma_mm**4 / (sigma_mm**2 + (offset**2).sum(1)) ** 2
        # beyond the mesh's border there is nothing that the point could belong to
        robust = np.where((self._border[corners] & (bary > 0.05)).sum(1) >= 2, 0.0, robust)
        if normals is not None:
            robust = np.where((surface * normals).sum(1) < FACING, 0.0, robust)
        return corners, bary, surface, robust

    def _align(self, points: F32, normals: F32 | None, vertices: F64) -> F64:
        """Move rigidly: Gauss-Newton on point-to-plane distances with robust weights."""
        points = points[:ALIGNED]
        normals = None if normals is None else normals[:ALIGNED]
        for sigma in ALIGN_MM:
            corners, bary, surface, robust = self._matches(points, normals, vertices, sigma)
            if (robust > 0.1).sum() < FEWEST:
                return vertices
            place = np.einsum("pk,pki->pi", bary, vertices[corners])
            middle = place.mean(0)
            jacobian = np.concatenate([np.cross(place - middle, surface), surface], 1)
            residual = ((points - place) * surface).sum(1)
            system = (jacobian * robust[:, None]).T @ jacobian
            system[np.diag_indices(6)] += 1e-6 * np.trace(system) * np.array([1.0, 1, 1, 1e-4, 1e-4, 1e-4])
            change = np.linalg.solve(system, (jacobian * robust[:, None]).T @ residual)
            turn = rotation_matrices(change[:3])
            vertices = (vertices - middle) @ turn.T + middle + change[3:]
        return vertices

    def _step(self, points: F32, normals: F32 | None, vertices: F64, reference: F64, stage: Round) -> F64:
        """Solve for all vertices at once."""
        count = len(vertices)
        corners, bary, surface, robust = self._matches(points, normals, vertices, stage.sigma_mm)
        share = robust * (count / len(points))
        # a match counts fully along its normal and little across it: n n^T + ALONG (1 - n n^T), per point
        metric = ALONG * np.eye(3) + (1 - ALONG) * surface[:, :, None] * surface[:, None, :]
        metric = metric * share[:, None, None]
        rows = np.repeat(np.arange(len(points)), 3)
        interpolate = sparse.csr_matrix(
            (bary.ravel().astype(np.float64), (rows, corners.ravel())), (len(points), count)
        )
        blocks = sparse.bsr_matrix((metric, np.arange(len(points)), np.arange(len(points) + 1)))
        spread = sparse.kron(interpolate, sparse.eye(3), format="csr")
        weight = stage.stiffness * self._edge_weights
        stiff = self._difference.T @ sparse.diags(weight) @ self._difference + ANCHOR * sparse.eye(count)
        system = spread.T @ blocks @ spread + sparse.kron(stiff, sparse.eye(3))
        right = spread.T @ (blocks @ points.astype(np.float64).ravel()) + (stiff @ reference).ravel()
        return np.asarray(splu(system.tocsc()).solve(right), np.float64).reshape(-1, 3)


def scan_points(scan: SurfaceMesh, count: int, rng: np.random.Generator) -> tuple[F32, F32 | None]:
    """Points of a scan, and their normals (P, 3) where it has triangles."""
    if not len(scan.triangles):
        return sample_surface(scan, count, rng), None
    triangle, weights = draw_places(scan, count, rng)
    both = np.concatenate([scan.vertices, vertex_normals(scan.vertices, scan.triangles)], 1)
    mixed = np.einsum("pk,pki->pi", weights, both[scan.triangles[triangle]])
    facing = mixed[:, 3:] / np.maximum(np.linalg.norm(mixed[:, 3:], axis=1, keepdims=True), 1e-9)
    return mixed[:, :3].astype(np.float32), facing.astype(np.float32)


def _border(triangles: I32, vertices: int) -> NDArray[np.bool_]:
    """(N,) vertices on an edge that only one triangle has."""
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    edges, counts = np.unique(pairs, axis=0, return_counts=True)
    border = np.zeros(vertices, bool)
    border[edges[counts == 1].ravel()] = True
    return border


def register_all(
    corpus: ScanCorpus, points: int, seed: int, progress: Callable[[int, int], None]
) -> list[tuple[ScanSet, Registered]]:
    """Register every scan of a corpus, starting at the mesh that belongs to it.

    Raises:
        TakeError: a scan has no mesh to start from, or is nowhere near it.
    """
    registrar = Registrar(corpus.topology, points)
    done: list[tuple[ScanSet, Registered]] = []
    for number, entry in enumerate(corpus.entries):
        if entry.registration is None:
            raise TakeError(f"{entry.name}: no mesh to start from; run: mien reprocess")
        try:
            found = registrar(entry.scan(), entry.registration(), np.random.default_rng([seed, number]))
        except TakeError as error:
            raise TakeError(f"{entry.name}: {error}") from error
        done.append((entry, found))
        progress(number + 1, corpus.sets)
    return done

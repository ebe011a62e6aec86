"""What is counted of many meshes: distances both ways by region, the cumulative curve, how mouths and eyes open."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference.evaluation.metrics import Points, point_to_surface, summarise
from streamer.types import F32, F64, I32, Topology

MM = 1000.0
CURVE_MM = tuple(np.round(np.arange(0.0, 5.01, 0.1), 1).tolist())
"""Distances at which the cumulative curve is told."""


@dataclass(slots=True)
class Figures:
    """Distances of one kind of mesh (the network's, or the mean head) from the truth, by region, mm."""

    surface: dict[str, list[Points]] = field(default_factory=dict)
    """True points to the surface."""
    mesh: dict[str, list[Points]] = field(default_factory=dict)
    """The mesh's points to the true surface."""
    vertex: dict[str, list[Points]] = field(default_factory=dict)
    """Vertex to vertex; empty if the topologies differ."""

    def add(
        self,
        truth: tuple[Points, I32, Mapping[str, I32]],
        mesh: tuple[Points, I32, Mapping[str, I32]],
        *,
        same: bool,
        both_ways: bool = True,
    ) -> None:
        """Measure one mesh.

        Args:
            truth: true vertices (M, 3) in m, triangles, and region to indices of vertices.
            mesh: the same of the mesh to measure.
            same: whether both have one topology.
            both_ways: also from the mesh to the truth.
        """
        surface = point_to_surface(truth[0], mesh[0], mesh[1]) * MM
        vertex = np.linalg.norm(mesh[0] - truth[0], axis=1) * MM if same else None
        for name, indices in truth[2].items():
            self.surface.setdefault(name, []).append(surface[indices])
            if vertex is not None:
                self.vertex.setdefault(name, []).append(vertex[indices])
        if both_ways:
            back = point_to_surface(mesh[0], truth[0], truth[1]) * MM
            for name, indices in mesh[2].items():
                self.mesh.setdefault(name, []).append(back[indices])

    def regions(self) -> dict[str, dict[str, float]]:
        """Return region to `median_mm`, `mean_mm`, `p90_mm` of point to surface, and the same of vertices."""
        table = {}
        for name, distances in self.surface.items():
            row = asdict(summarise(distances))
            if name in self.vertex:
                row |= {f"vertex_{key}": value for key, value in asdict(summarise(self.vertex[name])).items()}
            table[name] = _rounded(row)
        return table

    def mesh_regions(self) -> dict[str, dict[str, float]]:
        """Return region to `median_mm`, `mean_mm`, `p90_mm` of the mesh's points to the true surface."""
        return {name: _rounded(asdict(summarise(distances))) for name, distances in self.mesh.items()}

    def curve(self) -> dict[str, list[float]]:
        """Return region to the share of true points that are nearer to the surface than each of `CURVE_MM`."""
        shares = {}
        for name, distances in self.surface.items():
            values = np.sort(np.concatenate([np.ravel(d) for d in distances]))
            counts = np.searchsorted(values, CURVE_MM, side="right")
            shares[name] = [round(float(count) / max(1, len(values)), 5) for count in counts]
        return shares


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in row.items()}


@dataclass(frozen=True, slots=True)
class Gap:
    """Two vertices between which something opens."""

    name: str
    """`mouth`, `eye_left`, `eye_right`."""
    moving: int
    """Vertex that a unit moves."""
    resting: int
    """Vertex that stays."""


def find_gaps(topology: Topology, at: I32, offsets_mm: F32) -> list[Gap]:
    """Find what opens from the expression units themselves.

    An upper lid comes to lie on the lower one: the vertex that a blink moves most, and the resting one nearest to where
    it ends. A lower lip leaves the upper one: of those the jaw moves far and those it leaves, the nearest pair. Only
    the outside counts: the mouth's bag opens too, but nobody sees it.

    Args:
        topology: names units and the region `face`.
        at: (M,) vertices that offsets are known of.
        offsets_mm: (U, M, 3).
    """
    gaps = []
    outside = np.isin(at, topology.regions["face"]) if "face" in topology.regions else np.ones(len(at), bool)
    at, offsets, units = at[outside], offsets_mm[:, outside], topology.units
    places = topology.template[at] * np.float32(MM)
    for name, unit in (("eye_left", "eyeBlinkLeft"), ("eye_right", "eyeBlinkRight"), ("mouth", "jawOpen")):
        if unit not in units:
            continue
        offset = offsets[units.index(unit)]
        reach = np.linalg.norm(offset, axis=1)
        still = np.flatnonzero(reach < 0.2 * reach.max())
        if unit == "jawOpen":
            mobile = np.flatnonzero(reach > 0.5 * reach.max())
            apart = np.linalg.norm(places[mobile][:, None] - places[still], axis=2)
            pair = np.unravel_index(int(apart.argmin()), apart.shape)
            gaps.append(Gap(name, int(at[mobile[pair[0]]]), int(at[still[pair[1]]])))
        else:
            mover = int(reach.argmax())
            landing = np.linalg.norm(places[still] - (places[mover] + offset[mover]), axis=1)
            gaps.append(Gap(name, int(at[mover]), int(at[still[landing.argmin()]])))
    return gaps


def gap_mm(vertices_m: Points, gap: Gap) -> float:
    """How far a gap is open, mm."""
    return float(np.linalg.norm(vertices_m[gap.moving] - vertices_m[gap.resting]) * MM)


@dataclass(slots=True)
class Openings:
    """True and found widths of gaps over many meshes, mm."""

    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Gap name to (true, found)."""

    def add(self, gaps: Sequence[Gap], truth_m: Points, vertices_m: Points) -> None:
        """Measure one mesh."""
        for gap in gaps:
            self.pairs.setdefault(gap.name, []).append((gap_mm(truth_m, gap), gap_mm(vertices_m, gap)))

    def summary(self) -> dict[str, dict[str, float]]:
        """Return gap to `slope` (1: opens as far as the truth), `correlation`, `true_range_mm` and `error_mm`."""
        table = {}
        for name, pairs in self.pairs.items():
            values: F64 = np.array(pairs)
            true, found = values[:, 0], values[:, 1]
            spread = float(true.std())
            if len(pairs) < 3 or spread < 0.1:
                continue
            both: NDArray[np.float64] = np.cov(true, found)
            row = {
                "slope": float(both[0, 1] / both[0, 0]),
                "correlation": float(both[0, 1] / np.sqrt(both[0, 0] * max(both[1, 1], 1e-12))),
                "true_range_mm": float(np.ptp(true)),
                "error_mm": float(np.median(np.abs(found - true))),
            }
            table[name] = _rounded(row)
        return table

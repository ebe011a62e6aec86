"""What a published network is taught: vertices, raw surface, and edges, as in the paper's training. Millimetres."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.training.surface import surface_distance
from streamer.types import F32, I32, Topology

SIGMA_MM = 10.0
"""Distance at which the robust distance begins to saturate."""

REGION_WEIGHTS: tuple[tuple[str, float, int], ...] = (
    ("face", 2.0, 0),
    ("eyeballs", 50.0, 0),
    ("eyes", 50.0, 0),
    ("ears", 3.0, 1),
    ("eye_region", 10.0, 3),
    ("lips", 10.0, 3),
    ("neck", 1.0, 0),
    ("nostrils", 10.0, 0),
    ("scalp", 1.0, 0),
    ("boundary", 10.0, 1),
)
"""Region, weight of its vertices in the edge term, and rings around it at half the weight; later ones overwrite.

Those of the paper's refinement; its coarse stage has 3 for the lips. `eyes` is our name for eyeballs."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts; a term of weight 0 is not computed."""

    vertices: float = 1.0
    """Mean squared vertex coordinate distance to the registration, mm^2."""
    surface: float = 0.0
    """Mean robust distance of scan points to the surface, mm."""
    edges: float = 0.0
    """Mean weighted squared difference of edges to the reference's, mm^2."""
    rigid: tuple[str, ...] = ()
    """Regions whose vertices alone count in `vertices`; empty: all do."""


PRETRAIN = LossWeights()
"""First: vertices alone."""
COARSE = LossWeights(vertices=1.0, surface=10.0, edges=1.0, rigid=("eyeballs", "eyes"))
"""Then: the raw surface decides, but for the eyeballs, which scanners do not see."""
REFINE = LossWeights(vertices=1.0, surface=10.0, edges=0.3, rigid=("eyeballs", "eyes"))
"""The refinement stage."""


def robust(distance: Tensor, sigma_mm: float = SIGMA_MM) -> Tensor:
    """Square root of the Geman-McClure penalty: about d for small d, sigma at infinity."""
    square = distance.square()
    return torch.sqrt(sigma_mm**2 * square / (sigma_mm**2 + square) + 1e-16)


def unique_edges(triangles: I32) -> I32:
    """(E, 2) every edge once."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32)


def region_vertices(regions: Mapping[str, I32], name: str) -> NDArray[np.int64]:
    """Vertices of a region, `left_` and `right_` parts included; empty if there is none of this name."""
    found = [indices for key, indices in regions.items() if key.removeprefix("left_").removeprefix("right_") == name]
    plural = [indices for key, indices in regions.items() if key in (f"left_{name[:-1]}", f"right_{name[:-1]}")]
    every = found + plural
    return np.unique(np.concatenate(every)).astype(np.int64) if every else np.empty(0, np.int64)


def vertex_weights(topology: Topology, table: tuple[tuple[str, float, int], ...] = REGION_WEIGHTS) -> F32:
    """(N,) weight of each vertex in the edge term; 1 outside all regions."""
    edges = unique_edges(topology.triangles)
    weights = np.ones(topology.vertex_count, np.float32)
    for name, value, rings in table:
        inner = region_vertices(topology.regions, name)
        if not inner.size:
            continue
        member = np.zeros(topology.vertex_count, bool)
        member[inner] = True
        wider = member.copy()
        for _ in range(rings):
            touched = edges[wider[edges].any(1)]
            wider[touched.ravel()] = True
        weights[wider & ~member] = value / 2
        weights[member] = value
    return weights


class Terms:
    """The loss of one topology.

    Args:
        topology: triangles and regions.
        weights: how much each term counts.
        table: see `REGION_WEIGHTS`.
    """

    def __init__(
        self, topology: Topology, weights: LossWeights, table: tuple[tuple[str, float, int], ...] = REGION_WEIGHTS
    ) -> None:
        """Gather edges and masks."""
        self.weights = weights
        self.triangles = torch.from_numpy(topology.triangles.astype(np.int64))
        edges = unique_edges(topology.triangles)
        self.edges = torch.from_numpy(edges.astype(np.int64))
        self.edge_weights = torch.from_numpy(vertex_weights(topology, table)[edges].mean(1))
        mask = np.ones(topology.vertex_count, np.float32)
        if weights.rigid:
            mask[:] = 0.0
            for name in weights.rigid:
                mask[region_vertices(topology.regions, name)] = 1.0
        self.mask = torch.from_numpy(mask)

    def __call__(
        self, found: Tensor, registration: Tensor, scan: Tensor, chosen: Tensor | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss and its figures of one mesh.

        Args:
            found: (N, 3) predicted vertices.
            registration: (N, 3) registered mesh, or the reference of the edges where there is none.
            scan: (P, 3) points of the raw scan.
            chosen: (M,) the vertices that were predicted, if not all; the others do not count in `vertices`.
        """
        total, figures = found.new_zeros(()), {}
        difference = found - registration
        with torch.no_grad():
            figures["vertex_mm"] = float((difference if chosen is None else difference[chosen]).norm(dim=-1).mean())
        if self.weights.vertices:
            mask = self.mask.to(found)[:, None]
            total = total + self.weights.vertices * (mask * difference).square().mean()
        if self.weights.surface:
            distance = surface_distance(scan, found, self.triangles.to(found.device))
            total = total + self.weights.surface * robust(distance).mean()
            figures["surface_mm"] = float(distance.detach().median())
        if self.weights.edges:
            first, second = self.edges.to(found.device).T
            bend = (found[first] - found[second]) - (registration[first] - registration[second])
            weight = self.edge_weights.to(found)[:, None]
            total = total + self.weights.edges * (weight * bend).square().mean()
        return total, figures

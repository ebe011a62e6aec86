"""What the live path and training must agree on, without torch: sizes, grids, and the fixed arrays of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.tempeh.frames import MM
from inference.tempeh.shape import ShapePrior, spread
from streamer.errors import ModelError
from streamer.types import F32, I32, Topology

THUMB_WIDTH, THUMB_HEIGHT = 80, 60
"""Size of the localiser's thumbnails, px."""
STAGE_GRID, STAGE_STEP_MM = 16, 44.0
"""Voxels along an edge of the stage volume, and their distance."""
THUMB_SPAN_MM = 520.0
"""Height of the second look's thumbnails at the head's distance; the first look takes whole pictures."""
HEAD_GRID = 16
"""Voxels along an edge of the head volume."""
HEAD_MARGIN_MM = 26.0
"""The head volume is the template's box widened by this."""
LANDMARKS, CONTROLS, LOOKED_AT = 24, 320, 512
"""Vertices that the localiser, the coarse head and the refinement speak of."""
COMPONENTS = 128
"""Shape components of the prior."""
BASIS_STEP_MM = 0.006
"""Steps in which they are stored."""
CHANNELS = 16
"""Feature channels of both 2D nets."""
MAP_SCALE_MM = 100.0
"""Template coordinates are the first feature channels times this."""
SCALE_MM = (0.7, 60.0)
"""Range of the map's Laplace scale."""
DETAIL_SCALE_MM = (0.25, 60.0)
"""Range of the Laplace scale of the second stage's map."""


@cache
def stage_points() -> F32:
    """(STAGE_GRID^3, 3) voxel positions in the rig frame, mm, x slowest."""
    axis = (np.arange(STAGE_GRID, dtype=np.float32) - (STAGE_GRID - 1) / 2) * np.float32(STAGE_STEP_MM)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def template_mm(topology: Topology) -> F32:
    """(N, 3) the topology's template in millimetres, head frame: what correspondence maps speak of."""
    return np.asarray(topology.template * np.float32(MM), np.float32)


def head_points(template_mm: F32) -> F32:
    """(HEAD_GRID^3, 3) voxel positions in the head frame, mm, x slowest."""
    low, high = template_mm.min(0) - HEAD_MARGIN_MM, template_mm.max(0) + HEAD_MARGIN_MM
    axes = [np.linspace(low[k], high[k], HEAD_GRID, dtype=np.float32) for k in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def chosen_vertices(topology: Topology) -> tuple[I32, I32, I32]:
    """Landmarks, controls and looked-at vertices of a topology: spread evenly over its outer surface.

    Raises:
        ModelError: the topology names no `head` region to choose from.
    """
    if "head" not in topology.regions:
        raise ModelError(
            f"topology '{topology.name}' has no region 'head'; the network needs to know the outer surface"
        )
    outer = topology.regions["head"]
    first = int(outer[topology.template[outer, 2].argmax()])
    if len(outer) < LOOKED_AT:
        raise ModelError(f"topology '{topology.name}': region 'head' has {len(outer)} vertices, {LOOKED_AT} are needed")
    order = spread(topology.template, LOOKED_AT, first, outer)
    return order[:LANDMARKS], order[:CONTROLS], order


@dataclass(frozen=True, slots=True)
class LiveConstants:
    """Fixed arrays of a model, unpacked."""

    prior: ShapePrior
    """Of all vertices."""
    template: F32
    """(N, 3) mm: what correspondence maps speak of."""
    triangles: I32
    """(T, 3)."""
    landmarks: I32
    """(LANDMARKS,) vertex indices."""
    controls: I32
    """(CONTROLS,) vertex indices."""
    looked_at: I32
    """(LOOKED_AT,) vertex indices."""
    landmark_sigma_mm: float
    """Standard deviation of a landmark's coordinate on held-out heads."""
    control_sigma_mm: float
    """Standard deviation of a control's coordinate on held-out heads."""

    @property
    def points(self) -> F32:
        """(HEAD_GRID^3, 3) voxels of the head volume, mm."""
        return head_points(self.template)


def pack_constants(prior: ShapePrior, landmark_sigma_mm: float, control_sigma_mm: float) -> dict[str, NDArray[Any]]:
    """The arrays of `constants.npz`.

    The basis is stored in steps of BASIS_STEP_MM (a head moves by 0.02 mm, root mean square), its components one after
    the other: small numbers beside small numbers are what the archive packs best.

    Raises:
        ModelError: a component moves a vertex by more than such numbers can say.
    """
    most = float(np.abs(prior.basis).max())
    if not most < 32767 * BASIS_STEP_MM:
        raise ModelError(f"a shape component moves a vertex by {most:g} mm; are the training heads in metres?")
    return {
        "mean": prior.mean.astype(np.float32),
        "basis_q": np.asfortranarray(np.round(prior.basis / BASIS_STEP_MM).astype(np.int16)),
        "basis_scale": np.full(prior.basis.shape[2], BASIS_STEP_MM, np.float32),
        "sigma_mm": np.array([landmark_sigma_mm, control_sigma_mm], np.float32),
    }


def unpack_constants(constants: Mapping[str, NDArray[Any]], topology: Topology) -> LiveConstants:
    """Read `constants.npz`.

    Raises:
        ModelError: an array is missing, or was made for another number of vertices.
    """
    missing = sorted({"mean", "basis_q", "basis_scale", "sigma_mm"} - constants.keys())
    if missing:
        raise ModelError(f"the model's constants lack {', '.join(missing)}; train or download it again")
    mean = np.asarray(constants["mean"], np.float32)
    if len(mean) != topology.vertex_count:
        raise ModelError(
            f"the weights are for {len(mean)} vertices, topology '{topology.name}' has {topology.vertex_count}"
        )
    basis = np.ascontiguousarray(constants["basis_q"], np.float32) * constants["basis_scale"]
    landmarks, controls, looked_at = chosen_vertices(topology)
    return LiveConstants(
        prior=ShapePrior(mean, basis),
        template=template_mm(topology),
        triangles=topology.triangles,
        landmarks=landmarks,
        controls=controls,
        looked_at=looked_at,
        landmark_sigma_mm=float(constants["sigma_mm"][0]),
        control_sigma_mm=float(constants["sigma_mm"][1]),
    )

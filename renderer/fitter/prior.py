"""What a take's registered meshes tell a fit before its first step.

NeRSemble takes masks from a matting network and depth from multi-view stereo. A take of ours has a registered mesh at
every instant, which gives more: the motion of every point near the head into one canonical head (so that the
deformation field only learns what the mesh does not know), where the canonical head is solid, and for each pixel on
the head its depth and that it is not empty.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter  # type: ignore[import-untyped]
from scipy.spatial import cKDTree  # type: ignore[import-untyped]

from renderer.fitter.box import Box, lattice
from renderer.fitter.field import FieldPrior
from renderer.fitter.footage import Footage, sized
from renderer.fitter.layers import DEPTH_UNITS, slant_of
from renderer.fitter.presets import PriorParts
from renderer.fitter.raster import depth_picture
from streamer.errors import TakeError
from streamer.geometry import inverse_rigid, transform, vertex_normals
from streamer.progress import Report
from streamer.types import F32, F64, MeshFrame, Topology

SKIN_M = 0.015
"""Within this of the skin a point moves as the skin does."""
FADE_M = (0.05, 0.14)
"""From the skin outwards, points move with the skull up to the first distance and not at all from the second on."""
SOLID_M = 0.015
"""The head is known to be solid to this depth below the skin."""
CLEAR_M = 0.03
"""The air is known to be clear to this distance above the skin."""
OPAQUE_M = 0.03
"""This far behind the skin nothing is seen."""
SOLID_LOG, CLEAR_LOG = 3.5, -3.0
"""Added to the logarithm of the density there: a 5 mm step goes from nearly clear to nearly opaque."""
DEPTH_WIDTH = 256
"""Depth pictures are no wider: a mesh of some millimetres' detail has no more to say."""
CELLS = 64
"""Nodes of the volumes along an edge."""
NEIGHBOURS = 4


@dataclass(frozen=True)
class Prior:
    """All of it."""

    field: FieldPrior
    """Motion and density."""
    distance: tuple[NDArray[np.uint16], ...]
    """For each training camera (T, h, w): tenths of a millimetre along the ray to the mesh, 0 where it is not seen;
    pictures are at most `DEPTH_WIDTH` wide."""
    ends: tuple[NDArray[np.uint16], ...]
    """As `distance`, to where a pixel's ray may end: behind the skin, well inside the mesh's outline; 0 elsewhere."""
    canonical_step: int
    """The time step whose head is the canonical one."""
    parts: PriorParts
    """What of all this is used."""


def build_prior(
    footage: Footage,
    box: Box,
    device: torch.device,
    report: Report = lambda done, total: None,
    parts: PriorParts = PriorParts(),  # noqa: B008 - frozen
) -> Prior:
    """Make the prior of a take.

    Args:
        footage: with meshes; instants without one borrow their neighbours' motion and have no depth.
        box: of the scene.
        device: where the volumes go.
        report: progress.
        parts: what is used; volumes of parts that are not hold zeros.

    Raises:
        TakeError: the take has no meshes.
    """
    if not footage.meshes or footage.topology is None:
        raise TakeError("the take has no meshes to begin with; run mien reprocess first, or fit with --no-prior")
    steps = sorted(footage.meshes)
    heads = np.stack([footage.meshes[step].vertices for step in steps])
    canonical = steps[int(np.abs(heads - heads.mean(0)).sum((1, 2)).argmin())]
    target = footage.meshes[canonical]
    nodes = lattice(box, CELLS)
    motion = np.zeros((footage.steps, 3, CELLS, CELLS, CELLS), np.float16)
    for done, step in enumerate(steps):
        moved = _motion(nodes, footage.meshes[step], target, skin=parts.skin) if parts.pose else np.zeros_like(nodes)
        motion[step] = (moved / box.size).transpose(3, 2, 1, 0)
        report(done + 1, 2 * len(steps))
    for step in set(range(footage.steps)) - set(steps):
        motion[step] = motion[min(steps, key=lambda known: abs(known - step))]
    log = _log_density(nodes, target, footage.topology).transpose(2, 1, 0) * np.float32(parts.density)
    volumes = FieldPrior(torch.from_numpy(log.copy())[None, None].to(device), torch.from_numpy(motion).to(device))
    distances = tuple(_distances(footage, i, report) for i in range(len(footage.cameras)))
    return Prior(volumes, distances, tuple(map(ends_of, distances)), canonical, parts)


def _motion(nodes: F64, mesh: MeshFrame, target: MeshFrame, *, skin: bool = True) -> F64:
    """Return the (X, Y, Z, 3) displacements in metres that carry nodes at this instant to the canonical head."""
    flat = nodes.reshape(-1, 3)
    distance, index = cKDTree(mesh.vertices).query(flat, NEIGHBOURS, distance_upper_bound=FADE_M[1], workers=1)
    near = np.isfinite(distance[:, 0])
    distance, index = distance[near], np.minimum(index[near], len(mesh.vertices) - 1)
    share = 1 / np.maximum(distance, 1e-4)
    share /= share.sum(1, keepdims=True)
    surface = ((target.vertices - mesh.vertices)[index] * share[..., None]).sum(1)
    head_from_world = inverse_rigid(np.asarray(mesh.world_from_head, np.float64))
    skull = transform(target.world_from_head @ head_from_world, flat[near]) - flat[near]
    close = np.clip((distance[:, :1] - SKIN_M) / SKIN_M, 0, 1) if skin else 1.0
    fade = np.clip((FADE_M[1] - distance[:, :1]) / (FADE_M[1] - FADE_M[0]), 0, 1)
    out = np.zeros_like(flat)
    out[near] = ((1 - close) * surface + close * skull) * fade
    return out.reshape(nodes.shape)


def _log_density(nodes: F64, mesh: MeshFrame, topology: Topology) -> F32:
    """Return what to add to the logarithm of the density at the nodes of the canonical head."""
    normals = vertex_normals(mesh.vertices, topology.triangles)
    distance, index = cKDTree(mesh.vertices).query(nodes.reshape(-1, 3), distance_upper_bound=CLEAR_M, workers=1)
    near = np.isfinite(distance)
    offset = nodes.reshape(-1, 3)[near] - mesh.vertices[index[near]]
    height = (offset * normals[index[near]]).sum(1)
    value = np.where(height < 0, np.where(height > -SOLID_M, SOLID_LOG, 0.0), CLEAR_LOG)
    out = np.zeros(len(distance), np.float32)
    out[near] = value
    return out.reshape(nodes.shape[:3])


def ends_of(distance: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return where rays may end, behind the deepest skin of a pixel and its eight neighbours.

    Args:
        distance: (T, h, w) to the mesh, tenths of a millimetre, 0 where it is not seen.

    Returns:
        The same of the ends; 0 where a neighbour does not see the mesh: its outline is not exact.
    """
    out = np.zeros_like(distance)
    for one, end in zip(distance, out, strict=True):
        deepest = maximum_filter(one, 3).astype(np.int32) + round(OPAQUE_M * DEPTH_UNITS)
        known = (minimum_filter(one, 3) > 0) & (deepest <= np.iinfo(np.uint16).max)
        end[known] = deepest[known]
    return out


def _distances(footage: Footage, index: int, report: Report) -> NDArray[np.uint16]:
    """Return the (T, h, w) distances along the rays of one camera to the mesh."""
    camera = sized(footage.cameras[index], DEPTH_WIDTH)
    slant = slant_of(camera)
    out = np.zeros((footage.steps, camera.height, camera.width), np.uint16)
    for step, mesh in footage.meshes.items():
        assert footage.topology is not None  # noqa: S101 - build_prior has checked
        codes = depth_picture(camera, mesh.vertices, footage.topology.triangles) * slant * DEPTH_UNITS
        out[step] = np.where(codes <= np.iinfo(np.uint16).max, codes, 0)  # farther than 6.5 m: not known
    report(footage.steps + round(footage.steps * (index + 1) / len(footage.cameras)), 2 * footage.steps)
    return out

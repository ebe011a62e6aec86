"""What a mesh is held against: the true mesh of a take, or a raw scan of the same instant."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from inference.evaluation.metrics import Points, regions_of
from inference.meshes import read_mesh
from streamer.errors import TakeError
from streamer.takes import Take
from streamer.types import F32, F64, I32, Topology

MM = 1000.0


@dataclass(frozen=True, slots=True)
class TrueHead:
    """The truth of one set."""

    vertices: Points
    """(M, 3) world, metres."""
    triangles: I32
    """(T, 3)."""
    regions: dict[str, I32] | None
    """Region to indices of vertices; None: a scan, whose regions are those of the nearest vertices of the mesh."""
    same: bool
    """Whether its vertices are those of the model."""
    world_from_head: F64 | None
    """(4, 4) true pose, metres; None: a scan has none."""
    weights: F32 | None
    """(U,) true weights of the expression units, if they are known."""


class Truths(Protocol):
    """The truths of a take."""

    def has(self, frame_id: int) -> bool:
        """Whether a set has a truth."""

    def of(self, frame_id: int) -> TrueHead:
        """The truth of a set that has one."""


class MeshTruths:
    """The `truth` channel of a take.

    Raises:
        TakeError: it has none, or its topology is missing.
    """

    def __init__(self, take: Take, topology: Topology) -> None:
        """Read the channel."""
        self._meshes = take.meshes("truth")
        self._rows = {int(frame_id): row for row, frame_id in enumerate(self._meshes.frame_ids)}
        if not self._rows:
            raise TakeError(f"{take.path}: has no true meshes; evaluate on takes of: mien simulate, or give --scans")
        found = take.topologies.get(self._meshes[0].topology_id)
        if found is None:
            raise TakeError(f"{take.path}: holds no topology of its true meshes; run: mien verify {take.path}")
        self._topology, self._same = found, found.id == topology.id
        self._regions = regions_of(found.regions, found.vertex_count)

    def has(self, frame_id: int) -> bool:
        """Whether a set has a true mesh."""
        return frame_id in self._rows

    def of(self, frame_id: int) -> TrueHead:
        """The true mesh of a set."""
        mesh = self._meshes[self._rows[frame_id]]
        pose = mesh.world_from_head.astype(np.float64)
        vertices = mesh.vertices.astype(np.float64)
        return TrueHead(vertices, self._topology.triangles, self._regions, self._same, pose, mesh.weights)


class ScanTruths:
    """Raw scans beside a take: `<frame id>.obj` or `.ply` in a folder of the take's name, or in the folder itself.

    Raises:
        TakeError: there is no scan.
    """

    def __init__(self, take: Take, scans: Path, unit: str) -> None:
        """List the scans."""
        folder = scans / take.path.name if (scans / take.path.name).is_dir() else scans
        found = [path for kind in ("*.obj", "*.ply") for path in sorted(folder.glob(kind))] if folder.is_dir() else []
        self._paths = {int(path.stem): path for path in found if path.stem.isdigit()}
        self._unit = unit
        if not self._paths:
            raise TakeError(f"{folder}: no scan here named by its frame id, as 123.ply or 000123.obj")

    def has(self, frame_id: int) -> bool:
        """Whether a set has a scan."""
        return frame_id in self._paths

    def of(self, frame_id: int) -> TrueHead:
        """The scan of a set.

        Raises:
            TakeError: it has no triangles, or is of no head's size in its unit.
        """
        from inference.training.scan_corpus import in_mm

        path = self._paths[frame_id]
        scan = in_mm(read_mesh(path), self._unit, str(path))
        if not len(scan.triangles):
            raise TakeError(f"{path}: the scan has no triangles; distances are to surfaces: mesh it first")
        return TrueHead(
            scan.vertices.astype(np.float64) / MM, scan.triangles, None, same=False, world_from_head=None, weights=None
        )


def nearest_regions(points: Points, vertices: Points, regions: dict[str, I32]) -> dict[str, I32]:
    """Regions of points by their nearest vertices.

    Args:
        points: (P, 3).
        vertices: (N, 3).
        regions: region to indices of vertices.

    Returns:
        Region to indices of points; regions without any are left out.
    """
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]

    nearest = cKDTree(vertices).query(points)[1]
    found = {}
    for name, indices in regions.items():
        inside = np.zeros(len(vertices), bool)
        inside[indices] = True
        if inside[nearest].any():
            found[name] = np.flatnonzero(inside[nearest]).astype(np.int32)
    return found

"""Raw scans beside a take: OBJ, PLY or points in NPY, and how far each vertex of the head is from their surface."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.errors import MeshError, MissingExtra, TakeError
from streamer.geometry import vertex_normals
from streamer.types import F32, F64, I32

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Metres in the units that scans come in."""
_KDTREE_SINGLE = 4
_KEPT = 4


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A cloud of points, or a surface."""

    points: F32
    """(P, 3) metres, world."""
    normals: F32 | None
    """(P, 3) unit; None: the file holds no triangles."""
    triangles: I32
    """(T, 3); none where the file holds points alone."""
    tree: Any
    """Finds the nearest point; exact."""

    def distance_mm(self, vertices: F32) -> F32:
        """Distance of each vertex to the scan.

        To the plane through the nearest point of the scan where there are triangles, else to that point; beyond
        5 mm sideways the plane says nothing and the point counts.

        Args:
            vertices: (N, 3) metres, world.

        Returns:
            (N,) mm.
        """
        rows, squares = self.tree.knnSearch(np.ascontiguousarray(vertices, np.float32), 1, params={"checks": -1})
        nearest = rows[:, 0]
        apart = np.sqrt(squares[:, 0])
        if self.normals is not None:
            across = np.abs(((vertices - self.points[nearest]) * self.normals[nearest]).sum(1))
            aside = np.sqrt(np.maximum(apart**2 - across**2, 0.0))
            apart = np.where(aside < 0.005, across, apart)
        return np.asarray(1e3 * apart, np.float32)

    def spread(self, most: int) -> tuple[F32, F32]:
        """Points to draw: evenly over the triangles, or a choice of the points where there are none.

        Args:
            most: how many at most.

        Returns:
            (K, 3) metres, world, and (K, 3) unit normals, 0 where they are not known.
        """
        if not len(self.triangles):
            chosen = self.points[:: -(-len(self.points) // most)]
            return chosen, np.zeros_like(chosen)
        a, b, c = (self.points[self.triangles[:, k]].astype(np.float64) for k in range(3))
        normals = np.cross(b - a, c - a)
        areas = np.linalg.norm(normals, axis=1)
        rng = np.random.default_rng(0)
        ends = np.cumsum(areas)
        face = np.minimum(np.searchsorted(ends, (np.arange(most) + 0.5) / most * ends[-1]), len(areas) - 1)
        u, v = rng.random((2, most, 1))
        u, v = np.where(u + v > 1.0, 1.0 - u, u), np.where(u + v > 1.0, 1.0 - v, v)
        points = a[face] + u * (b - a)[face] + v * (c - a)[face]
        return points.astype(np.float32), (normals / np.maximum(areas, 1e-18)[:, None])[face].astype(np.float32)


class Scans:
    """Scans named by the frame id of their set, as `123.ply`, in a folder of the take's name or the folder itself.

    Args:
        folder: where they are.
        take: folder of the take.
        unit: of the files, a key of `UNITS`.

    Raises:
        TakeError: there is none.
    """

    def __init__(self, folder: Path, take: Path, unit: str) -> None:
        """List them."""
        place = folder / take.resolve().name if (folder / take.resolve().name).is_dir() else folder
        found = sorted(place.iterdir()) if place.is_dir() else []
        self._paths = {int(path.stem): path for path in found if path.stem.isdigit() and path.suffix in READERS}
        if not self._paths:
            raise TakeError(f"{place}: no scan here named by its frame id, as 123.obj, .ply or .npy")
        self._read = lru_cache(_KEPT)(lambda path: read_scan(path, UNITS[unit]))

    def of(self, frame_id: int) -> Scan | None:
        """Return the scan of a frame set, None if there is none.

        Raises:
            MeshError: its file is damaged.
        """
        path = self._paths.get(frame_id)
        return None if path is None else self._read(path)


def read_scan(path: Path, metres: float) -> Scan:
    """Read a scan: points, and triangles if it has any; polygons are divided into fans.

    Args:
        path: `.obj`, `.ply` or `.npy` (N, 3).
        metres: in its unit.

    Raises:
        MeshError: it cannot be read, holds no point, or numbers or indices that cannot be.
        MissingExtra: a PLY, and trimesh is not installed.
    """
    points, triangles = READERS[path.suffix](path)
    cloud = np.ascontiguousarray(points * metres, np.float32)
    if not len(cloud) or not np.isfinite(cloud).all():
        raise MeshError(f"{path}: holds no point, or values that are not finite; export the scan again")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(cloud):
        raise MeshError(f"{path}: a triangle names vertex {triangles.max() + 1} of {len(cloud)}")
    normals = vertex_normals(cloud, triangles) if len(triangles) else None
    tree = cv2.flann_Index(cloud, {"algorithm": _KDTREE_SINGLE, "leaf_max_size": 16})  # type: ignore[attr-defined]
    return Scan(cloud, normals, triangles, tree)


def _read_obj(path: Path) -> tuple[F64, I32]:
    try:
        lines = path.read_bytes().splitlines()
        rows = [line.split()[1:4] for line in lines if line.startswith(b"v ")]
        points = np.array(rows, np.float64).reshape(-1, 3)
        faces: list[tuple[int, int, int]] = []
        for line in lines:
            if line.startswith(b"f "):
                corners = [int(corner.partition(b"/")[0]) for corner in line.split()[1:]]
                first, *others = [corner - 1 if corner > 0 else len(points) + corner for corner in corners]
                faces += [(first, a, b) for a, b in pairwise(others)]
    except (OSError, ValueError) as error:
        raise MeshError(f"{path}: no readable OBJ: {error}") from error
    return points, np.array(faces, np.int32).reshape(-1, 3)


def _read_ply(path: Path) -> tuple[F64, I32]:
    try:
        import trimesh
    except ImportError as error:
        raise MissingExtra("trimesh", "view") from error
    try:
        with path.open("rb") as file:
            found = trimesh.exchange.ply.load_ply(file, prefer_color=None, skip_materials=True)
        points = np.asarray(found.get("vertices", np.zeros((0, 3))), np.float64).reshape(-1, 3)
        faces = found.get("faces")
    except Exception as error:  # it raises whatever its parsing meets
        raise MeshError(f"{path}: no readable PLY: {error}") from error
    return points, np.asarray(np.zeros((0, 3)) if faces is None else faces, np.int32).reshape(-1, 3)


def _read_npy(path: Path) -> tuple[F64, I32]:
    try:
        with path.open("rb") as file:
            points = np.lib.format.read_array(file, allow_pickle=False)
        return np.asarray(points, np.float64).reshape(-1, 3), np.zeros((0, 3), np.int32)
    except (OSError, ValueError, TypeError) as error:
        raise MeshError(f"{path}: no readable NPY of points: {error}; export the scan again") from error


READERS: dict[str, Callable[[Path], tuple[F64, I32]]] = {".obj": _read_obj, ".ply": _read_ply, ".npy": _read_npy}
"""By the ending of a scan's name."""

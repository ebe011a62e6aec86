"""Raw scans beside a take: how far each vertex of the head is from their surface."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.errors import MeshError, TakeError
from streamer.geometry import vertex_normals
from streamer.types import F32, I32

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


class Scans:
    """Scans named by the frame id of their set, as `123.obj`, in a folder of the take's name or the folder itself.

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
        found = sorted(place.glob("*.obj")) if place.is_dir() else []
        self._paths = {int(path.stem): path for path in found if path.stem.isdigit()}
        if not self._paths:
            raise TakeError(f"{place}: no scan here named by its frame id, as 123.obj")
        self._read = lru_cache(_KEPT)(lambda path: read_scan(path, UNITS[unit]))

    def of(self, frame_id: int) -> Scan | None:
        """Return the scan of a frame set, None if there is none.

        Raises:
            MeshError: its file is damaged.
        """
        path = self._paths.get(frame_id)
        return None if path is None else self._read(path)


def read_scan(path: Path, metres: float) -> Scan:
    """Read an OBJ file: points, and triangles if it has any; polygons are divided into fans.

    Args:
        path: the file.
        metres: in its unit.

    Raises:
        MeshError: it cannot be read, holds no point, or numbers or indices that cannot be.
    """
    try:
        lines = path.read_bytes().splitlines()
        rows = [line.split()[1:4] for line in lines if line.startswith(b"v ")]
        points = np.array(rows, np.float64).reshape(-1, 3) * metres
        faces: list[tuple[int, int, int]] = []
        for line in lines:
            if line.startswith(b"f "):
                corners = [int(corner.partition(b"/")[0]) for corner in line.split()[1:]]
                first, *others = [corner - 1 if corner > 0 else len(points) + corner for corner in corners]
                faces += [(first, a, b) for a, b in pairwise(others)]
    except (OSError, ValueError) as error:
        raise MeshError(f"{path}: no readable OBJ: {error}") from error
    triangles: I32 = np.array(faces, np.int32).reshape(-1, 3)
    if not len(points) or not np.isfinite(points).all():
        raise MeshError(f"{path}: holds no point, or values that are not finite; export the scan again")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise MeshError(f"{path}: a triangle names vertex {triangles.max() + 1} of {len(points)}")
    cloud = np.ascontiguousarray(points, np.float32)
    normals = vertex_normals(cloud, triangles) if len(triangles) else None
    tree = cv2.flann_Index(cloud, {"algorithm": _KDTREE_SINGLE, "leaf_max_size": 16})  # type: ignore[attr-defined]
    return Scan(cloud, normals, tree)

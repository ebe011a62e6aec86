"""Mesh files: OBJ and PLY to vertices and triangles in the order of the file. Numpy, and trimesh for PLY."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from streamer.errors import MeshError, MissingExtra
from streamer.types import F32, I32


@dataclass(frozen=True, slots=True)
class SurfaceMesh:
    """A triangle mesh in the unit of its file."""

    vertices: F32
    """(N, 3) in the file's order."""
    triangles: I32
    """(T, 3) counter-clockwise from outside; T may be 0: a cloud of points."""

    @property
    def extent(self) -> float:
        """Diagonal of the bounding box."""
        return float(np.linalg.norm(np.ptp(self.vertices, axis=0)))


def read_mesh(path: Path) -> SurfaceMesh:
    """Read a mesh; polygons are divided into fans, texture and colour are left out.

    Args:
        path: `.obj` or `.ply`.

    Raises:
        MeshError: no such file, another kind, damaged, without vertices, with values that are not finite, or with
            indices that point outside.
        MissingExtra: PLY without trimesh.
    """
    kinds = {".obj": _read_obj, ".ply": _read_ply}
    reader = kinds.get(path.suffix.lower())
    if reader is None:
        raise MeshError(f"{path}: meshes are read from .obj and .ply; convert it")
    try:
        mesh = reader(path)
    except OSError as error:
        raise MeshError(f"{path}: cannot be read: {error.strerror}") from error
    if not len(mesh.vertices):
        raise MeshError(f"{path}: holds no vertex")
    if not np.isfinite(mesh.vertices).all():
        raise MeshError(f"{path}: {int((~np.isfinite(mesh.vertices)).any(1).sum())} vertices are not finite numbers")
    if mesh.triangles.size and not 0 <= mesh.triangles.min() <= mesh.triangles.max() < len(mesh.vertices):
        raise MeshError(f"{path}: a triangle names vertex {mesh.triangles.max()} of {len(mesh.vertices)}")
    return mesh


def write_obj(path: Path, mesh: SurfaceMesh, remark: str) -> None:
    """Write a mesh as OBJ, to a hundredth of a micrometre if it is in metres.

    Args:
        path: the file.
        mesh: what to write, in the unit that the file is to have.
        remark: one line for people, with the unit.

    Raises:
        MeshError: it cannot be written.
    """
    vertices = "v %.8f %.8f %.8f\n" * len(mesh.vertices) % tuple(mesh.vertices.ravel().tolist())
    faces = "f %d %d %d\n" * len(mesh.triangles) % tuple((mesh.triangles + 1).ravel().tolist())
    try:
        path.write_text(f"# {remark}\n{vertices}{faces}", "ascii", errors="replace")
    except OSError as error:
        raise MeshError(f"{path}: cannot be written: {error.strerror}") from error


def _read_obj(path: Path) -> SurfaceMesh:
    vertices: list[list[str]] = []
    triangles: list[tuple[int, int, int]] = []
    with path.open("r", encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            kind, _, rest = line.partition(" ")
            try:
                if kind == "v":
                    x, y, z = rest.split()[:3]
                    vertices.append([x, y, z])
                elif kind == "f":
                    corners = [int(corner.partition("/")[0]) for corner in rest.split()]
                    first, *others = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                    triangles += [(first, a, b) for a, b in pairwise(others)]
            except ValueError as error:
                raise MeshError(f"{path}, line {number}: {line.strip()!r} is no OBJ: {error}") from error
    try:
        points = np.array(vertices, np.float32).reshape(-1, 3)
    except ValueError as error:
        raise MeshError(f"{path}: {error}") from error
    return SurfaceMesh(points, np.array(triangles, np.int32).reshape(-1, 3))


def _read_ply(path: Path) -> SurfaceMesh:
    try:
        import trimesh
    except ImportError as error:
        raise MissingExtra("trimesh", "train") from error
    with path.open("rb") as file:
        try:
            loaded = trimesh.exchange.ply.load_ply(file, prefer_color=None, skip_materials=True)
        except Exception as error:
            raise MeshError(f"{path}: not a readable PLY: {error}") from error
    triangles = loaded.get("faces")
    if triangles is None:
        triangles = np.zeros((0, 3), np.int32)
    return SurfaceMesh(
        np.asarray(loaded.get("vertices", np.zeros((0, 3))), np.float32).reshape(-1, 3),
        np.asarray(triangles, np.int32).reshape(-1, 3),
    )

"""Silhouette edges of a mesh: where a face that is seen meets one that is not, or nothing. Pure."""

import numpy as np

from streamer.types import F32, F64, I32


class Edges:
    """Edges of a topology and the faces beside each.

    Args:
        triangles: (T, 3).
    """

    def __init__(self, triangles: I32) -> None:
        """Pair the faces; an edge of more than two faces keeps the first and the last."""
        self._triangles = triangles
        sides = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        faces = np.repeat(np.arange(len(triangles), dtype=np.int32), 3)
        pairs, first, which = np.unique(np.sort(sides, 1), axis=0, return_index=True, return_inverse=True)
        last = np.zeros(len(pairs), np.intp)
        last[which.ravel()] = np.arange(len(sides))
        self.pairs: I32 = pairs.astype(np.int32)
        """(E, 2) vertices."""
        self.faces: I32 = np.stack([faces[first], np.where(last != first, faces[last], -1)], 1).astype(np.int32)
        """(E, 2) triangles; the second is -1 at an open edge."""

    def planes(self, vertices: F32) -> F64:
        """Planes of the faces of a mesh.

        Args:
            vertices: (N, 3) metres.

        Returns:
            (T, 4): normal n, of any length, and -n·p: positive for a point that sees the face.
        """
        a, b, c = (vertices[self._triangles[:, k]].astype(np.float64) for k in range(3))
        normals = np.cross(b - a, c - a)
        return np.concatenate([normals, -np.einsum("ij,ij->i", normals, a)[:, None]], 1)

    def silhouettes(self, planes: F64, eye: F64) -> I32:
        """Find the edges of the outline.

        Args:
            planes: (T, 4) of `planes`.
            eye: (4,) homogeneous: a point (x, y, z, 1), or a direction to the viewer (x, y, z, 0).

        Returns:
            (S, 2) vertices of edges with one face seen and one not, and of open edges of a face that is seen.
        """
        seen = np.append(planes @ eye > 0.0, False)  # the face -1 is never seen
        beside = seen[self.faces]
        return np.asarray(self.pairs[beside[:, 0] != beside[:, 1]], np.int32)

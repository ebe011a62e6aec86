"""Open edges of a mesh and lids over them: a head cut at the neck looks like a bust, not like a mask. Pure."""

from dataclasses import dataclass

import numpy as np

from streamer.types import F32, I32


def boundary_loops(triangles: I32) -> list[I32]:
    """Find the closed loops of edges that belong to one triangle only.

    Args:
        triangles: (T, 3).

    Returns:
        One (L,) array of vertex indices per loop, L >= 3, in the direction of the triangles' own edges. Edges that
        close no loop are left out.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    if not len(edges):
        return []
    base = int(edges.max()) + 1
    keys, opposite = edges[:, 0] * base + edges[:, 1], edges[:, 1] * base + edges[:, 0]
    following: dict[int, list[int]] = {}
    for start, end in edges[~np.isin(keys, opposite)].tolist():
        following.setdefault(start, []).append(end)
    loops = []
    while following:
        first = next(iter(following))
        loop = [first]
        while ends := following.get(loop[-1]):
            loop.append(ends.pop())
            if not ends:
                del following[loop[-2]]
            if loop[-1] == first:
                break
        if loop[-1] == first and len(loop) > 3:
            loops.append(np.array(loop[:-1], np.int32))
    return loops


@dataclass(frozen=True, slots=True)
class Lids:
    """Fans over the loops of a topology, with vertices of their own: copies of each loop, and one centre per loop."""

    rim: I32
    """(R,) vertices copied, loop after loop."""
    starts: I32
    """(K,) where each loop begins in `rim`."""
    triangles: I32
    """(R, 3) indices into the vertices followed by the R copies and the K centres, seen from outside."""

    @property
    def extra(self) -> int:
        """Number of vertices added."""
        return len(self.rim) + len(self.starts)

    def vertices(self, vertices: F32) -> tuple[F32, F32]:
        """Compute the added vertices of one mesh.

        Args:
            vertices: (N, 3).

        Returns:
            (R + K, 3) positions and unit normals, those of a lid all alike and pointing out.
        """
        rim = vertices[self.rim].astype(np.float64)
        lengths = np.diff([*self.starts, len(self.rim)])
        centres = np.add.reduceat(rim, self.starts) / lengths[:, None]
        after = np.arange(1, len(rim) + 1)
        after[np.cumsum(lengths) - 1] = self.starts
        spokes = rim - np.repeat(centres, lengths, 0)
        normals = np.add.reduceat(np.cross(spokes[after], spokes), self.starts)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        added = np.concatenate([rim, centres])
        return added.astype(np.float32), np.concatenate([np.repeat(normals, lengths, 0), normals]).astype(np.float32)


def lids_of(triangles: I32, vertex_count: int) -> Lids | None:
    """Prepare the lids of a topology; None where the surface is closed.

    Args:
        triangles: (T, 3).
        vertex_count: N.
    """
    loops = boundary_loops(triangles)
    if not loops:
        return None
    rim = np.concatenate(loops)
    starts = np.cumsum([0, *(len(loop) for loop in loops)])[:-1].astype(np.int32)
    faces = []
    for index, (start, loop) in enumerate(zip(starts.tolist(), loops, strict=True)):
        here = vertex_count + start + np.arange(len(loop))
        centre = np.full(len(loop), vertex_count + len(rim) + index)
        faces.append(np.stack([np.roll(here, -1), here, centre], 1))
    return Lids(rim, starts, np.concatenate(faces).astype(np.int32))

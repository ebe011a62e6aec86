"""Open edges of a mesh. Pure."""

import numpy as np

from streamer.types import I32


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

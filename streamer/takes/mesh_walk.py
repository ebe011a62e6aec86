"""A walk over a mesh on which neighbours in space are neighbours in memory: what makes a mesh compress. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.types import Topology

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Order:
    """A walk over a mesh on which successive vertices are neighbours almost everywhere."""

    forward: I64
    """(N,) vertex at each place of the walk."""
    inverse: I64
    """(N,) place of each vertex."""


def walk_order(triangles: NDArray[np.int32], count: int) -> Order:
    """Walk over a mesh, integers only, so that every implementation finds the same walk.

    From the present vertex to the unvisited neighbour that has the fewest unvisited neighbours itself (of equal ones
    the lowest number); at a dead end back along the walk to the last vertex with an unvisited neighbour; when a
    component is done, on to the lowest unvisited number.

    Args:
        triangles: (T, 3) vertex indices.
        count: number of vertices N.
    """
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for a, b, c in triangles.tolist():
        neighbours[a] |= {b, c} - {a}
        neighbours[b] |= {a, c} - {b}
        neighbours[c] |= {a, b} - {c}
    open_neighbours = [len(near) for near in neighbours]
    seen = [False] * count
    walk: list[int] = []

    def visit(vertex: int) -> None:
        seen[vertex] = True
        walk.append(vertex)
        for near in neighbours[vertex]:
            open_neighbours[near] -= 1

    for start in range(count):
        if seen[start]:
            continue
        visit(start)
        trail = [start]
        while trail:
            choices = [near for near in neighbours[trail[-1]] if not seen[near]]
            if not choices:
                trail.pop()
                continue
            following = min(choices, key=lambda near: (open_neighbours[near], near))
            visit(following)
            trail.append(following)
    forward = np.array(walk, np.int64)
    return Order(forward, np.argsort(forward))


_orders: dict[str, Order] = {}


def order_of(topology: Topology) -> Order:
    """Return the walk of a topology; found once (60 ms for 4,283 vertices) and kept, as its id is its content."""
    order = _orders.get(topology.id)
    if order is None:
        if len(_orders) >= 16:
            _orders.clear()
        order = _orders[topology.id] = walk_order(topology.triangles, topology.vertex_count)
    return order

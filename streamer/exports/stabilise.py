"""Takes the motion of the skull out of a performance: what is left is the face, in the head frame. Pure.

The pose that inference gives belongs to the whole head and moves a little with every expression. Here the pose comes
from the part that cannot move by itself (region `scalp`, where the topology names one), against this person's own mean
shape, and vertices that disagree (hair, an ear that was touched) lose their say.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.geometry import inverse_rigid, rigid_from_points, transform
from streamer.types import F32, F64, I32, Topology

SKULL = "scalp"
"""Region that moves rigidly with the skull."""
ROUNDS = 4
SCALE_M = 0.002
"""Residuals about this large have half a say (Geman-McClure), metres."""


class Stabiliser:
    """Rigid pose of the skull per mesh, against the mean of some meshes of the same person."""

    def __init__(self, topology: Topology, examples: Sequence[NDArray[np.floating]]) -> None:
        """Find the person's mean shape.

        Args:
            topology: names the region, and the head frame by its template.
            examples: one or more (N, 3) meshes from all over the take, metres, any pose.
        """
        region = topology.regions.get(SKULL)
        self.region: I32 = (
            np.arange(topology.vertex_count, dtype=np.int32) if region is None or len(region) < 3 else region
        )
        """Vertices that count."""
        self._reference = np.asarray(topology.template[self.region], np.float64)
        for _ in range(3):
            aligned = [transform(self._head_from(mesh), mesh[self.region]) for mesh in examples]
            mean: F64 = np.mean(aligned, axis=0)
            # The mean may creep away from the head frame round by round; the template holds it there.
            self._reference = transform(rigid_from_points(mean, topology.template[self.region]), mean)

    def __call__(self, vertices: NDArray[np.floating]) -> tuple[F32, F64]:
        """Return the mesh in the head frame, (N, 3) float32 metres, and `world_from_head` (4, 4) as taken out."""
        head_from_world = self._head_from(vertices)
        return transform(head_from_world, vertices).astype(np.float32), inverse_rigid(head_from_world)

    def _head_from(self, vertices: NDArray[np.floating]) -> F64:
        points = np.asarray(vertices[self.region], np.float64)
        weights = np.ones(len(points))
        fit = np.eye(4)
        for _ in range(ROUNDS):
            fit = rigid_from_points(points, self._reference, weights)
            squared = ((transform(fit, points) - self._reference) ** 2).sum(1)
            scale = max(SCALE_M**2, float(np.median(squared)))
            weights = (scale / (scale + squared)) ** 2
        return fit

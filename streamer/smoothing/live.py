"""The live head made calm: vertices, pose and weights of each mesh through the 1 euro filter, with one lag. Pure."""

from dataclasses import replace

import numpy as np

from streamer.smoothing.one_euro import OneEuro, OneEuroParameters
from streamer.types import MeshFrame

ARM_M = 0.1
"""The pose is filtered as its origin and the ends of three arms so long: about the radius of a head, m."""
WEIGHT_M = 0.02
"""An expression weight of 1 counts as so much motion, m: a jaw that opens."""


class LiveFilter:
    """Filters one stream of meshes; begins anew with another topology, after a gap, and where time runs backwards."""

    def __init__(self, parameters: OneEuroParameters) -> None:
        """Begin a stream.

        Args:
            parameters: how much lag is traded for calm; `beta` in Hz / (m/s).
        """
        self._parameters, self._topology_id = parameters, ""
        self._begin()

    def __call__(self, mesh: MeshFrame) -> MeshFrame:
        """Return the mesh as clients get it; identities and times are its own."""
        if mesh.topology_id != self._topology_id:
            self._topology_id = mesh.topology_id
            self._begin()
        time_ns = mesh.exposure_time_ns
        weights = mesh.weights
        if weights is not None:
            calm = self._weights(np.asarray(weights[:, None] * np.float32(WEIGHT_M)), time_ns)[:, 0]
            weights = np.clip(calm / np.float32(WEIGHT_M), 0.0, 1.0)
        pose = np.array(mesh.world_from_head, np.float32)
        origin = pose[:3, 3]
        ends = self._pose(np.concatenate([origin[None], origin + np.float32(ARM_M) * pose[:3, :3].T]), time_ns)
        u, _, vt = np.linalg.svd((ends[1:] - ends[0]).T.astype(np.float64))
        pose[:3, :3], pose[:3, 3] = u @ vt, ends[0]
        vertices = self._vertices(mesh.vertices, time_ns)
        return replace(mesh, vertices=vertices, world_from_head=pose, weights=weights)

    def _begin(self) -> None:
        self._vertices, self._pose, self._weights = (OneEuro(self._parameters) for _ in range(3))

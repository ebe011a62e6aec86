"""A head on the GPU: one vertex buffer, filled once per mesh and drawn by every pass."""

import moderngl
import numpy as np

from renderer.viewer.occlusion import open_sky
from renderer.viewer.rim import lids_of
from streamer.geometry import vertex_normals
from streamer.types import F32, F64, Topology

_LAYOUT = {"in_position": "3f", "in_normal": "3f", "in_open_sky": "1f"}


class Surface:
    """Vertices, smooth normals and sky visibility of one topology.

    Args:
        context: where it is drawn.
        topology: what all its meshes share.
        bake: whether the visibility of the sky is computed (about 0.3 s in software); otherwise all is in the open.
    """

    def __init__(self, context: moderngl.Context, topology: Topology, *, bake: bool = True) -> None:
        """Upload indices, bake the visibility."""
        self.topology = topology
        self.low: F64 = np.zeros(3)
        self.high: F64 = np.zeros(3)
        self._context = context
        self._lids = lids_of(topology.triangles, topology.vertex_count)
        indices, extra = topology.triangles, 0
        if self._lids is not None:
            indices, extra = np.concatenate([indices, self._lids.triangles]), self._lids.extra
        self._rows = np.zeros((topology.vertex_count + extra, 7), np.float32)
        self._rows[:, 6] = -1.0  # marks lids
        self._skin = self._rows[: topology.vertex_count]
        self._skin[:, 6] = open_sky(context, topology.template, topology.triangles) if bake else 1.0
        self._vertices = context.buffer(reserve=max(self._rows.nbytes, 4), dynamic=True)
        self._indices = context.buffer(indices.astype(np.int32).tobytes() or b"\0" * 12)
        self._arrays: dict[moderngl.Program, moderngl.VertexArray] = {}
        self.load(topology.template)

    def load(self, vertices: F32) -> None:
        """Upload a mesh and its normals.

        Args:
            vertices: (N, 3) metres, world.
        """
        self._skin[:, :3] = vertices
        self._skin[:, 3:6] = vertex_normals(vertices, self.topology.triangles)
        if self._lids is not None:
            added = self._rows[len(self._skin) :]
            added[:, :3], added[:, 3:6] = self._lids.vertices(vertices)
        self._vertices.write(self._rows)
        self.low, self.high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)

    def render(self, program: moderngl.Program, *, lids: bool = False) -> None:
        """Draw with a program that reads any of in_position, in_normal, in_open_sky.

        Args:
            program: what draws.
            lids: whether open edges are covered; `in_open_sky` is negative there.
        """
        skin = self.topology.triangles.size
        count = skin if self._lids is None or not lids else skin + self._lids.triangles.size
        if count:
            self.array(program).render(moderngl.TRIANGLES, vertices=count)

    def array(self, program: moderngl.Program) -> moderngl.VertexArray:
        """Return the vertex array that feeds a program, made when first asked for."""
        array = self._arrays.get(program)
        if array is None:
            parts = [kind if name in program else f"{4 * int(kind[0])}x" for name, kind in _LAYOUT.items()]
            used = [name for name in _LAYOUT if name in program]
            content = [(self._vertices, " ".join(parts), *used)]
            array = self._arrays[program] = self._context.vertex_array(program, content, self._indices)
        return array

    def release(self) -> None:
        """Free the GPU's memory."""
        for array in self._arrays.values():
            array.release()
        self._vertices.release()
        self._indices.release()

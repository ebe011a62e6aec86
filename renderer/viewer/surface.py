"""A head on the GPU: filled once per mesh and drawn by every pass."""

from dataclasses import dataclass

import moderngl
import numpy as np

from renderer.viewer.edges import Edges
from renderer.viewer.eyes import find_eyes, gaze_of, place_eyes
from renderer.viewer.marks import marks_of
from renderer.viewer.occlusion import look_around, open_air
from streamer.geometry import rigid_from_points, vertex_normals
from streamer.types import F32, F64, Topology

_CORNERS_A_ROW = 1024


@dataclass(frozen=True, slots=True)
class Gaze:
    """Eyes of the mesh that is loaded."""

    centres: F64
    """(2, 3) left, right; metres, world."""
    directions: F64
    """(2, 3) unit vectors, world."""
    radii_m: tuple[float, float]
    """Of the eyes."""


class Shape:
    """What all meshes of a topology share, worked out once (0.3 s in software).

    Args:
        context: where it is drawn.
        topology: what all its meshes share.
        bake: whether is computed what the head keeps off itself; otherwise all is in the open.
    """

    def __init__(self, context: moderngl.Context, topology: Topology, *, bake: bool = True) -> None:
        """Bake, and upload what never changes."""
        self.topology = topology
        self.eyes = find_eyes(topology)
        self.edges = Edges(topology.triangles)
        whole = bake and bool(topology.vertex_count)
        self.sky = (
            look_around(context, topology.template, topology.triangles) if whole else open_air(topology.vertex_count)
        )
        self.marks = context.buffer(marks_of(topology, self.sky.share, self.eyes).tobytes() or b"\0" * 16)
        self.indices = context.buffer(topology.triangles.tobytes() or b"\0" * 12)
        self._context = context
        self._corners: moderngl.Texture | None = None

    def corners(self) -> moderngl.Texture:
        """Texture coordinates of the corners, three texels a triangle, 1024 triangles a row; made when asked for."""
        if self._corners is None:
            topology = self.topology
            rows = max(-(-len(topology.triangles) // _CORNERS_A_ROW), 1)
            table = np.zeros((rows * _CORNERS_A_ROW, 3, 2), np.float32)
            table[: len(topology.triangles)] = topology.uv[topology.uv_triangles]
            self._corners = self._context.texture((3 * _CORNERS_A_ROW, rows), 2, table.tobytes(), dtype="f4")
            self._corners.filter = (moderngl.NEAREST, moderngl.NEAREST)
        return self._corners

    def release(self) -> None:
        """Free the GPU's memory."""
        self.marks.release()
        self.indices.release()
        if self._corners is not None:
            self._corners.release()


class Surface:
    """Vertices, smooth normals and numbers of one mesh.

    Args:
        context: where it is drawn.
        shape: of its topology.
    """

    def __init__(self, context: moderngl.Context, shape: Shape) -> None:
        """Reserve the buffers."""
        self.shape = shape
        self.vertices: F32 = shape.topology.template
        """(N, 3) metres, world, as loaded last."""
        self.low: F64 = np.zeros(3)
        self.high: F64 = np.zeros(3)
        self.gaze: Gaze | None = None
        self.world_from_head: F64 = np.eye(3)
        """(3, 3) rotation of the mesh that is loaded against the template."""
        self._context = context
        count = shape.topology.vertex_count
        self._rows = np.zeros((count, 6), np.float32)
        self._buffer = context.buffer(reserve=max(self._rows.nbytes, 4), dynamic=True)
        self._numbers = context.buffer(np.full(max(count, 1), np.nan, np.float32).tobytes(), dynamic=True)
        self._lines = context.buffer(reserve=max(8 * len(shape.edges.pairs), 8), dynamic=True)
        self._planes: F64 | None = None
        self._arrays: dict[moderngl.Program, moderngl.VertexArray] = {}
        self.load(shape.topology.template)

    def load(self, vertices: F32, weights: F32 | None = None) -> None:
        """Upload a mesh and its normals.

        Args:
            vertices: (N, 3) metres, world; not changed afterwards.
            weights: (U,) of the topology's units, for the gaze.
        """
        self.vertices = vertices
        topology = self.shape.topology
        self._rows[:, :3] = vertices
        self._rows[:, 3:] = vertex_normals(vertices, topology.triangles)
        self._buffer.write(self._rows)
        self.low, self.high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)
        self._planes = None
        self.world_from_head = rotation = rigid_from_points(topology.template, vertices)[:3, :3]
        if self.shape.eyes is not None:
            centres = place_eyes(self.shape.eyes, topology.template, vertices, rotation)
            named = dict(zip(topology.units, weights.tolist(), strict=False)) if weights is not None else {}
            radii = (self.shape.eyes[0].radius_m, self.shape.eyes[1].radius_m)
            self.gaze = Gaze(centres, gaze_of(named) @ rotation.T, radii)

    def set_numbers(self, values: F32) -> None:
        """Upload what the material shows or needs, one number a vertex (N,); NaN where nothing is known."""
        self._numbers.write(np.ascontiguousarray(values, np.float32))

    @property
    def normals(self) -> F32:
        """(N, 3) unit normals of the mesh that is loaded."""
        return self._rows[:, 3:]

    def render(self, program: moderngl.Program) -> None:
        """Draw the triangles with a program that reads any of in_position, in_normal, in_mark, in_number."""
        count = self.shape.topology.triangles.size
        if count:
            self._array(program, self.shape.indices).render(moderngl.TRIANGLES, vertices=count)

    def render_outline(self, program: moderngl.Program, eye: F64) -> None:
        """Draw the edges of the outline as lines.

        Args:
            program: reads what `render` offers.
            eye: (4,) homogeneous, as in `Edges.silhouettes`.
        """
        if self._planes is None:
            self._planes = self.shape.edges.planes(self.vertices)
        pairs = self.shape.edges.silhouettes(self._planes, eye)
        if len(pairs):
            self._lines.write(np.ascontiguousarray(pairs))
            self._array(program, self._lines).render(moderngl.LINES, vertices=pairs.size)

    def _array(self, program: moderngl.Program, indices: moderngl.Buffer) -> moderngl.VertexArray:
        """Return the vertex array that feeds a program, made when first asked for."""
        array = self._arrays.get(program)
        if array is None:
            content: list[tuple[moderngl.Buffer, ...] | tuple[object, ...]] = []
            used = [name for name in ("in_position", "in_normal") if name in program]
            parts = ["3f" if name in program else "12x" for name in ("in_position", "in_normal")]
            if used:
                content.append((self._buffer, " ".join(parts), *used))
            for name, buffer, kind in (("in_mark", self.shape.marks, "4f"), ("in_number", self._numbers, "1f")):
                if name in program:
                    content.append((buffer, kind, name))
            array = self._arrays[program] = self._context.vertex_array(program, content, indices)
        return array

    def array(self, program: moderngl.Program) -> moderngl.VertexArray:
        """Return the vertex array of the triangles for a program."""
        return self._array(program, self.shape.indices)

    def release(self) -> None:
        """Free the GPU's memory; the shape stays."""
        for array in self._arrays.values():
            array.release()
        self._buffer.release()
        self._numbers.release()
        self._lines.release()

"""Meshes to records, in the form that a client asked for. Numpy only: no socket, no clock."""

import json
import struct

import numpy as np
from numpy.typing import NDArray

from streamer.errors import WireError
from streamer.gateway.records import NORMAL_STEPS, FrameBlock, Kind, TopologyBlock, encode, topology_key
from streamer.gateway.variants import PLAIN, Variant
from streamer.geometry import vertex_normals
from streamer.types import F32, MeshFrame, Topology

STEPS = 65535
"""Steps of a quantised coordinate: 5 micrometres on a head of 0.3 m."""


class Form:
    """A topology in the form of a variant: its record, and how its meshes are written.

    Args:
        topology: the topology.
        variant: the form.
    """

    def __init__(self, topology: Topology, variant: Variant) -> None:
        """Prepare what all frames share."""
        self.topology = topology
        self.variant = variant
        space = variant.space
        self._scaled = None if (space.matrix == np.eye(3)).all() else np.asarray(space.matrix.T, np.float32)
        signs = np.sign(space.matrix)
        self._turned = np.asarray(signs.T, np.float32)
        self._signs, self._unit = signs, float(np.abs(space.matrix).max())
        self._source: NDArray[np.int64] | None = None
        self._triangles, self._uv, self._corners = topology.triangles, topology.uv, topology.uv_triangles
        if variant.split:
            self._split()
        if space.reverse_winding:
            self._triangles, self._corners = self._triangles[:, [0, 2, 1]], self._corners[:, [0, 2, 1]]

    @property
    def vertex_count(self) -> int:
        """Number of vertices in this form."""
        return self.topology.vertex_count if self._source is None else len(self._source)

    def _split(self) -> None:
        """Give each pair of a vertex and its texture coordinates a vertex of its own."""
        if not len(self._uv):
            self._source = np.arange(self.topology.vertex_count)
            return
        pairs = self._triangles.astype(np.int64) * len(self._uv) + self._corners
        kept, index = np.unique(pairs.ravel(), return_inverse=True)
        self._source = kept // len(self._uv)
        self._uv = np.asarray(self._uv[kept % len(self._uv)])
        self._triangles = self._corners = index.reshape(-1, 3).astype(np.int32)

    def encode_topology(self) -> bytes:
        """Return the record that must precede the frames."""
        topology = self.topology
        names = {"name": topology.name, "id": topology.id, "units": list(topology.units)}
        text = json.dumps(names, separators=(",", ":"), ensure_ascii=False).encode()
        parts = [struct.pack("<I", len(self._triangles)), self._triangles.astype("<u4").tobytes()]
        flags = TopologyBlock.NAMES
        if len(self._uv):
            flags |= TopologyBlock.UV
            parts += [struct.pack("<I", len(self._uv)), self._uv.astype("<f4").tobytes()]
            parts.append(self._corners.astype("<u4").tobytes())
        parts += [struct.pack("<I", len(text)), text, bytes(-len(text) % 4)]
        if self._source is not None:
            flags |= TopologyBlock.SOURCE
            parts.append(self._source.astype("<u4").tobytes())
        key = topology_key(topology.id)
        return encode(Kind.TOPOLOGY, b"".join(parts), flags=flags, topology=key, vertices=self.vertex_count)

    def encode_frame(self, mesh: MeshFrame, sequence: int) -> bytes:
        """Return the record of one mesh: a frame, or weights where the variant wants no positions.

        Args:
            mesh: a mesh of this topology, checked by `require_sendable`.
            sequence: see `Header.sequence`; taken modulo 2**32.
        """
        variant, flags, parts = self.variant, FrameBlock(0), []
        if variant.mesh:
            positions = mesh.vertices if self._source is None else mesh.vertices[self._source]
            moved = positions if self._scaled is None else np.asarray(positions, np.float32) @ self._scaled
            if variant.quantised:
                flags |= FrameBlock.QUANTISED
                parts.append(quantise(moved))
            else:
                parts.append(np.asarray(moved, "<f4").tobytes())
        flags |= FrameBlock.POSE
        parts.append(self._pose(mesh.world_from_head))
        if mesh.weights is not None:
            flags |= FrameBlock.WEIGHTS
            parts += [struct.pack("<I", len(mesh.weights)), np.asarray(mesh.weights, "<f4").tobytes()]
        if variant.mesh and variant.normals:
            flags |= FrameBlock.NORMALS
            parts.append(self._normals(mesh.vertices))
        return encode(
            Kind.FRAME if variant.mesh else Kind.WEIGHTS,
            b"".join(parts),
            flags=flags,
            sequence=sequence % (1 << 32),
            topology=topology_key(mesh.topology_id),
            capture_time_s=mesh.exposure_time_ns / 1_000_000_000,  # int by int: rounded once
            vertices=self.vertex_count if variant.mesh else 0,
        )

    def _pose(self, world_from_head: F32) -> bytes:
        if self._scaled is None:
            return np.asarray(world_from_head, "<f4").tobytes()
        pose = np.array(world_from_head, np.float32)
        pose[:3, :3] = self._signs @ world_from_head[:3, :3] @ self._signs.T
        pose[:3, 3] = self._signs @ world_from_head[:3, 3] * self._unit
        return pose.astype("<f4").tobytes()

    def _normals(self, vertices: F32) -> bytes:
        normals = vertex_normals(vertices, self.topology.triangles)
        if self._source is not None:
            normals = normals[self._source]
        normals = normals @ self._turned
        if not self.variant.quantised:
            return bytes(normals.astype("<f4").tobytes())
        small: bytes = np.rint(normals * NORMAL_STEPS).astype(np.int8).tobytes()
        return small + bytes(-len(small) % 4)


def require_sendable(mesh: MeshFrame, topology: Topology) -> None:
    """Refuse what would wreck the bounds in every engine.

    Raises:
        WireError: another number of vertices than the topology's, or positions, pose or weights that are not finite.
    """
    if len(mesh.vertices) != topology.vertex_count:
        raise WireError(
            f"the mesh of frame {mesh.frame_id} has {len(mesh.vertices)} vertices, its topology "
            f"'{topology.name}' has {topology.vertex_count}; it is not sent"
        )
    blocks = [mesh.vertices, mesh.world_from_head] + ([] if mesh.weights is None else [mesh.weights])
    if not all(np.isfinite(block).all() for block in blocks):
        raise WireError(f"the mesh of frame {mesh.frame_id} holds values that are not finite; it is not sent")


def quantise(positions: F32) -> bytes:
    """Return the block of quantised positions: minimum and step of the box, 16 bits per coordinate, zeros to 4 bytes.

    Args:
        positions: (N, 3), finite.
    """
    if not len(positions):
        return bytes(24)
    low = positions.min(0).astype(np.float64)
    step = ((positions.max(0) - low) / STEPS).astype(np.float32).astype(np.float64)
    counts = np.rint((positions - low) / np.where(step > 0, step, 1.0))
    numbers: bytes = np.clip(counts, 0, STEPS).astype("<u2").tobytes()
    return b"".join((low.astype("<f4").tobytes(), step.astype("<f4").tobytes(), numbers, bytes(-len(numbers) % 4)))


def encode_topology(topology: Topology, variant: Variant = PLAIN) -> bytes:
    """Return the record of a topology."""
    return Form(topology, variant).encode_topology()


def encode_frame(mesh: MeshFrame, sequence: int, topology: Topology, variant: Variant = PLAIN) -> bytes:
    """Return the record of one mesh.

    Raises:
        WireError: see `require_sendable`.
    """
    require_sendable(mesh, topology)
    return Form(topology, variant).encode_frame(mesh, sequence)

"""The head in the scene: a mesh object whose vertices follow the stream, and shape keys that follow its weights."""

import bpy
import numpy as np

from .records import Topology

NAME = "Mien Head"


class HeldError(Exception):
    """The object cannot be written now; the message says why."""


def fits(head: "bpy.types.Object", topology: Topology) -> bool:
    """Return whether the object holds this topology, as `build` made it."""
    return head.get("mien_topology") == f"{topology.key:08x}" and len(head.data.vertices) == topology.vertices


def build(
    topology: Topology, head: "bpy.types.Object | None", collection: "bpy.types.Collection"
) -> "bpy.types.Object":
    """Make the mesh of a topology, in an existing object if there is one.

    Args:
        topology: the topology.
        head: the object of an earlier topology; keeps its name, place and materials.
        collection: where a new object goes.

    Returns:
        The object; all its vertices lie at the origin until `pose`.

    Raises:
        HeldError: the object is being edited.
    """
    if head is None:
        head = bpy.data.objects.new(NAME, bpy.data.meshes.new(NAME))
        collection.objects.link(head)
    _require_object_mode(head)
    uv = None if topology.uv is None else topology.uv[topology.corners.ravel()]
    fill(head.data, topology.vertices, topology.triangles, uv)
    head["mien_topology"] = f"{topology.key:08x}"
    return head


def fill(mesh: "bpy.types.Mesh", vertices: int, triangles: np.ndarray, uv: np.ndarray | None) -> None:
    """Give a mesh its faces, smooth; all vertices at the origin.

    Args:
        mesh: is emptied first.
        vertices: how many.
        triangles: (T, 3) indices.
        uv: (T * 3, 2) float32 coordinates per corner, or None.
    """
    count = len(triangles)
    mesh.clear_geometry()
    mesh.vertices.add(vertices)
    mesh.loops.add(3 * count)
    mesh.polygons.add(count)
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(triangles.ravel(), np.int32))
    mesh.polygons.foreach_set("loop_start", np.arange(0, 3 * count, 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(count, bool))
    if uv is not None:
        mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", np.ascontiguousarray(uv.ravel(), np.float32))
    mesh.update(calc_edges=True)


def pose(head: "bpy.types.Object", positions: np.ndarray) -> None:
    """Move the vertices.

    Args:
        head: an object that fits the topology.
        positions: (N, 3) float32, contiguous, metres in Blender's axes.

    Raises:
        HeldError: the object is being edited.
    """
    _require_object_mode(head)
    mesh = head.data
    # The attribute, not `vertices.foreach_set('co')`: 5 microseconds instead of 3 milliseconds for 5000 vertices.
    mesh.attributes["position"].data.foreach_set("vector", positions.ravel())
    mesh.update()
    head.update_tag()


def shape_keys(character: "bpy.types.Object | None", units: tuple[str, ...]) -> "dict[str, bpy.types.ShapeKey]":
    """Return the shape keys of an object by the unit that moves them; `jawOpen` moves `JawOpen` too."""
    keys = None if character is None or character.type != "MESH" else character.data.shape_keys
    if keys is None:
        return {}
    blocks = {block.name[:1].lower() + block.name[1:]: block for block in keys.key_blocks}
    return {unit: blocks[plain] for unit in units if (plain := unit[:1].lower() + unit[1:]) in blocks}


def express(
    head: "bpy.types.Object", character: "bpy.types.Object | None", units: tuple[str, ...], weights: np.ndarray
) -> int:
    """Give the weights to a character's shape keys, and to the head as custom properties, which drivers can read.

    Returns:
        How many shape keys follow.
    """
    blocks = shape_keys(character, units)
    for unit, weight in zip(units, weights.tolist(), strict=False):
        head[unit] = weight
        if unit in blocks:
            blocks[unit].value = weight
    return len(blocks)


def _require_object_mode(head: "bpy.types.Object") -> None:
    if head.mode == "EDIT":
        raise HeldError(f"'{head.name}' is being edited; leave Edit Mode to go on")

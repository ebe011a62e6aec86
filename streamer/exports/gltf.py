"""glTF 2.0: a mesh with morph targets, their weights over time, and the rigid motion of the head as its node's.

The axes and the unit of glTF are Mien's own. Vertices are doubled where the texture has a seam, and those that no
triangle uses are left out (Blender drops them on import, which shifts all numbers): the attribute `_VERTEX` says
which vertex of the take each one is.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.exports.glb import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Buffer
from streamer.exports.job import Job
from streamer.exports.morphs import Morphs, arkit_morphs, pca_morphs
from streamer.exports.motion import Motion
from streamer.geometry import quaternion, vertex_normals
from streamer.types import F32, I32

_SKIN = {"baseColorFactor": [0.8, 0.62, 0.54, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}


def write_gltf(path: Path, job: Job) -> dict[str, Any]:
    """Write `.glb`, or `.gltf` with the buffer inside."""
    kind = job.options.morphs_of("gltf")
    morphs = arkit_morphs(job) if kind == "arkit" else pca_morphs(job)
    buffer, options = Buffer(), job.options
    mesh = _mesh(buffer, job.motion, morphs) | {"name": options.name}
    node: dict[str, Any] = {"name": options.name, "mesh": 0}
    document = {
        "asset": {"version": "2.0", "generator": "Mien"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [mesh],
        "materials": [{"name": "skin", "pbrMetallicRoughness": _SKIN}],
        "animations": [_animation(buffer, job.motion, morphs)],
        "extras": {"frames_per_second": float(job.motion.timeline.rate), "error_max_mm": round(morphs.error_max_mm, 4)},
    }
    buffer.write(path, document)
    job.notes.append(
        f"glTF holds motion as {len(morphs.names)} shapes and a rigid pose, not every vertex of every frame: "
        f"at most {morphs.error_max_mm:.3g} mm off, rms {morphs.error_rms_mm:.2g} mm; no frame ids or timecode"
    )
    return {
        "morphs": kind,
        "shapes": len(morphs.names),
        "error_mm": {"max": round(morphs.error_max_mm, 5), "rms": round(morphs.error_rms_mm, 5)},
    }


def _mesh(buffer: Buffer, motion: Motion, morphs: Morphs) -> dict[str, Any]:
    vertex, coordinate, triangles = split_seams(motion)
    normals = vertex_normals(morphs.base, motion.triangles)
    attributes = {
        "POSITION": buffer.add(morphs.base[vertex], target=ARRAY_BUFFER, limits=True),
        "NORMAL": buffer.add(_unit(normals)[vertex], target=ARRAY_BUFFER),
        "_VERTEX": buffer.add(vertex.astype(np.float32), target=ARRAY_BUFFER),
    }
    if len(motion.uv_triangles):
        uv = motion.topology.uv[coordinate]
        attributes["TEXCOORD_0"] = buffer.add(
            np.stack([uv[:, 0], 1 - uv[:, 1]], 1).astype(np.float32), target=ARRAY_BUFFER
        )
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": buffer.add(triangles.ravel().astype(np.uint32), target=ELEMENT_ARRAY_BUFFER),
        "material": 0,
    }
    targets = []
    for delta in morphs.deltas:
        bent = vertex_normals(morphs.base + delta, motion.triangles) - normals
        bent[np.abs(bent).max(1) < 1e-3] = 0.0
        targets.append(
            {
                "POSITION": buffer.add_sparse(delta[vertex], limits=True),
                "NORMAL": buffer.add_sparse(bent[vertex]),
            }
        )
    if not targets:
        return {"primitives": [primitive]}
    primitive["targets"] = targets
    return {
        "primitives": [primitive],
        "weights": [0.0] * len(targets),
        "extras": {"targetNames": list(morphs.names)},
    }


def split_seams(motion: Motion) -> tuple[I32, I32, I32]:
    """Give every pair of vertex and texture coordinate that a triangle uses a vertex of its own.

    Returns:
        (M,) vertex of the take, rising; (M,) texture coordinate (0 without any); (T, 3) triangles over these.
    """
    corners = motion.triangles.astype(np.int64)
    coordinates = motion.uv_triangles.astype(np.int64) if len(motion.uv_triangles) else np.zeros_like(corners)
    width = max(len(motion.topology.uv), 1)
    pairs, triangles = np.unique(corners * width + coordinates, return_inverse=True)
    return (
        (pairs // width).astype(np.int32),
        (pairs % width).astype(np.int32),
        triangles.reshape(corners.shape).astype(np.int32),
    )


def _animation(buffer: Buffer, motion: Motion, morphs: Morphs) -> dict[str, Any]:
    times = buffer.add(motion.timeline.times_s.astype(np.float32), limits=True)
    turns = np.array([quaternion(pose[:3, :3]) for pose in morphs.world_from_head])
    for before, after in pairwise(turns):
        if before @ after < 0:  # the shorter way round, since readers interpolate
            after *= -1
    curves: dict[str, NDArray[np.float32]] = {
        "translation": morphs.world_from_head[:, :3, 3].astype(np.float32),
        "rotation": turns[:, [1, 2, 3, 0]].astype(np.float32),
    }
    if morphs.names:
        curves["weights"] = morphs.weights.ravel()
    samplers = [{"input": times, "output": buffer.add(curve), "interpolation": "LINEAR"} for curve in curves.values()]
    channels = [{"sampler": k, "target": {"node": 0, "path": name}} for k, name in enumerate(curves)]
    return {"name": "take", "samplers": samplers, "channels": channels}


def _unit(normals: F32) -> F32:
    """Give vertices without a direction one: zero is not allowed."""
    flat = np.linalg.norm(normals, axis=1) < 0.5
    fixed = normals.copy()
    fixed[flat] = (0.0, 0.0, 1.0)
    return fixed

"""Run by Blender's Python (bpy), not by ours: opens exported files and writes down every vertex as Blender has it.

    python blender_read.py JOBS.json OUT.npz

JOBS.json: [{"key", "kind": usd|abc|gltf|pc2|mdd, "path", "fps", "frames": [...]}]. OUT.npz: per key `<key>` (F, N, 3)
float64, world coordinates of Blender (metres, +Z up), and `<key>/ids` where the file carries vertex numbers.
"""

import json
import sys

import bpy
import numpy as np


def load(job: dict) -> bpy.types.Object:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = job["fps"]
    path = job["path"]
    if job["kind"] == "usd":
        bpy.ops.wm.usd_import(filepath=path)
    elif job["kind"] == "abc":
        bpy.ops.wm.alembic_import(filepath=path, as_background_job=False)
    elif job["kind"] == "gltf":
        bpy.ops.import_scene.gltf(filepath=path, import_shading="NORMALS", merge_vertices=False)
    else:
        bpy.ops.wm.obj_import(filepath=path.rsplit(".", 1)[0] + ".obj")
    (found,) = [item for item in bpy.context.scene.objects if item.type == "MESH"]
    if job["kind"] in ("pc2", "mdd"):
        cache = found.modifiers.new("cache", "MESH_CACHE")
        cache.cache_format, cache.filepath = job["kind"].upper(), path
    return found


def points(found: bpy.types.Object, frame: float) -> np.ndarray:
    bpy.context.scene.frame_set(int(frame), subframe=frame - int(frame))
    solid = found.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = solid.to_mesh()
    flat = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", flat)
    solid.to_mesh_clear()
    matrix = np.array(solid.matrix_world)
    return flat.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def outward(found: bpy.types.Object) -> float:
    """Share of faces whose normal, as Blender makes it from the order of corners, points away from the middle."""
    solid = found.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = solid.to_mesh()
    centres = np.array([tuple(face.center) for face in mesh.polygons])
    normals = np.array([tuple(face.normal) for face in mesh.polygons])
    solid.to_mesh_clear()
    return float((((centres - centres.mean(0)) * normals).sum(1) > 0).mean())


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    out = {}
    for job in jobs:
        found = load(job)
        out[job["key"]] = np.stack([points(found, frame) for frame in job["frames"]])
        out[job["key"] + "/outward"] = np.array(outward(found))
        out[job["key"] + "/uv"] = np.array(len(found.data.uv_layers))
        numbers = found.data.attributes.get("_VERTEX")
        if numbers is not None:
            ids = np.empty(len(found.data.vertices), np.float32)
            numbers.data.foreach_get("value", ids)
            out[job["key"] + "/ids"] = ids
    np.savez(sys.argv[2], **out)


main()

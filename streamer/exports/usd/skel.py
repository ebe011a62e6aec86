"""UsdSkel: one joint for the skull, a blend shape per expression unit, weights over time: small, for retargeting."""

from pathlib import Path
from typing import Any

import numpy as np

from streamer.exports.job import Job
from streamer.exports.morphs import Morphs, arkit_morphs
from streamer.exports.usd.stage import Pxr, define_mesh, new_stage
from streamer.geometry import quaternion, vertex_normals

JOINT = "head"


def write_skel(pxr: Pxr, path: Path, job: Job) -> dict[str, Any]:
    """Write the performance as blend shapes."""
    morphs = arkit_morphs(job)
    stage = new_stage(pxr, path, job)
    root = pxr.UsdSkel.Root.Define(stage, "/" + job.options.name)
    stage.SetDefaultPrim(root.GetPrim())
    pxr.Usd.ModelAPI(root.GetPrim()).SetKind("component")
    skeleton = pxr.UsdSkel.Skeleton.Define(stage, root.GetPath().AppendChild("skeleton"))
    skeleton.CreateJointsAttr([JOINT])
    identity = pxr.Vt.Matrix4dArray([pxr.Gf.Matrix4d(1.0)])
    skeleton.CreateBindTransformsAttr(identity)
    skeleton.CreateRestTransformsAttr(identity)
    _bind(pxr, stage, _base(pxr, stage, job, morphs), skeleton, job, morphs)
    animation = _animation(pxr, stage, job, morphs)
    binding = pxr.UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
    binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    _extents(pxr, root, job)
    stage.GetRootLayer().Save()
    job.notes.append(
        f"blend shapes: at most {morphs.error_max_mm:.3g} mm off, rms {morphs.error_rms_mm:.2g} mm; units that always "
        "moved together in this take share their motion"
    )
    return {
        "morphs": "arkit",
        "shapes": len(morphs.names),
        "error_mm": {"max": round(morphs.error_max_mm, 5), "rms": round(morphs.error_rms_mm, 5)},
    }


def _base(pxr: Pxr, stage: Any, job: Job, morphs: Morphs) -> Any:
    mesh = define_mesh(pxr, stage, f"/{job.options.name}/mesh", job)
    base = morphs.base @ job.preset.axes.matrix.T
    mesh.CreatePointsAttr(pxr.points(base))
    mesh.CreateNormalsAttr(pxr.points(vertex_normals(base, job.motion.triangles)))
    mesh.CreateExtentAttr(pxr.extent(base))
    return mesh


def _bind(pxr: Pxr, stage: Any, mesh: Any, skeleton: Any, job: Job, morphs: Morphs) -> None:
    binding = pxr.UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateJointIndicesPrimvar(constant=True, elementSize=1).Set(pxr.Vt.IntArray([0]))
    binding.CreateJointWeightsPrimvar(constant=True, elementSize=1).Set(pxr.Vt.FloatArray([1.0]))
    binding.CreateGeomBindTransformAttr(pxr.Gf.Matrix4d(1.0))
    matrix, triangles = job.preset.axes.matrix, job.motion.triangles
    normals = vertex_normals(morphs.base @ matrix.T, triangles)
    targets = []
    for name, delta in zip(_names(pxr, morphs), morphs.deltas, strict=True):
        shape = pxr.UsdSkel.BlendShape.Define(stage, mesh.GetPath().AppendChild(name))
        moved = np.flatnonzero(delta.any(1)) if delta.any() else np.array([0])
        bent = vertex_normals((morphs.base + delta) @ matrix.T, triangles) - normals
        shape.CreateOffsetsAttr(pxr.points(delta[moved] @ matrix.T))
        shape.CreateNormalOffsetsAttr(pxr.points(bent[moved]))
        shape.CreatePointIndicesAttr(pxr.ints(moved))
        targets.append(shape.GetPath())
    binding.CreateBlendShapesAttr(_names(pxr, morphs))
    binding.CreateBlendShapeTargetsRel().SetTargets(targets)


def _animation(pxr: Pxr, stage: Any, job: Job, morphs: Morphs) -> Any:
    animation = pxr.UsdSkel.Animation.Define(stage, f"/{job.options.name}/animation")
    animation.CreateBlendShapesAttr(_names(pxr, morphs))
    animation.CreateJointsAttr([JOINT])
    weights = animation.CreateBlendShapeWeightsAttr()
    places, turns = animation.CreateTranslationsAttr(), animation.CreateRotationsAttr()
    animation.CreateScalesAttr(pxr.Vt.Vec3hArray([pxr.Gf.Vec3h(1, 1, 1)]))
    matrix = job.preset.axes.matrix
    direction = matrix * job.preset.metres_per_unit
    frames = job.motion.timeline.frame_numbers + job.options.start_frame
    before = np.array([1.0, 0, 0, 0])
    for frame, pose, values in zip(frames.tolist(), morphs.world_from_head, morphs.weights, strict=True):
        turn = quaternion(direction @ pose[:3, :3] @ direction.T)
        turn = -turn if turn @ before < 0 else turn
        before = turn
        weights.Set(pxr.Vt.FloatArray.FromNumpy(values), frame)
        places.Set(pxr.points((matrix @ pose[:3, 3])[None]), frame)
        turns.Set(pxr.Vt.QuatfArray([pxr.Gf.Quatf(*turn.tolist())]), frame)
    return animation


def _names(pxr: Pxr, morphs: Morphs) -> list[str]:
    return [pxr.identifier(name) for name in morphs.names]


def _extents(pxr: Pxr, root: Any, job: Job) -> None:
    """Let USD itself say how far the skinned head reaches, frame by frame, from joints and bound geometry."""
    boundable, attribute = pxr.UsdGeom.Boundable(root.GetPrim()), root.CreateExtentAttr()
    frames = (job.motion.timeline.frame_numbers + job.options.start_frame).tolist()
    for code in (pxr.Usd.TimeCode.Default(), *map(pxr.Usd.TimeCode, frames)):
        attribute.Set(pxr.UsdGeom.Boundable.ComputeExtentFromPlugins(boundable, code), code)

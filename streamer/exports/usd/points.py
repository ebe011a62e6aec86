"""USD with every vertex of every frame: `points` as time samples.

A stage holds what was set until it is saved; so it is saved every few hundred samples, or the samples go into value
clips: files of their own beside the root, each opened by a reader only when its time comes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamer.errors import TakeError
from streamer.exports.job import Job
from streamer.exports.motion import Sample
from streamer.exports.usd.stage import Pxr, define_mesh, new_stage
from streamer.geometry import vertex_normals

SAVE_EVERY = 250
"""Samples between two saves of one file: 25 MB for 4,300 vertices with normals."""
MOST_AS_TEXT = 2000
"""Samples that a .usda may hold: it lies in memory until the end, and takes 200 kB each."""


STILL = "still.usdc"
"""What all clips share: faces, texture coordinates."""


def clips_name(out: Path) -> str:
    """Return the name of the folder of value clips beside a root file."""
    return f"{out.stem}.clips"


def write_points(pxr: Pxr, path: Path, job: Job) -> dict[str, Any]:
    """Write the samples into one file."""
    binary = path.suffix.lower() != ".usda"
    if not binary and len(job.motion) > MOST_AS_TEXT:
        raise TakeError(f"{path.name}: {len(job.motion)} samples are too many for text; use .usdc, or --frames A-B")
    stage = new_stage(pxr, path, job)
    mesh = _mesh(pxr, stage, job)
    moving = _Moving.of(pxr, mesh, job)
    for sample in job.samples():
        if not sample.number:
            moving.rest(sample)
        moving.set(sample)
        if binary and sample.number % SAVE_EVERY == SAVE_EVERY - 1:
            stage.GetRootLayer().Save()
    stage.GetRootLayer().Save()
    return {}


def write_clips(pxr: Pxr, path: Path, job: Job) -> dict[str, Any]:
    """Write a root file and value clips of `clip_frames` samples beside it.

    Each clip also holds the first sample of the next: readers interpolate within a clip only.
    """
    folder = path.with_name(clips_name(path))
    folder.mkdir()
    starts: list[float] = []
    for number, samples in enumerate(_groups(job)):
        starts.append(samples.first.frame)
        if not number:
            _write_still(pxr, folder / STILL, job, samples.first)
        _write_clip(pxr, folder / _clip(number), job, samples)
    manifest = pxr.Usd.Stage.CreateNew(str(folder / "manifest.usda"))
    _Moving.of(pxr, pxr.UsdGeom.Mesh.Define(manifest, _path(job)), job)
    manifest.SetDefaultPrim(manifest.GetPrimAtPath("/" + job.options.name))
    manifest.GetRootLayer().Save()

    stage = new_stage(pxr, path, job)
    prim = stage.DefinePrim(_path(job), "Mesh")
    stage.SetDefaultPrim(_root(pxr, stage, job))
    # Values in this file would win against the clips; what is behind a reference does not.
    prim.GetReferences().AddReference(f"./{folder.name}/{STILL}", _path(job))
    clips = pxr.Usd.ClipsAPI(prim)
    names = [f"./{folder.name}/{_clip(number)}" for number in range(len(starts))]
    end = float(job.motion.timeline.frame_numbers[-1] + job.options.start_frame)
    clips.SetClipAssetPaths(pxr.Sdf.AssetPathArray([pxr.Sdf.AssetPath(name) for name in names]))
    clips.SetClipPrimPath(_path(job))
    clips.SetClipManifestAssetPath(pxr.Sdf.AssetPath(f"./{folder.name}/manifest.usda"))
    clips.SetClipActive(pxr.Vt.Vec2dArray([(start, number) for number, start in enumerate(starts)]))
    clips.SetClipTimes(pxr.Vt.Vec2dArray([(start, start) for start in starts] + [(end + 1, end + 1)]))
    stage.GetRootLayer().Save()
    job.notes.append(f"the samples are in {folder.name}/ beside {path.name}; move both together")
    return {"beside": [folder.name], "clips": len(starts)}


class _Group:
    """The samples of one clip; the first of the next comes last."""

    def __init__(self, first: Sample, rest: Iterator[Sample]) -> None:
        self.first, self.rest = first, rest


def _groups(job: Job) -> Iterator[_Group]:
    size, walk = job.options.clip_frames, job.samples()
    following = next(walk, None)
    while following is not None:
        first, following = following, None
        held: list[Sample] = []

        def rest(first: Sample = first, held: list[Sample] = held) -> Iterator[Sample]:
            yield first
            for sample in walk:
                yield sample
                if sample.number % size == 0:
                    held.append(sample)
                    return

        yield _Group(first, rest())
        following = held[0] if held else None


def _write_still(pxr: Pxr, path: Path, job: Job, sample: Sample) -> None:
    """Write what does not move, and the first sample as the value outside of time."""
    stage = pxr.Usd.Stage.CreateNew(str(path))
    _Moving.of(pxr, _mesh(pxr, stage, job), job).rest(sample)
    stage.GetRootLayer().Save()


def _write_clip(pxr: Pxr, path: Path, job: Job, samples: _Group) -> None:
    stage = pxr.Usd.Stage.CreateNew(str(path))
    mesh = pxr.UsdGeom.Mesh.Define(stage, _path(job))
    moving = _Moving.of(pxr, mesh, job)
    frames = []
    for sample in samples.rest:
        moving.set(sample)
        frames.append(sample.frame)
    stage.SetDefaultPrim(stage.GetPrimAtPath("/" + job.options.name))
    stage.SetStartTimeCode(frames[0])
    stage.SetEndTimeCode(frames[-1])
    stage.GetRootLayer().Save()


def _clip(number: int) -> str:
    return f"clip_{number:04d}.usdc"


def _path(job: Job) -> str:
    return f"/{job.options.name}/mesh"


def _mesh(pxr: Pxr, stage: Any, job: Job) -> Any:
    stage.SetDefaultPrim(_root(pxr, stage, job))
    return define_mesh(pxr, stage, _path(job), job)


def _root(pxr: Pxr, stage: Any, job: Job) -> Any:
    prim = pxr.UsdGeom.Xform.Define(stage, "/" + job.options.name).GetPrim()
    pxr.Usd.ModelAPI(prim).SetKind("component")
    return prim


@dataclass(frozen=True, slots=True)
class _Moving:
    """The attributes of a mesh that have samples."""

    pxr: Pxr
    job: Job
    points: Any
    normals: Any
    extent: Any
    frame_id: Any
    weights: Any

    @classmethod
    def of(cls, pxr: Pxr, mesh: Any, job: Job) -> "_Moving":
        """Create the attributes, without values."""
        prim, types = mesh.GetPrim(), pxr.Sdf.ValueTypeNames
        mesh.SetNormalsInterpolation(pxr.UsdGeom.Tokens.vertex)
        weights = None
        if job.motion.topology.units:
            weights = prim.CreateAttribute("mien:arkitWeights", types.FloatArray)
            weights.SetCustomDataByKey("names", ",".join(job.motion.topology.units))
        frame_id = prim.CreateAttribute("mien:frameId", types.Int64)
        return cls(
            pxr, job, mesh.CreatePointsAttr(), mesh.CreateNormalsAttr(), mesh.CreateExtentAttr(), frame_id, weights
        )

    def set(self, sample: Sample) -> None:
        """Write one sample."""
        self._geometry(sample, self.pxr.Usd.TimeCode(sample.frame))
        self.frame_id.Set(sample.frame_id, sample.frame)
        if self.weights is not None and sample.weights is not None:
            self.weights.Set(self.pxr.Vt.FloatArray.FromNumpy(sample.weights), sample.frame)

    def rest(self, sample: Sample) -> None:
        """Write the geometry of a sample as the value outside of time, which some readers begin with."""
        self._geometry(sample, self.pxr.Usd.TimeCode.Default())

    def _geometry(self, sample: Sample, code: Any) -> None:
        normals = vertex_normals(sample.vertices, self.job.motion.triangles)
        normals[~normals.any(1)] = (0.0, 0.0, 1.0)
        self.points.Set(self.pxr.points(sample.vertices), code)
        self.normals.Set(self.pxr.points(normals), code)
        self.extent.Set(self.pxr.extent(sample.vertices), code)

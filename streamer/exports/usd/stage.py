"""A USD stage as every file of ours begins; the one place that imports pxr."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import MissingExtra, TakeError
from streamer.exports.job import Job


class Pxr:
    """The modules of usd-core that we use."""

    def __init__(self) -> None:
        """Import them.

        Raises:
            MissingExtra: usd-core is not installed.
        """
        try:
            from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdSkel, Vt
        except ImportError as error:
            raise MissingExtra("usd-core", "export") from error
        self.Gf: Any = Gf
        self.Sdf: Any = Sdf
        self.Tf: Any = Tf
        self.Usd: Any = Usd
        self.UsdGeom: Any = UsdGeom
        self.UsdSkel: Any = UsdSkel
        self.Vt: Any = Vt

    def points(self, array: NDArray[np.floating]) -> Any:
        """Return (N, 3) as a Vec3fArray."""
        return self.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(array, np.float32))

    def ints(self, array: NDArray[np.integer]) -> Any:
        """Return integers as an IntArray."""
        return self.Vt.IntArray.FromNumpy(np.ascontiguousarray(array.ravel(), np.int32))

    def extent(self, vertices: NDArray[np.floating]) -> Any:
        """Return the bounds of (N, 3) points as USD wants them."""
        return self.points(np.stack([vertices.min(0), vertices.max(0)]))

    def identifier(self, name: str) -> str:
        """Return a name that a prim may have."""
        return str(self.Tf.MakeValidIdentifier(name))


@contextmanager
def translated(out: Path) -> Iterator[Pxr]:
    """Give the modules; errors of USD itself become ours.

    Raises:
        MissingExtra: usd-core is not installed.
        TakeError: USD could not write.
    """
    pxr = Pxr()
    try:
        yield pxr
    except pxr.Tf.ErrorException as error:
        raise TakeError(f"{out.name}: USD cannot write it: {str(error).strip().splitlines()[-1]}") from error


def new_stage(pxr: Pxr, path: Path, job: Job) -> Any:
    """Create a stage with axes, unit, rate and range; the caller keeps it alive and saves it."""
    stage = pxr.Usd.Stage.CreateNew(str(path))
    motion, preset = job.motion, job.preset
    pxr.UsdGeom.SetStageUpAxis(stage, preset.up)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, preset.metres_per_unit)
    rate = float(motion.timeline.rate)
    stage.SetTimeCodesPerSecond(rate)
    stage.SetFramesPerSecond(rate)
    frames = motion.timeline.frame_numbers + job.options.start_frame
    stage.SetStartTimeCode(float(frames[0]))
    stage.SetEndTimeCode(float(frames[-1]))
    stage.GetRootLayer().documentation = "A head, captured by Mien; one time code is one frame."
    return stage


def define_mesh(pxr: Pxr, stage: Any, path: str, job: Job) -> Any:
    """Define a mesh with everything that does not move: faces and texture coordinates."""
    motion = job.motion
    mesh = pxr.UsdGeom.Mesh.Define(stage, path)
    mesh.CreateFaceVertexCountsAttr(pxr.ints(np.full(len(motion.triangles), 3)))
    mesh.CreateFaceVertexIndicesAttr(pxr.ints(motion.triangles))
    mesh.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    mesh.CreateOrientationAttr(pxr.UsdGeom.Tokens.rightHanded)
    mesh.SetNormalsInterpolation(pxr.UsdGeom.Tokens.vertex)
    if len(motion.uv_triangles):
        uv = pxr.UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
            "st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, pxr.UsdGeom.Tokens.faceVarying
        )
        uv.Set(pxr.Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(motion.topology.uv)))
        uv.SetIndices(pxr.ints(motion.uv_triangles))
    return mesh

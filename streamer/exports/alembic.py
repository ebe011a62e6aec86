"""Alembic: one mesh of constant topology, every vertex of every frame; the one file that knows alembic3d.

Alembic's own winding is clockwise seen from outside, and it has no unit and no up axis: custom is right-handed, Y up.
A sampling that is passed to the mesh's constructor writes a broken file without a word; it is set on the schema here.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import MissingExtra, TakeError
from streamer.exports.job import Job
from streamer.exports.motion import Sample
from streamer.geometry import vertex_normals


class _Library:
    """The modules of alembic3d that we use."""

    def __init__(self) -> None:
        try:
            import imath
            from alembic3d import Abc, AbcCoreAbstract, AbcGeom
        except ImportError as error:
            raise MissingExtra("alembic3d", "export") from error
        self.imath: Any = imath
        self.Abc: Any = Abc
        self.Core: Any = AbcCoreAbstract
        self.Geom: Any = AbcGeom

    def vectors(self, array: NDArray[np.floating]) -> Any:
        return self.imath.V3fArrayFromBuffer(np.ascontiguousarray(array, np.float32))

    def ints(self, array: NDArray[np.integer]) -> Any:
        return self.imath.IntArrayFromBuffer(np.ascontiguousarray(array.ravel(), np.int32))


def write_alembic(path: Path, job: Job) -> dict[str, Any]:
    """Write an Ogawa archive.

    Raises:
        MissingExtra: alembic3d is not installed.
        TakeError: the library could not write.
    """
    library = _Library()
    try:
        _write(library, path, job)
    except RuntimeError as error:
        raise TakeError(f"{path.name}: Alembic cannot write it: {str(error).strip().splitlines()[-1]}") from error
    job.notes.append("Alembic holds no unit, no up axis, no rate, no frame ids and no weights")
    return {}


def _write(library: _Library, path: Path, job: Job) -> None:
    """Everything is let go of at the end of this function: the library closes the file when the last object dies."""
    geom, name = library.Geom, job.options.name
    archive = library.Abc.CreateArchiveWithInfo(str(path), "Mien", f"rate {job.motion.timeline.rate}")
    sampling = archive.addTimeSampling(_sampling(library, job))
    parent = geom.OXform(archive.getTop(), name)
    schema = geom.OPolyMesh(parent, f"{name}_mesh").getSchema()
    schema.setTimeSampling(sampling)
    for sample in job.samples():
        schema.set(_first(library, job, sample) if not sample.number else _later(library, job, sample))


def _sampling(library: _Library, job: Job) -> Any:
    line = job.motion.timeline
    seconds = (line.frame_numbers + job.options.start_frame) / float(line.rate)
    if line.regular:
        return library.Core.TimeSampling(1 / float(line.rate), float(seconds[0]))
    times = library.Core.TimeVector()
    for time_s in seconds.tolist():
        times.append(time_s)
    return library.Core.TimeSampling(library.Core.TimeSamplingType(library.Core.AcyclicFlag.kAcyclic), times)


def _first(library: _Library, job: Job, sample: Sample) -> Any:
    motion, geom = job.motion, library.Geom
    faces, counts = library.ints(motion.triangles), library.ints(np.full(len(motion.triangles), 3))
    made = geom.OPolyMeshSchemaSample(library.vectors(sample.vertices), faces, counts)
    made.setNormals(_normals(library, job, sample))
    if len(motion.uv_triangles):
        uv = library.imath.V2fArrayFromBuffer(np.ascontiguousarray(motion.topology.uv[motion.uv_triangles.ravel()]))
        made.setUVs(geom.OV2fGeomParamSample(uv, geom.GeometryScope.kFacevaryingScope))
    return made


def _later(library: _Library, job: Job, sample: Sample) -> Any:
    made = library.Geom.OPolyMeshSchemaSample(library.vectors(sample.vertices))
    made.setNormals(_normals(library, job, sample))
    return made


def _normals(library: _Library, job: Job, sample: Sample) -> Any:
    # The winding of the file is reversed and the normals of the take's own order point out.
    normals = library.vectors(vertex_normals(sample.vertices, job.motion.topology.triangles))
    return library.Geom.ON3fGeomParamSample(normals, library.Geom.GeometryScope.kVertexScope)

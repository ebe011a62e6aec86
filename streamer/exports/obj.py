"""OBJ: a folder with one file per sample, read by everything; and the base mesh that goes with PC2 and MDD."""

from pathlib import Path
from typing import Any

import numpy as np

from streamer.exports.job import Job
from streamer.exports.motion import Motion
from streamer.types import F32


def write_obj(folder: Path, job: Job) -> dict[str, Any]:
    """Write `<frame id>.obj` per mesh, or `<frame>.obj` per sample where the take was resampled."""
    folder.mkdir()
    motion, unit = job.motion, _unit(job)
    tail = obj_faces(motion)
    line = "v %.6f %.6f %.6f\n" * motion.topology.vertex_count
    own = job.options.name if job.options.name != "head" else motion.topology.name
    for sample in job.samples():
        head = f"# frame {sample.frame_id}, exposed at {sample.time_ns} ns; {unit}, +Y up\no {own}\n"
        text = head + line % tuple(sample.vertices.ravel().tolist()) + tail
        number = sample.frame_id if job.options.fps is None else sample.number + job.options.start_frame
        (folder / f"{number:08d}.obj").write_text(text, "ascii", errors="replace")
    job.notes.append("OBJ holds no times, no rate and no weights: the number in a file's name is all")
    return {}


def write_base(path: Path, job: Job, vertices: F32) -> None:
    """Write the mesh that a point cache moves: its vertices in the order of the cache.

    Args:
        path: the file.
        job: topology and name.
        vertices: (N, 3) in the target's axes.
    """
    head = f"# base of {path.stem}; {_unit(job)}, +Y up\no {job.options.name}\n"
    body = "v %.9g %.9g %.9g\n" * len(vertices) % tuple(vertices.ravel().tolist())
    path.write_text(head + body + obj_faces(job.motion), "ascii", errors="replace")


def obj_faces(motion: Motion) -> str:
    """Return texture coordinates and faces, the same in every file; OBJ counts from 1."""
    corners, uv = motion.triangles + 1, motion.topology.uv
    if not len(motion.uv_triangles):
        return "f %d %d %d\n" * len(corners) % tuple(corners.ravel().tolist())
    coordinates = "vt %.6f %.6f\n" * len(uv) % tuple(uv.ravel().tolist())
    pairs = np.stack([corners, motion.uv_triangles + 1], -1)
    return coordinates + "f %d/%d %d/%d %d/%d\n" * len(corners) % tuple(pairs.ravel().tolist())


def _unit(job: Job) -> str:
    return {1.0: "metres", 0.01: "centimetres"}[job.preset.metres_per_unit]

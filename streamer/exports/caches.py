"""Point caches, PC2 and MDD: vertices per frame for a mesh that the program has; that mesh lies beside as OBJ."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from streamer.exports.job import Job
from streamer.exports.obj import write_base

PC2_HEADER = struct.Struct("<12siiffi")
"""Signature, version, points, start frame, frames per sample, samples; little-endian."""
_NOTE = "holds vertices only: the mesh with faces and texture coordinates is {}, without weights"


def base_name(out: Path) -> str:
    """Return the name of the base mesh beside a cache."""
    return f"{out.stem}.obj"


def write_pc2(path: Path, job: Job) -> dict[str, Any]:
    """Write PC2 (3ds Max, Blender, Houdini): samples at even distances."""
    count, points = len(job.motion), job.motion.topology.vertex_count
    with path.open("wb") as file:
        file.write(PC2_HEADER.pack(b"POINTCACHE2\0", 1, points, float(job.options.start_frame), 1.0, count))
        for sample in job.samples():
            file.write(np.ascontiguousarray(sample.vertices, "<f4").data.cast("B"))
            if not sample.number:
                write_base(path.with_name(base_name(path)), job, sample.vertices)
    job.notes.append(f"PC2 {_NOTE.format(base_name(path))}; its frames mean {float(job.motion.timeline.rate):g} fps")
    return {"beside": [base_name(path)]}


def write_mdd(path: Path, job: Job) -> dict[str, Any]:
    """Write MDD (LightWave, Blender, Maya, Houdini): big-endian; has times, but Blender counts samples."""
    motion, count = job.motion, len(job.motion)
    frames = motion.timeline.frame_numbers + job.options.start_frame
    with path.open("wb") as file:
        file.write(struct.pack(">ii", count, motion.topology.vertex_count))
        file.write((frames / float(motion.timeline.rate)).astype(">f4").tobytes())
        for sample in job.samples():
            file.write(sample.vertices.astype(">f4").tobytes())
            if not sample.number:
                write_base(path.with_name(base_name(path)), job, sample.vertices)
    job.notes.append(f"MDD {_NOTE.format(base_name(path))}")
    return {"beside": [base_name(path)]}

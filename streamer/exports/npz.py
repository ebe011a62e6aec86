"""NPZ: everything as arrays. The vertices are streamed into the archive: a long take does not fit into memory."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from streamer.exports.job import Job


def write_npz(path: Path, job: Job) -> dict[str, Any]:
    """Write `vertices` (S, N, 3) float32, `triangles` (T, 3) int32, `frame_ids`, `times_ns` (S,) int64,
    `world_from_head` (S, 4, 4), `uv` (C, 2), `uv_triangles` (T, 3), `topology_id`, and `weights` (S, U) with `units`
    where every mesh has them.
    """  # noqa: D205 - the list is the summary
    motion, count = job.motion, len(job.motion)
    topology = motion.topology
    poses = np.empty((count, 4, 4), np.float32)
    ids, times_ns = np.empty(count, np.int64), np.empty(count, np.int64)
    weights: list[NDArray[np.float32]] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("vertices.npy", "w", force_zip64=True) as file:
            _npy_header(file, (count, topology.vertex_count, 3))
            for row, sample in enumerate(job.samples()):
                file.write(np.ascontiguousarray(sample.vertices, "<f4").data.cast("B"))
                poses[row], ids[row], times_ns[row] = sample.world_from_head, sample.frame_id, sample.time_ns
                if sample.weights is not None:
                    weights.append(sample.weights)
        arrays: dict[str, NDArray[Any]] = {
            "triangles": np.ascontiguousarray(motion.triangles),
            "frame_ids": ids,
            "times_ns": times_ns,
            "world_from_head": poses,
            "uv": topology.uv,
            "uv_triangles": np.ascontiguousarray(topology.uv_triangles),
            "topology_id": np.array(topology.id),
        }
        if job.preset.axes.reverse_winding:
            arrays["uv_triangles"] = np.ascontiguousarray(topology.uv_triangles[:, ::-1])
        if len(weights) == count and topology.units:
            arrays |= {"weights": np.stack(weights), "units": np.array(topology.units)}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return {}


def _npy_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})

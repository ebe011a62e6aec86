"""Meshes of a take -> files of other programs: metres, world frame, +Y up, the face looks along +Z."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError
from streamer.takes.reader import MeshSequence, Take
from streamer.types import MeshFrame, Topology

Format = Literal["npz", "obj"]
FORMATS: tuple[Format, ...] = get_args(Format)
Progress = Callable[[int, int], None]


def export_take(
    take: Take,
    format: Format,
    out: Path,
    *,
    channel: str = "mesh",
    force: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the meshes of a channel.

    `npz`: one file with `vertices` (F, N, 3) float32 metres, `triangles` (T, 3) int32, `frame_ids` (F,) and
    `times_ns` (F,) int64, `world_from_head` (F, 4, 4) float32, `uv` (C, 2), `uv_triangles` (T, 3), `topology_id`, and
    `weights` (F, U) with `units` where every mesh has them.
    `obj`: a folder of `<frame id>.obj`, counter-clockwise, texture coordinates if there are any.

    Args:
        take: the take.
        format: `npz` or `obj`.
        out: the file or folder to make; its parents are made. It appears whole or not at all.
        channel: `mesh` or `truth`.
        force: replace `out` if it exists.
        on_progress: called after each mesh with how many are done and how many there are.

    Returns:
        `out`, `format`, `frames`, `vertices`, `triangles`.

    Raises:
        TakeError: unknown format, `out` exists, there are no meshes, or they are of more than one topology.
    """
    if format not in FORMATS:
        raise TakeError(f"format {format!r} is not known; one of: {', '.join(FORMATS)}")
    if out.exists() and not force:
        raise TakeError(f"{out} exists already; give --force to replace it, or another --out")
    meshes = take.meshes(channel)
    if not meshes:
        other = [name for name in ("mesh", "truth") if name != channel and len(take.meshes(name))]
        hint = f"; channel '{other[0]}' has some: --channel {other[0]}" if other else "; run: mien reprocess"
        raise TakeError(f"{take.path} holds no meshes on channel '{channel}'{hint}")
    topology = _topology(take, meshes[0])
    walk = _walk(take, meshes, topology, on_progress)
    try:
        with _replacing(out, folder=format == "obj") as temporary:
            if format == "npz":
                _write_npz(temporary, topology, meshes, walk)
            else:
                _write_obj(temporary, topology, walk)
    except OSError as error:
        raise TakeError(f"{out}: cannot be written: {error.strerror or error}") from error
    return {
        "out": str(out),
        "format": format,
        "frames": len(meshes),
        "vertices": topology.vertex_count,
        "triangles": len(topology.triangles),
    }


def _topology(take: Take, mesh: MeshFrame) -> Topology:
    if mesh.topology_id not in take.topologies:
        raise TakeError(
            f"{take.path}: its meshes are of topology {mesh.topology_id}, which it does not hold; reprocess it"
        )
    return take.topologies[mesh.topology_id]


def _walk(take: Take, meshes: MeshSequence, topology: Topology, on_progress: Progress | None) -> Iterator[MeshFrame]:
    for done, mesh in enumerate(meshes, 1):
        if mesh.topology_id != topology.id or len(mesh.vertices) != topology.vertex_count:
            raise TakeError(
                f"{take.path}: frame {mesh.frame_id} has topology {mesh.topology_id} with {len(mesh.vertices)} vertices"
                f", the first mesh {topology.id} with {topology.vertex_count}; one export holds one topology"
            )
        yield mesh
        if on_progress is not None:
            on_progress(done, len(meshes))


@contextmanager
def _replacing(out: Path, folder: bool) -> Iterator[Path]:
    """Give a temporary place beside `out` that becomes `out` when the block succeeds, and vanishes when it fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        fresh = Path(scratch) / "new"
        if folder:
            fresh.mkdir()
        yield fresh
        if out.is_dir() and not out.is_symlink():
            os.replace(out, Path(scratch) / "old")
        elif folder and out.exists():
            out.unlink()
        try:
            os.replace(fresh, out)
        except OSError:
            if (Path(scratch) / "old").exists():
                shutil.move(Path(scratch) / "old", out)
            raise


def _write_npz(path: Path, topology: Topology, meshes: MeshSequence, walk: Iterator[MeshFrame]) -> None:
    """Stream the vertices into the archive: a long take does not fit into memory."""
    poses = np.empty((len(meshes), 4, 4), np.float32)
    weights: list[NDArray[np.float32]] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("vertices.npy", "w", force_zip64=True) as file:
            _npy_header(file, (len(meshes), topology.vertex_count, 3))
            for row, mesh in enumerate(walk):
                file.write(np.ascontiguousarray(mesh.vertices, "<f4").data.cast("B"))
                poses[row] = mesh.world_from_head
                if mesh.weights is not None:
                    weights.append(mesh.weights)
        arrays: dict[str, NDArray[Any]] = {
            "triangles": topology.triangles,
            "frame_ids": meshes.frame_ids,
            "times_ns": meshes.times_ns,
            "world_from_head": poses,
            "uv": topology.uv,
            "uv_triangles": topology.uv_triangles,
            "topology_id": np.array(topology.id),
        }
        if len(weights) == len(meshes) and topology.units:
            arrays |= {"weights": np.stack(weights), "units": np.array(topology.units)}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _npy_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _write_obj(folder: Path, topology: Topology, walk: Iterator[MeshFrame]) -> None:
    tail = _obj_faces(topology)
    line = "v %.6f %.6f %.6f\n" * topology.vertex_count
    for mesh in walk:
        head = f"# frame {mesh.frame_id}, exposed at {mesh.exposure_time_ns} ns; metres, +Y up\no {topology.name}\n"
        text = head + line % tuple(mesh.vertices.ravel().tolist()) + tail
        (folder / f"{mesh.frame_id:08d}.obj").write_text(text, "ascii", errors="replace")


def _obj_faces(topology: Topology) -> str:
    """Texture coordinates and faces, the same in every file; OBJ counts from 1."""
    corners = topology.triangles + 1
    if not len(topology.uv) or len(topology.uv_triangles) != len(corners):
        return "f %d %d %d\n" * len(corners) % tuple(corners.ravel().tolist())
    uv = "vt %.6f %.6f\n" * len(topology.uv) % tuple(topology.uv.ravel().tolist())
    pairs = np.stack([corners, topology.uv_triangles + 1], -1)
    return uv + "f %d/%d %d/%d %d/%d\n" * len(corners) % tuple(pairs.ravel().tolist())

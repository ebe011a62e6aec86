"""Takes into Blender: what `mien export TAKE --format npz` wrote, or a take's folder, for which that is run."""

import shlex
import subprocess
import tempfile
import zipfile
from pathlib import Path

import bpy
import numpy as np

from .actions import at_frames, play_cache, sampled, write_cache
from .recording import cache_path, make_take, write_weights
from .records import Topology, to_blender


class TakeImportError(Exception):
    """A file cannot be imported; the message says why and what to do."""


def export_take(take: Path, command: str) -> Path:
    """Let Mien export a take's meshes; return the file.

    Args:
        take: folder of the take.
        command: how `mien` is started here.

    Raises:
        TakeImportError: the command cannot be run, or says no.
    """
    path = Path(tempfile.mkdtemp(prefix="mien-")) / f"{take.name}.npz"
    try:
        words = [*shlex.split(command), "export", str(take), "--format", "npz", "--out", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except (OSError, ValueError) as error:
        told = f"cannot run '{command}' ({error}): set Mien's command in the add-on's preferences, or export by hand"
        raise TakeImportError(told) from error
    if done.returncode:
        raise TakeImportError((done.stderr.strip().splitlines() or [f"mien export ended with {done.returncode}"])[-1])
    return path


def import_npz(path: Path, scene: "bpy.types.Scene", character: "bpy.types.Object | None" = None) -> "bpy.types.Object":
    """Bring a recorded head into the scene, from its present frame on, at its rate.

    Args:
        path: NPZ of `mien export`: `vertices` (F, N, 3) metres in Mien's axes, `triangles`, `times_ns`; `uv` and
            `uv_triangles`, `weights` and `units` if there are any.
        scene: gives rate and frame; its end is moved if the take is longer.
        character: its shape keys get the weights as an action; None: custom properties of the head do.

    Raises:
        TakeImportError: the file is no such export.
    """
    content = _read(path)
    vertices, triangles, times_ns = content["vertices"], content["triangles"], content["times_ns"]
    fps, start = scene.render.fps / scene.render.fps_base, scene.frame_current
    times_s = (times_ns - times_ns[0]) / 1e9
    wanted_s = at_frames(times_s, fps)
    turned = to_blender(sampled(times_s, vertices, wanted_s).reshape(-1, 3)).reshape(len(wanted_s), -1, 3)
    units = tuple(str(unit) for unit in content.get("units", ()))
    uv, corners = content.get("uv"), content.get("uv_triangles")
    if uv is None or corners is None or corners.shape != triangles.shape or not 0 <= corners.max(initial=0) < len(uv):
        uv = corners = None
    topology = Topology(0, vertices.shape[1], triangles, uv, corners, None, path.stem, units)
    taken = make_take(scene, path.stem, topology)
    cache = cache_path(taken.name)
    write_cache(cache, start, turned)
    taken.data.attributes["position"].data.foreach_set("vector", np.ascontiguousarray(turned[0]).ravel())
    play_cache(taken, cache, start)
    scene.frame_end = max(scene.frame_end, start + len(wanted_s) - 1)
    weights = content.get("weights")
    if units and weights is not None and weights.shape == (len(times_s), len(units)):
        write_weights(character, taken, units, start + times_s * fps, np.nan_to_num(weights))
    return taken


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TakeImportError(
            f"{path.name} is no NPZ file ({error}); make one: mien export TAKE --format npz"
        ) from error
    missing = [name for name in ("vertices", "triangles", "times_ns") if name not in content]
    if missing:
        raise TakeImportError(f"{path.name} holds no {missing[0]}; make one: mien export TAKE --format npz")
    vertices, triangles, times = content["vertices"], content["triangles"], content["times_ns"]
    whole = vertices.ndim == 3 and vertices.shape[2] == 3 and len(vertices) == len(times) > 0
    if not whole or triangles.ndim != 2 or triangles.shape[1] != 3 or (np.diff(times) <= 0).any():
        raise TakeImportError(f"{path.name}: shapes or times do not fit one another; export it again")
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < vertices.shape[1]:
        raise TakeImportError(f"{path.name}: a triangle names a vertex that is not there; export it again")
    content["vertices"], content["triangles"] = vertices.astype(np.float32), triangles.astype(np.int32)
    return content

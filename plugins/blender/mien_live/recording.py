"""From a live performance to actions: every head that comes is kept, and written when the recording ends."""

import tempfile
import threading
from pathlib import Path

import bpy
import numpy as np

from .actions import at_frames, play_cache, sampled, write_cache, write_curves
from .live_head import fill, shape_keys
from .records import Frame, Topology

MOST_MB = 4096
"""A recording ends by itself here: 20 minutes at 60 heads a second."""


class Recorder:
    """Keeps heads; `hear` may be called from another thread, the rest from Blender's."""

    def __init__(self, topology: Topology) -> None:
        """Begin."""
        self.topology = topology
        self._lock = threading.Lock()
        self._frames: list[Frame] = []
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of heads kept."""
        return len(self._frames)

    def hear(self, frame: Frame) -> None:
        """Keep a head, if it is one of this topology, newer than the last, and there is room."""
        with self._lock:
            newer = not self._frames or frame.capture_time_s > self._frames[-1].capture_time_s
            if frame.key == self.topology.key and newer and self._bytes < MOST_MB << 20:
                self._frames.append(frame)
                self._bytes += frame.positions.nbytes

    def write(
        self, scene: "bpy.types.Scene", head: "bpy.types.Object", character: "bpy.types.Object | None"
    ) -> "bpy.types.Object | None":
        """Write what was kept, from the scene's present frame on, at the scene's rate.

        Args:
            scene: gives rate and frame.
            head: the live head; its materials go to the recorded one.
            character: its shape keys get an action; None: the recorded head does, for its custom properties.

        Returns:
            A new object "Mien Take": vertices from a cache file beside the blend file, pose in an empty; None if
            nothing was kept.
        """
        with self._lock:
            frames = list(self._frames)
        if not frames:
            return None
        fps, start = scene.render.fps / scene.render.fps_base, scene.frame_current
        times_s = np.array([frame.capture_time_s for frame in frames])
        times_s -= times_s[0]
        wanted_s = at_frames(times_s, fps)
        taken = make_take(scene, "Mien Take", self.topology)
        positions = sampled(times_s, np.stack([frame.positions for frame in frames]), wanted_s)
        path = cache_path(taken.name)
        write_cache(path, start, positions)
        taken.data.attributes["position"].data.foreach_set("vector", np.ascontiguousarray(positions[0]).ravel())
        play_cache(taken, path, start)
        for slot in head.material_slots:
            taken.data.materials.append(slot.material)
        keys = start + times_s * fps
        self._write_weights(frames, keys, character, taken)
        _write_pose(scene, frames, keys, taken.name)
        return taken

    def _write_weights(
        self, frames: list[Frame], keys: np.ndarray, character: "bpy.types.Object | None", taken: "bpy.types.Object"
    ) -> None:
        units = self.topology.units
        if not units or any(frame.weights is None or len(frame.weights) != len(units) for frame in frames):
            return
        weights = np.stack([frame.weights for frame in frames])
        write_weights(character, taken, units, keys, weights)


def write_weights(
    character: "bpy.types.Object | None",
    taken: "bpy.types.Object",
    units: tuple[str, ...],
    keys: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Give weights as curves to the shape keys of a character, or to custom properties of the head if there are none.

    Args:
        character: an object with shape keys named as the units, or None.
        taken: the recorded head.
        units: names.
        keys: (K,) scene frames.
        weights: (K, U).
    """
    blocks = shape_keys(character, units)
    if blocks and character is not None:
        curves = {
            (f'key_blocks["{bpy.utils.escape_identifier(block.name)}"].value', 0): weights[:, units.index(unit)]
            for unit, block in blocks.items()
        }
        write_curves(character.data.shape_keys, f"{taken.name} weights", keys, curves)
        return
    for unit, weight in zip(units, weights[0].tolist(), strict=True):
        taken[unit] = weight
    curves = {(f'["{bpy.utils.escape_identifier(unit)}"]', 0): weights[:, k] for k, unit in enumerate(units)}
    write_curves(taken, f"{taken.name} weights", keys, curves)


def _write_pose(scene: "bpy.types.Scene", frames: list[Frame], keys: np.ndarray, name: str) -> None:
    """An empty that moves as the rigid head does: to parent hair, lights or a rig to it."""
    if any(frame.pose is None for frame in frames):
        return
    from mathutils import Matrix

    empty = bpy.data.objects.new(f"{name} pose", None)
    empty.empty_display_size, empty.rotation_mode = 0.1, "QUATERNION"
    scene.collection.objects.link(empty)
    rows = []
    for frame in frames:
        place, turn, _ = Matrix(frame.pose.tolist()).decompose()
        if rows and np.dot(rows[-1][3:], turn) < 0:
            turn.negate()  # the same turn, without a jump between two keys
        rows.append([*place, *turn])
    values = np.array(rows, np.float32)
    curves = {("location", k): values[:, k] for k in range(3)}
    curves |= {("rotation_quaternion", k): values[:, 3 + k] for k in range(4)}
    write_curves(empty, empty.name, keys, curves)


def make_take(scene: "bpy.types.Scene", name: str, topology: Topology) -> "bpy.types.Object":
    """Return a new object with the faces of a topology."""
    taken = bpy.data.objects.new(name, bpy.data.meshes.new(name))
    scene.collection.objects.link(taken)
    uv = None if topology.uv is None else topology.uv[topology.corners.ravel()]
    fill(taken.data, topology.vertices, topology.triangles, uv)
    return taken


def cache_path(name: str) -> Path:
    """Return a new file for vertices: beside the blend file if it is saved, else in the system's temporary folder."""
    folder = Path(bpy.data.filepath).parent if bpy.data.filepath else Path(tempfile.mkdtemp(prefix="mien-"))
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    number = 1
    while (path := folder / f"{plain}_{number:03d}.pc2").exists():
        number += 1
    return path

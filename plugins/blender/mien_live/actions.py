"""Curves and vertex caches: what a performance becomes in a file. Works in Blender 4.2 to 5."""

import struct
from pathlib import Path

import bpy
import numpy as np


def write_curves(
    owner: "bpy.types.ID", name: str, frames: np.ndarray, curves: "dict[tuple[str, int], np.ndarray]"
) -> None:
    """Give an ID a new action with linear curves.

    Args:
        owner: an object, or a mesh's shape keys.
        name: of the action.
        frames: (K,) scene frames of the keys, increasing.
        curves: data path and index to (K,) values.
    """
    action = bpy.data.actions.new(name)
    if owner.animation_data is None:
        owner.animation_data_create()
    owner.animation_data.action = action
    made = _collection(owner, action)
    for (path, index), values in curves.items():
        curve = made.new(path, index=index)
        curve.keyframe_points.add(len(frames))
        curve.keyframe_points.foreach_set("co", np.stack([frames, values], 1).astype(np.float32).ravel())
        curve.keyframe_points.foreach_set("interpolation", np.full(len(frames), 1, np.int32))  # LINEAR
        curve.update()


def _collection(owner: "bpy.types.ID", action: "bpy.types.Action") -> "bpy.types.ActionFCurves":
    """Return where curves of an ID go: actions have slots from 4.4, and nothing else from 5.0."""
    if not hasattr(action, "slots"):
        return action.fcurves
    slot = action.slots.new(id_type=owner.id_type, name=owner.name)
    owner.animation_data.action_slot = slot
    strip = action.layers.new("Layer").strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True).fcurves


def write_cache(path: Path, start_frame: int, positions: np.ndarray) -> None:
    """Write vertices as PC2, one sample per scene frame.

    Args:
        path: the file.
        start_frame: scene frame of the first sample.
        positions: (F, N, 3) float32, metres in Blender's axes.
    """
    samples, vertices = positions.shape[:2]
    head = struct.pack("<12siiffi", b"POINTCACHE2\0", 1, vertices, float(start_frame), 1.0, samples)
    with path.open("wb") as file:
        file.write(head)
        np.ascontiguousarray(positions, "<f4").tofile(file)


def play_cache(head: "bpy.types.Object", path: Path, start_frame: int) -> None:
    """Let an object's vertices come from a PC2 file."""
    modifier = head.modifiers.new("Mien", "MESH_CACHE")
    modifier.cache_format = "PC2"
    modifier.filepath = str(path)
    modifier.frame_start = float(start_frame)


def at_frames(times_s: np.ndarray, fps: float) -> np.ndarray:
    """Return the times of scene frames, from the first to the last, s after the first."""
    return np.arange(int(np.floor(times_s[-1] * fps + 1e-6)) + 1) / fps


def sampled(times_s: np.ndarray, values: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Interpolate linearly.

    Args:
        times_s: (K,) strictly increasing.
        values: (K, ...) float32.
        wanted_s: (F,) between the first and the last.

    Returns:
        (F, ...) float32.
    """
    if len(times_s) == 1:
        return np.repeat(values, len(wanted_s), 0)
    after = np.clip(np.searchsorted(times_s, wanted_s), 1, len(times_s) - 1)
    span = times_s[after] - times_s[after - 1]
    share = np.clip((wanted_s - times_s[after - 1]) / span, 0, 1).astype(np.float32)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[after - 1] * (1 - share) + values[after] * share

"""What is the same for all meshes of a topology: sky, blood, the fade at the neck, and eyes, per vertex. Pure."""

import numpy as np

from renderer.viewer.eyes import Eye
from renderer.viewer.rim import boundary_loops
from streamer.types import F32, I32, Topology

_FADE_M = 0.042
_LIPS, _EARS = 0.8, 0.3
_LIPS_M = np.array([0.029, 0.0125], np.float32)


def marks_of(topology: Topology, open_sky: F32, eyes: tuple[Eye, Eye] | None) -> F32:
    """Collect the marks.

    Args:
        topology: whose.
        open_sky: (N,) share of the sky that each vertex sees, 0..1.
        eyes: left and right; None: none are painted.

    Returns:
        (N, 4) float32: sky 0..1, blood under the skin 0..1, fade 0 (at the cut of the neck) to 1, and eye: 1 in the
        left socket, -1 in the right, else 0.
    """
    marks = np.zeros((topology.vertex_count, 4), np.float32)
    marks[:, 0] = open_sky
    blood = np.zeros(topology.vertex_count, np.float32)
    ears, mouth = topology.regions.get("ears"), topology.regions.get("lips")
    if ears is not None:
        blood[ears] = _EARS
    if mouth is not None and len(mouth):  # the region reaches round the mouth; red are the lips in its middle
        off = (topology.template[mouth] - topology.template[mouth].mean(0))[:, :2] / _LIPS_M
        blood[mouth] = _LIPS * np.clip(3.0 - 3.0 * np.linalg.norm(off, axis=1), 0.0, 1.0)
    for _ in range(2 if len(topology.triangles) else 0):
        blood = around(blood, topology.triangles)
    marks[:, 1] = blood
    marks[:, 2] = neck_fade(topology)
    for eye, sign in zip(eyes or (), (1.0, -1.0), strict=False):
        marks[eye.socket, 3] = sign
    return marks


def neck_fade(topology: Topology) -> F32:
    """Cover by the distance from the longest open edge, smooth from 0 there to 1 at 42 mm; 1 on closed surfaces."""
    loops = boundary_loops(topology.triangles)
    if not loops:
        return np.ones(topology.vertex_count, np.float32)
    rim = topology.template[max(loops, key=lambda loop: float(np.ptp(topology.template[loop], 0).sum()))]
    nearest = np.full(topology.vertex_count, np.inf)
    for start in range(0, len(rim), 64):  # bounded memory: rims of dense scans have thousands of vertices
        apart = topology.template[:, None] - rim[None, start : start + 64]
        nearest = np.minimum(nearest, np.linalg.norm(apart, axis=2).min(1))
    share = np.clip(nearest / _FADE_M, 0.0, 1.0)
    return (share * share * (3.0 - 2.0 * share)).astype(np.float32)


def around(values: F32, triangles: I32) -> F32:
    """Average each vertex with the triangles around it, (N,) or (N, K); 1 where there is none."""
    corners, size = triangles.ravel(), len(values)
    count = np.bincount(corners, minlength=size)
    columns = values.reshape(size, -1)
    out = np.ones_like(columns, np.float32)
    for number in range(columns.shape[1]):
        per_triangle = np.repeat(columns[triangles, number].mean(1), 3)
        total = np.bincount(corners, per_triangle, minlength=size)
        out[:, number] = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return out.reshape(values.shape)

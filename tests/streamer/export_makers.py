"""A lopsided head that nods, blinks with one eye and opens its jaw, and takes of it."""

from functools import cache
from pathlib import Path

import numpy as np

from streamer.geometry import rigid_from_points, transform
from streamer.takes import TakeWriter
from streamer.types import F32, F64, MeshFrame, Topology
from tests.streamer.take_makers import CONFIG_TEXT, START_NS, TINY, calibration

UNITS = ("eyeBlinkLeft", "jawOpen", "cheekPuff")
RINGS, SIDES = 10, 14
STILL = 2
"""Index of a unit that never moves."""


@cache
def head_topology() -> Topology:
    """A closed sphere, stretched, with a nose (+Z), one ear (+X: the head's left) and a seam in the texture."""
    polar = np.linspace(0, np.pi, RINGS + 2)[1:-1]
    round_ = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)
    ring = np.stack(np.broadcast_arrays(
        np.sin(polar)[:, None] * np.sin(round_), np.cos(polar)[:, None], np.sin(polar)[:, None] * np.cos(round_)
    ), -1).reshape(-1, 3)  # fmt: skip
    points = np.concatenate([[[0, 1, 0]], ring, [[0, -1, 0]]]) * [0.075, 0.11, 0.09]
    points[1 + 5 * SIDES, 2] += 0.025  # the nose, straight ahead
    points[1 + 4 * SIDES + 3] += [0.03, 0.01, -0.005]  # one ear
    last = 1 + RINGS * SIDES
    corner = lambda r, s: 1 + r * SIDES + s % SIDES  # noqa: E731
    faces, coordinates = [], []
    uv_corner = lambda r, s: r * (SIDES + 1) + s  # noqa: E731
    for s in range(SIDES):
        faces.append((0, corner(0, s), corner(0, s + 1)))
        coordinates.append((uv_corner(0, s), uv_corner(1, s), uv_corner(1, s + 1)))
        for r in range(RINGS - 1):
            a, b, c, d = corner(r, s), corner(r + 1, s), corner(r + 1, s + 1), corner(r, s + 1)
            ua, ub, uc, ud = (uv_corner(r + 1 + i, s + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
            faces += [(a, b, c), (a, c, d)]
            coordinates += [(ua, ub, uc), (ua, uc, ud)]
        faces.append((last, corner(RINGS - 1, s + 1), corner(RINGS - 1, s)))
        coordinates.append((uv_corner(RINGS + 1, s), uv_corner(RINGS, s + 1), uv_corner(RINGS, s)))
    used, coordinates = np.unique(coordinates, return_inverse=True)
    uv = [(s / SIDES, 1 - r / (RINGS + 1)) for r in range(RINGS + 2) for s in range(SIDES + 1)]
    regions = {"scalp": np.flatnonzero((points[:, 1] > 0.03) & (points[:, 0] < 0.07))}
    template = (points - points.mean(0)).astype(np.float32)
    return Topology(
        "lopsided",
        np.array(faces),
        np.array(uv, np.float32)[used],
        coordinates.reshape(-1, 3),
        template,
        UNITS,
        regions,
    )


@cache
def unit_shapes() -> F32:
    """(3, N, 3) what each unit does to the head; `cheekPuff` moves, but no take uses it."""
    points = head_topology().template
    eye = np.exp(-((points - [0.03, 0.02, 0.08]) ** 2).sum(1) / 0.02**2)
    jaw = np.clip(-points[:, 1] / 0.1, 0, 1) * (points[:, 2] > 0)
    return np.stack([eye[:, None] * [0, -0.006, 0.001], jaw[:, None] * [0, -0.02, 0.004], eye[:, None] * [0.01, 0, 0]])\
        .astype(np.float32)  # fmt: skip


def weights_at(time_s: float) -> F32:
    """(3,) in 0..1."""
    return np.array([0.5 - 0.5 * np.cos(7 * time_s), 0.5 + 0.5 * np.sin(3 * time_s + 1), 0.0], np.float32)


def pose_at(time_s: float) -> F64:
    """world_from_head, (4, 4)."""
    nod, turn = 0.2 * np.sin(2 * time_s), 0.3 * np.sin(1.3 * time_s)
    about_x = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    pose = np.eye(4)
    pose[:3, :3] = about_y @ about_x
    pose[:3, 3] = [0.02 * np.sin(time_s), 0.01, 0.03 * np.cos(2 * time_s)]
    return pose


def head_mesh(frame_id: int, time_s: float, *, weights: bool = True, noise_m: float = 0.0) -> MeshFrame:
    """The head at a moment; noise follows from the frame id."""
    topology, values = head_topology(), weights_at(time_s)
    shape = topology.template + np.tensordot(values, unit_shapes(), 1)
    vertices = transform(pose_at(time_s), shape)
    vertices += np.random.default_rng(frame_id).normal(0, noise_m, vertices.shape) if noise_m else 0.0
    return MeshFrame(
        frame_id,
        START_NS + round(time_s * 1e9),
        0,
        topology.id,
        vertices.astype(np.float32),
        pose_at(time_s).astype(np.float32),
        (),
        values if weights else None,
    )


def write_head_take(
    path: Path, ids: range | list[int], *, fps: float = 30.0, weights: bool = True, noise_m: float = 0.0
) -> Path:
    """A closed take without pictures; mesh k is exposed at `ids[k] / fps` after the start."""
    with TakeWriter(
        path, calibration=calibration(), config_text=CONFIG_TEXT, show="show", slate="slate", take=1, record=TINY
    ) as writer:
        writer.write("topology", head_topology(), START_NS)
        for number in ids:
            mesh = head_mesh(1000 + number, number / fps, weights=weights, noise_m=noise_m)
            writer.write("mesh", mesh, mesh.exposure_time_ns)
    return path


def nearest_rigid(a: F32, b: F32) -> float:
    """Largest distance of paired points after the best rigid motion, metres."""
    return float(np.linalg.norm(transform(rigid_from_points(a, b), a) - b, axis=1).max())

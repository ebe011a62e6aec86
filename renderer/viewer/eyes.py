"""Where a topology's eyes are. Pure.

The skin of the default topology lines the sockets all round and has no eyes in them. An eye that stands there takes
away the look of a mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.types import F32, F64, I32, Topology

REGION = "eyes"
_RADIUS_M = (0.008, 0.020)
_ROUND_M = 0.0012
_BALL = 0.97
"""Radius of the eye in its socket: the lining touches it nowhere."""
_LEAST = 12


@dataclass(frozen=True, slots=True)
class Eye:
    """One eye of a template."""

    socket: I32
    """Vertices of the socket's lining."""
    centre: F64
    """(3,) of the eye, metres, head frame."""
    radius_m: float
    """Of the eye."""


def find_eyes(topology: Topology) -> tuple[Eye, Eye] | None:
    """Find both sockets: parts of the surface that the region `eyes` cuts off from the rest, round inside.

    Args:
        topology: its region `eyes` holds the lids; left is at +X.

    Returns:
        The left and the right eye; None where the topology has no such sockets.
    """
    region = topology.regions.get(REGION)
    if region is None or not len(region):
        return None
    template = topology.template.astype(np.float64)
    parts = sorted(_parts(topology, region), key=len)[:-1]  # the largest is the head itself
    found = []
    for sign in (1.0, -1.0):
        beside = [part for part in parts if len(part) >= _LEAST and template[part, 0].mean() * sign > 0]
        eye = _eye(template, beside[-1]) if beside else None
        if eye is None:
            return None
        found.append(eye)
    return found[0], found[1]


def _parts(topology: Topology, region: I32) -> list[I32]:
    """Vertices outside the region, by connected part."""
    outside = np.ones(topology.vertex_count, bool)
    outside[region] = False
    sides = topology.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    sides = sides[outside[sides].all(1)]
    label = np.arange(topology.vertex_count)
    while len(sides):
        lower = np.minimum(label[sides[:, 0]], label[sides[:, 1]])
        fresh = label.copy()
        np.minimum.at(fresh, sides[:, 0], lower)
        np.minimum.at(fresh, sides[:, 1], lower)
        fresh = fresh[fresh]  # labels are vertices: following them halves the rounds
        if (fresh == label).all():
            break
        label = fresh
    names = np.unique(label[outside])
    return [np.flatnonzero(outside & (label == name)).astype(np.int32) for name in names]


def _eye(template: F64, socket: I32) -> Eye | None:
    centre, radius = _sphere(template[socket])
    away = np.abs(np.linalg.norm(template[socket] - centre, axis=1) - radius)
    if not _RADIUS_M[0] <= radius <= _RADIUS_M[1] or np.quantile(away, 0.8) > _ROUND_M:
        return None
    return Eye(socket, centre, _BALL * radius)


def _sphere(points: F64) -> tuple[F64, float]:
    """Least-squares sphere."""
    middle = points.mean(0)
    local = points - middle
    rows = np.concatenate([2 * local, np.ones((len(local), 1))], 1)
    solution = np.linalg.lstsq(rows, (local**2).sum(1), rcond=None)[0]
    return middle + solution[:3], float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0.0)))


def place_eyes(eyes: Sequence[Eye], template: F32, vertices: F32, rotation: F64) -> F64:
    """Place the eyes in a mesh: turned as the head is, shifted as each socket is.

    Args:
        eyes: of the template.
        template: (N, 3) metres, head frame.
        vertices: (N, 3) metres, world.
        rotation: (3, 3) world from head.

    Returns:
        (2, 3) centres, metres, world.
    """
    return np.array(
        [
            vertices[eye.socket].mean(0) + rotation @ (eye.centre - template[eye.socket].mean(0, dtype=np.float64))
            for eye in eyes
        ]
    )


def gaze_of(weights: Mapping[str, float]) -> F64:
    """Directions of both eyes, left first.

    Args:
        weights: ARKit unit to weight; without any the eyes look straight ahead.

    Returns:
        (2, 3) unit vectors, head frame.
    """
    rows = []
    for side, sign in (("Left", 1.0), ("Right", -1.0)):  # out is to +X for the left eye
        out, in_, up, down = (weights.get(f"eyeLook{way}{side}", 0.0) for way in ("Out", "In", "Up", "Down"))
        yaw, pitch = sign * (out - in_) * 0.5, (up - down) * 0.4
        rows.append([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    return np.array(rows)

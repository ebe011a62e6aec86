"""A foreign head made fit to be filmed: completed where it is a face alone, painted where it came without a texture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.foreign.scans import ForeignHead, OwnSkin, border, outer_triangles
from inference.training.surface import closest_points
from rig.simulation.guests import guest_head
from rig.simulation.head import HeadModel, head_topology, load_head
from streamer.geometry import vertex_normals
from streamer.types import F64, I32, U8

COVERED_MM, BEHIND_MM = 3.0, 14.0
"""The registered head is left out where the scan lies that near, or that near and in front of it."""
SIDE = 1024
"""Height of the joined texture, px; it is twice as wide: skin, then eyes and hair."""
HALF = np.array([0.5, 1.0])
EYE, HAIR = np.array([0.5, 0.0]), np.array([0.875, 0.5])
"""Places in the joined texture."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What the painter draws."""

    head: HeadModel
    """Its first vertices are the foreign head's own."""
    texture: U8
    """Joined texture."""


def guest(head: ForeignHead, skin: U8, iris: NDArray[np.floating]) -> Guest:
    """Complete and paint a registered head.

    Args:
        head: of `scans.registered`.
        skin: (S, S, 3) in the layout of the default topology; for heads without a picture of their own.
        iris: (3,) colour, 0..1, for those too.
    """
    topology = head_topology()
    kept = _shown(head)
    texture = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    if head.skin is not None:
        texture[:, :SIDE] = cv2.resize(head.skin.picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        texture[:, SIDE:] = _hair_colour(head, head.skin)
        places = np.concatenate([head.skin.uv * HALF, HAIR[None]])
        corners = np.concatenate([head.skin.triangles, np.full((len(kept), 3), len(head.skin.uv))])
    else:
        texture[:, :SIDE] = cv2.resize(skin, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        texture[SIDE // 2 :, SIDE : SIDE + SIDE // 2] = _eye(iris, SIDE // 2)
        own = _painted(head)
        places = np.concatenate([own.reshape(-1, 2), topology.uv * HALF])
        corners = np.concatenate([np.arange(3 * len(own)).reshape(-1, 3), topology.uv_triangles[kept] + 3 * len(own)])
    vertices = np.concatenate([head.vertices, head.registered]) / 1000
    triangles = np.concatenate([head.triangles, topology.triangles[kept] + len(head.vertices)])
    drawn = guest_head(vertices.astype(np.float32), triangles.astype(np.int32), places, corners.astype(np.int32))
    return Guest(drawn, texture)


def _shown(head: ForeignHead) -> I32:
    """Triangles of the registered head that complete the scan."""
    triangle, weights = closest_points(head.registered, head.vertices, head.triangles)
    corners = head.triangles[triangle]
    offset = head.registered - np.einsum("pk,pki->pi", weights, head.vertices[corners])
    normals = np.einsum("pk,pki->pi", weights, vertex_normals(head.vertices, head.triangles)[corners])
    distance, depth = np.linalg.norm(offset, axis=1), (offset * normals).sum(1)
    within = ~(border(head.triangles, len(head.vertices))[corners] & (weights > 0.05)).any(1)
    hidden = (distance < COVERED_MM) | ((distance < BEHIND_MM) & (depth < 0.5) & within)
    return np.flatnonzero(~hidden[head_topology().triangles].all(1)).astype(np.int32)


def _hair_colour(head: ForeignHead, own: OwnSkin) -> NDArray[np.floating]:
    """Median colour of the upper border of a textured scan: most likely its hair."""
    rim = border(head.triangles, len(head.vertices)) & (head.vertices[:, 1] > 40)
    at = own.triangles[rim[head.triangles].any(1)].ravel()
    if not len(at):
        return np.array([40, 32, 26])
    rows, columns = own.picture.shape[:2]
    x, y = np.clip(own.uv[at] * [columns, -rows] + [0, rows], 0, [columns - 1, rows - 1]).astype(int).T
    return np.asarray(np.median(own.picture[y, x], axis=0))


def _painted(head: ForeignHead) -> F64:
    """(T, 3, 2) places in the joined texture for the scan's own triangles: those of the registered head beneath.

    Each triangle takes the texture of one triangle of the default topology, continued over its borders, so that none
    reaches over a seam. What lies where an eyeball would be shows an eye.
    """
    topology, outer = head_topology(), outer_triangles()
    number = {tuple(t): k for k, t in enumerate(topology.triangles.tolist())}
    charts = topology.uv_triangles[[number[tuple(t)] for t in outer.tolist()]]
    middle = head.vertices[head.triangles].mean(1)
    triangle, weights = closest_points(middle, head.registered, outer)
    corners = head.registered[outer[triangle]]
    away = np.linalg.norm(middle - np.einsum("pk,pki->pi", weights, corners), axis=1)
    edges = corners[:, 1:] - corners[:, :1]
    metric = np.einsum("pai,pbi->pab", edges, edges) + 1e-6 * np.eye(2)
    offset = head.vertices[head.triangles] - corners[:, :1]
    inside = np.linalg.solve(metric[:, None], np.einsum("pci,pai->pca", offset, edges)[..., None])[..., 0]
    chart = topology.uv[charts[triangle]].astype(np.float64)
    places = chart[:, :1] + np.clip(inside, -4, 5) @ (chart[:, 1:] - chart[:, :1])
    found = places * HALF
    model = load_head()
    mean = topology.template.astype(np.float64) * 1000
    for side in ("left", "right"):
        ball = model.neutral[model.part_vertices(f"eye_{side}")].astype(np.float64) * 1000
        centre, radius = (ball.min(0) + ball.max(0)) / 2, np.ptp(ball, axis=0).max() / 2
        around = np.flatnonzero(np.linalg.norm(mean - centre, axis=1) < 1.8 * radius)
        carried = np.linalg.lstsq(np.c_[mean[around], np.ones(len(around))], head.registered[around], rcond=None)[0]
        centre = np.r_[centre, 1] @ carried
        reach = np.linalg.norm(middle - centre, axis=1)
        eye = (
            (np.abs(reach - radius) < away + 0.3) & (middle[:, 2] > centre[2]) & (reach < 1.25 * radius) & (away > 0.8)
        )
        ray = head.vertices[head.triangles[eye]] - centre
        found[eye] = EYE + HALF * [0.5, 0.5] * (0.5 + 0.5 * ray[..., :2] / np.linalg.norm(ray, axis=2, keepdims=True))
    return found


def _eye(iris: NDArray[np.floating], side: int) -> U8:
    """(side, side, 3) an eyeball from the front: x and y of its directions from -1 to 1."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1) * 2 - 1
    angle = np.hypot(x, y)[..., None]
    white = np.array([0.86, 0.84, 0.82])
    colour = np.where(angle < 0.19, 0.02, np.where(angle < 0.47, iris, white))
    return np.asarray(colour * 255, np.uint8)

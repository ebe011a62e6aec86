"""A tiny take to fit: a textured ball that moves, seen by a ring of cameras, with its mesh; painted by numpy."""

from collections.abc import Mapping

import numpy as np

from renderer.fitter.footage import Footage
from streamer.geometry import inverse_rigid, look_at
from streamer.types import F64, U8, Camera, MeshFrame, Topology

RADIUS_M = 0.12
SIDE_PX = 32


def camera(index: int, count: int, side: int = SIDE_PX) -> Camera:
    """One of a ring at 1 m that looks at the origin."""
    angle = 2 * np.pi * index / count
    pose = look_at(np.array([np.sin(angle), 0.25 * (-1) ** index, np.cos(angle)]), np.zeros(3))
    K = np.array([[2.2 * side, 0, side / 2 - 0.5], [0, 2.2 * side, side / 2 - 0.5], [0, 0, 1]])
    return Camera(f"cam_{index}", f"serial_{index}", side, side, K, np.zeros(5), pose)


def centre_at(step: int, steps: int) -> F64:
    """Where the ball is, metres."""
    return np.array([0.05 * np.sin(2 * np.pi * step / steps), 0.03 * np.cos(2 * np.pi * step / steps), 0.0])


def paint(view: Camera, centre: F64) -> U8:
    """The ball before a grey wall: its colour tells the direction from its centre, as a normal map does."""
    y, x = np.mgrid[0 : view.height, 0 : view.width]
    rays = np.linalg.inv(view.K) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(float)
    rays = (view.camera_from_world[:3, :3].T @ rays).T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    towards = centre - view.centre_world
    along = rays @ towards
    inside = RADIUS_M**2 - (towards @ towards - along**2)
    hit = inside > 0
    surface = view.centre_world + rays * (along - np.sqrt(np.maximum(inside, 0)))[:, None]
    normal = (surface - centre) / RADIUS_M
    colour = np.where(hit[:, None], 0.5 + 0.5 * normal, 0.5)
    return np.asarray(colour.reshape(view.height, view.width, 3) * 255, np.uint8)


def sphere(rings: int = 12, sectors: int = 16) -> Topology:
    """A closed ball as a topology."""
    points = [(0.0, 1.0, 0.0)]
    for i in range(1, rings):
        a = np.pi * i / rings
        points += [
            (np.sin(a) * np.sin(b), np.cos(a), np.sin(a) * np.cos(b)) for b in 2 * np.pi * np.arange(sectors) / sectors
        ]
    points.append((0.0, -1.0, 0.0))
    faces: list[tuple[int, int, int]] = []
    last = len(points) - 1
    for s in range(sectors):
        n = (s + 1) % sectors
        faces += [(0, 1 + s, 1 + n), (last, last - sectors + n, last - sectors + s)]
        for r in range(rings - 2):
            a, b = 1 + r * sectors, 1 + (r + 1) * sectors
            faces += [(a + s, b + s, b + n), (a + s, b + n, a + n)]
    triangles = np.array(faces)
    return Topology("ball", triangles, np.zeros((1, 2)), np.zeros_like(triangles), np.array(points) * RADIUS_M)


def footage(steps: int = 4, cameras: int = 6, held_out: int = 1, *, meshes: bool = True) -> Footage:
    """All of it; the last cameras are held out."""
    ring = tuple(camera(i, cameras) for i in range(cameras))
    train, held = ring[: cameras - held_out], ring[cameras - held_out :]
    ball = sphere()
    pictures = [paint(view, centre_at(t, steps)) for t in range(steps) for view in train]
    size = pictures[0].size
    begins = (np.arange(steps * len(train)) * size).reshape(steps, len(train))
    apart = {(t, view.id): paint(view, centre_at(t, steps)) for t in range(steps) for view in held}
    heads: Mapping[int, MeshFrame] = {}
    if meshes:
        heads = {t: _mesh(ball, t, steps) for t in range(steps)}
    times = tuple(range(0, steps * 40_000_000, 40_000_000))
    flat = np.concatenate([p.reshape(-1) for p in pictures])
    topology = ball if meshes else None
    return Footage(ring, train, held, tuple(range(steps)), times, flat, begins, apart, heads, topology)


def _mesh(ball: Topology, step: int, steps: int) -> MeshFrame:
    pose = np.eye(4)
    pose[:3, 3] = centre_at(step, steps)
    vertices = (ball.template + pose[:3, 3]).astype(np.float32)
    assert np.allclose(inverse_rigid(pose)[:3, 3], -pose[:3, 3])
    return MeshFrame(step, step * 40_000_000, 0, ball.id, vertices, np.asarray(pose, np.float32))

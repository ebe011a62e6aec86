"""Heads of other origin on the simulated stage: drawn where they are, in their own colours."""

from dataclasses import replace

import numpy as np
import pytest

from rig.simulation.cameras import demo_ring
from rig.simulation.guests import guest_head
from rig.simulation.head import head_topology
from rig.simulation.look import random_look
from rig.simulation.painter import DARKNESS, Painter
from streamer.errors import DriverError, MeshError
from streamer.geometry import project

WIDTH, HEIGHT = 200, 160
BELOW = np.array([[1.0, 0, 0, 0], [0, 1, 0, -9], [0, 0, 1, 0], [0, 0, 0, 1]])
"""Where shoulders are out of sight."""


def bumpy_wall(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 3) metres, (T, 3) and (N, 2): a curved wall that looks along +Z, its texture from side to side."""
    x, y = np.meshgrid(np.linspace(-1, 1, steps), np.linspace(-1, 1, steps))
    points = np.stack([0.08 * x, 0.1 * y, 0.05 - 0.04 * x**2 - 0.03 * y**2], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(steps - 1), np.arange(steps - 1), indexing="ij")
    a, b = i * steps + j, i * steps + j + 1
    faces = np.concatenate([np.stack([a, b, a + steps], -1), np.stack([b, b + steps, a + steps], -1)])
    uv = np.stack([(x + 1) / 2, (y + 1) / 2], -1).reshape(-1, 2)
    return points.astype(np.float32), faces.reshape(-1, 3).astype(np.int32), uv


def test_a_guest_is_drawn_where_its_vertices_project_in_the_colours_of_its_texture() -> None:
    points, faces, uv = bumpy_wall(40)
    head = guest_head(points, faces, uv)
    assert head.skin_count == len(points) and not head.units
    cameras = demo_ring(3, WIDTH, HEIGHT, 1).cameras[1:2]
    try:
        painter = Painter(head, WIDTH, HEIGHT, 1)
    except DriverError as error:
        pytest.skip(str(error))
    look = random_look(np.random.default_rng(0))
    side = 256
    v, u = np.mgrid[0:side, 0:side]
    ramp = np.stack([u, side - 1 - v, np.full_like(u, 128)], -1).astype(np.uint8)  # red: u, green: v from below
    ones = np.ones(3, np.float32)
    painter.wear(replace(look.surface, texture=ramp), replace(DARKNESS, sky=ones, ground=ones))
    (picture,) = painter.paint(head.neutral, BELOW, cameras)
    painter.close()
    pixels = np.rint(project(cameras[0], points.astype(np.float64))[0]).astype(int)
    inner = (np.abs(uv - 0.5) < 0.45).all(1)
    shown = picture[pixels[inner, 1], pixels[inner, 0]].astype(int)
    assert (shown[:, 3] == 255).all()
    # half a pixel of rounding is a hundredth of the wall's breadth; a mirrored or turned texture is off by much more
    assert np.abs(shown[:, :2] - uv[inner] * 255).max() < 8
    assert picture[..., 3].mean() < 128  # and nothing beside it


def test_without_a_texture_of_its_own_every_vertex_shows_the_middle() -> None:
    topology = head_topology()
    head = guest_head(topology.template, topology.triangles)
    assert (head.uv == 0.5).all() and head.uv_triangles.shape == head.triangles.shape


def test_what_cannot_be_drawn_is_named() -> None:
    points, faces, uv = bumpy_wall(4)
    with pytest.raises(MeshError, match="no triangles"):
        guest_head(points, faces[:0])
    with pytest.raises(MeshError, match="do not fit 18 triangles and 5 places"):
        guest_head(points, faces, uv[:5])
    with pytest.raises(MeshError, match="do not fit"):
        guest_head(points, faces, uv, faces[:3])

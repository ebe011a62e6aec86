"""Geometric truth: the lens shader and `streamer.geometry.project` agree."""

from dataclasses import replace
from importlib import resources

import cv2
import moderngl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderer.viewer.context import write_uniforms
from renderer.viewer.lens import Lens, lens_limit_r2, lens_of
from renderer.viewer.overlay import draw_overlay
from renderer.viewer.surface import Shape, Surface
from streamer.geometry import distort, inverse_rigid, project, scaled, transform
from streamer.types import F64, Camera, Topology
from tests.renderer.makers import HEIGHT, WIDTH, camera, head_topology, head_vertices, in_thread, on_gl

CAMERAS = [camera("left", 0.9), camera("front", 0.0), camera("right", -0.9, (0.39, -0.3, -0.004, 0.003, 0.12))]
WHITE = (10.0, 10.0, 10.0)  # saturates: every covered pixel is white, however it is lit
EAR, NOSE = np.array([0.100, 0.0, 0.0]), np.array([0.0, -0.005, 0.122])


def shader_pixels(context: moderngl.Context, lens: Lens, topology: Topology) -> F64:
    """(N, 2) what the vertex stage computes."""
    program = context.program(vertex_shader=vertex_stage(), varyings=["pixel"])
    write_uniforms(
        program, camera_from_world=lens.camera_from_world, focal=lens.focal, centre=lens.centre,
        distortion=lens.distortion, size=lens.size, depth_range=lens.depth_range, limit_r2=lens.limit_r2,
    )  # fmt: skip
    surface = Surface(context, Shape(context, topology, bake=False))
    context.simple_framebuffer((4, 4)).use()  # Mesa transforms nothing without a framebuffer
    out = context.buffer(reserve=8 * topology.triangles.size)
    surface.array(program).transform(out, moderngl.TRIANGLES, vertices=topology.triangles.size)
    pixels = np.empty((topology.vertex_count, 2))
    pixels[topology.triangles.ravel()] = np.frombuffer(out.read(), np.float32).reshape(-1, 2)
    return pixels


def vertex_stage() -> str:
    return "#version 330 core\n" + resources.files("renderer.viewer").joinpath("shaders/lens.vert").read_text()


@pytest.mark.parametrize("seen_by", CAMERAS, ids=lambda c: c.id)
def test_every_vertex_is_where_geometry_projects_it(seen_by: Camera) -> None:
    topology = head_topology()
    vertices = topology.template
    lens = lens_of(seen_by, vertices.min(0).astype(float), vertices.max(0).astype(float))
    pixels = on_gl(lambda context: shader_pixels(context, lens, topology))
    expected, _ = project(seen_by, vertices)
    # A dozen float32 operations on values up to the focal length plus the centre: 12 * 2**-24 * 600 px.
    assert np.abs(pixels - expected).max() < 12 * 2.0**-24 * 600
    ideal, _ = project(replace(seen_by, distortion=np.zeros(5)), vertices)
    assert np.abs(ideal - expected).max() > 1.0, "the lens of this test bends by pixels"


def blob(point: F64, radius: float = 0.010) -> Topology:
    """A small octahedron."""
    points = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]) * radius + point
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    return Topology("blob", np.array(faces), np.zeros((1, 2)), np.zeros((8, 3)), points)


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (WIDTH * 2, HEIGHT * 2)], ids=["full", "double"])
@pytest.mark.parametrize("seen_by", CAMERAS, ids=lambda c: c.id)
def test_a_point_lands_on_its_pixel(seen_by: Camera, size: tuple[int, int]) -> None:
    black = np.zeros((size[1], size[0], 3), np.uint8)
    for point in (EAR, NOSE, np.array([-0.05, 0.10, 0.05]), np.array([0.03, -0.12, 0.02])):
        topology = blob(point)
        ink = in_thread(
            lambda topology=topology: draw_overlay(black, seen_by, topology.template, topology, opacity=1.0, tint=WHITE)
        )
        cover = ink[..., 0] / 255.0
        assert 20 < cover.sum() < 2000
        y, x = np.mgrid[: size[1], : size[0]]
        centroid = np.array([(cover * x).sum(), (cover * y).sum()]) / cover.sum()
        here = scaled(seen_by, *size)
        # Four samples a pixel place an edge within an eighth of a pixel; a wrong pixel centre would be off by a half.
        corners, _ = project(here, topology.template)
        expected = hull_centroid(corners)
        assert np.abs(expected - project(here, point)[0]).max() < 0.5
        assert np.abs(centroid - expected).max() < 0.125


def hull_centroid(points: F64) -> F64:
    hull = cv2.convexHull(points.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    after = np.roll(hull, -1, 0)
    cross = hull[:, 0] * after[:, 1] - after[:, 0] * hull[:, 1]
    return ((hull + after) * cross[:, None]).sum(0) / (3 * cross.sum())


def test_the_left_ear_is_on_the_right_of_a_frontal_picture_and_nowhere_else() -> None:
    """A head that faces the camera has its left at the picture's right, as people facing each other do."""
    topology, front = head_topology(), camera("front", 0.0)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def extent() -> tuple[int, int]:
        ink = draw_overlay(black, front, head_vertices(), topology, opacity=1.0, tint=WHITE)[..., 0]
        covered = np.flatnonzero(ink[round(project(front, EAR)[0][1])] > 127)
        return int(covered[0]), int(covered[-1])

    left, right = in_thread(extent)
    pixels = project(front, head_vertices())[0][:, 0]
    # The row goes through the tip of the ear and, within a row of vertices, the widest place of the other side.
    assert right == pytest.approx(pixels.max(), abs=1.0) and left == pytest.approx(pixels.min(), abs=1.0)
    middle = project(front, np.zeros(3))[0][0]
    assert (right - middle) - (middle - left) > 8


@given(
    st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(-0.3, 0.3)
)  # fmt: skip
def test_the_limit_is_where_the_radial_polynomial_turns_back(k1: float, k2: float, k3: float) -> None:
    distortion = np.array([k1, k2, 0.0, 0.0, k3])
    limit = min(lens_limit_r2(distortion), 4.0)
    radius = np.linspace(0, 0.999 * np.sqrt(limit), 400)
    seen = distort(np.stack([radius, np.zeros_like(radius)], -1), distortion)[:, 0]
    assert (np.diff(seen) > 0).all(), "it grows up to the limit"
    if limit < 4.0:
        beyond = np.sqrt(limit) * np.array([1.0, 1.01])
        ends = distort(np.stack([beyond, np.zeros(2)], -1), distortion)[:, 0]
        assert ends[1] <= ends[0] + 1e-9


def test_points_that_only_the_polynomial_sees_are_not_drawn() -> None:
    """At k1 = -0.4 the model folds a point at 52 degrees into the picture; no lens does."""
    fish = camera("fold", 0.0, (-0.4, 0.0, 0.0, 0.0, 0.0))
    aside = transform(inverse_rigid(fish.camera_from_world), np.array([0.4 * 1.3, 0.0, 0.4]))
    pixel, depth = project(fish, aside)
    assert depth > 0 and 0 <= pixel[0] < WIDTH, "the fold is real"
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    topology = blob(aside, 0.02)
    ink = in_thread(lambda: draw_overlay(black, fish, topology.template, topology, opacity=1.0, tint=WHITE))
    assert not ink.any()

"""Heights read from pictures, and the free surface that follows them, against a sphere that is painted exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.tempeh import frames
from inference.tempeh.heights import Heights, grey_pictures, read_heights
from inference.tempeh.refine import Refiner
from inference.tempeh.shape import ShapePrior
from inference.tempeh.surface import SurfaceRefiner, neighbours_of, slackened
from streamer.geometry import look_at, vertex_normals
from streamer.types import Camera
from tests.inference.tiny_corpus import ellipsoid

MM = 1000.0
RADIUS_MM = 90.0
SIZE = (320, 240)


def cameras(count):
    found = []
    for k in range(count):
        azimuth = -1.2 + 2.4 * k / (count - 1)
        place = np.array([np.sin(azimuth), 0.2 * (-1) ** k, np.cos(azimuth)])
        intrinsics = np.array([[900.0, 0, 159.5], [0, 900, 119.5], [0, 0, 1]])
        found.append(Camera(f"c{k}", "s", *SIZE, intrinsics, np.zeros(5), look_at(place, np.zeros(3))))
    return found


def pores(points):
    """A solid texture, grey levels: waves of 5 to 12 mm in all directions."""
    rng = np.random.default_rng(3)
    total = np.zeros(points.shape[:-1])
    for _ in range(24):
        direction = rng.normal(size=3)
        wave = direction / np.linalg.norm(direction) * 2 * np.pi / rng.uniform(5, 12)
        total += np.sin(points @ wave + rng.uniform(0, 6))
    return 128 + 18 * total


def painted(camera, radius_mm):
    """The picture of a textured sphere by exact rays; black beside it."""
    column, row = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    ray = np.stack(
        [(column - camera.K[0, 2]) / camera.K[0, 0], (row - camera.K[1, 2]) / camera.K[1, 1], np.ones_like(row)], -1
    )
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True) @ camera.camera_from_world[:3, :3]
    centre = camera.centre_world * MM
    along = -(ray @ centre)
    inside = radius_mm**2 - (centre @ centre - along**2)
    hit = centre + (along - np.sqrt(np.maximum(inside, 0)))[..., None] * ray
    grey = np.where(inside > 0, np.clip(pores(hit), 0, 255), 0)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def sphere():
    """Vertices (N, 3) of radius 1, triangles."""
    vertices, triangles = ellipsoid(rings=24, steps=36)
    return (vertices / np.linalg.norm(vertices, axis=1, keepdims=True)).astype(np.float32), triangles


@pytest.fixture(scope="module")
def shown():
    rig = cameras(6)
    return rig, np.stack([painted(camera, RADIUS_MM) for camera in rig])


def read(sphere, rig, pictures, radius_mm, reach=5.0):
    unit, triangles = sphere
    vertices = unit * np.float32(radius_mm)
    normals = vertex_normals(vertices, triangles)
    where = np.flatnonzero(unit[:, 2] > 0.35).astype(np.int32)
    views = frames.views_of(rig, np.eye(4))
    present = np.ones(len(rig), np.float32)
    return where, read_heights(
        vertices, normals, triangles, where, views, grey_pictures(pictures), present, (reach, reach / 5)
    )


@pytest.mark.parametrize("off_mm", [-3.0, 0.0, 2.5])
def test_the_height_of_a_textured_surface_is_read_from_wrong_places(sphere, shown, off_mm):
    where, heights = read(sphere, *shown, RADIUS_MM + off_mm)
    known = heights.certainty[where] > 0
    assert known.mean() > 0.8
    # a pixel is 1.1 mm; neighbouring views stand 27 degrees apart, so half a pixel is a millimetre of height
    error = heights.height[where][known] + off_mm
    assert abs(np.median(error)) < 0.15
    assert np.median(np.abs(error)) < 0.4
    assert not heights.certainty[np.setdiff1d(np.arange(len(heights.certainty)), where)].any()


def test_pictures_of_other_cameras_tell_no_height(sphere, shown):
    rig, pictures = shown
    _, right = read(sphere, rig, pictures, RADIUS_MM)
    _, wrong = read(sphere, rig, pictures[[2, 0, 1, 5, 3, 4]], RADIUS_MM)
    assert wrong.certainty.sum() < 0.2 * right.certainty.sum()


def test_nothing_is_read_from_blank_skin_or_one_view(sphere, shown):
    rig, pictures = shown
    _, blank = read(sphere, rig, np.full_like(pictures, 120), RADIUS_MM)
    assert not blank.certainty.any()
    _, alone = read(sphere, rig[:2], pictures[:2] * np.array([1, 0], np.uint8)[:, None, None, None], RADIUS_MM)
    assert not alone.certainty.any()


def surface_refiner(sphere):
    unit, triangles = sphere
    prior = ShapePrior(unit * np.float32(RADIUS_MM), np.zeros((len(unit), 3, 1), np.float32))
    every = np.arange(len(unit), dtype=np.int32)
    return SurfaceRefiner(Refiner(prior, triangles, prior.mean, every), every)


def test_smooth_heights_follow_readings_and_pass_by_outliers(sphere):
    refiner = surface_refiner(sphere)
    unit = sphere[0]
    true = 1.5 * np.sin(2 * unit[:, 0]) + unit[:, 1]
    rng = np.random.default_rng(0)
    read_at = true + rng.normal(0, 0.3, len(true))
    wild = rng.random(len(true)) < 0.1
    read_at[wild] += 4.0
    certainty = np.where(rng.random(len(true)) < 0.7, 5.0, 0.0)
    smooth = refiner.smooth(Heights(read_at.astype(np.float32), certainty.astype(np.float32)))
    assert np.median(np.abs(smooth - true)) < 0.2
    assert np.abs(smooth - true)[wild].mean() < 1.0


def test_the_solver_solves(sphere):
    refiner = surface_refiner(sphere)
    count = len(sphere[0])
    rng = np.random.default_rng(1)
    certainty = rng.uniform(0, 10, count)
    right = certainty * rng.normal(size=count)
    system = np.stack([refiner._stiff(certainty, row) for row in np.eye(count)])
    np.testing.assert_allclose(system, system.T, atol=1e-9)
    found = refiner._solve(certainty, right, np.zeros(count))
    exact = np.linalg.solve(system, right)
    assert np.abs(found - exact).max() < 0.02 * np.abs(exact).max()


@given(seed=st.integers(0, 2**32 - 1), slack_mm=st.floats(0.1, 20))
def test_slack_adds_the_error_along_the_surface(seed, slack_mm):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(5, 3, 3))
    information = (root @ root.transpose(0, 2, 1) + 0.1 * np.eye(3)).astype(np.float32)
    normals = rng.normal(size=(5, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    error = rng.normal(size=(5, 3))
    pull = np.einsum("mij,mj->mi", information, error).astype(np.float32)
    marginal, drawn = slackened(information, pull, normals, slack_mm)
    across = slack_mm**2 * (np.eye(3) - normals[:, :, None].astype(float) * normals[:, None, :])
    expected = np.linalg.inv(np.linalg.inv(information.astype(float)) + across)
    np.testing.assert_allclose(marginal, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(drawn, np.einsum("mij,mj->mi", expected, error), rtol=5e-3, atol=5e-3)


def test_neighbours_are_those_of_the_edges():
    table = neighbours_of(np.array([[0, 1, 2], [2, 1, 3]], np.int32), 5)
    assert [set(row.tolist()) - {k} for k, row in enumerate(table)] == [{1, 2}, {0, 2, 3}, {0, 1, 3}, {1, 2}, set()]

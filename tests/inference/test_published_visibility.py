"""The depth picture and what is seen in it: against a rasteriser that looks at every pixel and every triangle."""

import numpy as np
import pytest

from inference.tempeh.published.visibility import SIDE, depth_picture, outline, visibility
from streamer.errors import ModelError
from streamer.geometry import vertex_normals
from tests.inference.published_makers import CENTRE, bumpy_head, rig
from tests.inference.tiny_corpus import ellipsoid


def slow_picture(place: np.ndarray, depth: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Every pixel against every triangle, in float64; NaN where rounding decides (an edge passes through a centre)."""
    centres = (2 * np.arange(SIDE) + 1 - SIDE) / SIDE
    x, y = np.meshgrid(centres, centres)
    picture, doubtful = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE), bool)
    for triangle in triangles:
        a, b, c = place[triangle].astype(np.float64)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        w1 = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
        w2 = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
        weights = np.stack([1 - w1 - w2, w1, w2])
        value = (weights * (1 - depth[triangle].astype(np.float64))[:, None, None]).sum(0)
        doubtful |= (np.abs(weights).min(0) < 1e-4) & (weights.min(0) > -1e-4)
        picture = np.where(weights.min(0) >= 0, np.maximum(picture, value), picture)
    return np.where(doubtful, np.nan, picture)


def test_depth_picture_agrees_with_one_that_is_made_slowly() -> None:
    points, triangles = bumpy_head()
    cameras = rig(2, (80, 60))
    place, depth = outline(points + CENTRE, cameras["K"][1], cameras["camera_from_world"][1])
    assert np.abs(place).max() <= 1 and depth.min() >= 0 and depth.max() <= 1
    expected = slow_picture(place, depth, triangles)
    certain = ~np.isnan(expected)
    assert certain.mean() > 0.99
    found = depth_picture(place, depth, triangles)
    np.testing.assert_allclose(found[certain], expected[certain], atol=1e-5)
    assert (found > 0).mean() > 0.2


def test_the_near_side_is_seen_and_the_far_side_is_not() -> None:
    points, triangles = ellipsoid()
    points = points * 1000 + np.array([0, -50, 0], np.float32)
    cameras = rig(5, (80, 60))
    seen = visibility(points, triangles, cameras["K"], cameras["camera_from_world"])
    assert seen.shape == (5, len(points)) and set(np.unique(seen)) == {0, 1}
    normals = vertex_normals(points, triangles)
    for view, camera in enumerate(cameras["camera_from_world"]):
        ray = points + camera[:, :3].T @ camera[:, 3]
        cosine = -(ray / np.linalg.norm(ray, axis=1, keepdims=True) * normals).sum(1)
        assert seen[view, cosine > 0.5].mean() > 0.95
        assert seen[view, cosine < -0.5].mean() < 0.02


def test_a_wall_hides_what_is_behind_it() -> None:
    """Two squares, the far one smaller: seen alone, hidden behind the near one, seen again where the wall ends."""
    near = np.array([[-100, -100, 100], [100, -100, 100], [100, 100, 100], [-100, 100, 100]], np.float32)
    far = np.array([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [300, 50, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [5, 7, 6]], np.int32)
    K = np.array([[[400, 0, 100], [0, 400, 80], [0, 0, 1]]], np.float32)
    camera = np.array([[[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1000]]], np.float32)  # at z = 1000, looks along -z
    assert visibility(np.concatenate([near, far]), triangles, K, camera)[0, 4:].tolist() == [0, 0, 0, 1]
    alone = visibility(far, triangles[2:] - 4, K, camera)
    assert alone.tolist() == [[1, 1, 1, 1]]


def test_vertices_of_nonsense_are_refused() -> None:
    points, triangles = bumpy_head()
    cameras = rig(1, (80, 60))
    with pytest.raises(ModelError, match="not finite"):
        visibility(points * np.nan, triangles, cameras["K"], cameras["camera_from_world"])
    K = np.array([[[400, 0, 100], [0, 400, 80], [0, 0, 1]]], np.float32)
    with pytest.raises(ModelError, match="one point"):
        visibility(points * 0, triangles, K, np.array([[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1000]]], np.float32))

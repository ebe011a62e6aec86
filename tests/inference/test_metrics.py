"""Distances: exact against brute force and by hand, regions, jitter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.evaluation.metrics import jitter_mm, point_to_surface, regions_of, summarise, triangle_distance
from streamer.types import F64, I32
from tests.inference.makers import octahedron


def brute_force(points: F64, vertices: F64, triangles: I32) -> F64:
    pairs = np.repeat(points, len(triangles), 0)
    corners = np.tile(vertices[triangles], (len(points), 1, 1))
    distances = triangle_distance(pairs, corners[:, 0], corners[:, 1], corners[:, 2])
    return np.asarray(distances.reshape(len(points), -1).min(1))


def test_distance_to_a_triangle_by_hand() -> None:
    a, b, c = np.array([0.0, 0, 0]), np.array([4.0, 0, 0]), np.array([0.0, 3, 0])
    points = np.array([[1.0, 1, 2], [1, 1, -2], [-3, 0, 4], [5, -1, 0], [2, -2, 0], [4, 3, 0], [0, 5, 0], [1, 1, 0]])
    expected = [2, 2, 5, np.sqrt(2), 2, 2.4, 2, 0]
    count = len(points)
    found = triangle_distance(points, np.tile(a, (count, 1)), np.tile(b, (count, 1)), np.tile(c, (count, 1)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_a_triangle_is_no_nearer_than_its_densest_sampling(seed: int, flatness: float) -> None:
    """An independent check: the least distance to many points of the triangle is an upper bound, nearly reached."""
    random = np.random.default_rng(seed)
    point, a, b, c = random.normal(size=(4, 3))
    c = a + (b - a) * random.random() + (c - a) * 10.0 ** -abs(flatness)
    u, v = np.meshgrid(np.linspace(0, 1, 60), np.linspace(0, 1, 60))
    keep = u + v <= 1 + 1e-12
    samples = a + u[keep][:, None] * (b - a) + v[keep][:, None] * (c - a)
    sampled = np.linalg.norm(samples - point, axis=1).min()
    found = float(triangle_distance(point[None], a[None], b[None], c[None])[0])
    step = max(np.linalg.norm(b - a), np.linalg.norm(c - a)) / 59
    assert found <= sampled + 1e-9 and sampled - found <= step


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.floats(0.01, 3))
def test_point_to_surface_is_exact(seed: int, count: int, spread: float) -> None:
    """Soups of triangles of very different sizes, some of them degenerate, points near and far."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count, 1, 3))
    sizes = 10.0 ** random.uniform(-3, 1, (count, 1, 1))
    vertices = (centres + sizes * random.normal(size=(count, 3, 3))).reshape(-1, 3)
    triangles = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    triangles[::7, 2] = triangles[::7, 1]
    points = random.normal(size=(20, 3)) * spread
    np.testing.assert_allclose(
        point_to_surface(points, vertices, triangles), brute_force(points, vertices, triangles), atol=1e-12
    )


def test_vertices_lie_on_their_surface_and_a_shift_shows() -> None:
    mesh = octahedron(radius=1.0)
    assert point_to_surface(mesh.template, mesh.template, mesh.triangles).max() < 1e-12
    centre = point_to_surface(np.zeros((1, 3)), mesh.template, mesh.triangles)
    np.testing.assert_allclose(centre, 1 / np.sqrt(3), atol=1e-7)


def test_summaries_and_regions() -> None:
    done = summarise([np.array([1.0, 2.0]), np.array([3.0, 10.0])])
    assert (done.median_mm, done.mean_mm, done.p90_mm) == (2.5, 4.0, pytest.approx(7.9))
    regions = regions_of({"face": np.array([0, 1], np.int32), "none": np.empty(0, np.int32)}, 4)
    assert {name: len(indices) for name, indices in regions.items()} == {"head": 4, "face": 2}


def test_jitter_counts_shaking_and_not_drifting() -> None:
    steady = [np.full((5, 3), float(k)) for k in range(6)]  # an error that grows evenly
    assert jitter_mm(range(6), steady) == 0.0
    shaking = [np.tile([0.3 * (-1) ** k, 0, 0], (5, 1)) for k in range(6)]
    assert jitter_mm(range(6), shaking) == pytest.approx(0.6)
    assert jitter_mm([0, 2, 4, 6, 8, 10], shaking) is None  # not consecutive

"""Distances to surfaces are exact, their gradients true, and the losses those of the paper."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.training.losses import LossWeights, Terms, robust, unique_edges, vertex_weights
from inference.training.surface import closest_on_triangles, closest_points, surface_distance
from streamer.types import Topology
from tests.inference.makers import octahedron
from tests.inference.tiny_corpus import ellipsoid


def dense(corners: np.ndarray, steps: int = 60) -> np.ndarray:
    """Points of one triangle, edges included."""
    u, v = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps))
    weights = np.stack([1 - u, u * (1 - v), u * v], -1).reshape(-1, 3)
    return weights @ corners


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["random", "needle", "point", "line"]))
def test_closest_point_of_a_triangle_is_on_it_and_none_is_nearer(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    corners, points = rng.normal(size=(3, 3)), rng.normal(size=(20, 3)) * 2
    if kind == "needle":
        corners[2] = corners[1] + 1e-7
    elif kind == "point":
        corners[:] = corners[0]
    elif kind == "line":
        corners[2] = 0.3 * corners[0] + 0.7 * corners[1]
    weights = closest_on_triangles(points, np.tile(corners, (20, 1, 1)))
    assert weights.min() >= 0 and np.allclose(weights.sum(1), 1)
    distance = np.linalg.norm(points - weights @ corners, axis=1)
    sampled = np.linalg.norm(points[:, None] - dense(corners), axis=2).min(1)
    spacing = np.linalg.norm(corners[:, None] - corners, axis=2).max() / 59
    assert (distance <= sampled + 1e-9).all() and (distance >= sampled - spacing).all()


def test_closest_points_agree_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    vertices, triangles = ellipsoid(14, 18)
    vertices = vertices * 1000
    triangles = np.concatenate([triangles, [[0, 100, 200]]]).astype(np.int32)  # and a large one across
    points = rng.normal(size=(300, 3)) * [80, 120, 100]
    index, weights = closest_points(points, vertices, triangles)
    corners = vertices[triangles].astype(np.float64)
    every = np.stack([closest_on_triangles(points, np.tile(c, (len(points), 1, 1))) @ c for c in corners], 1)
    brute = np.linalg.norm(points[:, None] - every, axis=2).min(1)
    found = np.linalg.norm(points - np.einsum("pk,pki->pi", weights, corners[index]), axis=1)
    np.testing.assert_allclose(found, brute, atol=1e-4)  # weights are float32


def test_the_gradient_of_the_distance_is_the_true_one() -> None:
    vertices, triangles = ellipsoid(8, 10)
    moving = torch.from_numpy(vertices.astype(np.float64)).requires_grad_()
    points = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 3)) * 0.15)
    faces = torch.from_numpy(triangles)
    surface_distance(points, moving, faces).sum().backward()
    assert moving.grad is not None
    step = torch.from_numpy(np.random.default_rng(2).normal(size=vertices.shape)) * 1e-6
    with torch.no_grad():
        ahead, behind = (surface_distance(points, moving + sign * step, faces).sum() for sign in (1, -1))
    torch.testing.assert_close((moving.grad * step).sum(), (ahead - behind) / 2, rtol=1e-3, atol=0)


def test_numbers_of_the_robust_distance() -> None:
    expected = torch.tensor([0.995037, 4.472136, 7.071068, 9.805807])
    torch.testing.assert_close(robust(torch.tensor([1.0, 5, 10, 50])), expected, atol=1e-6, rtol=1e-6)


def test_region_weights_overwrite_in_order_and_fade() -> None:
    vertices, triangles = ellipsoid(8, 10)
    parts = {"face": range(40), "left_eye_region": [12], "scalp": [60], "lips": [31]}
    regions = {name: np.array(list(part), np.int32) for name, part in parts.items()}
    topology = Topology("t", triangles, np.zeros((1, 2)), triangles * 0, vertices, (), regions)
    weights = vertex_weights(topology, (("face", 2.0, 0), ("eye_region", 10.0, 1), ("lips", 3.0, 0), ("scalp", 4.0, 0)))
    assert (weights[12], weights[31], weights[60], weights[70], weights[25]) == (10, 3, 4, 1, 2)
    edges = unique_edges(triangles)
    assert len(edges) == len({tuple(edge) for edge in edges.tolist()}) and (edges[:, 0] < edges[:, 1]).all()
    ring = np.unique(edges[(edges == 12).any(1)])
    assert (weights[ring[ring != 12]] == 5).all()


def test_terms_are_what_they_say() -> None:
    topology = octahedron(radius=100.0)
    truth = torch.from_numpy(topology.template.copy())
    found = (truth + torch.tensor([3.0, 0, 0])).requires_grad_()
    scan = truth * 0.999
    total, figures = Terms(topology, LossWeights(vertices=2.0))(found, truth, scan)
    torch.testing.assert_close(total, torch.tensor(2.0 * 9 / 3))
    assert figures == {"vertex_mm": 3.0}
    total, _ = Terms(topology, LossWeights(vertices=1.0, rigid=("back",)))(found, truth, scan)
    torch.testing.assert_close(total, torch.tensor(9 / 18))  # one vertex of six
    total, _ = Terms(topology, LossWeights(vertices=0.0, edges=1.0))(found, truth, scan)
    assert total == 0  # a shift bends no edge
    total, _ = Terms(topology, LossWeights(vertices=0.0, edges=1.0), ())(truth * 1.1, truth, scan)
    first, second = unique_edges(topology.triangles).T
    torch.testing.assert_close(total, (0.1 * (truth[first] - truth[second])).square().mean())
    total, figures = Terms(topology, LossWeights(vertices=0.0, surface=1.0))(truth, truth, scan)
    assert abs(float(total) - 0.1 / 3**0.5) < 0.02 and abs(figures["surface_mm"] - 0.1 / 3**0.5) < 0.02

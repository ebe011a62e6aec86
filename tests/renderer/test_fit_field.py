"""The field's parts against brute force, references and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm  # type: ignore[import-untyped]

from renderer.fitter import losses
from renderer.fitter.box import Box
from renderer.fitter.compositing import before, per_ray, weights_of
from renderer.fitter.deformation import Deformation
from renderer.fitter.encoders import numba_lookup
from renderer.fitter.encoders.base import Lookup
from renderer.fitter.encoders.numba_lookup import NumbaLookup
from renderer.fitter.encoders.torch_lookup import TorchLookup
from renderer.fitter.ensemble import HashEnsemble
from renderer.fitter.grids import GridShape
from renderer.fitter.marching import Samples, march
from renderer.fitter.rays import lenses_of, rays_of
from renderer.fitter.rigid import move_by_screw
from renderer.fitter.schedules import blend_mixture, decayed, ramp, window
from streamer.geometry import project
from streamer.types import Camera
from tests.renderer.fit_makers import camera

SHAPE = GridShape(levels=5, features=2, log2_rows=9, base=4, finest=40)
LOOKUPS = (TorchLookup(), NumbaLookup())


def graph(lookup: Lookup, channels: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Values and gradients of a weighted sum."""
    draw = torch.Generator().manual_seed(seed)
    table = torch.randn(SHAPE.total_rows, channels, generator=draw, requires_grad=True)
    points = torch.rand(200, 3, generator=draw)
    points[0], points[1] = 0.0, 1.0
    points[2] = torch.tensor([1.3, -0.2, 0.5])
    points.requires_grad_()
    found = lookup(table, points, SHAPE)
    weight = torch.randn(found.shape, generator=draw)
    (found * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None and points.grad is not None
    return found.detach(), table.grad, points.grad


def test_levels_are_dense_while_they_fit() -> None:
    assert SHAPE.resolutions[0] == 4 and SHAPE.resolutions[-1] == 40
    assert SHAPE.dense.tolist() == [True, True, False, False, False]
    assert SHAPE.total_rows == SHAPE.rows.sum() and SHAPE.rows[0] == 125 and SHAPE.rows[-1] == 512


def test_a_dense_level_is_trilinear_interpolation() -> None:
    """A grid that holds a linear function gives it back exactly, with its slope."""
    shape = GridShape(1, 1, 12, 8, 8)
    corner = np.arange(9)
    x, y, z = np.meshgrid(corner, corner, corner, indexing="ij")
    values = (2 * x - 3 * y + 5 * z).transpose(2, 1, 0).reshape(-1, 1) / 8  # x fastest
    for lookup in LOOKUPS:
        points = torch.rand(50, 3, requires_grad=True)
        found = lookup(torch.from_numpy(values.astype(np.float32)), points, shape)[:, 0, 0]
        assert torch.allclose(found, points @ torch.tensor([2.0, -3.0, 5.0]), atol=1e-5)
        found.sum().backward()  # type: ignore[no-untyped-call]
        assert torch.allclose(points.grad, torch.tensor([2.0, -3.0, 5.0]).expand(50, 3), atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_lookups_agree_in_values_and_gradients(channels: int) -> None:
    for ours, reference in zip(graph(NumbaLookup(), channels), graph(TorchLookup(), channels), strict=True):
        assert torch.allclose(ours, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


def test_rows_of_two_are_read_as_all_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their loops are the general ones, bit for bit."""
    pair = graph(NumbaLookup(), 2)
    monkeypatch.setattr(numba_lookup, "_for", lambda loop, table: loop)
    assert all(map(torch.equal, pair, graph(NumbaLookup(), 2)))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lookup_leaves_torch_its_threads_and_does_not_depend_on_them(threads: int) -> None:
    """They share a pool: starting numba's set torch to all cores, and steps took ten times as long."""
    before, reference = torch.get_num_threads(), graph(TorchLookup(), 2)
    try:
        torch.set_num_threads(threads)
        found = graph(NumbaLookup(), 2)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(3 - threads)
        assert all(torch.equal(a, b) for a, b in zip(found, graph(NumbaLookup(), 2), strict=True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, reference, strict=True))


@pytest.mark.parametrize("opened", [1.0, 1.4, 2.6, 4.0])
@pytest.mark.parametrize("lookup", LOOKUPS, ids=lambda lookup: lookup.name)
def test_blending_once_is_blending_every_sample(lookup: Lookup, opened: float) -> None:
    torch.manual_seed(3)
    ensemble = HashEnsemble(SHAPE, 4, 6, lookup, published=False)
    with torch.no_grad():
        ensemble.tables.uniform_(-1, 1)
    steps, counts = [1, 4], [30, 50]
    points = torch.rand(80, 3)
    weight = torch.randn(80, SHAPE.width)
    grads = []
    for way in ("once", "each"):
        ensemble.zero_grad()
        p = points.clone().requires_grad_()
        each = torch.tensor(steps).repeat_interleave(torch.tensor(counts))
        found = ensemble(p, steps, counts, opened) if way == "once" else ensemble.per_sample(p, each, opened)
        (found * weight).sum().backward()
        codes = ensemble.codes.grad if ensemble.codes.grad is not None else torch.zeros_like(ensemble.codes)
        grads.append((found.detach(), ensemble.tables.grad.clone(), codes.clone(), p.grad))  # type: ignore[union-attr]
    for once, each_ in zip(*grads, strict=True):
        assert torch.allclose(once, each_, rtol=1e-5, atol=1e-5 * max(float(each_.abs().max()), 1e-3))
    if opened == 1.0:
        assert not grads[0][2].any(), "codes learn nothing while one table stands alone"


def test_windows_and_mixtures_at_their_corners() -> None:
    assert window(3.5, 7).tolist() == pytest.approx([1, 1, 1, 0.5, 0, 0, 0])
    assert window(0, 3).tolist() == [0, 0, 0] and window(3, 3).tolist() == [1, 1, 1]
    scale, constant = blend_mixture(1.0, 4)
    assert not scale.any() and constant.tolist() == [1, 0, 0, 0]
    scale, constant = blend_mixture(1.5, 4)
    assert scale.tolist() == pytest.approx([0.5, 0.25, 0, 0]) and constant.tolist() == [0.5, 0, 0, 0]
    scale, constant = blend_mixture(2.0, 4)
    assert scale.tolist() == [1, 1, 0, 0] and not constant.any()
    assert blend_mixture(4.0, 4)[0].tolist() == [1, 1, 1, 1]
    assert ramp(5, 0, 10, 1, 3) == 2 and ramp(-1, 0, 10, 1, 3) == 1 and ramp(11, 0, 10, 1, 3) == 3
    assert decayed(1.0, 0.5, 25, 10) == 0.25


@given(st.lists(st.floats(-2, 2), min_size=6, max_size=6), st.floats(-1, 1))
@settings(max_examples=40)
def test_screws_are_matrix_exponentials(screw: list[float], x: float) -> None:
    r, v = np.array(screw[:3]), np.array(screw[3:])
    if np.linalg.norm(r) < 0.01:
        r = np.zeros(3)
    generator = np.zeros((4, 4))
    generator[:3, :3] = [[0, -r[2], r[1]], [r[2], 0, -r[0]], [-r[1], r[0], 0]]
    generator[:3, 3] = v
    point = np.array([x, 0.3, -0.7])
    expected = (expm(generator) @ [*point, 1])[:3]
    found = move_by_screw(*(torch.tensor(a, dtype=torch.float64)[None] for a in (point, r, v)))[0].numpy()
    assert np.abs(found - expected).max() < (1e-10 if r.any() else 1e-4)


def test_a_new_deformation_does_not_move_anything_and_can_learn() -> None:
    torch.manual_seed(0)
    bend = Deformation(3, 6, 16, 4, 5)
    points = torch.rand(40, 3)
    moved = bend(points, [0, 2], [10, 30], 4.0)
    assert (moved - points).abs().max() < 1e-3
    moved.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in bend.parameters() if p.grad is not None)
    assert bend.codes.grad[0].any() and not bend.codes.grad[1].any()  # type: ignore[index]


def packed(counts: list[int], seed: int) -> tuple[Samples, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    starts = torch.tensor(counts).cumsum(0) - torch.tensor(counts)
    depth = torch.cat([torch.arange(c) * 0.01 + 0.5 for c in counts] or [torch.zeros(0)])
    samples = Samples(ray, starts[ray], depth, torch.rand(len(ray), 3, generator=draw), torch.tensor(counts))
    return samples, torch.rand(len(ray), generator=draw) * 120


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=40)
def test_compositing_is_a_loop_over_samples(counts: list[int], seed: int) -> None:
    samples, density = packed(counts, seed)
    weights = weights_of(density, samples, 0.01)
    expected, index = [], 0
    for count in counts:
        left = 1.0
        for _ in range(count):
            alpha = 1 - np.exp(-float(density[index]) * 0.01)
            expected.append(left * alpha)
            left *= 1 - alpha
            index += 1
    assert np.allclose(weights.numpy(), expected, atol=1e-6)
    total = per_ray(weights, samples)
    assert np.allclose(
        total.numpy(), [sum(expected[sum(counts[:i]) : sum(counts[: i + 1])]) for i in range(len(counts))], atol=1e-6
    )
    assert (total <= 1 + 1e-6).all()
    if sum(counts):
        pairs = sum(
            float(weights[i] * weights[j] * (samples.depth[i] - samples.depth[j]).abs() * 9)
            for i in range(len(weights))
            for j in range(len(weights))
            if samples.ray[i] == samples.ray[j]
        )
        own = float((weights**2).sum()) * 0.09 / 3
        assert float(losses.distortion_loss(weights, samples, 0.01)) == pytest.approx(
            (pairs + own) / len(counts), rel=1e-4
        )


def test_a_sharp_surface_at_the_known_depth_costs_nothing() -> None:
    samples, _ = packed([60, 60], 0)
    surface = torch.tensor([0.8, 0.0])
    wall = torch.where(samples.depth >= 0.795, 1e5, 0.0)
    weights = weights_of(wall, samples, 0.01)
    assert float(losses.empty_loss(weights, samples, surface, 0.02)) == 0
    assert float(losses.depth_loss(weights, samples, surface)) < 1e-3
    fog = weights_of(torch.full_like(wall, 5.0), samples, 0.01)
    assert float(losses.empty_loss(fog, samples, surface, 0.02)) > 1e-4
    near = losses.near_loss(weights, samples, surface, 0.03, published=False)
    assert float(near) < float(losses.near_loss(fog, samples, surface, 0.03, published=False))
    assert (before(torch.ones(120), samples) == torch.arange(60.0).repeat(2)).all()


def test_rays_go_through_their_pixels() -> None:
    base = camera(1, 5)
    K = np.array([[70.0, 0, 31], [0, 72, 24], [0, 0, 1]])
    lens = Camera("a", "s", 64, 48, K, np.array([-0.2, 0.05, 1e-3, -2e-3, 0.01]), base.camera_from_world)
    box = Box((0.1, 0.0, -0.1), 0.8)
    pixels = torch.tensor([[0.0, 0.0], [63, 47], [20, 30]])
    origins, directions = rays_of(
        lenses_of((lens,), box, torch.device("cpu")), torch.zeros(3, dtype=torch.int64), pixels
    )
    world = origins.numpy() * box.size + box.corner + directions.numpy() * 1.3
    assert np.abs(project(lens, world)[0] - pixels.numpy()).max() < 1e-2


def test_marching_takes_what_is_occupied_and_nothing_else() -> None:
    occupied = torch.zeros(8, 8, 8, dtype=torch.bool)
    occupied[3, 4, 5] = True
    origins = torch.tensor([[-1.0, 0.55, 0.65], [-1.0, 0.1, 0.1], [0.5, 3.0, 0.5]])
    directions = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    samples = march(origins, directions, occupied, 0.01, 1.0, torch.zeros(3))
    assert samples.counts.tolist() == [pytest.approx(12.5, abs=1), 0, 0]
    assert ((samples.points[:, 0] * 8).long() == 3).all()
    assert torch.allclose(
        samples.points, origins[samples.ray] + directions[samples.ray] * samples.depth[:, None], atol=1e-6
    )

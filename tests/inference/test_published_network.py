"""The published network against an independent one, and against the numbers of its specification."""

import hashlib
import math

import numpy as np
import pytest
import torch

from inference.tempeh.published import volumes
from inference.tempeh.published.coarse import attend
from inference.tempeh.published.features import PublishedFeatures
from inference.tempeh.published.keys import official_shapes
from inference.tempeh.published.localiser import START, PublishedLocaliser, rotation_of_six
from inference.tempeh.published.sizes import FULL, SMALL
from inference.tempeh.published.volumes import ViewTensors
from inference.tempeh.published.weights import initial_coarse, initial_refine
from tests.inference import published_oracle as oracle
from tests.inference.published_makers import (
    bumpy_head,
    hard_coarse,
    hard_refine,
    noise_pictures,
    official_state,
    rig,
    tensors,
)

LISTINGS = {
    "coarse": (603, 35_421_219, "e5374e5ff0fe8f2c238614c32c67637c3baa8c0dca903d1c2be4fea7f2d56800"),
    "refine": (480, 27_457_993, "5d96265463af86c34373ab60ae56232d58b0db03aedbb58a29ad309d458b9df1"),
}
"""Entries, parameters, and sha256 of the sorted lines `key shape dtype` of the released checkpoints."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("stage", ["coarse", "refine"])
def test_full_size_has_exactly_the_weights_of_the_release(stage: str) -> None:
    shapes = official_shapes(FULL, stage)
    entries, parameters, digest = LISTINGS[stage]
    assert len(shapes) == entries
    assert sum(math.prod(shape) for key, (shape, _) in shapes.items() if not key.endswith(BUFFERS)) == parameters
    text = "\n".join(f"{key} {shape} {dtype}" for key, (shape, dtype) in sorted(shapes.items()))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def double(arrays: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    K, distortion, camera = (torch.from_numpy(arrays[k]).double() for k in ("K", "distortion", "camera_from_world"))
    return K, distortion, camera


def test_coarse_stage_agrees_with_the_specification() -> None:
    stage, images, cameras = hard_coarse(), noise_pictures(5, 50, 66), rig(5, (66, 50))
    with torch.no_grad():
        found = stage(images[None], tensors(cameras))
    state = official_state(stage, torch.float64)
    vertices, scale, rotation, shift = oracle.coarse(
        state,
        images.double(),
        double(cameras),
        blocks=SMALL.trunk_blocks,
        grid=SMALL.grid,
        step=SMALL.step_mm,
        centre=SMALL.centre_mm,
        levels=len(SMALL.coarse_levels),
        largest=SMALL.localiser_scale,
    )
    # the weights are hard enough: the localiser moved, and vertices spread over a good part of their box
    assert (scale - 0.2).abs().min() > 1e-3 and shift.norm() > 1.0
    assert vertices.std(0).min() > 0.05 * (scale * SMALL.grid * SMALL.step_mm).min()
    # float32: 24 bits of some 500 mm through a hundred layers
    torch.testing.assert_close(found.warp.scale[0].double(), scale, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.warp.rotation[0].double(), rotation, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.warp.translation_mm[0].double(), shift, atol=5e-3, rtol=0)
    torch.testing.assert_close(found.vertices[0].double(), vertices, atol=0.02, rtol=0)


def test_refinement_agrees_with_the_specification() -> None:
    stage, images, cameras = hard_refine(), noise_pictures(4, 60, 80), rig(4, (80, 60))
    template, triangles = bumpy_head()
    vertices = template + np.array([3.0, -50.0, 5.0], np.float32)
    sight = torch.from_numpy(np.random.default_rng(5).integers(0, 2, (4, len(vertices))))
    with torch.no_grad():
        found = stage(images[None], tensors(cameras), torch.from_numpy(vertices)[None], sight[None].float())
    expected = oracle.refine(
        official_state(stage, torch.float64),
        images.double(),
        double(cameras),
        torch.from_numpy(vertices).double(),
        sight,
        torch.from_numpy(template).double(),
        torch.from_numpy(triangles),
        blocks=SMALL.trunk_blocks,
        grid=SMALL.local_grid,
        step=SMALL.local_step_mm,
        levels=len(SMALL.local_levels),
    )
    assert (expected - torch.from_numpy(vertices)).norm(dim=1).median() > 0.5  # it does something
    torch.testing.assert_close(found[0].double(), expected, atol=1e-3, rtol=0)


def test_heat_maps_are_never_needed() -> None:
    rng = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(70, 24, generator=rng) * 2, torch.randn(2, 24, 512, generator=rng)
    bias = torch.randn(70, 1, generator=rng)
    values = volumes.grid_points(8, 25.0, quirks=True)
    logits = (queries @ keys + bias).double()
    assert logits.std() > 5  # a few voxels decide
    expected = torch.softmax(logits, -1) @ values.double()
    torch.testing.assert_close(attend(queries, keys, values, chunk=16).double(), expected, atol=2e-3, rtol=0)


def test_the_gradient_passes_the_chunks() -> None:
    queries, keys = torch.randn(10, 6, requires_grad=True), torch.randn(1, 6, 27, requires_grad=True)
    values = torch.randn(27, 3)
    attend(queries, keys, values, chunk=4).square().sum().backward()
    ours = queries.grad, keys.grad
    queries.grad = keys.grad = None
    (torch.softmax(queries @ keys, -1) @ values).square().sum().backward()
    torch.testing.assert_close(ours, (queries.grad, keys.grad))


def test_numbers_of_the_projection() -> None:
    rotation = torch.tensor([[math.cos(0.3), 0, math.sin(0.3)], [0, 1, 0], [-math.sin(0.3), 0, math.cos(0.3)]])
    shift = -rotation @ torch.tensor([250.0, -30.0, -900.0])
    torch.testing.assert_close(shift, torch.tensor([27.13406376, 30, 933.6828919]))
    K = torch.tensor([[0, 363.636364, 98.75], [-363.636364, 0, 73.75], [0, 0, 1]])  # of a turned portrait picture
    bend, extrinsic = torch.tensor([-0.001600029, -2.410045e-05]), torch.cat([rotation, shift[:, None]], 1)
    camera = ViewTensors(K[None, None], bend[None, None], extrinsic[None, None])
    points = torch.tensor([[[0.0, -50, 0], [30, 20, 40], [-80, -90, 60]]])
    expected = [[-0.08582187, -0.15191591], [0.18220663, -0.35276264], [-0.22364938, 0.14176142]]
    found = volumes.project(points, camera, (200, 150), quirks=True)
    torch.testing.assert_close(found[0, 0], torch.tensor(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(camera.centres()[0, 0], torch.tensor([250.0, -30.0, -900.0]), atol=1e-3, rtol=0)


def test_numbers_of_the_grids_and_the_localiser() -> None:
    base = volumes.base_grid(FULL, quirks=True) + torch.tensor(FULL.centre_mm)
    assert base[0].tolist() == [-400, -450, -400] and base[-1].tolist() == [375, 325, 375]
    assert base[32 * 32].tolist() == [-375, -450, -400]  # x is slowest
    local = volumes.grid_points(8, 2.0, quirks=True)
    assert local[0].tolist() == [-8, -8, -8] and local[-1].tolist() == [6, 6, 6]
    assert volumes.grid_points(8, 2.0, quirks=False).mean(0).tolist() == [0, 0, 0]
    assert FULL.reach_mm == 387.5
    rows = [[0.9407, 0.1881, -0.2822], [-0.0555, 0.9062, 0.4191], [0.3346, -0.3786, 0.8629]]
    found = rotation_of_six(torch.tensor([1, 0.2, -0.3, 0.1, 1, 0.4]))
    torch.testing.assert_close(found, torch.tensor(rows), atol=6e-5, rtol=0)
    localiser = PublishedLocaliser(FULL)
    assert len(START) == 12
    with torch.no_grad():
        warp = localiser(torch.randn(1, 16, 32, 32, 32))
        torch.testing.assert_close(warp.scale, torch.full((1, 3), 0.39901095))
        torch.testing.assert_close(warp.rotation[0], torch.eye(3))
        assert warp.translation_mm.tolist() == [[0, 0, 0]]
        localiser.mapping[2].bias.zero_()
        localiser.mapping[2].bias[[3, 7]] = 1.0
        torch.testing.assert_close(localiser(torch.zeros(1, 16, 32, 32, 32)).scale, torch.full((1, 3), 0.2))


def test_numbers_of_the_view_weights() -> None:
    stage = hard_refine()
    cosines = torch.tensor([0.8, 0.6, 0.02])
    normals = torch.tensor([[[0.0, 0, 1]]])
    rays = torch.stack([(1 - cosines**2).sqrt(), torch.zeros(3), -cosines], -1)[None, :, None, None] * 700
    weight = stage.view_weights(torch.zeros(1, 3, 1, 1, 2), rays, normals, torch.tensor([[[1.0], [0.0], [1.0]]]))
    torch.testing.assert_close(weight.flatten(), torch.tensor([0.7103, 0.2664, 0.0233]), atol=6e-5, rtol=0)
    corrected = hard_refine(quirks=False)
    weight = corrected.view_weights(torch.zeros(1, 3, 1, 1, 2), rays, normals, torch.tensor([[[1.0], [0.0], [1.0]]]))
    raw = torch.tensor([0.8, math.log(2) / 50, 0.0263])
    torch.testing.assert_close(weight.flatten(), raw / raw.sum(), atol=6e-5, rtol=0)


def test_feature_maps_are_constant_on_blocks_of_two_pixels() -> None:
    net = PublishedFeatures(SMALL).eval()
    with torch.no_grad():
        maps = net(noise_pictures(1, 50, 66))
        assert maps.shape == (1, SMALL.descriptor, 50, 66)
        half = net.compact(noise_pictures(1, 50, 66))
    assert torch.equal(maps, half.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_corrected_networks_ignore_views_that_see_nothing() -> None:
    stage, images, cameras = hard_coarse(quirks=False), noise_pictures(4, 50, 66), rig(4, (66, 50))
    blind = {name: value.copy() for name, value in cameras.items()}
    blind["camera_from_world"][3, 2] *= -1  # everything lies behind the fourth camera
    with torch.no_grad():
        three = stage(images[None, :3], tensors({name: value[:3] for name, value in cameras.items()})).vertices
        four = stage(images[None], tensors(blind)).vertices
        torch.testing.assert_close(three, four, atol=1e-3, rtol=0)
        one = stage(images[None, :1], tensors({name: value[:1] for name, value in cameras.items()})).vertices
    assert torch.isfinite(one).all()


def test_equal_seeds_make_equal_networks_whatever_was_drawn_before() -> None:
    template, triangles = bumpy_head()
    first = initial_coarse(SMALL, seed=5, quirks=True).state_dict()
    before = torch.get_rng_state()
    torch.randn(3)
    again = initial_coarse(SMALL, seed=5, quirks=True).state_dict()
    other = initial_coarse(SMALL, seed=6, quirks=True).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.output.weight"], other["net.output.weight"])
    torch.set_rng_state(before)
    initial_refine(SMALL, template, triangles, seed=5, quirks=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_grid_turns_leave_a_network_of_constant_keys_where_it_is() -> None:
    """A turned grid turns back at the end: with flat heat maps, the centre of the warped box."""
    stage, images, cameras = hard_coarse(quirks=False, peak=0.0), noise_pictures(3, 50, 66), rig(3, (66, 50))
    turn = rotation_of_six(torch.tensor([[0.3, 1.0, 0.2, -1.0, 0.1, 0.4]]))
    with torch.no_grad():
        found = stage(images[None], tensors(cameras), turn)
    expected = found.warp.translation_mm @ turn[0].T + torch.tensor(SMALL.centre_mm)
    torch.testing.assert_close(found.vertices, expected.expand(1, SMALL.vertices, 3), atol=1e-3, rtol=0)

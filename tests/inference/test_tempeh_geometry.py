"""Frames, crops, shape prior and refinement against synthetic truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.model_store import load_model
from inference.tempeh import frames, shape
from inference.tempeh.layout import BASIS_STEP_MM, MAP_SCALE_MM, pack_constants, unpack_constants
from inference.tempeh.refine import Refiner, read_maps
from inference.tempeh.shape import Fit, ShapePrior
from streamer.errors import CalibrationError, ModelError
from streamer.geometry import look_at, project, rotation_matrices
from streamer.types import Camera
from tests.inference.tiny_corpus import ellipsoid as ellipsoid_mesh

MM = 1000.0


def ring(count: int, rng: np.random.Generator, world_from_stage: np.ndarray | None = None) -> list[Camera]:
    """Cameras around the origin of a stage, 0.8 to 1.2 m away, with lens distortion."""
    cameras = []
    for k in range(count):
        azimuth = -1.2 + 2.4 * k / max(count - 1, 1)
        place = rng.uniform(0.8, 1.2) * np.array([np.sin(azimuth), rng.uniform(-0.1, 0.3), np.cos(azimuth)])
        camera_from_world = look_at(place, np.zeros(3))
        if world_from_stage is not None:
            camera_from_world = camera_from_world @ np.linalg.inv(world_from_stage)
        intrinsics = np.array([[700.0, 0, 160], [0, 700, 120], [0, 0, 1]])
        cameras.append(Camera(f"c{k}", f"s{k}", 320, 240, intrinsics, rng.normal(0, 0.03, 5), camera_from_world))
    return cameras


def rigid(rng: np.random.Generator, angle: float, shift: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrices(rng.normal(0, angle, 3))
    pose[:3, 3] = rng.normal(0, shift, 3)
    return pose


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_all_views_at_once_project_like_each_camera_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cameras, pose = ring(4, rng), rigid(rng, 0.3, 40.0)
    points = rng.uniform(-120, 120, (50, 3))
    got = frames.project_all(frames.views_of(cameras, pose), points)
    world = (points @ pose[:3, :3].T + pose[:3, 3]) / MM
    for view, camera in enumerate(cameras):
        # float32 at 700 px focal length: 2^-24 relative, a few operations
        np.testing.assert_allclose(got[view], project(camera, world)[0], atol=2e-3)


def test_points_behind_a_camera_are_outside_every_picture() -> None:
    views = frames.views_of(ring(3, np.random.default_rng(0)), np.eye(4))
    behind = np.array([[0.0, 0.0, 5000.0]])  # the cameras stand at z > 0 and look towards the origin
    _, inside = frames.sampling_grid(frames.project_all(views, behind), views.size)
    assert not inside.any()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_rig_frame_moves_with_the_rig(seed: int) -> None:
    rng = np.random.default_rng(seed)
    motion = rigid(rng, 1.0, 0.5)  # metres
    here = frames.rig_frame(ring(5, np.random.default_rng(seed)))
    there = frames.rig_frame(ring(5, np.random.default_rng(seed), motion))
    in_mm = motion.copy()
    in_mm[:3, 3] *= MM
    np.testing.assert_allclose(there, in_mm @ here, atol=1e-6)


def test_cameras_that_do_not_look_at_one_place_are_refused() -> None:
    one = ring(1, np.random.default_rng(0))
    with pytest.raises(CalibrationError, match="two or more"):
        frames.rig_frame(one)
    with pytest.raises(CalibrationError, match="parallel"):
        frames.rig_frame([one[0], one[0]])


def test_crops_show_the_head_upright_centred_and_at_its_scale() -> None:
    rng = np.random.default_rng(3)
    views = frames.moved(frames.views_of(ring(6, rng), np.eye(4)), rigid(rng, 0.4, 30.0))
    crops = frames.cropped(views, frames.crop_affines(views))
    centre, top = np.moveaxis(frames.project_all(crops, np.array([[0, 0, -35.0], [0, 100, -35.0]])), 1, 0)
    middle = np.array([(frames.CROP_WIDTH - 1) / 2, (frames.CROP_HEIGHT - 1) / 2])
    np.testing.assert_allclose(centre, np.tile(middle, (6, 1)), atol=0.01)
    # upright, but for what perspective and lens bend over 100 mm
    assert np.abs(top - centre)[:, 0].max() < 1.5
    assert (top - centre)[:, 1].max() < 0


def test_a_crop_and_its_camera_agree() -> None:
    rng = np.random.default_rng(4)
    views = frames.moved(frames.views_of(ring(3, rng), np.eye(4)), rigid(rng, 0.2, 20.0))
    affine = frames.crop_affines(views)
    spot = np.array([[20.0, 30.0, 40.0]])
    for view, pixel in enumerate(frames.project_all(views, spot)[:, 0]):
        picture = np.zeros((240, 320, 3), np.float32)
        y, x = np.mgrid[0:240, 0:320]
        picture[:] = np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / 18.0)[..., None]
        crop = frames.cut((picture * 255).astype(np.uint8), affine[view])[..., 0].astype(float)
        rows, columns = np.mgrid[0 : frames.CROP_HEIGHT, 0 : frames.CROP_WIDTH]
        found = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
        wanted = frames.project_all(frames.cropped(views, affine), spot)[view, 0]
        np.testing.assert_allclose(found, wanted, atol=0.15)  # 8-bit quantisation of the blob


@pytest.fixture(scope="module")
def prior() -> ShapePrior:
    """A sphere of points with smooth random modes of a few millimetres."""
    rng = np.random.default_rng(7)
    directions = rng.normal(size=(400, 3))
    mean = 90.0 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    modes = [3.0 * np.sin(mean @ rng.normal(0, 0.02, (3, 3)) + rng.uniform(0, 6, 3)) for _ in range(12)]
    return ShapePrior(mean.astype(np.float32), np.stack(modes, -1).astype(np.float32))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_exact_points_give_back_pose_and_shape(prior: ShapePrior, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, wanted = rigid(rng, 0.25, 30.0), rng.normal(0, 1, 12)
    points = prior.vertices(wanted) @ truth[:3, :3].T + truth[:3, 3]
    fit = shape.fit_points(prior, Fit(np.eye(4), np.zeros(12)), points, sigma_mm=0.01, iterations=8)
    found = prior.vertices(fit.coefficients) @ fit.a_from_head[:3, :3].T + fit.a_from_head[:3, 3]
    # the prior pulls by sigma^2 / (signal per coefficient): below 1e-3 mm here; float32 vertices round at 1e-5
    np.testing.assert_allclose(found, points, atol=0.01)


def test_noise_is_shared_out_by_the_prior(prior: ShapePrior) -> None:
    rng = np.random.default_rng(1)
    wanted = rng.normal(0, 1, 12)
    clean = prior.vertices(wanted)
    noisy = clean + rng.normal(0, 4.0, clean.shape)
    fit = shape.fit_points(prior, Fit(np.eye(4), np.zeros(12)), noisy, sigma_mm=4.0)
    found = prior.vertices(fit.coefficients) @ fit.a_from_head[:3, :3].T + fit.a_from_head[:3, 3]
    # 18 unknowns from 1200 numbers: the error falls by sqrt(18 / 1200) = 0.12; twice that is the bound
    assert np.sqrt(((found - clean) ** 2).mean()) < 4.0 * 0.24


def test_the_learned_prior_spans_what_it_was_shown() -> None:
    rng = np.random.default_rng(2)
    modes, amounts = rng.normal(0, 2, (5, 60, 3)), rng.normal(0, 1, (200, 5))
    heads = rng.normal(0, 50, (60, 3)) + np.tensordot(amounts, modes, 1)
    learned = shape.learn_prior(heads.astype(np.float32), 5)
    flat = (heads - learned.mean).reshape(200, -1)
    basis = learned.basis.reshape(-1, 5)
    rest = flat - flat @ basis @ np.linalg.pinv(basis.T @ basis) @ basis.T
    assert np.abs(rest).max() < 1e-3
    np.testing.assert_allclose(((flat @ np.linalg.pinv(basis).T) ** 2).mean(0), 1.0, rtol=1e-3)


def test_a_basis_of_another_mesh_is_refused(prior: ShapePrior) -> None:
    with pytest.raises(ModelError, match=r"399.*400|400.*399"):
        ShapePrior(prior.mean[:-1], prior.basis)


def test_a_stored_prior_is_the_prior_to_half_a_step() -> None:
    model = load_model("live")
    shipped = unpack_constants(model.constants, model.topology).prior
    odd = ShapePrior(shipped.mean, np.ascontiguousarray(shipped.basis * np.float32(1.2345)))
    read = unpack_constants(pack_constants(odd, 1.0, 2.0), model.topology)
    assert np.abs(read.prior.basis - odd.basis).max() <= 0.5001 * BASIS_STEP_MM
    assert read.prior.basis.flags.c_contiguous and (read.landmark_sigma_mm, read.control_sigma_mm) == (1.0, 2.0)
    with pytest.raises(ModelError, match="moves a vertex by"):
        pack_constants(ShapePrior(shipped.mean, 1000 * shipped.basis), 1.0, 2.0)


def test_maps_are_read_where_the_pixels_are() -> None:
    maps = np.zeros((1, 4, 56, 48), np.float32)
    rows, columns = np.mgrid[0:56, 0:48].astype(np.float32)
    maps[0, 0], maps[0, 1] = columns / MAP_SCALE_MM, rows / MAP_SCALE_MM
    pixels = np.array([[[10.0, 20.0], [33.3, 7.7], [-3.0, 5.0]]], np.float32)
    place, _, inside = read_maps(maps, pixels, (96, 112))
    # the map has half the crop's resolution and pixel centres at integers: u_map = (u + 0.5) / 2 - 0.5
    np.testing.assert_allclose(place[0, :2, :2], (pixels[0, :2] + 0.5) / 2 - 0.5, atol=1e-4)
    assert inside[0].tolist() == [1.0, 1.0, 0.0]


def true_maps(views: frames.Views, template: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Correspondence maps as a perfect network would give them: the nearest visible vertex of each map pixel."""
    maps = np.zeros((len(views.K), 4, 56, 48), np.float32)
    maps[:, 3] = -6.0  # a small Laplace scale
    pixels = frames.project_all(views, vertices)
    rows, columns = np.mgrid[0:56, 0:48]
    at = np.stack([columns * 2 + 0.5, rows * 2 + 0.5], -1).reshape(-1, 1, 2)
    for view in range(len(maps)):
        depth = vertices @ views.camera_from_a[view, 2, :3] + views.camera_from_a[view, 2, 3]
        front = depth < np.median(depth)
        distance = np.linalg.norm(at - pixels[view][None, front], axis=2)
        nearest = np.argsort(distance, axis=1)[:, :3]
        weight = 1 / (np.take_along_axis(distance, nearest, 1) + 0.05)
        place = (template[front][nearest] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
        maps[view, :3] = place.T.reshape(3, 56, 48) / MAP_SCALE_MM
    return maps


@pytest.fixture(scope="module")
def ellipsoid() -> tuple[ShapePrior, np.ndarray, np.ndarray]:
    vertices, triangles = ellipsoid_mesh(rings=24, steps=48)
    template = vertices * np.float32(1000)
    rng = np.random.default_rng(5)
    modes = [4.0 * np.sin(template @ rng.normal(0, 0.012, (3, 3)) + rng.uniform(0, 6, 3)) for _ in range(8)]
    return ShapePrior(template, np.stack(modes, -1).astype(np.float32)), template, triangles


def refined_error(ellipsoid: tuple[ShapePrior, np.ndarray, np.ndarray], swap: bool) -> tuple[float, float]:
    prior, template, triangles = ellipsoid
    rng = np.random.default_rng(11)
    truth = Fit(rigid(rng, 0.1, 10.0), rng.normal(0, 1, 8))
    vertices = prior.vertices(truth.coefficients).astype(np.float64)
    in_a = vertices @ truth.a_from_head[:3, :3].T + truth.a_from_head[:3, 3]
    views = frames.views_of(ring(8, rng), np.eye(4))
    affine = frames.crop_affines(views)
    crops = frames.cropped(views, affine)
    maps = true_maps(crops, template, in_a.astype(np.float32))
    if swap:
        maps = maps[[3, 0, 1, 2, 7, 4, 5, 6]]
    indices = np.arange(0, len(template), 2, dtype=np.int32)
    refiner = Refiner(prior, triangles, template, indices, trust=1.0, steps=6)
    fit = refiner(Fit(np.eye(4), np.zeros(8)), maps, crops, np.ones(8, np.float32))

    def error(f: Fit) -> float:
        found = prior.vertices(f.coefficients) @ f.a_from_head[:3, :3].T + f.a_from_head[:3, 3]
        return float(np.median(np.linalg.norm(found - in_a, axis=1)))

    return error(Fit(np.eye(4), np.zeros(8))), error(fit)


def test_refinement_finds_the_head_that_the_maps_show(ellipsoid: tuple[ShapePrior, np.ndarray, np.ndarray]) -> None:
    before, after = refined_error(ellipsoid, swap=False)
    # a map pixel is 5.4 mm wide and the truth maps interpolate a 12 mm mesh: a tenth of a pixel after averaging
    assert before > 8.0
    assert after < 1.0


def test_refinement_believes_the_pictures(ellipsoid: tuple[ShapePrior, np.ndarray, np.ndarray]) -> None:
    """With the maps of other cameras the head must get lost: otherwise the prior, not the pictures, made the result."""
    _, after = refined_error(ellipsoid, swap=True)
    assert after > 3.0

"""The simulated rig tells the truth: pictures and mesh agree to the pixel, people are plausible, takes repeat."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.config import RigConfig, SimulatedConfig
from rig.simulation.cameras import demo_ring, random_ring
from rig.simulation.head import eye_turns, head_topology, load_head, random_identity
from rig.simulation.look import random_look
from rig.simulation.painter import Painter
from rig.simulation.performance import Performance, random_moment, rigid
from rig.simulation.stage import Person, Stage, head_vertices
from rig.simulation.takes import simulate_takes
from streamer.errors import ConfigError, DriverError, TakeError
from streamer.geometry import project, transform, vertex_normals
from streamer.takes import open_take
from streamer.types import Camera

WIDTH, HEIGHT = 320, 240
NO_SHOULDERS = np.diag([0.0, 0.0, 0.0, 1.0])
"""A torso pose that shrinks the shoulders to a point inside the head."""


@pytest.fixture(scope="module")
def painter() -> Iterator[Painter]:
    try:
        made = Painter(load_head(), WIDTH, HEIGHT, 4)
    except DriverError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_picture_and_the_true_mesh_agree(painter: Painter, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cameras = random_ring(rng, 4, WIDTH, HEIGHT).cameras
    look = random_look(rng)
    painter.wear(look.surface, look.light)
    person = Person(load_head().person(random_identity(rng)), look)
    moment = random_moment(rng, load_head().units)
    vertices = transform(moment.world_from_head, head_vertices(person, moment.weights)).astype(np.float32)
    for rgba, camera in zip(painter.paint(vertices, NO_SHOULDERS, cameras), cameras, strict=True):
        expected = _silhouette(vertices, load_head().triangles, camera)
        painted = (rgba[..., 3] > 0).astype(np.uint8)
        ring = np.ones((3, 3), np.uint8)
        # a pixel is covered where its centre is; integer polygons round outwards by up to one pixel
        assert not (painted & ~cv2.dilate(expected, ring)).any()
        assert not (cv2.erode(expected, ring, iterations=2) & ~painted).any()


def _silhouette(vertices: np.ndarray, triangles: np.ndarray, camera: Camera) -> np.ndarray:
    """(H, W) 1 where a triangle that faces the camera is projected to."""
    pixels, depth = project(camera, vertices)
    assert (depth > 0.2).all()
    mask = np.zeros((camera.height, camera.width), np.uint8)
    corners = vertices[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = np.einsum("ti,ti->t", normal, corners[:, 0] - camera.centre_world) < 0
    for triangle in np.round(pixels[triangles[facing]] * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, triangle, 1, shift=4)
    return mask


def test_left_is_left_and_up_is_up(painter: Painter) -> None:
    """With one eye shut the head is asymmetric: it must be the eye at +X, on the right of a picture from the front."""
    head = load_head()
    weights = np.zeros(len(head.units), np.float32)
    weights[head.units.index("eyeBlinkLeft")] = 1.0
    person = Person(head.person(np.zeros(len(head.identity_names), np.float32)), random_look(np.random.default_rng(1)))
    moved = np.linalg.norm(head_vertices(person, weights) - head_vertices(person, 0 * weights), axis=1)
    assert (head.neutral[:, 0] * moved).sum() > 0.02 * moved.sum()
    painter.wear(person.look.surface, person.look.light)
    camera = demo_ring(1, WIDTH, HEIGHT, 0).cameras[0]
    open_, shut = (
        painter.paint(head_vertices(person, w), NO_SHOULDERS, [camera] * 4)[0] for w in (0 * weights, weights)
    )
    changed = np.abs(open_[..., :3].astype(int) - shut[..., :3]).sum(2) > 40
    assert np.nonzero(changed)[1].mean() > project(camera, np.zeros((1, 3)))[0][0, 0] + 5


def test_the_surface_faces_outwards() -> None:
    topology = head_topology()
    normals = vertex_normals(topology.template, topology.triangles)
    nose = int(topology.template[:, 2].argmax())
    assert normals[nose, 2] > 0.7
    crown = int(topology.template[:, 1].argmax())
    assert normals[crown, 1] > 0.7


def test_regions_name_the_parts_of_the_outer_skin() -> None:
    topology = head_topology()
    place = {name: topology.template[indices].mean(0) for name, indices in topology.regions.items()}
    assert place["scalp"][1] > place["eyes"][1] > place["lips"][1] > place["neck"][1]
    assert place["lips"][2] > 0 > place["ears"][2]
    for name in ("scalp", "ears"):
        assert not set(topology.regions[name]) & set(topology.regions["face"]), name
    assert set(topology.regions["lips"]) | set(topology.regions["eyes"]) <= set(topology.regions["face"])
    assert len(topology.units) == 52


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_people_have_no_opposite_sliders(seed: int) -> None:
    head = load_head()
    strengths = dict(zip(head.identity_names, random_identity(np.random.default_rng(seed)), strict=True))
    assert all(0 <= value <= 1 for value in strengths.values())
    for name, value in strengths.items():
        twin = name.removesuffix("-incr") + "-decr"
        assert not (name.endswith("-incr") and value > 0 and strengths.get(twin, 0) > 0), name
    person = head.person(np.array(list(strengths.values()), np.float32))
    assert np.abs(person[: head.skin_count].mean(0)).max() < 1e-6
    assert np.ptp(person, axis=0) == pytest.approx([0.165, 0.26, 0.21], rel=0.35)


@given(seed=st.integers(0, 2**31), time_s=st.floats(0, 3600))
@settings(max_examples=40, deadline=None)
def test_acting_is_bounded_smooth_and_repeatable(seed: int, time_s: float) -> None:
    act = Performance(seed, head_topology().units)
    now, again, next_ = act.at(time_s), Performance(seed, head_topology().units).at(time_s), act.at(time_s + 1 / 120)
    np.testing.assert_array_equal(now.weights, again.weights)
    np.testing.assert_array_equal(now.world_from_head, again.world_from_head)
    assert now.weights.min() >= 0
    assert now.weights.max() <= 1
    # the fastest thing is a blink: exp(-(t / 0.09)^2) changes by 9.53 per second, its clock runs up to 1.82 times fast
    assert np.abs(next_.weights - now.weights).max() < 9.53 * 1.82 / 120
    assert np.linalg.norm(next_.world_from_head[:3, 3] - now.world_from_head[:3, 3]) < 0.25 / 120


def test_a_performance_talks_blinks_and_turns() -> None:
    units = head_topology().units
    act = Performance(7, units)
    moments = [act.at(t) for t in np.arange(0, 30, 1 / 30)]
    weights = np.array([m.weights for m in moments])
    assert weights[:, units.index("jawOpen")].max() > 0.3
    assert weights[:, units.index("eyeBlinkLeft")].max() > 0.9
    yaw = np.array([np.arctan2(m.world_from_head[0, 2], m.world_from_head[2, 2]) for m in moments])
    assert np.degrees(np.ptp(yaw)) > 25


def test_eyes_turn_to_the_side_that_their_unit_names() -> None:
    units = head_topology().units
    weights = np.zeros(52, np.float32)
    weights[units.index("eyeLookOutLeft")] = weights[units.index("eyeLookInRight")] = 1.0
    turns = eye_turns(weights, units)
    assert turns["eye_left"][0] > 0.3  # the performer's left is +X, yaw turns towards it
    assert turns["eye_right"][0] > 0.3
    assert rigid(turns["eye_left"][0], 0, 0, np.zeros(3))[0, 2] > 0


def test_one_seed_one_stage(painter: Painter) -> None:
    config = SimulatedConfig(cameras=2, width=96, height=64, seed=5)
    shown = []
    for _ in range(2):
        stage = Stage(config)
        shown.append(stage.render(1.5))
        stage.close()
    for camera, picture in shown[0][0].items():
        np.testing.assert_array_equal(picture, shown[1][0][camera])
    np.testing.assert_array_equal(shown[0][1].vertices, shown[1][1].vertices)


@pytest.fixture
def small_rig() -> RigConfig:
    return replace(RigConfig(), simulated=SimulatedConfig(cameras=3, width=96, height=72, seed=3))


@pytest.mark.parametrize("world", ["demo", "wide", "room"])
def test_takes_hold_pictures_and_truth_and_repeat(
    painter: Painter, small_rig: RigConfig, tmp_path: Path, world: str
) -> None:
    both = simulate_takes(tmp_path / "both", small_rig, takes=2, frames=2, world=world)
    again = simulate_takes(tmp_path / "again", small_rig, takes=2, frames=2, world=world)
    take, other = open_take(both[1]), open_take(again[1])
    assert take.calibration.ids == ("cam_0", "cam_1", "cam_2")
    seed = tomllib.loads(take.config_text)["rig"]["simulated"]["seed"]
    assert seed == (4 if world == "demo" else 3), "the demo's world has a seed for each take"
    sets, truths = list(take.frame_sets()), list(take.meshes("truth"))
    assert [s.frame_id for s in sets] == [t.frame_id for t in truths]
    assert all(s.complete for s in sets)
    assert take.topologies[truths[0].topology_id].id == head_topology().id
    for one, two in zip(sets, other.frame_sets(), strict=True):
        for camera, frame in one.members.items():
            assert bytes(frame.data) == bytes(two.members[camera].data)
    vertices = [mesh.vertices for mesh in truths]
    assert np.abs(vertices[0] - open_take(both[0]).meshes("truth")[0].vertices).max() > 1e-3  # another person


def test_skins_of_the_wrong_shape_are_refused(small_rig: RigConfig, tmp_path: Path) -> None:
    path = tmp_path / "skins.npz"
    np.savez(path, skin_textures=np.zeros((2, 8, 9, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"\(2, 8, 9, 3\)"):
        simulate_takes(tmp_path / "take", small_rig, takes=1, frames=1, world="wide", skins=path)
    with pytest.raises(ConfigError, match="skin_textures"):
        simulate_takes(tmp_path / "take", small_rig, takes=1, frames=1, world="wide", skins=tmp_path / "none.npz")
    assert not (tmp_path / "take").exists()
    with pytest.raises(ConfigError, match="add --world wide"):
        simulate_takes(tmp_path / "take", small_rig, takes=1, frames=1, world="demo", skins=path)
    assert not (tmp_path / "take").exists()


def test_a_take_that_was_not_finished_leaves_nothing(
    painter: Painter, small_rig: RigConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training reads every take that it finds: half of one must not be among them."""

    def interrupted(*_: object) -> tuple[str, np.ndarray]:
        raise KeyboardInterrupt

    monkeypatch.setattr("rig.simulation.takes.encode_pixels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate_takes(tmp_path / "take", small_rig, takes=1, frames=2, world="wide")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    simulate_takes(tmp_path / "take", small_rig, takes=1, frames=1, world="wide")
    with pytest.raises(TakeError, match="exists already"):
        simulate_takes(tmp_path / "take", small_rig, takes=1, frames=1, world="wide")

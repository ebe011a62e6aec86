import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderer.viewer.controls import Look, OrbitCamera, shown_cameras

angles = st.floats(-3.0, 3.0)
pitches = st.floats(-1.4, 1.4)
cameras = st.builds(
    OrbitCamera,
    target=st.tuples(angles, angles, angles),
    yaw_rad=angles,
    pitch_rad=pitches,
    distance_m=st.floats(0.1, 10.0),
)


def on_screen(camera: OrbitCamera, point: np.ndarray, aspect: float = 1.0) -> np.ndarray:
    clip = camera.clip_from_world(aspect) @ [*point, 1.0]
    assert clip[3] > 0, "the point is behind the eye"
    return clip[:3] / clip[3]


@given(cameras, angles, angles)
def test_orbiting_keeps_distance_and_looks_at_the_target(camera: OrbitCamera, dx: float, dy: float) -> None:
    moved = camera.orbit(dx, dy)
    eye_from_world = moved.eye_from_world()
    rotation = eye_from_world[:3, :3]
    assert np.linalg.norm(moved.eye - moved.target) == pytest.approx(camera.distance_m)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert rotation[1, 1] > 0, "the world's up stays up on the screen"
    np.testing.assert_allclose(on_screen(moved, np.asarray(camera.target))[:2], 0, atol=1e-9)


def test_the_default_camera_stands_in_front_and_sees_the_heads_left_on_the_right() -> None:
    camera = OrbitCamera(yaw_rad=0.0, pitch_rad=0.0)
    assert camera.eye[2] > 0
    assert on_screen(camera, np.array([0.1, 0, 0]))[0] > 0
    assert on_screen(camera, np.array([0, 0.1, 0]))[1] > 0
    assert on_screen(camera, np.array([0, 0, 0.1]))[2] < on_screen(camera, np.array([0, 0, -0.1]))[2]


def test_dragging_right_turns_the_face_right() -> None:
    nose = np.array([0.0, 0.0, 0.1])
    camera = OrbitCamera(yaw_rad=0.0, pitch_rad=0.0)
    assert on_screen(camera.orbit(0.1, 0.0), nose)[0] > 0
    assert on_screen(camera.orbit(0.0, 0.1), nose)[1] < 0, "dragging down turns the face down"


@given(cameras, st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_panning_moves_the_target_with_the_cursor(camera: OrbitCamera, dx: float, dy: float) -> None:
    place = on_screen(camera.pan(dx, dy), np.asarray(camera.target))
    np.testing.assert_allclose(place[:2], [2 * dx, -2 * dy], atol=1e-6)  # the screen is two units high


@given(cameras, st.floats(0.3, 3.0), st.tuples(*[st.floats(0.01, 2.0)] * 3))
def test_a_framed_box_is_wholly_visible(camera: OrbitCamera, aspect: float, size: tuple[float, float, float]) -> None:
    half = np.asarray(size) / 2
    fitted = OrbitCamera(yaw_rad=camera.yaw_rad, pitch_rad=0.0).fit(-half, half, aspect)
    for corner in np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T:
        assert np.abs(on_screen(fitted, corner * half, aspect)[:2]).max() < 1.0


def test_zoom_stays_in_its_limits() -> None:
    assert OrbitCamera(distance_m=1.0).zoom(1).distance_m < 1.0
    assert OrbitCamera().zoom(1000).distance_m == 0.05
    assert OrbitCamera().zoom(-1000).distance_m == 50.0


def test_keys() -> None:
    look = Look()
    assert look.press("m").material == "clay" and look.press("m").press("m").material == "skin"
    assert [look.press("o").overlay, look.press("o").press("o").overlay] == ["wire", "off"]
    assert look.press("]").opacity == pytest.approx(0.6) and look.press("[").opacity == pytest.approx(0.4)
    for _ in range(20):
        look = look.press("[")
    assert look.opacity == 0.0
    assert look.press("space").held and look.press("t").turning and not look.press("h").figures
    assert look.press("q") == look
    steered = look.steer(look.camera.orbit(0.2, 0))
    assert steered.steered and not steered.press("r").steered


def test_the_turntable_makes_a_round_in_twelve_seconds() -> None:
    look = Look(turning=True)
    quarter = look.turn(3.0)
    assert abs(math.remainder(quarter.camera.yaw_rad - look.camera.yaw_rad, math.tau)) == pytest.approx(math.pi / 2)
    assert Look().turn(3.0) == Look()


@given(st.integers(1, 40), st.integers(0, 50), st.integers(0, 100))
def test_shown_cameras_are_distinct_and_spread(total: int, count: int, first: int) -> None:
    names = tuple(f"cam_{i}" for i in range(total))
    shown = shown_cameras(names, count, first)
    assert len(set(shown)) == len(shown) == min(total, count)
    if shown:
        assert shown[0] == names[first % total]
        places = sorted(names.index(name) for name in shown)
        gaps = np.diff([*places, places[0] + total])
        assert gaps.max() - gaps.min() <= 1

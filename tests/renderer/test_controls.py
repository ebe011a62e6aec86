import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderer.viewer.controls import MATERIALS, OVERLAYS, Look, shown_cameras
from renderer.viewer.keys import KEYS, groups, help_lines
from renderer.viewer.orbit import OrbitCamera
from renderer.viewer.timeline import Timeline

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


@given(cameras, st.floats(0.3, 3.0), st.booleans())
def test_held_points_fill_the_view_and_none_is_left_out(camera: OrbitCamera, aspect: float, flat: bool) -> None:
    points = np.array([[0.4, 0.1, 0.2], [-0.5, 0.0, 0.1], [0.1, -0.2, -0.6], [0.0, 0.3, 0.0]])
    held = OrbitCamera(yaw_rad=camera.yaw_rad, pitch_rad=camera.pitch_rad, orthographic=flat).hold(points, aspect)
    places = np.array([on_screen(held, point, aspect) for point in points])
    assert 0.90 < np.abs(places[:, :2]).max() < 0.93


def test_zoom_stays_in_its_limits() -> None:
    assert OrbitCamera(distance_m=1.0).zoom(1).distance_m < 1.0
    assert OrbitCamera().zoom(1000).distance_m == 0.05
    assert OrbitCamera().zoom(-1000).distance_m == 50.0


def presses(look: Look, keys: str) -> Look:
    for key in keys.split():
        look = look.press(key)
    return look


def test_keys() -> None:
    look, seen, laid = Look(), [], []
    for _ in MATERIALS:
        seen.append(look.material)
        laid.append(look.overlay)
        look = presses(look, "m o")
    assert seen == list(MATERIALS) and look.material == "skin" and presses(look, "n").material == MATERIALS[-1]
    assert laid[: len(OVERLAYS)] == list(OVERLAYS)
    look = Look()
    assert look.press("]").opacity == pytest.approx(0.6) and look.press("[").opacity == pytest.approx(0.4)
    assert presses(look, "[ " * 20).opacity == 0.0 and presses(look, "] " * 20).opacity == 1.0
    assert look.press("space").held and look.press("t").turning == "round" and not look.press("h").figures
    assert [look.press(key).view for key in "123"] == ["free", "camera", "wall"]
    assert [presses(look, "f " * k).frusta for k in range(4)] == ["none", "outlines", "pictures", "none"]
    assert [presses(look, "s " * k).scan for k in range(4)] == ["none", "beside", "alone", "none"]
    assert look.press("z").camera.orthographic and presses(look, "c c v").first_camera == 1
    on = presses(look, "x e k g b ?")
    assert (on.edges, on.eyes, on.onion, on.ghost, on.swapped, on.help) == (True, False, True, False, True, True)
    assert presses(on, "x e k g b ?") == look and look.press("q") == look
    steered = look.steer(look.camera.orbit(0.2, 0))
    assert steered.steered and not steered.press("r").steered


def test_every_key_is_in_the_table_and_every_key_of_the_table_does_something() -> None:
    names = [name for key in KEYS for name in key.names]
    assert len(names) == len(set(names))
    elsewhere = {"p", "w", "escape"}  # the process answers these: tests of the window
    for name in names:
        timeline = Timeline([0, 1_000_000_000, 2_000_000_000], looping=True)
        answered = Look().press(name) != Look() or Look(view="wall").press(name) != Look(view="wall")
        answered = answered or Look(steered=True).press(name) != Look(steered=True)
        assert answered or timeline.press(name) or name in elsewhere, name
    assert all(f"{key.shown}  " in help_lines() and key.does in help_lines() for key in KEYS)
    assert sum(map(len, groups().values())) == len(KEYS)
    for name in map(chr, range(33, 127)):
        if not name.isupper() and name not in names:
            assert Look().press(name) == Look() and not Timeline([0, 1], looping=True).press(name), name


@given(cameras, st.tuples(angles, angles, angles))
def test_an_orthographic_view_has_the_same_size_at_its_target_and_no_vanishing_point(
    camera: OrbitCamera, aside: tuple[float, float, float]
) -> None:
    flat = Look(camera).press("z").camera
    up = np.asarray(camera.target) + 0.1 * camera.distance_m * camera.eye_from_world()[1, :3]
    np.testing.assert_allclose(on_screen(flat, up)[:2], on_screen(camera, up)[:2], atol=1e-9)
    point = np.asarray(camera.target) + aside
    nearer = point + 0.3 * camera.distance_m * camera.eye_from_world()[2, :3]
    np.testing.assert_allclose(on_screen(flat, nearer)[:2], on_screen(flat, point)[:2], atol=1e-8)
    assert on_screen(flat, nearer)[2] < on_screen(flat, point)[2]


@given(cameras, st.tuples(angles, angles, angles))
def test_focus_brings_a_point_into_the_middle(camera: OrbitCamera, point: tuple[float, float, float]) -> None:
    focused = camera.focus(np.asarray(point))
    np.testing.assert_allclose(on_screen(focused, np.asarray(point))[:2], 0, atol=1e-9)
    assert (focused.yaw_rad, focused.pitch_rad, focused.distance_m) == (
        camera.yaw_rad,
        camera.pitch_rad,
        camera.distance_m,
    )


def test_the_turntable_makes_a_round_in_twelve_seconds_or_swings() -> None:
    look = Look().press("t")
    quarter = look.turn(3.0)
    assert abs(math.remainder(quarter.camera.yaw_rad - look.camera.yaw_rad, math.tau)) == pytest.approx(math.pi / 2)
    assert Look().turn(3.0) == Look() and presses(look, "t t").turning == "no"
    swinging, yaws = presses(Look(), "t t"), []
    for _ in range(800):
        swinging = swinging.turn(0.01)
        yaws.append(math.degrees(swinging.camera.yaw_rad - look.camera.yaw_rad))
    assert max(yaws) == pytest.approx(50, abs=0.1) and min(yaws) == pytest.approx(-50, abs=0.1)
    assert yaws[-1] == pytest.approx(0.0, abs=1e-6), "back where it began"


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

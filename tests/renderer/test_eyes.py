from dataclasses import replace

import numpy as np
import pytest

from renderer.viewer.controls import Look
from renderer.viewer.eyes import find_eyes, gaze_of, place_eyes
from streamer.types import Topology
from tests.renderer.makers import head_topology
from tests.renderer.shots import FRONT, shown, spot_of


def socketed_head() -> Topology:
    """A ball with two pits lined by small balls, the region `eyes` around each: what the default topology is like."""
    u, v = np.meshgrid(np.linspace(0, np.pi, 60), np.linspace(-np.pi, np.pi, 120, endpoint=False), indexing="ij")
    ball = np.stack([np.sin(u) * np.sin(v), np.cos(u), np.sin(u) * np.cos(v)], -1).reshape(-1, 3) * 0.1
    index = np.arange(60 * 120).reshape(60, 120)
    a, b, c, d = index[:-1], np.roll(index[:-1], -1, 1), index[1:], np.roll(index[1:], -1, 1)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    region = []
    for sign in (1.0, -1.0):
        aside = ball[:, :2] - [sign * 0.034, 0.02]
        apart, around = np.linalg.norm(aside, axis=1), np.arctan2(aside[:, 1], aside[:, 0])
        front = ball[:, 2] > 0
        inside = front & (apart < 0.014)
        tilt = 2.2 * apart[inside] / 0.014  # from the back of the socket
        spread = np.sin(tilt)
        way = np.stack([spread * np.cos(around[inside]), spread * np.sin(around[inside]), -np.cos(tilt)], 1)
        ball[inside] = [sign * 0.034, 0.02, 0.078] + 0.0148 * way
        region.append(np.flatnonzero(front & (apart >= 0.014) & (apart < 0.024)))
    return Topology(
        "socketed", faces, np.zeros((1, 2)), np.zeros_like(faces), ball, (), {"eyes": np.concatenate(region)}
    )


def test_eyes_are_found_in_their_sockets_follow_the_head_and_the_gaze() -> None:
    topology = socketed_head()
    eyes = find_eyes(topology)
    assert eyes is not None and find_eyes(head_topology()) is None
    np.testing.assert_allclose(eyes[0].centre, [0.034, 0.02, 0.078], atol=1e-3)
    np.testing.assert_allclose(eyes[1].centre, [-0.034, 0.02, 0.078], atol=1e-3)
    assert eyes[0].radius_m == pytest.approx(0.97 * 0.0148, abs=4e-4)
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    shift = np.array([0.3, -0.1, 0.2])
    centres = place_eyes(eyes, topology.template, (topology.template @ turn.T + shift).astype(np.float32), turn)
    np.testing.assert_allclose(centres[0], turn @ eyes[0].centre + shift, atol=1e-5)
    np.testing.assert_allclose(gaze_of({}), [[0, 0, 1]] * 2)
    left, right = gaze_of({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0, "eyeLookUpLeft": 0.5})
    assert left[0] > 0.4 and right[0] > 0.4 and left[1] > 0.1, "both look to the head's left, +X"


def test_the_eyes_of_the_default_topology_stand_where_makehuman_has_them_and_look_the_same_way() -> None:
    from rig.simulation.head import eye_turns, load_head
    from rig.simulation.head import head_topology as default_topology

    head, topology = load_head(), default_topology()
    eyes = find_eyes(topology)
    assert eyes is not None
    for eye, side in zip(eyes, ("left", "right"), strict=True):
        ball = head.neutral[head.part_vertices(f"eye_{side}")]
        np.testing.assert_allclose(eye.centre, (ball.min(0) + ball.max(0)) / 2, atol=0.002)
        assert eye.radius_m == pytest.approx(float(np.ptp(ball, 0).mean()) / 2, abs=0.001)
    weights = np.zeros(len(topology.units), np.float32)
    for name, value in (("eyeLookOutLeft", 0.8), ("eyeLookInRight", 0.8), ("eyeLookDownRight", 0.5)):
        weights[topology.units.index(name)] = value
    turns = eye_turns(weights, topology.units)
    directions = gaze_of(dict(zip(topology.units, weights.tolist(), strict=True)))
    for (x, y, _), (yaw, pitch) in zip(directions, (turns["eye_left"], turns["eye_right"]), strict=True):
        assert np.sign(round(x, 6)) == np.sign(yaw) and np.sign(round(y, 6)) == np.sign(pitch)


def test_painted_eyes_are_white_with_a_dark_pupil_and_can_be_left_out() -> None:
    topology = socketed_head()
    camera = replace(FRONT, distance_m=0.45)
    look = Look(camera)
    painted, bare = (shown(replace(look, eyes=eyes), topology=topology).astype(int) for eyes in (True, False))
    for sign in (1.0, -1.0):
        row, column = spot_of(np.array([sign * 0.034, 0.02, 0.0925]), look)
        pupil, white = painted[row, column], painted[row, column + 9]
        assert pupil.max() < 60 < 110 < white.min(), "a pupil in the middle, white beside the iris"
        assert np.ptp(bare[row, column]) > 25 or np.ptp(bare[row, column + 9]) > 25, "skin where no eyes are painted"

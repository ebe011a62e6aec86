"""Rotations as matrices, vectors and quaternions: against OpenCV's, and back again."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.geometry import quaternion, rotation_matrices, rotation_vector, rotations_of

COORDINATE = st.floats(-1.8, 1.8)
vectors = st.tuples(COORDINATE, COORDINATE, COORDINATE).map(np.array)
"""Axis times angle, rad; up to 3.12, for at pi an axis and its opposite are one rotation."""


@given(vectors)
def test_a_matrix_is_that_of_its_vector(vector: np.ndarray) -> None:
    rotation = rotation_matrices(vector)
    np.testing.assert_allclose(rotation, cv2.Rodrigues(vector)[0], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)


@example(np.zeros(3))
@example(np.array([0.0, 0.0, 1e-5]))  # OpenCV makes none of it
@example(np.array([1e-9, -2e-9, 1e-9]))
@example(np.array([3.1415, 0.0, 0.0]))
@given(vectors)
def test_a_vector_comes_back_however_small_or_large(vector: np.ndarray) -> None:
    np.testing.assert_allclose(rotation_vector(rotation_matrices(vector)), vector, atol=1e-10, rtol=1e-7)


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    some = np.random.default_rng(0).normal(size=(4, 5, 3))
    some[0, 0] = 0
    together = rotation_matrices(some)
    assert together.shape == (4, 5, 3, 3)
    np.testing.assert_array_equal(together[3, 2], rotation_matrices(some[3, 2]))


def test_quaternions_are_those_of_the_rotation() -> None:
    rng = np.random.default_rng(3)
    for axis in (*rng.normal(size=(20, 3)), np.array([np.pi, 0, 0]), np.array([0, 1e-9, 0])):
        rotation = np.asarray(cv2.Rodrigues(axis)[0])
        turn = quaternion(rotation)
        assert np.linalg.norm(turn) == pytest.approx(1.0) and turn[0] >= 0
        np.testing.assert_allclose(rotations_of(turn), rotation, atol=1e-9)


def test_quaternions_of_any_length_and_number_are_rotations() -> None:
    some = np.random.default_rng(4).normal(size=(3, 2, 4))
    together = rotations_of(some)
    assert together.shape == (3, 2, 3, 3)
    for turn, rotation in zip(some.reshape(-1, 4), together.reshape(-1, 3, 3), strict=True):
        angle = 2 * np.arctan2(np.linalg.norm(turn[1:]), turn[0])
        axis = turn[1:] / np.linalg.norm(turn[1:])
        np.testing.assert_allclose(rotation, cv2.Rodrigues(axis * angle)[0], atol=1e-12)

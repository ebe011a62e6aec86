"""Rotations as matrices, vectors and quaternions: against OpenCV's, and back again."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.geometry import quaternion, rotation_matrices, rotation_vector

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
        w, x, y, z = quaternion(rotation)
        assert w * w + x * x + y * y + z * z == pytest.approx(1.0)
        half = [
            [0.5 - y * y - z * z, x * y - w * z, x * z + w * y],
            [x * y + w * z, 0.5 - x * x - z * z, y * z - w * x],
            [x * z - w * y, y * z + w * x, 0.5 - x * x - y * y],
        ]
        np.testing.assert_allclose(2 * np.array(half), rotation, atol=1e-9)

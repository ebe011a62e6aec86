"""Rigid poses as six numbers, rotation vector and translation, and their derivatives. Vectorised."""

import numpy as np

from streamer.types import F64


def rotations(vectors: F64) -> F64:
    """Return the rotation matrices (N, 3, 3) of rotation vectors (N, 3)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    k = skew(vectors)
    small = angle < 1e-7
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1.0, np.sin(safe) / safe)
    b = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    return np.asarray(np.eye(3) + a * k + b * (k @ k), np.float64)


def right_jacobians(vectors: F64) -> F64:
    """Return (N, 3, 3) J with exp(v + d) = exp(v) exp(J d) to first order."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    k = skew(vectors)
    small = angle < 1e-5
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    b = np.where(small, 1 / 6, (safe - np.sin(safe)) / safe**3)
    return np.asarray(np.eye(3) - a * k + b * (k @ k), np.float64)


def skew(vectors: F64) -> F64:
    """Return (N, 3, 3) matrices of the cross product with vectors (N, 3)."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def rotation_vector(rotation: F64) -> F64:
    """Return the rotation vector (3,) of a rotation matrix (3, 3), of length up to pi."""
    # the quaternion's largest component first: no loss near half turns
    m = rotation
    trace = np.trace(m)
    squares = np.array([1 + trace, *(1 - trace + 2 * np.diag(m))]) / 4
    largest = int(np.argmax(squares))
    differences = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    if largest == 0:
        q = np.array([4 * squares[0], *differences])
    else:
        i = largest - 1
        q = np.array([differences[i], *(m[i] + m[:, i])])
        q[largest] = 4 * squares[largest]
    q /= np.linalg.norm(q)
    if q[0] < 0:
        q = -q
    length = np.linalg.norm(q[1:])
    if length < 1e-12:
        return np.asarray(2 * q[1:], np.float64)
    return np.asarray(q[1:] / length * 2 * np.arctan2(length, q[0]), np.float64)


def pose_of(matrix: F64) -> F64:
    """Return rotation vector and translation (6,) of a rigid transform (4, 4)."""
    return np.concatenate([rotation_vector(matrix[:3, :3]), matrix[:3, 3]])


def matrix_of(pose: F64) -> F64:
    """Return the rigid transform (4, 4) of rotation vector and translation (6,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotations(pose[None, :3])[0]
    matrix[:3, 3] = pose[3:]
    return matrix


def angle_deg(b_from_a: F64) -> float:
    """Return by how much a rigid transform turns, degrees."""
    return float(np.degrees(np.linalg.norm(rotation_vector(b_from_a[:3, :3]))))

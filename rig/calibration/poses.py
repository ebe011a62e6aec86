"""Rigid poses as six numbers, rotation vector and translation, and their derivatives. Vectorised."""

import numpy as np

from streamer.geometry import rotation_matrices, rotation_vector, skew
from streamer.types import F64


def right_jacobians(vectors: F64) -> F64:
    """Return (N, 3, 3) J with exp(v + d) = exp(v) exp(J d) to first order."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    k = skew(vectors)
    small = angle < 1e-5
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    b = np.where(small, 1 / 6, (safe - np.sin(safe)) / safe**3)
    return np.asarray(np.eye(3) - a * k + b * (k @ k), np.float64)


def pose_of(matrix: F64) -> F64:
    """Return rotation vector and translation (6,) of a rigid transform (4, 4)."""
    return np.concatenate([rotation_vector(matrix[:3, :3]), matrix[:3, 3]])


def matrix_of(pose: F64) -> F64:
    """Return the rigid transform (4, 4) of rotation vector and translation (6,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrices(pose[:3])
    matrix[:3, 3] = pose[3:]
    return matrix


def angle_deg(b_from_a: F64) -> float:
    """Return by how much a rigid transform turns, degrees."""
    return float(np.degrees(np.linalg.norm(rotation_vector(b_from_a[:3, :3]))))

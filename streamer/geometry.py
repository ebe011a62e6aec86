"""Transforms, projection and axis conversion: the one place that knows conventions. Numpy only.

World: metres, right-handed, +Y up, the face looks along +Z. Camera: OpenCV axes, pixel centres at integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.types import F64, Camera


def transform(b_from_a: F64, points_a: NDArray[np.floating]) -> F64:
    """Map points from frame a to frame b.

    Args:
        b_from_a: (4, 4) affine transform.
        points_a: (..., 3) points in frame a.

    Returns:
        (..., 3) float64 points in frame b.
    """
    return np.asarray(points_a @ b_from_a[:3, :3].T + b_from_a[:3, 3], np.float64)


def inverse_rigid(b_from_a: F64) -> F64:
    """Invert a rigid (4, 4) transform: returns `a_from_b`."""
    a_from_b = np.eye(4)
    a_from_b[:3, :3] = b_from_a[:3, :3].T
    a_from_b[:3, 3] = -b_from_a[:3, :3].T @ b_from_a[:3, 3]
    return a_from_b


def quaternion(rotation: NDArray[np.floating]) -> F64:
    """Return the unit quaternion (w, x, y, z), w >= 0, of a (3, 3) rotation matrix.

    The largest of the four is found from the diagonal and the others divided by it (Shepperd 1978), so no rotation is
    near a division by zero.
    """
    r = np.asarray(rotation, np.float64)
    trace = float(np.trace(r))
    squares = 0.25 * np.array([1 + trace, *(1 + 2 * r[i, i] - trace for i in range(3))])
    # Row k: the products of component k with w, x, y, z.
    products = 0.25 * np.array(
        [
            [4 * squares[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], 4 * squares[1], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], 4 * squares[2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], 4 * squares[3]],
        ]
    )
    found: F64 = products[int(squares.argmax())]
    found = found / np.linalg.norm(found)
    return -found if found[0] < 0 else found


def rotations_of(quaternions: NDArray[np.floating]) -> F64:
    """Return the rotation matrices (..., 3, 3) of quaternions (..., 4), w first, of any length but zero."""
    q = np.asarray(quaternions, np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.asarray(np.moveaxis(np.array(rows), (0, 1), (-2, -1)), np.float64)


def rotation_vector(rotation: NDArray[np.floating]) -> F64:
    """Return the rotation vector (3,), axis times angle in rad up to pi, of a (3, 3) rotation matrix."""
    w, *axis = quaternion(rotation)
    length = float(np.linalg.norm(axis))
    return np.asarray(axis) * (2 * np.arctan2(length, w) / length if length > 1e-12 else 2.0)


def skew(vectors: NDArray[np.floating]) -> F64:
    """Return the matrices (..., 3, 3) of the cross product with vectors (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)


def rotation_matrices(vectors: NDArray[np.floating]) -> F64:
    """Return the rotation matrices (..., 3, 3) of rotation vectors (..., 3), rad (Rodrigues)."""
    cross = skew(vectors)
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    safe = np.where(angle < 1e-7, 1.0, angle)
    a = np.where(angle < 1e-7, 1.0, np.sin(safe) / safe)
    b = np.where(angle < 1e-7, 0.5, (1 - np.cos(safe)) / safe**2)
    return np.asarray(np.eye(3) + a * cross + b * (cross @ cross), np.float64)


def look_at(centre: F64, target: F64, roll_rad: float = 0.0) -> F64:
    """Return `camera_from_world` (4, 4) of a camera at `centre` that looks at `target` with world +Y upwards.

    Args:
        centre: (3,) optical centre, metres, world.
        target: (3,) point on the optical axis, metres, world.
        roll_rad: turn about the optical axis, clockwise as seen in the picture.
    """
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = rotation
    camera_from_world[:3, 3] = -rotation @ centre
    return camera_from_world


def distort(normalised: F64, distortion: F64) -> F64:
    """Apply the OpenCV five-coefficient model.

    Args:
        normalised: (..., 2) ideal image coordinates x/z, y/z.
        distortion: (5,) k1, k2, p1, p2, k3.

    Returns:
        (..., 2) distorted normalised coordinates.
    """
    k1, k2, p1, p2, k3 = distortion
    x, y = normalised[..., 0], normalised[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1
    )


def project(camera: Camera, points_world: NDArray[np.floating]) -> tuple[F64, F64]:
    """Project points into the full picture of a camera, with distortion.

    Args:
        camera: the camera.
        points_world: (..., 3) metres, world.

    Returns:
        (..., 2) pixel coordinates in the calibrated picture, and (...) depth along the optical axis in metres. Points
        with a depth of 1 mm or less have coordinates of NaN.
    """
    points = transform(camera.camera_from_world, points_world)
    depth = points[..., 2]
    in_front = depth > 1e-3
    safe = np.where(in_front, depth, 1.0)
    pixels = distort(points[..., :2] / safe[..., None], camera.distortion) @ camera.K[:2, :2].T + camera.K[:2, 2]
    return np.where(in_front[..., None], pixels, np.nan), depth


def scaled(camera: Camera, width: int, height: int) -> Camera:
    """Return the camera of the picture resized to `width` x `height` by area averaging.

    Pixel centres are at integers, so a factor s maps u to (u + 0.5) * s - 0.5.
    """
    sx, sy = width / camera.width, height / camera.height
    to_small = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
    return replace(camera, width=width, height=height, K=to_small @ camera.K)


@dataclass(frozen=True, slots=True)
class Axes:
    """How a target program stores positions: `target = matrix @ world_metres`, and its winding."""

    matrix: F64
    """(3, 3) including the unit."""
    reverse_winding: bool
    """Whether triangle indices change order, so that faces still point out under the target's own rule."""


AXES: dict[str, Axes] = {
    "mien": Axes(np.eye(3), False),
    "gltf": Axes(np.eye(3), False),
    "godot": Axes(np.eye(3), True),
    "blender": Axes(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), False),
    "unity": Axes(np.diag([-1.0, 1, 1]), True),
    "unreal": Axes(100.0 * np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]]), False),
    "alembic": Axes(np.eye(3), True),
    "usd": Axes(np.eye(3), False),
}
"""Positions and winding per target; the facts behind each row are in docs/conventions.md."""


def signed_axes(names: Sequence[str], per_metre: float = 1.0, *, reverse_winding: bool = False) -> Axes:
    """Return the conversion to a space whose coordinates are axes of Mien, some turned round.

    Args:
        names: three of `x`, `y`, `z`, each once, with `-` in front where it is turned round.
        per_metre: units of the space in a metre.
        reverse_winding: whether indices change order.
    """
    matrix = np.zeros((3, 3))
    for row, name in enumerate(names):
        matrix[row, "xyz".index(name[-1])] = -per_metre if name.startswith("-") else per_metre
    return Axes(matrix, reverse_winding)


def axis_names(axes: Axes) -> tuple[tuple[str, str, str], float]:
    """Return what `signed_axes` makes these axes of: the names, and the units in a metre."""
    columns = np.abs(axes.matrix).argmax(1)
    values = [axes.matrix[row, column] for row, column in enumerate(columns)]
    first, second, third = (
        "-" * bool(value < 0) + "xyz"[column] for value, column in zip(values, columns, strict=True)
    )
    return (first, second, third), float(abs(values[0]))


def rigid_from_points(
    points_a: NDArray[np.floating], points_b: NDArray[np.floating], weights: F64 | None = None
) -> F64:
    """Least-squares rigid transform `b_from_a` between paired points (Kabsch 1976).

    Args:
        points_a: (N, 3), N >= 3, not collinear.
        points_b: (N, 3) the same points in frame b.
        weights: (N,) how much each pair counts, 0 or more; None: all the same.

    Returns:
        (4, 4) rigid transform.
    """
    a, b = np.asarray(points_a, np.float64), np.asarray(points_b, np.float64)
    say = (np.ones(len(a)) if weights is None else np.asarray(weights, np.float64))[:, None]
    mean_a, mean_b = (a * say).sum(0) / say.sum(), (b * say).sum(0) / say.sum()
    u, _, vt = np.linalg.svd(((b - mean_b) * say).T @ (a - mean_a))
    sign = np.sign(np.linalg.det(u @ vt))
    b_from_a = np.eye(4)
    b_from_a[:3, :3] = u @ np.diag([1.0, 1.0, sign]) @ vt
    b_from_a[:3, 3] = mean_b - b_from_a[:3, :3] @ mean_a
    return b_from_a


def vertex_normals(vertices: NDArray[np.floating], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    """Area-weighted unit normals.

    Args:
        vertices: (N, 3).
        triangles: (T, 3), counter-clockwise from outside.

    Returns:
        (N, 3) float32, pointing out; vertices without a triangle get zero.
    """
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.empty((len(vertices), 3))
    for axis in range(3):
        normals[:, axis] = np.bincount(triangles.ravel(), np.repeat(face[:, axis], 3), minlength=len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(length, 1e-12), np.float32)

"""Frames of reference and crops: where the stage is, where the head is, and the part of each picture that shows it.

Numpy only. Lengths in millimetres; `rig` is a frame that any calibration defines by itself, so that the network does
not depend on where a user put the origin of the world.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import CalibrationError
from streamer.types import F32, F64, U8, Camera

MM = 1000.0
CROP_WIDTH, CROP_HEIGHT = 96, 112
"""Size of a head crop, px."""
CROP_SPAN_MM = 300.0
"""Height of a head crop at the head's distance."""
LARGE_CROP = (2 * CROP_WIDTH, 2 * CROP_HEIGHT)
"""Width and height of the crops that the second stage of `reprocess` sees, px."""


@dataclass(frozen=True, slots=True)
class Views:
    """Cameras as arrays, for projecting many points in all views at once."""

    K: F64
    """(V, 2, 3) affine part of the intrinsics: pixel = K[:, :2] @ distorted + K[:, 2]."""
    distortion: F64
    """(V, 5) OpenCV k1, k2, p1, p2, k3."""
    camera_from_a: F64
    """(V, 3, 4) from some frame a in mm."""
    size: tuple[int, int]
    """Width and height of the pictures, px."""


def rig_frame(cameras: Sequence[Camera]) -> F64:
    """The frame of the stage: `world_from_rig` (4, 4), millimetres.

    Origin: the point nearest to all optical axes. +Y: against the mean of the cameras' downward axes. +Z:
    horizontally towards the middle of the cameras, from where a performer is expected to be seen.

    Raises:
        CalibrationError: fewer than two cameras, or axes that are all parallel.
    """
    if len(cameras) < 2:
        raise CalibrationError("one camera does not define a stage; two or more are needed")
    centres = np.array([camera.centre_world for camera in cameras]) * MM
    return frame_of_axes(centres, np.array([camera.camera_from_world[:3, :3] for camera in cameras]))


def frame_of_axes(centres: F64, rotations: F64) -> F64:
    """`rig_frame` from optical centres (V, 3) in mm and rotations camera from world (V, 3, 3).

    Raises:
        CalibrationError: axes that are all parallel.
    """
    axes = rotations[:, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = across.sum(0)
    if np.linalg.cond(system) > 1e6:
        raise CalibrationError("the optical axes are parallel: the cameras do not look at one place")
    origin = np.linalg.solve(system, np.einsum("vij,vj->i", across, centres))
    up = -rotations[:, 1].mean(0)
    up /= np.linalg.norm(up)
    front = (centres - origin).mean(0)
    front -= up * (front @ up)
    if np.linalg.norm(front) < 1.0:
        front = np.cross([1.0, 0.0, 0.0], up)
    front /= np.linalg.norm(front)
    world_from_rig = np.eye(4)
    world_from_rig[:3, :3] = np.stack([np.cross(up, front), up, front], 1)
    world_from_rig[:3, 3] = origin
    return world_from_rig


def views_of(cameras: Sequence[Camera], world_from_a: F64) -> Views:
    """Gather cameras that share one picture size.

    Args:
        cameras: the cameras, already scaled to the pictures that will be read.
        world_from_a: (4, 4) rigid, millimetres.
    """
    camera_from_world = np.array([camera.camera_from_world for camera in cameras])
    camera_from_world[:, :3, 3] *= MM
    return Views(
        K=np.array([camera.K[:2] for camera in cameras]),
        distortion=np.array([camera.distortion for camera in cameras]),
        camera_from_a=(camera_from_world @ world_from_a)[:, :3],
        size=(cameras[0].width, cameras[0].height),
    )


def moved(views: Views, a_from_b: F64) -> Views:
    """The same views, for points in frame b; `a_from_b` (4, 4) or one per view (V, 4, 4), mm."""
    camera_from_b = (
        np.concatenate([views.camera_from_a, np.tile([[[0, 0, 0, 1.0]]], (len(views.K), 1, 1))], 1) @ a_from_b
    )
    return Views(views.K, views.distortion, camera_from_b[:, :3], views.size)


def project_all(views: Views, points: NDArray[np.floating]) -> F32:
    """Project points into every view.

    Args:
        views: V views.
        points: (P, 3), mm, in the views' frame.

    Returns:
        (V, P, 2) float32 pixels; points at or behind a camera (less than 50 mm in front) land far outside, at -1e4.
    """
    rotation = views.camera_from_a[:, :, :3].astype(np.float32)
    p = np.einsum("vij,pj->vip", rotation, points.astype(np.float32)) + views.camera_from_a[:, :, 3:].astype(np.float32)
    behind = p[:, 2] < 50.0
    depth = np.where(behind, 1.0, p[:, 2])
    x, y = p[:, 0] / depth, p[:, 1] / depth
    k1, k2, p1, p2, k3 = views.distortion.astype(np.float32).T[:, :, None]
    xx, yy, xy = x * x, y * y, x * y
    r2 = xx + yy
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dx = x * radial + 2 * p1 * xy + p2 * (r2 + 2 * xx)
    dy = y * radial + p1 * (r2 + 2 * yy) + 2 * p2 * xy
    k = views.K.astype(np.float32)[..., None]
    pixels = np.stack(
        [k[:, 0, 0] * dx + k[:, 0, 1] * dy + k[:, 0, 2], k[:, 1, 0] * dx + k[:, 1, 1] * dy + k[:, 1, 2]], -1
    )
    pixels[behind] = -1e4
    return pixels


def sampling_grid(pixels: F32, size: tuple[int, int]) -> tuple[F32, F32]:
    """Convert pixels to what 4-D GridSample takes (align_corners off: the picture's edge is at -1 and 1).

    Args:
        pixels: (V, P, 2).
        size: picture width and height, px.

    Returns:
        (V, P, 2) in -1..1 inside, clipped to -2..2; and (V, P) 1.0 where the point lies inside the picture.
    """
    grid = (pixels + 0.5) * (2.0 / np.array(size, np.float32)) - 1.0
    inside = (np.abs(grid) <= 1.0).all(-1)
    return np.clip(grid, -2.0, 2.0).astype(np.float32), np.asarray(inside, np.float32)


def crop_affines(views: Views, size: tuple[int, int] = (CROP_WIDTH, CROP_HEIGHT)) -> F64:
    """Where the head is in each picture: `crop_from_picture` (V, 2, 3) for views of the head frame (mm).

    A crop is centred on the head, has the head's up-direction upwards and spans CROP_SPAN_MM at the head's distance.
    Lens distortion is kept: the crop's camera is the picture's camera with another K.

    Args:
        views: V views of the head frame.
        size: width and height of the crops, px.
    """
    # the middle of the head lies behind the centroid of its vertices, most of which are in the face
    points = np.array([[0.0, 0.0, -35.0], [0.0, 60.0, -35.0]])
    centre, above = np.moveaxis(project_all(views, points).astype(np.float64), 1, 0)
    direction = above - centre
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    up = np.where(length > 1e-3, direction / np.maximum(length, 1e-9), [0.0, -1.0])
    depth = np.maximum(views.camera_from_a[:, 2] @ np.append(points[0], 1.0), 50.0)
    focal = np.sqrt(np.abs(np.linalg.det(views.K[:, :, :2])))
    scale = size[1] / (CROP_SPAN_MM * focal / depth)
    rotation = np.stack([np.stack([-up[:, 1], up[:, 0]], 1), -up], 1) * scale[:, None, None]
    target = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    return np.concatenate([rotation, (target - np.einsum("vij,vj->vi", rotation, centre))[..., None]], 2)


def repictured(views: Views, new_from_picture: F64, size: tuple[int, int]) -> Views:
    """The cameras of pictures made by an affine map (V, 2, 3) of pixels; `size` is their width and height."""
    homogeneous = np.concatenate([views.K, np.tile([[[0, 0, 1.0]]], (len(views.K), 1, 1))], 1)
    return Views(new_from_picture @ homogeneous, views.distortion, views.camera_from_a, size)


def cropped(views: Views, crop_from_picture: F64, size: tuple[int, int] = (CROP_WIDTH, CROP_HEIGHT)) -> Views:
    """The cameras of the crops of this width and height."""
    return repictured(views, crop_from_picture, size)


def cut(picture: U8, crop_from_picture: F64, size: tuple[int, int] = (CROP_WIDTH, CROP_HEIGHT)) -> U8:
    """Cut one crop (height, width, 3) out of a picture, bilinear; outside is black."""
    crop = cv2.warpAffine(picture, crop_from_picture, size, flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)


def standardise(pictures: U8) -> F32:
    """Make gain and exposure irrelevant: (V, H, W, 3) uint8 to (V, 3, H, W) of zero mean and unit deviation each."""
    x = pictures.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(1 / 255)
    mean = x.mean((1, 2, 3), keepdims=True)
    return np.asarray((x - mean) / (x.std((1, 2, 3), keepdims=True) + np.float32(0.03)), np.float32)

"""Thumbnails for the localiser: a window of each picture, averaged down to one small size. Numpy and OpenCV only."""

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.tempeh.frames import Views, project_all, repictured
from inference.tempeh.layout import THUMB_HEIGHT, THUMB_WIDTH
from streamer.types import U8

Windows = NDArray[np.int64]
"""(V, 4) left, top, width and height in pixels of each picture; may reach beyond it."""


def whole(views: Views) -> Windows:
    """Windows of whole pictures."""
    width, height = views.size
    return np.tile(np.array([0, 0, width, height], np.int64), (len(views.K), 1))


def around(views: Views, centre: NDArray[np.floating], span_mm: float) -> Windows:
    """Windows around a point.

    Args:
        views: V views.
        centre: (3,) in the views' frame, mm.
        span_mm: height of the window at the point's distance; its width follows the thumbnails' shape.
    """
    pixels = project_all(views, centre[None])[:, 0].astype(np.float64)
    depth = np.maximum(views.camera_from_a[:, 2, :3] @ centre + views.camera_from_a[:, 2, 3], 50.0)
    focal = np.sqrt(np.abs(np.linalg.det(views.K[:, :, :2])))
    height = np.clip(np.round(span_mm * focal / depth), 8, 4 * views.size[1])
    width = np.round(height * THUMB_WIDTH / THUMB_HEIGHT)
    pixels = np.clip(pixels, -2.0 * np.array(views.size), 3.0 * np.array(views.size))  # a point behind a camera
    corner = np.round(pixels + 0.5 - np.stack([width, height], 1) / 2)
    return np.concatenate([corner, np.stack([width, height], 1)], 1).astype(np.int64)


def thumb_views(views: Views, windows: Windows) -> Views:
    """The cameras of the thumbnails of these windows."""
    left, top, width, height = windows.T.astype(np.float64)
    sx, sy, zero = THUMB_WIDTH / width, THUMB_HEIGHT / height, np.zeros(len(windows))
    small = np.stack([sx, zero, (0.5 - left) * sx - 0.5, zero, sy, (0.5 - top) * sy - 0.5], 1).reshape(-1, 2, 3)
    return repictured(views, small, (THUMB_WIDTH, THUMB_HEIGHT))


def shrink(picture: U8, window: NDArray[np.int64]) -> U8:
    """Average a window of a picture (H, W, 3) down to (THUMB_HEIGHT, THUMB_WIDTH, 3); beyond the picture is black."""
    left, top, width, height = (int(value) for value in window)
    rows, columns = picture.shape[:2]
    inner = picture[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inner.shape[:2] != (height, width):
        if not inner.size:
            return np.zeros((THUMB_HEIGHT, THUMB_WIDTH, 3), np.uint8)
        border = (max(-top, 0), max(top + height - rows, 0), max(-left, 0), max(left + width - columns, 0))
        inner = np.asarray(cv2.copyMakeBorder(inner, *border, cv2.BORDER_CONSTANT), np.uint8)
    smaller = cv2.INTER_AREA if height >= THUMB_HEIGHT else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inner, (THUMB_WIDTH, THUMB_HEIGHT), interpolation=smaller), np.uint8)

"""How a camera's picture becomes the network's: the window that is taken, the camera that belongs to it, resampling.

Pure arithmetic. A window is given in edges of the full picture: pixel i covers i..i+1, its centre is at coordinate i.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.types import F32, F64, U8, Camera

SNAP = 16
"""Crops begin and end at multiples of this, so that pictures decoded at 1/2, 1/4 or 1/8 need no fractional crop."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the full picture that the network sees; may reach beyond the picture, where all is black."""

    left: float
    """Left edge, px of the full picture."""
    top: float
    """Upper edge, px."""
    width: float
    """Width, px."""
    height: float
    """Height, px."""


def fit_window(camera_width: int, camera_height: int, width: int, height: int) -> Window:
    """Choose the window of a camera: its full height, centred.

    A head is taller than wide, so height is never given up: wider pictures lose their sides, narrower ones get black
    ones.

    Args:
        camera_width: width of the full picture, px.
        camera_height: height of the full picture, px.
        width: width of the network's picture, px.
        height: height of the network's picture, px.
    """
    wanted = camera_height * width / height
    if wanted < camera_width and (snapped := SNAP * max(1, round(wanted / SNAP))) < camera_width:
        return Window(SNAP * round((camera_width - snapped) / 2 / SNAP), 0, snapped, camera_height)
    return Window((camera_width - wanted) / 2, 0, wanted, camera_height)


def framed(camera: Camera, window: Window, width: int, height: int) -> Camera:
    """Return the camera of the network's picture: `window` of the full picture resized to `width` x `height`."""
    sx, sy = width / window.width, height / window.height
    to_small = np.array([[sx, 0, (0.5 - window.left) * sx - 0.5], [0, sy, (0.5 - window.top) * sy - 0.5], [0, 0, 1]])
    return replace(camera, width=width, height=height, K=to_small @ camera.K)


def area_weights(start: float, stop: float, source: int, target: int) -> F32:
    """Return the (target, source) matrix that averages a line of pixels over equal parts of start..stop.

    Rows sum to 1 where their part lies inside the line, to less where it sticks out.
    """
    edges = np.linspace(start, stop, target + 1)
    pixels = np.arange(source)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return np.asarray(np.maximum(high - low, 0) * (target / (stop - start)), np.float32)


def thirds(width: int, height: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return maps for `cv2.remap` that average a picture of 3/2 the size over equal parts.

    Each part then covers two pixels along an edge, with weights of 2/3 and 1/3: bilinear reading a third of a pixel
    beside the first. In fixed point the weights are off by 0.01; OpenCV's area average takes 2.5 times as long.
    """

    def places(count: int) -> F32:
        pairs, second = np.divmod(np.arange(count), 2)
        return np.asarray(3 * pairs + np.where(second, 5, 1) / 3, np.float32)

    x, y = np.meshgrid(places(width), places(height))
    return cv2.convertMaps(x, y, cv2.CV_16SC2)


class Resampler:
    """Takes one window out of pictures of one size and averages it to the network's size.

    Args:
        source_width: width of the incoming pictures, px.
        source_height: their height, px.
        window: the window in px of the incoming pictures.
        width: width of the result, px.
        height: height of the result, px.
    """

    def __init__(self, source_width: int, source_height: int, window: Window, width: int, height: int) -> None:
        """Choose the way: a copy, OpenCV where the window lies on pixel edges, or exact weights."""
        self._size = (width, height)
        edges = (window.left, window.top, window.left + window.width, window.top + window.height)
        inside = edges[0] >= 0 and edges[1] >= 0 and edges[2] <= source_width and edges[3] <= source_height
        self._box: tuple[int, int, int, int] | None = None
        self._two_thirds: tuple[NDArray[Any], NDArray[Any]] | None = None
        if inside and all(edge == int(edge) for edge in edges) and window.width >= width and window.height >= height:
            self._box = (int(edges[0]), int(edges[1]), int(edges[2]), int(edges[3]))
            if (2 * window.width, 2 * window.height) == (3 * width, 3 * height):
                self._two_thirds = thirds(width, height)
        else:
            self._columns = area_weights(edges[0], edges[2], source_width, width)
            self._rows = area_weights(edges[1], edges[3], source_height, height)

    def into(self, picture: U8, out: U8) -> None:
        """Resample a picture.

        Args:
            picture: (h, w, 3) of the size it was made for.
            out: (H, W, 3) that receives the result, C-contiguous.
        """
        if self._box is None:
            rows = np.tensordot(self._rows, picture.astype(np.float32), 1)
            exact = np.tensordot(rows, self._columns, ((1,), (1,))).transpose(0, 2, 1)
            np.copyto(out, np.clip(np.rint(exact), 0, 255), casting="unsafe")
            return
        left, top, right, bottom = self._box
        part = picture[top:bottom, left:right]
        if part.shape == out.shape:
            np.copyto(out, part)
        elif self._two_thirds is not None:
            cv2.remap(part, *self._two_thirds, cv2.INTER_LINEAR, dst=out)
        else:
            cv2.resize(part, self._size, dst=out, interpolation=cv2.INTER_AREA)


def choose_evenly(cameras: Sequence[Camera], count: int) -> tuple[int, ...]:
    """Choose cameras spread evenly around the point that they look at.

    Args:
        cameras: the rig.
        count: how many; all are kept if there are no more.

    Returns:
        Indices into `cameras`, increasing.
    """
    if count >= len(cameras):
        return tuple(range(len(cameras)))
    centres = np.stack([camera.centre_world for camera in cameras])
    around = centres - _looked_at(cameras, centres)
    angles = np.arctan2(around[:, 0], around[:, 2]) % (2 * np.pi)
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    order = np.roll(order, -(int(np.argmax(gaps)) + 1))  # begin after the widest gap: an arc has its ends there
    along = (angles[order] - angles[order[0]]) % (2 * np.pi)
    closed = gaps.max() < 1.5 * 2 * np.pi / len(cameras)
    targets = np.arange(count) * (2 * np.pi / count) if closed else np.linspace(0, along[-1], count)
    taken: list[int] = []
    for k, target in enumerate(targets):
        first = taken[-1] + 1 if taken else 0
        last = len(cameras) - (count - k)  # leaves one for each target that follows
        taken.append(first + int(np.argmin(np.abs(along[first : last + 1] - target))))
    return tuple(sorted(int(order[i]) for i in taken))


def _looked_at(cameras: Sequence[Camera], centres: F64) -> F64:
    """Return the point (3,) nearest to all optical axes; with parallel axes the mean of the centres."""
    axes = np.stack([camera.camera_from_world[2, :3] for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = across.sum(0)
    if np.linalg.cond(system) > 1e6:
        return np.asarray(centres.mean(0), np.float64)
    return np.asarray(np.linalg.solve(system, np.einsum("nij,nj->i", across, centres)), np.float64)

"""Mattes and depth maps of a take, as a fit reads them: the layers `alpha` and `depth` of an import.

Mattes are 8 bit, 255 where the person is. Depth maps are 16 bit as NeRSemble writes them: 0 nothing, else
`(value - 1) / 32767` metres along the optical axis. A fit needs the distance along the ray: the same divided by the
cosine between ray and axis (the published code leaves this out, some 3 % in the corner of a picture).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError
from streamer.pixels import Plane, decode_plane
from streamer.takes.reader import Take
from streamer.types import F32, U8, Camera

ALPHA, DEPTH = "alpha", "depth"
"""Names of the layers."""
DEPTH_UNITS = 10_000
"""Distances are kept in tenths of a millimetre, 16 bit."""
_CODES_TO_M = 1 / 32767

U16 = NDArray[np.uint16]


def read_mattes(take: Take, at_size: Mapping[str, Camera]) -> Iterator[tuple[int, str, U8]]:
    """Yield frame id, camera id and (H, W) matte of every camera that has them.

    Args:
        take: the take; one without the layer yields nothing.
        at_size: camera id to the camera at the size wanted; mattes are resized to it.

    Raises:
        TakeError: a matte of another shape than the pictures, or damaged.
    """
    for frame_id, camera, plane in _planes(take, ALPHA, at_size):
        if plane.dtype != np.uint8:
            raise TakeError(f"{take.path}: mattes of camera '{camera.id}' have 16 bit, expected 8; import them again")
        yield frame_id, camera.id, np.asarray(_resize(plane, camera, smooth=True), np.uint8)


def read_depths(take: Take, at_size: Mapping[str, Camera]) -> Iterator[tuple[int, str, U16]]:
    """Yield frame id, camera id and (H, W) distances along the rays, tenths of a millimetre, 0: unknown.

    Args:
        take: the take; one without the layer yields nothing.
        at_size: camera id to the camera at the size wanted.

    Raises:
        TakeError: a map of another shape than the pictures, of 8 bit, or damaged.
    """
    slants: dict[str, F32] = {}
    for frame_id, camera, plane in _planes(take, DEPTH, at_size):
        if plane.dtype != np.uint16:
            raise TakeError(f"{take.path}: depth of camera '{camera.id}' has 8 bit, expected 16; import it again")
        if camera.id not in slants:
            slants[camera.id] = slant_of(camera)
        codes = _resize(plane, camera, smooth=False).astype(np.float32)
        metres = np.maximum(codes - 1, 0) * np.float32(_CODES_TO_M) * slants[camera.id]
        yield frame_id, camera.id, np.asarray(np.rint(metres * DEPTH_UNITS), np.uint16)


def slant_of(camera: Camera) -> F32:
    """Return (H, W) how much longer a ray is than its depth along the optical axis, 1 or more."""
    import cv2

    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1).astype(np.float64)
    ideal = cv2.undistortPoints(grid.reshape(-1, 1, 2), camera.K, camera.distortion).reshape(*grid.shape)
    return np.asarray(np.sqrt(1 + (ideal**2).sum(-1)), np.float32)


def on_white(picture: U8, matte: U8) -> U8:
    """Return `alpha * picture + (1 - alpha) * white`, (H, W, 3)."""
    alpha = matte[..., None].astype(np.float32) / 255
    return np.asarray(np.rint(picture * alpha + 255 * (1 - alpha)), np.uint8)


def _planes(take: Take, name: str, at_size: Mapping[str, Camera]) -> Iterator[tuple[int, Camera, Plane]]:
    if name not in take.layers:
        return
    with take.layer(name) as layer:
        for camera_id in layer.cameras:
            if camera_id not in at_size:
                raise TakeError(f"{layer.path} has camera '{camera_id}', which the take has not; import it again")
            for frame in layer.frames(camera_id):
                plane = decode_plane(frame)
                grey: Plane = plane if plane.ndim == 2 else plane[..., 0]
                _check_shape(grey, at_size[camera_id], layer.path)
                yield frame.frame_id, at_size[camera_id], grey


def _check_shape(plane: Plane, camera: Camera, path: Path) -> None:
    height, width = plane.shape
    if abs(width * camera.height - height * camera.width) > max(width, height):
        raise TakeError(
            f"{path}: camera '{camera.id}' has maps of {width}x{height}, its pictures are {camera.width}x"
            f"{camera.height}; import maps that belong to these pictures"
        )


def _resize(plane: Plane, camera: Camera, *, smooth: bool) -> Plane:
    import cv2

    size = (camera.width, camera.height)
    if (plane.shape[1], plane.shape[0]) == size:
        return plane
    smaller = cv2.INTER_AREA if size[0] < plane.shape[1] else cv2.INTER_LINEAR
    resized: Plane = cv2.resize(plane, size, interpolation=smaller if smooth else cv2.INTER_NEAREST)  # type: ignore[assignment]
    return resized

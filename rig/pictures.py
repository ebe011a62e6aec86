"""From the picture of a camera to what travels: full size or proxy, JPEG or raw. Pure; many threads may call it."""

from dataclasses import dataclass

import cv2
import numpy as np

from rig.config import RigConfig
from rig.driver import RawFrame
from streamer.errors import DriverError
from streamer.pixels import encode_pixels
from streamer.types import U8, Camera, Encoding


class DamagedPicture(DriverError):
    """A camera delivered a JPEG that cannot be read; the next one may be whole again."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a `Frame` says about its pixels."""

    width: int
    """px."""
    height: int
    """px."""
    encoding: Encoding
    """How `data` holds them."""
    data: U8
    """See `streamer.types.Frame.data`."""


def published_size(camera: Camera, rig: RigConfig) -> tuple[int, int]:
    """Return width and height of the pictures of this camera on the bus, px."""
    if rig.publish == "full":
        return camera.width, camera.height
    return max(camera.width // rig.proxy_factor, 1), max(camera.height // rig.proxy_factor, 1)


def prepare(raw: RawFrame, camera: Camera, rig: RigConfig) -> Picture:
    """Make the picture that is published.

    A JPEG that already has the published size and encoding passes unchanged, so a replayed take is bit-identical and a
    camera that compresses is not compressed twice. A picture smaller than the published size (a take of proxies) is
    never enlarged.

    Args:
        raw: the picture of the device.
        camera: its calibration, full size.
        rig: `publish`, `proxy_factor`, `encoding`, `jpeg_quality`.

    Raises:
        DamagedPicture: a JPEG that had to be opened and cannot be read.
        DriverError: the picture does not have the shape of its camera.
    """
    _check_shape(raw, camera)
    width, height = published_size(camera, rig)
    shrink = width < raw.width
    if raw.encoding == "jpeg" and rig.encoding == "jpeg" and not shrink:
        return Picture(raw.width, raw.height, "jpeg", raw.pixels)
    pixels = _decode(raw) if raw.encoding == "jpeg" else raw.pixels
    if shrink:
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    encoding, data = encode_pixels(pixels, rig.encoding, rig.jpeg_quality)
    return Picture(pixels.shape[1], pixels.shape[0], encoding, data)


def as_rgb(raw: RawFrame) -> U8:
    """Return the picture as (H, W, 3) RGB, for people to look at.

    Raises:
        DamagedPicture: a JPEG that cannot be read.
    """
    pixels = _decode(raw) if raw.encoding == "jpeg" else raw.pixels
    return np.asarray(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels, np.uint8)


def _check_shape(raw: RawFrame, camera: Camera) -> None:
    said = f"camera '{raw.camera}': a picture of {raw.width}x{raw.height}"
    expected = {"mono8": (raw.height, raw.width), "rgb8": (raw.height, raw.width, 3)}
    if raw.encoding in expected and raw.pixels.shape != expected[raw.encoding]:
        raise DriverError(f"{said} in {raw.encoding} came as an array of {raw.pixels.shape}")
    # One pixel of rounding at most: width / height must agree within what integer division of a proxy can do.
    skewed = abs(raw.width * camera.height - raw.height * camera.width) > max(camera.width, camera.height)
    if raw.width > camera.width or skewed:
        raise DriverError(
            f"{said}, calibrated for {camera.width}x{camera.height}; set the camera so, or calibrate again"
        )


def _decode(raw: RawFrame) -> U8:
    decoded = cv2.imdecode(raw.pixels, cv2.IMREAD_COLOR_RGB) if raw.pixels.size else None
    if decoded is None or decoded.shape != (raw.height, raw.width, 3):
        found = "no JPEG" if decoded is None else f"a JPEG of {decoded.shape[1]}x{decoded.shape[0]}"
        raise DamagedPicture(f"camera '{raw.camera}': announced a JPEG of {raw.width}x{raw.height}, delivered {found}")
    return np.asarray(decoded, np.uint8)

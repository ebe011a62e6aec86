"""From the picture of a camera to what travels: full size or proxy, JPEG or raw. Pure; many threads may call it."""

from dataclasses import dataclass

import cv2
import numpy as np

from rig.config import RigConfig
from rig.driver import RawFrame
from streamer.errors import DriverError, WireError
from streamer.pixels import decode_pixels, encode_pixels
from streamer.types import U8, Camera, Encoding, Frame


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
    pixels = as_rgb(raw) if raw.encoding == "jpeg" else raw.pixels
    if shrink:
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    encoding, data = encode_pixels(pixels, rig.encoding, rig.jpeg_quality)
    return Picture(pixels.shape[1], pixels.shape[0], encoding, data)


def as_rgb(raw: RawFrame) -> U8:
    """Return the picture as (H, W, 3) RGB.

    Raises:
        DamagedPicture: a JPEG that cannot be read.
    """
    frame = Frame(
        camera=raw.camera,
        frame_id=0,
        counter=raw.counter,
        sequence=0,
        exposure_time_ns=raw.exposure_time_ns,
        clock=raw.clock,
        receive_time_ns=0,
        publish_time_ns=0,
        width=raw.width,
        height=raw.height,
        encoding=raw.encoding,
        data=raw.pixels,
    )
    try:
        return decode_pixels(frame)
    except WireError as error:
        raise DamagedPicture(str(error)) from error


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

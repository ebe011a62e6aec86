"""Pictures to bytes and back: JPEG or raw, with reduced decoding for networks; mattes and depth maps as PNG."""

import struct
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import WireError
from streamer.types import U8, Encoding, Frame

REDUCTIONS = (1, 2, 4, 8)
"""Factors by which `decode_pixels` can shrink: those of the DCT."""

_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# The reduced flags come as grey and BGR; RGB is the grey one (the bare factor) with the RGB flag.
_JPEG_FLAGS = {
    1: _RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | _RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | _RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | _RGB,
}
Plane = NDArray[np.uint8] | NDArray[np.uint16]
_PNG = b"\x89PNG\r\n\x1a\n"
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def encode_pixels(rgb: U8, encoding: Literal["jpeg", "raw"], quality: int = 92) -> tuple[Encoding, U8]:
    """Encode a picture as `Frame.encoding` and `Frame.data`.

    Args:
        rgb: (H, W, 3) RGB or (H, W) grey.
        encoding: `raw` keeps the array as it is, without a copy.
        quality: of JPEG, 1 to 100.

    Raises:
        WireError: an array that is no picture, or one that JPEG cannot hold.
    """
    colour = rgb.ndim == 3 and rgb.shape[2] == 3
    if rgb.dtype != np.uint8 or not (colour or rgb.ndim == 2) or rgb.size == 0:
        raise WireError(f"a picture of {rgb.dtype} {rgb.shape} cannot be sent; expected uint8 (H, W, 3) or (H, W)")
    if encoding == "raw":
        return ("rgb8" if colour else "mono8"), rgb
    options = (cv2.IMWRITE_JPEG_QUALITY, quality)
    try:
        done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) if colour else rgb, options)
    except cv2.error as error:
        raise WireError(f"a picture of {rgb.shape} cannot be encoded as JPEG: {error.err}; use raw") from error
    if not done:
        raise WireError(f"a picture of {rgb.shape} cannot be encoded as JPEG; use raw")
    return "jpeg", np.asarray(data, np.uint8).reshape(-1)


def decode_pixels(frame: Frame, reduce: int = 1) -> U8:
    """Decode the picture of a frame, at a fraction of its size if wanted.

    JPEG is decoded at the reduced size (a DCT block gives fewer pixels: as good as averaging, and cheaper than decoding
    all); raw pictures are averaged over `reduce` x `reduce` pixels.

    Args:
        frame: the frame.
        reduce: 1, 2, 4 or 8; must divide width and height.

    Returns:
        (H / reduce, W / reduce, 3) RGB. For raw colour at full size this is the frame's own read-only array.

    Raises:
        WireError: bytes that are no whole picture of the size that the frame states, or a `reduce` that does not fit.
    """
    if reduce not in REDUCTIONS or frame.width % reduce or frame.height % reduce:
        raise WireError(
            f"camera '{frame.camera}': {frame.width}x{frame.height} cannot be reduced by {reduce}; allowed: "
            f"{', '.join(map(str, REDUCTIONS))} where it divides the picture"
        )
    if frame.encoding == "jpeg":
        return _decode_jpeg(frame, reduce)
    if frame.encoding == "png":
        plane = decode_plane(frame)
        if plane.dtype != np.uint8:
            raise WireError(f"camera '{frame.camera}': a PNG of 16 bits is no picture to look at; use decode_plane")
        picture = cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB) if plane.ndim == 2 else plane
        size = (frame.width // reduce, frame.height // reduce)
        small = picture if reduce == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8)
    shape = (frame.height, frame.width) if frame.encoding == "mono8" else (frame.height, frame.width, 3)
    if frame.data.dtype != np.uint8 or frame.data.shape != shape:
        raise WireError(
            f"camera '{frame.camera}': {frame.encoding} data is {frame.data.dtype} {frame.data.shape}, "
            f"expected uint8 {shape}"
        )
    picture = frame.data
    if reduce > 1:
        size = (frame.width // reduce, frame.height // reduce)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8) if picture.ndim == 2 else picture


def decode_plane(frame: Frame) -> Plane:
    """Decode a matte or a depth map, bit by bit.

    Args:
        frame: encoded as `png`.

    Returns:
        (H, W) or (H, W, 3) RGB, uint8 or uint16 as the file holds it.

    Raises:
        WireError: bytes that are no whole PNG of the size that the frame states.
    """
    where = f"camera '{frame.camera}'"
    data = np.ascontiguousarray(frame.data).reshape(-1)
    # Looked at before decoding: a decoder allocates what the header claims.
    size = struct.unpack(">II", data[16:24].tobytes()) if data.nbytes > 33 and bytes(data[:8]) == _PNG else None
    if frame.encoding != "png" or size is None:
        raise WireError(f"{where}: {data.nbytes} bytes of {frame.encoding} are not a PNG")
    if size != (frame.width, frame.height) or bytes(data[-8:-4]) != b"IEND":
        raise WireError(f"{where}: the PNG of {size[0]}x{size[1]} is cut, or not of {frame.width}x{frame.height}")
    try:
        plane = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise WireError(f"{where}: the PNG cannot be decoded: {error.err}") from error
    if plane is None or plane.ndim not in (2, 3) or plane.dtype not in (np.uint8, np.uint16):
        raise WireError(f"{where}: the PNG of {data.nbytes} bytes is damaged and cannot be decoded")
    turned = plane if plane.ndim == 2 else plane[:, :, 2::-1]
    if plane.dtype == np.uint16:
        return np.ascontiguousarray(turned, np.uint16)
    return np.ascontiguousarray(turned, np.uint8)


def encode_plane(plane: Plane) -> U8:
    """Encode a matte or a depth map as PNG, without loss.

    Args:
        plane: (H, W), uint8 or uint16.
    """
    done, data = cv2.imencode(".png", plane, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    if not done:
        raise WireError(f"a plane of {plane.dtype} {plane.shape} cannot be encoded as PNG")
    return np.asarray(data, np.uint8).reshape(-1)


def _decode_jpeg(frame: Frame, reduce: int) -> U8:
    # Looked at before decoding: a decoder allocates what the header claims, and pads a truncated picture with grey.
    where = f"camera '{frame.camera}'"
    data = np.ascontiguousarray(frame.data).reshape(-1)
    size = _jpeg_size(data.data)
    if size is None:
        raise WireError(f"{where}: {data.nbytes} bytes announced as JPEG are not one")
    if size != (frame.width, frame.height):
        raise WireError(
            f"{where}: the JPEG is {size[0]}x{size[1]}, the frame says {frame.width}x{frame.height}; "
            "the camera's picture size was changed, or messages were mixed up"
        )
    if not bytes(data[-64:]).rstrip(b"\0").endswith(b"\xff\xd9"):
        raise WireError(f"{where}: the JPEG of {data.nbytes} bytes is truncated")
    try:
        picture = cv2.imdecode(data, _JPEG_FLAGS[reduce])
    except cv2.error as error:
        raise WireError(f"{where}: the JPEG of {data.nbytes} bytes cannot be decoded: {error.err}") from error
    expected = (frame.height // reduce, frame.width // reduce, 3)
    if picture is None or picture.shape != expected:
        raise WireError(f"{where}: the JPEG of {data.nbytes} bytes is damaged and cannot be decoded")
    return np.asarray(picture, np.uint8)


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Return width and height from the frame header of a JPEG, None if there is none."""
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_HEADERS:
            height, width = (int.from_bytes(data[position + at : position + at + 2], "big") for at in (5, 7))
            return width, height
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None

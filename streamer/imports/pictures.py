"""Picture files, one per frame."""

import re
from collections.abc import Generator, Sequence
from pathlib import Path

import cv2
import numpy as np

from streamer.errors import TakeError
from streamer.types import U8

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_NUMBER = re.compile(r"(\d+)")


def natural(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Key that sorts `f2.png` before `f10.png`."""
    parts = _NUMBER.split(str(path))
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture file, px.

    Raises:
        TakeError: it cannot be read.
    """
    picture = _read(path, cv2.IMREAD_UNCHANGED)
    return picture.shape[1], picture.shape[0]


def decode_pictures(files: Sequence[Path]) -> Generator[U8, None, None]:
    """Yield picture files as (H, W, 3) RGB uint8.

    Raises:
        TakeError: one cannot be read, or its size is not that of the first.
    """
    first: tuple[int, ...] = ()
    for path in files:
        picture = np.asarray(_read(path, cv2.IMREAD_COLOR_RGB), np.uint8)
        first = first or picture.shape
        if picture.shape != first:
            raise TakeError(
                f"{path}: {picture.shape[1]}x{picture.shape[0]}, the first picture of this camera has "
                f"{first[1]}x{first[0]}; all of a camera share one size"
            )
        yield picture


def read_planes(files: Sequence[Path]) -> Generator[tuple[tuple[int, int], U8], None, None]:
    """Yield (height, width) and the bytes of PNG files, unchanged.

    Raises:
        TakeError: one is no PNG.
    """
    for path in files:
        plane = _read(path, cv2.IMREAD_UNCHANGED)
        if path.suffix.lower() != ".png":
            raise TakeError(f"{path}: mattes and depth maps are read as PNG, which loses nothing; convert them")
        yield (plane.shape[0], plane.shape[1]), np.frombuffer(path.read_bytes(), np.uint8)


def _read(path: Path, flags: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        picture = cv2.imdecode(data, flags) if len(data) else None
    except (OSError, cv2.error) as error:
        raise TakeError(f"{path}: cannot be read: {error}; copy it again") from error
    if picture is None:
        raise TakeError(f"{path}: is no picture that can be read; copy it again")
    return picture  # type: ignore[return-value]

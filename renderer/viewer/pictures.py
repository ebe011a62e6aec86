"""Camera pictures: decoded beside the drawing, in a thread of their own, and kept as textures."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import moderngl
import numpy as np

from streamer.errors import WireError
from streamer.pixels import REDUCTIONS, decode_pixels
from streamer.types import U8, Frame


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded frame."""

    frame: Frame
    """What it was decoded from."""
    rgb: U8
    """(H, W, 3), not changed afterwards."""


def reduction(width: int, height: int, wanted: int) -> int:
    """Largest factor that divides the picture and leaves at least `wanted` px of width; 1 if none does."""
    dividing = [factor for factor in REDUCTIONS if width % factor == 0 and height % factor == 0]
    return max((factor for factor in dividing if width // factor >= wanted), default=1)


def fitted(frame: Frame, width: int, height: int) -> U8:
    """Decode a frame to a size.

    Args:
        frame: what came.
        width: px.
        height: px.

    Returns:
        (height, width, 3) RGB.

    Raises:
        WireError: it is damaged.
    """
    picture = decode_pixels(frame, reduction(frame.width, frame.height, width))
    if picture.shape[1::-1] == (width, height):
        return np.ascontiguousarray(picture)
    kind = cv2.INTER_AREA if picture.shape[1] >= width else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(picture, (width, height), interpolation=kind), np.uint8)


class Pictures:
    """The pictures that are shown, each decoded once and at the size it is shown at."""

    def __init__(self) -> None:
        """Start the thread."""
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._waiting: dict[str, tuple[Frame, Future[U8]]] = {}
        self._asked: dict[str, tuple[Frame, tuple[int, int]]] = {}
        self._ready: dict[str, Picture] = {}

    def ask(self, camera_id: str, frame: Frame, size: tuple[int, int]) -> None:
        """Begin to decode, unless that has been asked for before.

        Args:
            camera_id: whose picture.
            frame: what came.
            size: width and height, px.
        """
        known = self._asked.get(camera_id)
        if known is not None and known[0] is frame and known[1] == size:
            return
        self._asked[camera_id] = frame, size
        self._waiting[camera_id] = frame, self._pool.submit(fitted, frame, *size)

    @property
    def waiting(self) -> bool:
        """Whether any were asked for that have not been collected."""
        return bool(self._waiting)

    def collect(self) -> tuple[int, int]:
        """Wait for what was asked for: a picture belongs to the mesh that is drawn with it.

        Returns:
            How many pictures are new, and how many were damaged; the last good one of a camera stays.
        """
        fresh = damaged = 0
        for camera_id, (frame, future) in self._waiting.items():
            try:
                self._ready[camera_id] = Picture(frame, future.result())
                fresh += 1
            except WireError:
                damaged += 1
        self._waiting.clear()
        return fresh, damaged

    def get(self, camera_id: str) -> Picture | None:
        """Return the newest picture of a camera that is ready."""
        return self._ready.get(camera_id)

    def keep(self, camera_ids: Iterable[str]) -> None:
        """Let go of all other cameras; those that stay are asked for anew, at the size they have by then."""
        kept = set(camera_ids)
        self._ready = {name: picture for name, picture in self._ready.items() if name in kept}
        self._asked.clear()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


class Textures:
    """One texture per camera, written when its picture changes.

    Args:
        context: where they live.
    """

    def __init__(self, context: moderngl.Context) -> None:
        """Start empty."""
        self._context = context
        self._kept: dict[str, tuple[U8, moderngl.Texture]] = {}

    def of(self, camera_id: str, rgb: U8) -> moderngl.Texture:
        """Return the texture of a picture (H, W, 3); the last one of that camera is overwritten."""
        kept = self._kept.get(camera_id)
        if kept is not None and kept[0] is rgb:
            return kept[1]
        size = (rgb.shape[1], rgb.shape[0])
        texture = None if kept is None else kept[1]
        if texture is None or texture.size != size:
            if texture is not None:
                texture.release()
            texture = self._context.texture(size, 3, alignment=1)
            texture.repeat_x = texture.repeat_y = False
        texture.write(np.ascontiguousarray(rgb), alignment=1)
        self._kept[camera_id] = rgb, texture
        return texture

    def keep(self, camera_ids: Iterable[str]) -> None:
        """Free those of all other cameras."""
        for gone in set(self._kept) - set(camera_ids):
            self._kept.pop(gone)[1].release()

    def release(self) -> None:
        """Free all."""
        self.keep(())

"""Pictures and videos on disk; nothing half-written is left behind."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from streamer.errors import ConfigError
from streamer.types import U8

_TICKS = 90_000
_MILLISECONDS = 1000
_H264 = {"preset": "veryfast", "crf": "20"}


def picture_kind(path: Path) -> tuple[int, int]:
    """How a picture of this name is encoded, for `cv2.imencode`.

    Raises:
        ConfigError: it ends neither in .png nor in .webp.
    """
    kinds = {".png": (cv2.IMWRITE_PNG_COMPRESSION, 3), ".webp": (cv2.IMWRITE_WEBP_QUALITY, 90)}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: pictures are written as .png or .webp; choose a name that ends so")
    return kind


def write_picture(path: Path, rgb: U8) -> None:
    """Write a picture as its name ends: `.png`, or the smaller `.webp`; whole, or not at all.

    Args:
        path: the file; its folder is made.
        rgb: (H, W, 3).

    Raises:
        ConfigError: another ending.
        OSError: the place cannot be written.
    """
    kind = picture_kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]), kind)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data.tobytes())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _Film:
    """A container with one stream of pictures, under a name of its own until it is finished.

    The file has its name when it is closed; until then, and when an error ends the block, there is none.
    """

    def __init__(self, path: Path, ending: str, kind: str, options: dict[str, str]) -> None:
        if path.suffix.lower() != ending:
            raise ConfigError(f"{path}: {kind} are written as {ending}; choose a name that ends so")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.frames = 0
        """Pictures written."""
        self._partial = path.with_name(f".{path.stem}.partial{ending}")
        self._container = av.open(str(self._partial), "w", options=options)
        self._open = True

    def _begin(self, codec: str, fps: float, size: tuple[int, int], ticks: int, options: dict[str, str]) -> None:
        """Open the stream; times are counted in `ticks` a second."""
        stream = self._container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        if not isinstance(stream, VideoStream):
            raise TypeError(f"FFmpeg's {codec} is no video codec")
        self._stream, self._ticks = stream, ticks
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, ticks)

    def _put(self, rgb: U8, at: int) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = at, Fraction(1, self._ticks)
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finish the file; without a single picture there is none."""
        if not self._open:
            return
        self._open = False
        try:
            if self.frames:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if self.frames:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave no file."""
        if self._open:
            self._open = False
            try:
                self._container.close()
            finally:
                self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish, or leave nothing after an error."""
        if kind is None:
            self.close()
        else:
            self.discard()


class VideoWriter(_Film):
    """An MP4 with H.264, or MPEG-4 where the build of FFmpeg has no H.264 encoder.

    Time stamps are those of the pictures.

    Args:
        path: the file, `.mp4`; its folder is made.
        width: px; made even by leaving out the last column.
        height: px; made even by leaving out the last row.
        fps: nominal rate, for players that show one.

    Raises:
        ConfigError: the name does not end in .mp4.
        OSError: the place cannot be written.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        """Open the file."""
        super().__init__(path, ".mp4", "videos", {"movflags": "+faststart"})
        self.size = (width, height)
        """Width and height of the pictures that are written, px."""
        self._even = (width - width % 2, height - height % 2)
        self._last = -1
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._begin(codec, fps, self._even, _TICKS, _H264 if codec == "libx264" else {})
        if codec == "mpeg4":
            self._stream.bit_rate = 8_000_000

    def write(self, rgb: U8, time_s: float) -> None:
        """Append a picture.

        Args:
            rgb: (height, width, 3).
            time_s: since the start of the video; a picture not later than the one before it is left out.
        """
        ticks = round(time_s * _TICKS)
        if ticks <= self._last:
            return
        self._last = ticks
        width, height = self._even
        self._put(rgb[:height, :width], ticks)


class AnimationWriter(_Film):
    """A moving picture for web pages: WebP, played again and again.

    Args:
        path: the file, `.webp`; its folder is made.
        width: px.
        height: px.
        fps: rate; pictures that come sooner are left out.
        quality: 1..100.

    Raises:
        ConfigError: the name does not end in .webp.
        OSError: the place cannot be written.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float, quality: int = 92) -> None:
        """Open the file."""
        super().__init__(path, ".webp", "animations", {"loop": "0"})
        self._period_s = 1.0 / fps
        self._last_s: float | None = None
        self._begin("libwebp_anim", fps, (width, height), _MILLISECONDS, {"quality": str(quality)})

    def write(self, rgb: U8, time_s: float) -> None:
        """Append a picture (H, W, 3); arguments as of `VideoWriter.write`."""
        if self._last_s is not None and time_s < self._last_s + 0.999 * self._period_s:
            return
        self._last_s = time_s
        self._put(rgb, round(time_s * _MILLISECONDS))

"""Pictures and films of the screen that a person asks for with a key. What cannot be written ends no viewer."""

import time
from contextlib import suppress
from pathlib import Path

import av

from renderer.viewer.files import VideoWriter, write_picture
from streamer.types import U8

_UNWRITABLE = (OSError, av.FFmpegError)
"""A full disk, a folder that others own, an encoder that gives up."""


class Captures:
    """Writes into a folder; names tell when.

    Args:
        folder: made when something is written.
        fps: nominal rate of films.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        """Write nothing yet."""
        self._folder = folder
        self._fps = fps
        self._film: VideoWriter | None = None
        self._began_s = 0.0
        self.said = ""
        """What was written last, or why it could not be, for the screen."""

    @property
    def filming(self) -> bool:
        """Whether a film is being written."""
        return self._film is not None

    def _path(self, suffix: str) -> Path:
        stamp = time.strftime("%Y%m%d_%H%M%S")
        path = self._folder / f"mien_{stamp}{suffix}"
        number = 2
        while path.exists():
            path = self._folder / f"mien_{stamp}_{number}{suffix}"
            number += 1
        return path

    def shoot(self, rgb: U8) -> None:
        """Write a picture (H, W, 3)."""
        try:
            path = self._path(".png")
            write_picture(path, rgb)
        except _UNWRITABLE as error:
            self._give_up(error)
        else:
            self.said = f"screenshot: {path}"

    def toggle(self, size: tuple[int, int], now_s: float) -> None:
        """Begin a film of this width and height, px, or finish the one that runs."""
        try:
            if self._film is not None:
                self.close()
                return
            self._film, self._began_s = VideoWriter(self._path(".mp4"), *size, self._fps), now_s
            self.said = f"recording {self._film.path}"
        except _UNWRITABLE as error:
            self._give_up(error)

    def add(self, rgb: U8, now_s: float) -> None:
        """Append a screen to the film that runs; one of another size ends it."""
        if self._film is None:
            return
        try:
            if rgb.shape[1::-1] != self._film.size:
                self.close()
                return
            self._film.write(rgb, now_s - self._began_s)
        except _UNWRITABLE as error:
            self._give_up(error)
            with suppress(*_UNWRITABLE):
                self._drop()

    def _give_up(self, error: Exception) -> None:
        self.said = f"nothing was written: {error}; free space there, or set view.captures to another folder"

    def _drop(self) -> None:
        if self._film is not None:
            film, self._film = self._film, None
            film.discard()

    def close(self) -> None:
        """Finish the film that runs.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        if self._film is not None:
            film, self._film = self._film, None
            film.close()
            self.said = f"video: {film.path}" if film.frames else "nothing was recorded"

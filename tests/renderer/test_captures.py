"""Keys that write: a disk that takes no more is told on the screen, and ends neither the viewer nor the show."""

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from renderer.viewer import captures as module
from renderer.viewer.captures import Captures
from renderer.viewer.files import VideoWriter
from renderer.viewer.scans import Scans
from streamer.errors import MeshError
from tests.renderer.makers import HEIGHT, WIDTH, picture


def test_what_cannot_be_written_is_said_and_later_what_can(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.write_text("a file where the folder should be")
    captures = Captures(folder, 30.0)
    captures.shoot(picture())
    assert captures.said.startswith("nothing was written: ") and "view.captures" in captures.said
    captures.said = ""
    captures.toggle((WIDTH, HEIGHT), 1.0)
    assert captures.said.startswith("nothing was written: ") and not captures.filming
    folder.unlink()
    captures.shoot(picture())
    assert captures.said.startswith("screenshot: ")


@pytest.mark.parametrize("when", ["write", "close"])
def test_a_disk_that_is_full_in_the_middle_ends_the_film_alone(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(VideoWriter):
        def _put(self, rgb: np.ndarray, at: int) -> None:
            if when == "write" and self.frames == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            super()._put(rgb, at)

        def close(self) -> None:
            if when == "close":
                self.discard()
                raise OSError(errno.ENOSPC, "No space left on device")
            super().close()

    monkeypatch.setattr(module, "VideoWriter", Full)
    captures = Captures(tmp_path, 30.0)
    captures.toggle((WIDTH, HEIGHT), 0.0)
    for k in range(4):
        captures.add(picture(), k / 30)
    if when == "close":
        captures.toggle((WIDTH, HEIGHT), 1.0)
    assert not captures.filming and "No space left" in captures.said and list(tmp_path.iterdir()) == []
    captures.close()


def test_a_film_that_cannot_even_be_closed_leaves_no_file(tmp_path: Path) -> None:
    film = VideoWriter(tmp_path / "a.mp4", WIDTH, HEIGHT, 30.0)
    film._container.close()
    film._partial.touch()

    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    film._container = SimpleNamespace(close=refuse)
    with pytest.raises(OSError, match="No space"):
        film.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive"], ids=["empty", "cut off"])
def test_a_scan_without_content_is_a_clear_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "7.npy").write_bytes(data)
    with pytest.raises(MeshError, match=r"7\.npy: no readable NPY"):
        Scans(tmp_path, tmp_path / "take", "m").of(7)

import os
import stat
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from renderer.viewer.files import VideoWriter, write_picture
from streamer.errors import ConfigError
from tests.renderer.makers import picture


def test_a_png_is_read_back_as_it_was_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "shot.png"
    write_picture(path, picture())
    write_picture(path, picture(2))
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture(2))
    assert os.listdir(path.parent) == ["shot.png"]


def test_a_png_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shot.png"
    write_picture(path, picture())

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_picture(path, picture(1))
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture())
    assert os.listdir(tmp_path) == ["shot.png"]


@pytest.mark.parametrize("size", [(320, 240), (321, 241)])
def test_a_video_is_playable_and_has_the_times_of_its_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    path, times = tmp_path / "v" / "film.mp4", [0.0, 0.033, 0.1, 0.1, 0.5, 1.25]
    rgb = np.ascontiguousarray(cv2.resize(picture(), size))
    with VideoWriter(path, *size, 30.0) as writer:
        for k, time_s in enumerate(times):
            writer.write(np.roll(rgb, 20 * k, 1), time_s)
        assert not path.exists()
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name in {"h264", "mpeg4"}
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (320, 240, "yuv420p")
        frames = list(video.decode(video=0))
    assert [float(frame.time) for frame in frames] == pytest.approx([0.0, 0.033, 0.1, 0.5, 1.25], abs=1e-4)
    # Chroma of yuv420p is halved, the pattern is smooth: a few levels; a swap of red and blue would be far beyond.
    assert np.abs(frames[0].to_ndarray(format="rgb24").astype(int) - rgb[:240, :320]).mean() < 4
    assert os.listdir(path.parent) == ["film.mp4"]


def test_an_error_leaves_no_video(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "film.mp4", 320, 240, 30.0) as writer:
        writer.write(picture(), 0.0)
        1 / 0  # noqa: B018
    with VideoWriter(tmp_path / "empty.mp4", 320, 240, 30.0):
        pass
    assert os.listdir(tmp_path) == []


def test_other_formats_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"film\.avi.*\.mp4"):
        VideoWriter(tmp_path / "deep" / "film.avi", 320, 240, 30.0)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError):
        write_picture(tmp_path / "shot.png", picture())

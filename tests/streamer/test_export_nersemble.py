"""A take as NeRSemble v2, and back: other people's tools find one pinhole, equal videos, and the same heads."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from streamer.errors import ConfigError, TakeError
from streamer.exports.export import export_take
from streamer.exports.options import ExportOptions
from streamer.geometry import project
from streamer.imports.footage import Storage
from streamer.imports.nersemble import import_nersemble
from streamer.pixels import decode_pixels, encode_pixels
from streamer.takes import TakeWriter, open_take
from streamer.types import Calibration, Frame
from tests.streamer.take_makers import CONFIG_TEXT, START_NS, TINY, calibration

WIDTH, HEIGHT = 128, 96
POINTS = np.array([[0.0, 0.0, 0.0], [0.18, 0.1, 0.05], [-0.2, 0.12, 0.0], [0.1, -0.15, 0.1]])
"""Dots in the world."""


def rig(*, alike: bool = False) -> Calibration:
    """Three cameras; unless alike, each with its own focal length and a lens that bends."""
    found = []
    for number, camera in enumerate(calibration(width=WIDTH, height=HEIGHT).cameras):
        matrix = np.array([[150.0, 0, WIDTH / 2], [0, 150.0, HEIGHT / 2], [0, 0, 1]])
        if not alike:
            matrix += np.array([[8.0 * number, 0, number], [0, 8.0 * number + 1, -number], [0, 0, 0]])
        bend = np.zeros(5) if alike else np.array([-0.2 + 0.05 * number, 0.03, 0.002, -0.001, 0.0])
        found.append(replace(camera, K=matrix, distortion=bend))
    return Calibration(tuple(found), "test")


def write(
    path: Path, cameras: Calibration, count: int = 6, *, without: Callable[[str, int], bool] | None = None
) -> Path:
    """A take of dots on grey; `without` says which pictures are missing."""
    with TakeWriter(
        path, calibration=cameras, config_text=CONFIG_TEXT, show="show", slate="dots", take=1, record=TINY
    ) as writer:
        for number in range(count):
            for camera in cameras.cameras:
                if without is not None and without(camera.id, number):
                    continue
                picture = np.full((HEIGHT, WIDTH, 3), 40 + 10 * number, np.uint8)
                for x, y in project(camera, POINTS)[0]:
                    cv2.circle(picture, (round(16 * x), round(16 * y)), 16 * 3, (230, 230, 230), -1, cv2.LINE_AA, 4)
                encoding, data = encode_pixels(picture, "raw")
                time = START_NS + round((number + 0.5) * 1e9 / 25)
                frame = Frame(
                    camera.id, 500 + number, number, number, time, "host", time, time, WIDTH, HEIGHT, encoding, data
                )
                writer.write("frame", frame, time)
    return path


def export(take: Path, out: Path, **options: Any) -> dict[str, Any]:
    with open_take(take) as opened:
        return export_take(opened, "nersemble", out, ExportOptions(**options))


def dots(picture: np.ndarray) -> np.ndarray:
    """Centres of the dots, px, in no order."""
    mask = picture[..., 1].astype(float) - np.median(picture[..., 1])
    _, labels, _, centres = cv2.connectedComponentsWithStats((mask > 60).astype(np.uint8))
    ys, xs = np.mgrid[: picture.shape[0], : picture.shape[1]]
    weights = [np.where(labels == k, mask, 0) for k in range(1, len(centres))]
    return np.array([[(w * xs).sum() / w.sum(), (w * ys).sum() / w.sum()] for w in weights])


@pytest.mark.parametrize("keep_lenses", [False, True])
def test_dots_are_where_the_new_calibration_says(tmp_path: Path, keep_lenses: bool) -> None:
    result = export(write(tmp_path / "take", rig()), tmp_path / "p", keep_lenses=keep_lenses, sequence="EXP-1")
    assert (result["frames"], result["fps"], result["sequence"]) == (6, 25, "EXP-1")
    params = json.loads((tmp_path / "p/calibration/camera_params.json").read_text())
    assert ("distortion" in params, isinstance(params["intrinsics"], dict)) == (keep_lenses, keep_lenses)
    import_nersemble(tmp_path / "p", "EXP-1", Storage(tmp_path / "back"))
    with open_take(tmp_path / "back") as take:
        assert (take.cameras, take.frame_count) == (("sn0", "sn1", "sn2"), 18)
        assert take.calibration["sn1"].camera_from_world == pytest.approx(rig()["mid"].camera_from_world)
        for serial in take.cameras:
            for number in range(6):
                picture = decode_pixels(take.frame(serial, number))
                wanted, found = project(take.calibration[serial], POINTS)[0], dots(picture)
                assert len(found) == len(POINTS)
                nearest = np.linalg.norm(found[:, None] - wanted, axis=2).min(1)
                assert nearest.max() < 0.35  # a dot of 3 px through resampling, H.264 and JPEG
                assert abs(float(np.median(picture)) - (40 + 10 * number)) < 4


def test_a_rig_that_is_one_pinhole_is_not_resampled(tmp_path: Path) -> None:
    result = export(write(tmp_path / "take", rig(alike=True)), tmp_path / "p")
    params = json.loads((tmp_path / "p/calibration/camera_params.json").read_text())
    assert np.array_equal(params["intrinsics"], rig(alike=True).cameras[0].K)
    assert not any("resampled" in note for note in result["notes"])
    assert sorted(path.name for path in tmp_path.glob("p/sequences/dots/images/*")) == [
        "cam_sn0.mp4",
        "cam_sn1.mp4",
        "cam_sn2.mp4",
    ]


def test_incomplete_sets_are_left_out_and_cameras_without_pictures_held_out(tmp_path: Path) -> None:
    take = write(tmp_path / "take", rig(), 8, without=lambda camera, n: camera == "right" or (camera, n) == ("mid", 3))
    result = export(take, tmp_path / "p", frames=(1, 5))
    assert (result["frames"], result["held_out"]) == (5, ["right"])
    assert any(note.startswith("1 sets in which a camera is missing") for note in result["notes"])
    said = json.loads((tmp_path / "p/metadata.cptake").read_text())
    assert said.keys() == {"Version", "UniqueId", "TakeNumber", "Slate", "Device", "DateTime", "Video"}
    assert said["Device"].keys() == {"Type", "Model", "Name", "Software"}
    assert [(video["Name"], video["DroppedFrames"], video["FramesCount"]) for video in said["Video"]] == [
        ("left", [2], 5),
        ("mid", [2], 5),
    ]
    for video in said["Video"]:
        with av.open(str(tmp_path / "p" / video["Path"])) as file:
            stream = file.streams.video[0]
            assert (stream.frames, stream.width, stream.height) == (5, video["FrameWidth"], video["FrameHeight"])
            assert (float(stream.average_rate or 0), video["Format"]) == (video["FrameRate"], "mp4")
    back = import_nersemble(tmp_path / "p", "dots", Storage(tmp_path / "back"), fps=Fraction(25))
    assert (back["frames"], back["held_out"]) == (10, ["sn2"])


@pytest.mark.parametrize(
    ("without", "options", "error", "says"),
    [
        (lambda c, n: n % 2 == (c == "mid"), {}, TakeError, "no set has all cameras; 'left' is in 3 of 6 sets"),
        (None, {"frames": (2, 6)}, TakeError, "--frames 2-6: there are 6 complete sets, 0 to 5"),
        (None, {"sequence": "../x"}, ConfigError, "sequence = '../x'"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    tmp_path: Path, without: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    take = write(tmp_path / "take", rig(), without=without)
    with pytest.raises(error, match=says):
        export(take, tmp_path / "p", **options)
    assert [item.name for item in tmp_path.iterdir()] == ["take"]

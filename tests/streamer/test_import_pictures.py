"""Picture files, mattes and depth maps: numbers stay, bits stay, what does not fit is named and leaves nothing."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from streamer.calibration import save_calibration
from streamer.errors import CalibrationError, MienError, TakeError, WireError
from streamer.imports.footage import Storage
from streamer.imports.images import find_famos, find_images, import_images
from streamer.imports.nersemble import import_nersemble
from streamer.pixels import decode_pixels, decode_plane, encode_plane
from streamer.takes import open_take
from streamer.takes.verify import verify_take
from streamer.types import Frame
from tests.streamer.take_makers import calibration
from tests.streamer.test_imports import SERIALS, participant, write_video  # noqa: F401

WIDTH, HEIGHT = 64, 48
NAMES = ("26_A", "27_A", "28_B")


def picture(camera: int, number: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    out = np.full((HEIGHT, WIDTH, 3), 30 + 50 * camera + 4 * number, np.uint8)
    out[:8, :8] = (255, 0, 0)  # a red corner, RGB
    return out


def save(path: Path, camera: int, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(camera, number)[:, :, ::-1])


def frame_of(data: np.ndarray, width: int = WIDTH, height: int = HEIGHT) -> Frame:  # type: ignore[type-arg]
    return Frame("c", 0, 0, 0, 0, "media", 0, 0, width, height, "png", data)


def test_picture_folders_become_a_take(tmp_path: Path) -> None:
    for camera, name in enumerate(NAMES):
        for number in range(12):
            save(tmp_path / "shots" / name / f"f{number}.png", camera, number)  # f10 comes after f9
    rig = calibration(NAMES, WIDTH, HEIGHT)
    images = find_images([str(tmp_path / "shots")], rig)
    result = import_images(images, rig, Storage(tmp_path / "take", encoding="raw"), Fraction(24))
    assert (result["frames"], result["sets"]) == (36, {"assembled": 12, "complete": 12, "partial": 0})
    assert verify_take(tmp_path / "take").ok
    with open_take(tmp_path / "take") as take:
        for camera, name in enumerate(NAMES):
            for number, frame in enumerate(take.frames(name)):
                assert np.array_equal(decode_pixels(frame), picture(camera, number))
                assert frame.exposure_time_ns == round(Fraction(number * 10**9, 24))
    globs = [f"26_A={tmp_path}/shots/26_A/f[0-4].png", f"28_B={tmp_path}/shots/28_B/*"]
    assert {name: len(files) for name, files in find_images(globs, rig).items()} == {"26_A": 5, "28_B": 12}


def test_a_famos_sequence_keeps_its_numbers_and_its_holes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "images"
    for number in (32, 33, 35):
        for camera, name in enumerate(NAMES):
            if (number, name) != (33, "27_A"):
                save(data / "S1" / "smile" / f"{number:06d}" / f"smile.{number:06d}.{name}.png", camera, number - 32)
    save_calibration(calibration(NAMES, WIDTH, HEIGHT), tmp_path / "rig.toml")
    words = ["import", "famos", str(data), "--subject", "S1", "--sequence", "smile", "--fps", "60", "--json"]
    assert mien.main([*words, "--calibration", str(tmp_path / "rig.toml"), "--out", str(tmp_path / "take")]) == 0
    assert json.loads(capsys.readouterr().out)["sets"] == {"assembled": 3, "complete": 2, "partial": 1}
    with open_take(tmp_path / "take") as take:
        assert take.sets.frame_ids.tolist() == [32, 33, 35]
        assert [dict(s.absent) for s in take.sets] == [{}, {"27_A": "missing"}, {}]
    with pytest.raises(TakeError, match="sequences of S1: smile"):
        find_famos(data, "S1", "frown", calibration(NAMES))
    with pytest.raises(TakeError, match="no picture of a calibrated camera"):
        find_famos(data, "S1", "smile", calibration(("x",)))


def test_pictures_that_do_not_fit_are_named_and_leave_nothing(tmp_path: Path) -> None:
    rig = calibration(NAMES, WIDTH, HEIGHT)
    for number in range(3):
        save(tmp_path / "shots" / "26_A" / f"{number}.png", 0, number)
    images = find_images([str(tmp_path / "shots")], rig)
    bad = tmp_path / "shots" / "26_A" / "1.png"
    for content, says in ((b"", "is no picture"), (b"GIF89a" * 9, "is no picture"), (None, "one size")):
        if content is None:
            cv2.imwrite(str(bad), np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8))
        else:
            bad.write_bytes(content)
        with pytest.raises(TakeError, match=says):
            import_images(images, rig, Storage(tmp_path / "take"), Fraction(24))
        assert [item.name for item in tmp_path.iterdir()] == ["shots"]
    with pytest.raises(TakeError, match="is calibrated for 65x48"):
        import_images(images, calibration(NAMES, 65, 48), Storage(tmp_path / "take"), Fraction(24))
    for given, error, says in (
        (["nowhere"], TakeError, "no such folder"), (["26_A=x/*.png"], TakeError, "no pictures"),
        (["odd=x/*.png"], CalibrationError, "no camera 'odd'"), (["26_A", "27_A"], TakeError, "expected NAME=GLOB"),
        ([str(tmp_path)], TakeError, "holds no folder named as a camera"),
    ):  # fmt: skip
        with pytest.raises(error, match=says):
            find_images(given, rig)


def test_mattes_and_depth_become_layers_bit_by_bit(participant: Path, tmp_path: Path) -> None:  # noqa: F811
    sequence = participant / "sequences" / "EXP-1-head"
    (sequence / "alpha_maps").mkdir()
    write_video(sequence / "alpha_maps" / f"cam_{SERIALS[0]}.mp4", 1, 6, rate=73)
    depth = np.random.default_rng(1).integers(0, 65536, (6, HEIGHT, WIDTH), np.uint16)
    for number in range(6):
        folder = sequence / f"frame_{number:05d}" / "colmap-73fps" / "depth_maps_compressed"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / f"cam_{SERIALS[1]}.png"), depth[number])
    result = import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "take"))
    assert result["layers"] == {"alpha": 1, "depth": 1}
    assert verify_take(tmp_path / "take").ok
    with open_take(tmp_path / "take") as take:
        assert take.layers == ("alpha", "depth")
        with take.layer("alpha") as alpha, take.layer("depth") as layer:
            assert (alpha.cameras, layer.cameras) == ((SERIALS[0],), (SERIALS[1],))
            assert alpha.calibration.ids == SERIALS
            for number in range(6):
                got = decode_plane(layer.frame(SERIALS[1], number))
                assert got.dtype == np.uint16 and np.array_equal(got, depth[number])
                level = float(decode_plane(alpha.frame(SERIALS[0], number)).mean())
                assert level == pytest.approx(80 + 5 * number, abs=2.0)
                assert alpha.frame(SERIALS[0], number).frame_id == number
    (sequence / "frame_00005" / "colmap-73fps" / "depth_maps_compressed" / f"cam_{SERIALS[1]}.png").unlink()
    with pytest.raises(TakeError, match=f"camera {SERIALS[1]} has 5 files of depth, 6 pictures"):
        import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "again"))
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_survive_and_damage_is_named(dtype: type[np.uint8 | np.uint16]) -> None:
    plane = np.random.default_rng(2).integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH), dtype)
    data = encode_plane(plane)
    assert np.array_equal(decode_plane(frame_of(data)), plane)
    for cut in (0, 8, 20, 33, 100, len(data) - 1):
        with pytest.raises(WireError):
            decode_plane(frame_of(data[:cut]))
    with pytest.raises(WireError, match="not of 65x48"):
        decode_plane(frame_of(data, 65))
    if dtype is np.uint8:
        assert np.array_equal(decode_pixels(frame_of(data))[:, :, 1], plane)
        assert decode_pixels(frame_of(data), 2).shape == (HEIGHT // 2, WIDTH // 2, 3)
    else:
        with pytest.raises(MienError, match="use decode_plane"):
            decode_pixels(frame_of(data))

"""Calibration files: the same numbers bit by bit, and an error that helps for everything else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.calibration import calibration_from_text, calibration_to_text, load_calibration, save_calibration
from streamer.errors import CalibrationError
from streamer.geometry import look_at, scaled
from streamer.types import Calibration, Camera

NAMES = st.text("aä\"'# =[]\n.-_", max_size=8)


def camera(identity: str, seed: int = 0) -> Camera:
    rng = np.random.default_rng(seed)
    K = np.array([[rng.uniform(500, 900), rng.normal(), 320.1], [0, rng.uniform(500, 900), 239.7], [0, 0, 1]])
    pose = look_at(rng.normal(size=3) + np.array([0, 0, 2]), rng.normal(size=3) * 0.01, rng.normal())
    return Camera(identity, f"serial {seed}", 640, 480, K, rng.normal(size=5) * 0.1, pose)


RIG = Calibration((camera("cam_0"), camera("cam_1", 1), camera("left eye", 2)), "made by hand")


def same(a: Calibration, b: Calibration) -> bool:
    return a.source == b.source and all(
        (p.id, p.serial, p.width, p.height) == (q.id, q.serial, q.width, q.height)
        and all((getattr(p, name) == getattr(q, name)).all() for name in ("K", "distortion", "camera_from_world"))
        for p, q in zip(a.cameras, b.cameras, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.text(st.characters(codec="utf-8"), max_size=30), st.text("aä\"'# =[]\n.-_", max_size=8)
)
def test_the_file_keeps_every_bit(seed: int, source: str, identity: str) -> None:
    name = "c" + identity.replace("\n", "")
    rig = Calibration((camera("x", seed), scaled(camera(name, seed + 1), 97, 31)), source)
    assert same(calibration_from_text(calibration_to_text(rig)), rig)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "rig.toml"
    save_calibration(RIG, path)
    assert same(load_calibration(path), RIG)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CalibrationError, match="No space left"):
        save_calibration(replace(RIG, source="another"), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    with pytest.raises(CalibrationError, match="without slashes"):
        save_calibration(Calibration((replace(camera("cam_0"), id="a/b"),)), path)
    assert not path.exists()


TEXT = calibration_to_text(RIG)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('units = "m"\n', "", "units is missing.*metres from millimetres"),
        ('units = "m"', 'units = "mm"', "units = 'mm'.*convert"),
        ('units = "m"', "units = 1", "units = 1"),
        ("schema = 1", "schema = 2", "schema = 2, this Mien reads 1"),
        ("schema = 1", "schema = true", "schema = True"),
        ("schema = 1\n", "", "schema is missing"),
        ('source = "made by hand"', 'maker = "me"', "unknown key 'maker'"),
        ('source = "made by hand"', "source = 3", "source = 3"),
        ('id = "cam_1"', 'id = "cam_0"', "names camera 'cam_0' more than once"),
        ('id = "cam_1"', 'id = "../cam"', r"number 2: id.*without slashes"),
        ('id = "cam_1"\n', "", "number 2: id is missing"),
        ('id = "cam_1"', 'id = "cam_1"\nfocal = 3', "number 2: unknown key 'focal'"),
        ("width = 640", "width = 640.0", "number 1 .*width = 640.0"),
        ("width = 640", "width = 0", "width = 0"),
        ("height = 480", 'height = "480"', "height = '480'"),
    ],
)
def test_each_mistake_is_named(old: str, new: str, complaint: str) -> None:
    assert old in TEXT
    with pytest.raises(CalibrationError, match=complaint) as caught:
        calibration_from_text(TEXT.replace(old, new, 1), "rig.toml")
    assert str(caught.value).startswith("rig.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("K", "[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]", "no intrinsic matrix"),
        ("K", "[[-800.0, 0.0, 1.0], [0.0, -800.0, 1.0], [0.0, 0.0, 1.0]]", "no intrinsic matrix"),
        ("K", "[[800.0, 0.0, 0.0], [0.0, 800.0, 0.0], [320.0, 240.0, 1.0]]", "no intrinsic matrix"),
        ("K", "[[1e-9, 0.0, 1.0], [0.0, 1e-9, 1.0], [0.0, 0.0, 1.0]]", "K is singular"),
        ("K", "[[800.0, 0.0], [0.0, 800.0]]", "K: expected 3 x 3 numbers"),
        ("K", "[800.0, 800.0, 320.0, 240.0]", "K: expected 3 x 3 numbers"),
        ("K", "[[true, 0, 0], [0, true, 0], [0, 0, 1]]", "K: expected 3 x 3 numbers"),
        ("K", "[[nan, 0, 0], [0, 800, 0], [0, 0, 1]]", "no intrinsic matrix|not finite"),
        ("distortion", "[0.0, 0.0, 0.0, 0.0]", "distortion: expected 5 numbers"),
        ("distortion", "[0.0, inf, 0.0, 0.0, 0.0]", "distortion holds values that are not finite"),
        ("distortion", '"none"', "distortion: expected 5 numbers"),
        ("distortion", f"[1{'0' * 400}, 0, 0, 0, 0]", "too large"),
        ("camera_from_world", "[[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]", "not a rotation"),
        ("camera_from_world", "[[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]", "not a rotation"),
        ("camera_from_world", "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 0, 0, 1]]", "last row"),
        ("camera_from_world", "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]", "expected 4 x 4 numbers"),
    ],
)
def test_each_impossible_camera_is_named(key: str, value: str, complaint: str) -> None:
    lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in TEXT.splitlines()]
    with pytest.raises(CalibrationError, match=complaint) as caught:
        calibration_from_text("\n".join(lines), "rig.toml")
    assert "cam_0" in str(caught.value)


def test_a_rig_without_cameras_is_refused() -> None:
    for cameras in ("cameras = []", "cameras = 3", 'cameras = ["a"]', "[cameras.a]\nK = 3"):
        with pytest.raises(CalibrationError, match=r"^rig.toml: .*(no camera|\[\[cameras\]\])"):
            calibration_from_text(f'schema = 1\nunits = "m"\n{cameras}', "rig.toml")
    with pytest.raises(CalibrationError, match="cameras is missing"):
        calibration_from_text('schema = 1\nunits = "m"', "rig.toml")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(TEXT)), st.integers(0, 40), st.text(max_size=10))
def test_damage_raises_nothing_but_calibration_errors(at: int, gone: int, text: str) -> None:
    try:
        calibration_from_text(TEXT[:at] + text + TEXT[at + gone :])
    except CalibrationError:
        return


def test_a_file_cut_at_any_byte_is_refused_or_whole_cameras_short(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    data = TEXT.encode()
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        try:
            assert len(load_calibration(path).cameras) < len(RIG.cameras)
        except CalibrationError as error:
            assert str(path) in str(error)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"No such file.*calibration.toml of a take"):
        load_calibration(tmp_path / "none.toml")
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(tmp_path)
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(tmp_path / "binary.toml")

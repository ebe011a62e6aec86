"""Footage from elsewhere: times stay, lengths and sizes are checked, units never guessed, nothing left half-done."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamer.calibration import save_calibration
from streamer.errors import CalibrationError, MienError, TakeError
from streamer.imports.calibrations import read_calibration
from streamer.imports.footage import Storage
from streamer.imports.nersemble import import_nersemble
from streamer.imports.timestamps import read_camera_times, read_times
from streamer.imports.video import find_times, find_videos, import_videos
from streamer.pixels import decode_pixels
from streamer.takes import open_take
from streamer.takes.verify import verify_take
from tests.streamer.take_makers import calibration

NAMES = ("cam_0", "cam_1", "cam_2")
WIDTH, HEIGHT = 64, 48


def grey(camera: int, number: int) -> int:
    """Brightness of a whole picture, far enough from its neighbours to survive compression."""
    return 20 + 60 * camera + 5 * number


def write_video(
    path: Path, camera: int, count: int, *, size: tuple[int, int] = (WIDTH, HEIGHT), rate: int = 10
) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(count):
            picture = np.full((size[1], size[0], 3), grey(camera, number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def times_of(camera: int, count: int) -> list[str]:
    """Seconds as text, with jitter and an offset that must not be removed."""
    return [f"{25 + number * 0.1 + 0.011 * camera + 0.003 * ((number * 7) % 3):.9f}" for number in range(count)]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Three videos of eight pictures, a CSV in the manner of Caliscope, a calibration."""
    folder = tmp_path / "session"
    folder.mkdir()
    rows = []
    for camera, name in enumerate(NAMES):
        write_video(folder / f"{name}.mp4", camera, 8)
        rows += [f"{number},{camera},{time}" for number, time in enumerate(times_of(camera, 8))]
    rows.sort(key=lambda row: int(row.split(",")[0]))
    (folder / "timestamps.csv").write_text("sync_index,cam_id,frame_time\n" + "\n".join(rows) + "\n")
    save_calibration(calibration(NAMES, WIDTH, HEIGHT), folder / "rig.toml")
    return folder


def run_import(
    session: Path, out: Path, videos: Sequence[str] = (), times: Sequence[str] | None = None
) -> dict[str, Any]:
    rig = read_calibration(session / "rig.toml")
    files = find_videos(list(videos) or [str(session)], rig)
    stamps = find_times([str(session / "timestamps.csv")] if times is None else times, rig, files)
    return import_videos(files, stamps, rig, Storage(out))


def test_times_pictures_and_sets_are_the_real_ones(session: Path, tmp_path: Path) -> None:
    out = tmp_path / "takes" / "shots"
    result = run_import(session, out)
    assert result["sets"] == {"assembled": 8, "complete": 8, "partial": 0}
    assert (result["frames"], result["cameras"]) == (24, dict.fromkeys(NAMES, 8))
    assert verify_take(out).ok
    with open_take(out) as take:
        assert take.info.match == "time"
        for camera, name in enumerate(NAMES):
            frames = list(take.frames(name))
            wanted = [round(Fraction(text) * 10**9) for text in times_of(camera, 8)]
            assert [frame.exposure_time_ns for frame in frames] == wanted
            assert {frame.clock for frame in frames} == {"media"}
            assert [frame.counter for frame in frames] == list(range(8))
            levels = [float(decode_pixels(frame).mean()) for frame in frames]
            assert np.allclose(levels, [grey(camera, number) for number in range(8)], atol=2.0)
        sets = list(take.frame_sets())
        assert all(s.complete and len({f.frame_id for f in s.members.values()}) == 1 for s in sets)
        assert [[f.counter for f in s.members.values()] for s in sets] == [[number] * 3 for number in range(8)]
        assert [s.frame_id for s in sets] == sorted({s.frame_id for s in sets})
    assert [item.name for item in out.parent.iterdir()] == ["shots"]


def test_a_subset_and_times_per_camera(session: Path, tmp_path: Path) -> None:
    for camera, name in enumerate(NAMES):
        lines = [str(round(Fraction(text) * 10**9)) for text in times_of(camera, 8)]
        (tmp_path / f"{name}.csv").write_text("time_ns\n" + "\n".join(lines) + "\n")
    videos = [f"{name}={session / name}.mp4" for name in ("cam_2", "cam_0")]
    times = [f"{name}={tmp_path / name}.csv" for name in ("cam_0", "cam_2")]
    result = run_import(session, tmp_path / "take", videos, times)
    assert result["cameras"] == {"cam_0": 8, "cam_2": 8}
    with open_take(tmp_path / "take") as take:
        assert take.calibration.ids == NAMES
        assert {tuple(s.absent.items()) for s in take.frame_sets()} == {(("cam_1", "not-recorded"),)}


def test_without_times_the_videos_tell_them(session: Path, tmp_path: Path) -> None:
    run_import(session, tmp_path / "take", times=[])
    with open_take(tmp_path / "take") as take:
        assert [frame.exposure_time_ns for frame in take.frames("cam_1")] == [n * 100_000_000 for n in range(8)]


def _short(session: Path) -> None:
    write_video(session / "cam_1.mp4", 1, 6)


def _long(session: Path) -> None:
    write_video(session / "cam_1.mp4", 1, 9)


def _large(session: Path) -> None:
    write_video(session / "cam_1.mp4", 1, 8, size=(WIDTH * 2, HEIGHT))


def _cut(session: Path) -> None:
    file = session / "cam_1.mp4"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _gone(session: Path) -> None:
    (session / "cam_1.mp4").unlink()


def _no_video(session: Path) -> None:
    (session / "cam_1.mp4").write_text("hello")


def _backwards(session: Path) -> None:
    file = session / "timestamps.csv"
    file.write_text(file.read_text().replace(times_of(1, 8)[4], "1.0"))


def _no_number(session: Path) -> None:
    file = session / "timestamps.csv"
    file.write_text(file.read_text().replace(times_of(1, 8)[4], "soon"))


def _stranger(session: Path) -> None:
    with (session / "timestamps.csv").open("a") as file:
        file.write("9,7,99.0\n")


def _headless(session: Path) -> None:
    file = session / "timestamps.csv"
    file.write_text(file.read_text().split("\n", 1)[1])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_short, r"cam_1\.mp4: is shorter than its time stamps: 6 pictures, expected 8"),
        (_long, r"cam_1\.mp4: is longer than its time stamps: 9 pictures, expected 8"),
        (_large, r"cam_1\.mp4: pictures are 128x48, camera 'cam_1' is calibrated for 64x48"),
        (_cut, r"cam_1\.mp4: .*(cut|copy)"),
        (_gone, r"no video of camera 'cam_1'"),
        (_no_video, r"cam_1\.mp4: cannot be read as a video"),
        (_backwards, r"timestamps\.csv line \d+: time 1000000000 ns does not rise"),
        (_no_number, r"timestamps\.csv line \d+: time 'soon' is not a number"),
        (_stranger, r"timestamps\.csv line 26: camera '7' is not calibrated; known: cam_0, cam_1, cam_2"),
        (_headless, r"timestamps\.csv: its first line is .* needed are the columns cam_id and frame_time"),
    ],
)
def test_bad_footage_is_named_and_leaves_nothing(
    session: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(session)
    with pytest.raises(TakeError, match=says):
        run_import(session, tmp_path / "takes" / "shots")
    assert not list((tmp_path / "takes").glob("*")) if (tmp_path / "takes").exists() else True


def test_a_video_that_breaks_while_it_is_decoded_leaves_nothing(session: Path, tmp_path: Path) -> None:
    """Its head promises eight pictures and their places; the pictures themselves are zeros."""
    file = session / "cam_1.mp4"
    data = bytearray(file.read_bytes())
    begin = data.find(b"mdat") + 4
    data[begin + 400 : data.find(b"moov") - 4] = bytes(data.find(b"moov") - 4 - begin - 400)
    file.write_bytes(data)
    with pytest.raises(TakeError, match=r"cam_1\.mp4"):
        run_import(session, tmp_path / "takes" / "shots")
    assert list((tmp_path / "takes").iterdir()) == []


def test_an_existing_take_is_left_alone(session: Path, tmp_path: Path) -> None:
    (tmp_path / "take").mkdir()
    with pytest.raises(TakeError, match="exists already"):
        run_import(session, tmp_path / "take")


CALISCOPE = """
[cameras.0]
cam_id = 0
size = [64, 48]
matrix = [[80.0, 0.0, 32.0], [0.0, 81.0, 24.0], [0.0, 0.0, 1.0]]
distortions = [-0.3, 0.05, 0.001, 0.002, 0.01]
translation = [170.0, -30.0, 1200.0]
rotation = [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
[cameras.1]
cam_id = 1
size = [64, 48]
ignore = true
"""
ANIPOSE = """
[cam_0]
name = "front"
size = [64, 48]
matrix = [[80.0, 0.0, 32.0], [0.0, 81.0, 24.0], [0.0, 0.0, 1.0]]
distortions = [-0.3, 0.05, 0.001, 0.002, 0.01]
translation = [170.0, -30.0, 1200.0]
rotation = [0.0, 0.0, -1.5707963267948966]
[metadata]
error = 0.5
"""


@pytest.mark.parametrize(("text", "name"), [(CALISCOPE, "cam_0"), (ANIPOSE, "front")])
def test_calibrations_of_other_programs_need_their_unit(tmp_path: Path, text: str, name: str) -> None:
    file = tmp_path / "camera_array.toml"
    file.write_text(text)
    with pytest.raises(CalibrationError, match="does not tell the unit of its translations; say it with --units"):
        read_calibration(file)
    camera = read_calibration(file, "mm")[name]
    assert np.allclose(camera.camera_from_world[:3, 3], [0.17, -0.03, 1.2])
    assert np.allclose(camera.camera_from_world[:3, :3], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-9)
    assert camera.distortion.tolist() == [-0.3, 0.05, 0.001, 0.002, 0.01]


def test_json_calibrations_tell_their_unit(tmp_path: Path) -> None:
    row = {
        "name": "cam_0",
        "width": 64,
        "height": 48,
        "K": [[80, 0, 32], [0, 80, 24], [0, 0, 1]],
        "dist_opencv5": [0, 0, 0, 0, 0],
        "R": np.eye(3).tolist(),
        "t": [0, 0, 100],
    }
    file = tmp_path / "cameras.json"
    cases: list[tuple[dict[str, str], str | None, float | str]] = [
        ({"units": "cm"}, None, 1.0),
        ({"convention": "X_cam = R X + t; millimetres"}, None, 0.1),
        ({"convention": "metres, or millimetres, who knows"}, None, "does not tell"),
        ({}, "cm", 1.0),
        ({}, None, "does not tell"),
        ({"units": "m"}, "mm", "tells units 'm'"),
        ({"units": "inch"}, None, "'inch'; known: m, cm, mm"),
    ]
    for extra, units, expected in cases:
        file.write_text(json.dumps({"cameras": [row], **extra}))
        if isinstance(expected, str):
            with pytest.raises(CalibrationError, match=expected):
                read_calibration(file, units)
        else:
            assert np.isclose(read_calibration(file, units)["cam_0"].camera_from_world[2, 3], expected)
    file.write_text(json.dumps({"cameras": [{**row, "dist_opencv5": [0] * 7 + [0.1]}], "units": "m"}))
    with pytest.raises(CalibrationError, match="8 distortion coefficients"):
        read_calibration(file)
    file.write_text(json.dumps({"cameras": [{k: v for k, v in row.items() if k != "K"}], "units": "m"}))
    with pytest.raises(CalibrationError, match="camera 'cam_0': missing or wrong value"):
        read_calibration(file)
    file.write_text(json.dumps({"cameras": [{**row, "K": [[80, 0, 32], [0, 0, 24], [0, 0, 1]]}], "units": "m"}))
    with pytest.raises(CalibrationError, match=r"cameras\.json: camera 'cam_0': K is singular"):
        read_calibration(file)


def test_times_are_exact(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("frame_time\n0.1\n1763777777.123456789\n")
    assert read_camera_times(file) == [100_000_000, 1763777777123456789]
    file.write_text("cam_id,time_ns\nsn1,5\nmid,6\nleft,5\n")
    assert read_times(file, calibration()) == {"mid": [5, 6], "left": [5]}


SERIALS = ("222200036", "222200037", "222200038")


@pytest.fixture
def participant(tmp_path: Path) -> Path:
    """A participant in the layout of NeRSemble v2 with two videos of three calibrated cameras."""
    folder = tmp_path / "017"
    images = folder / "sequences" / "EXP-1-head" / "images"
    images.mkdir(parents=True)
    rig = calibration(SERIALS, WIDTH, HEIGHT)
    write_params(
        folder,
        world_2_cam={camera.id: camera.camera_from_world.tolist() for camera in rig.cameras},
        intrinsics=rig.cameras[0].K.tolist(),
    )
    for camera in range(2):
        write_video(images / f"cam_{SERIALS[camera]}.mp4", camera, 6, rate=73)
    return folder


def write_params(folder: Path, **params: Any) -> None:
    file = folder / "calibration" / "camera_params.json"
    file.parent.mkdir(exist_ok=True)
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **params}))


def test_nersemble_becomes_a_take_with_held_out_views(participant: Path, tmp_path: Path) -> None:
    result = import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "take"))
    assert (result["frames"], result["fps"], result["held_out"]) == (12, 73.0, [SERIALS[2]])
    assert verify_take(tmp_path / "take").ok
    with open_take(tmp_path / "take") as take:
        assert take.cameras == SERIALS[:2]
        rig = calibration(SERIALS, WIDTH, HEIGHT)
        for camera in take.calibration.cameras:
            assert camera.serial == camera.id
            assert np.array_equal(camera.camera_from_world, rig[camera.id].camera_from_world)
            assert not camera.distortion.any()
        sets = list(take.frame_sets())
        assert [s.frame_id for s in sets] == list(range(6))
        assert [s.exposure_time_ns for s in sets] == [round(Fraction(n * 10**9, 73)) for n in range(6)]
        assert all(s.absent == {SERIALS[2]: "not-recorded"} for s in sets)


def test_nersemble_extensions_are_per_serial(participant: Path, tmp_path: Path) -> None:
    matrices = {serial: [[80 + i, 0, 32], [0, 80, 24], [0, 0, 1]] for i, serial in enumerate(SERIALS)}
    write_params(participant, intrinsics=matrices, distortion={s: [0.1 * i, 0, 0, 0] for i, s in enumerate(SERIALS)})
    import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "take"), fps=Fraction(25))
    with open_take(tmp_path / "take") as take:
        assert [camera.K[0, 0] for camera in take.calibration.cameras] == [80, 81, 82]
        assert [camera.distortion[0] for camera in take.calibration.cameras] == [0.0, 0.1, 0.2]
        assert [frame.exposure_time_ns for frame in take.frames(SERIALS[0])][1] == 40_000_000


def test_nersemble_intrinsics_for_another_size_are_not_mistaken(participant: Path, tmp_path: Path) -> None:
    write_params(participant, intrinsics=[[320, 0, 128], [0, 320, 96], [0, 0, 1]])
    with pytest.raises(CalibrationError, match=r"principal point \(128, 96\) .* --calibrated-size"):
        import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "take"))
    size = (WIDTH * 4, HEIGHT * 4)
    import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "take"), calibrated_size=size)
    with open_take(tmp_path / "take") as take:
        assert (take.calibration.cameras[0].width, next(take.frames()).width) == (256, 64)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda d: write_video(_images(d) / f"cam_{SERIALS[1]}.mp4", 1, 4, rate=73),
            rf"cam_{SERIALS[1]}\.mp4: is shorter",
        ),
        (
            lambda d: write_video(_images(d) / f"cam_{SERIALS[1]}.mp4", 1, 6, rate=73, size=(128, 96)),
            rf"cam_{SERIALS[1]}\.mp4: pictures are 128x96",
        ),
        (lambda d: write_video(_images(d) / f"cam_{SERIALS[1]}.mp4", 1, 6, rate=25), "25 fps, .* give --fps"),
        (lambda d: write_video(_images(d) / "cam_9.mp4", 1, 6, rate=73), "holds no camera 9"),
        (lambda d: write_params(d, distortions={}), "key 'distortions' is not known"),
        (
            lambda d: write_params(d, intrinsics={SERIALS[0]: calibration().cameras[0].K.tolist()}),
            f"camera {SERIALS[1]}: intrinsics: nothing",
        ),
        (lambda d: write_params(d, intrinsics=[[1, 2], [3, 4]]), r"shape \(2, 2\), expected \(3, 3\)"),
        (
            lambda d: (d / "calibration" / "camera_params.json").unlink(),
            "no such file; give the folder of one participant",
        ),
        (lambda d: (d / "calibration" / "camera_params.json").write_text("{"), "cannot be read"),
    ],
)
def test_bad_nersemble_is_named_and_leaves_nothing(
    participant: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(participant)
    with pytest.raises(MienError, match=says):
        import_nersemble(participant, "EXP-1-head", Storage(tmp_path / "out" / "take"))
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_an_unknown_sequence_names_those_that_are_there(participant: Path, tmp_path: Path) -> None:
    with pytest.raises(TakeError, match="sequences here: EXP-1-head"):
        import_nersemble(participant, "HAIR", Storage(tmp_path / "take"))


def _images(folder: Path) -> Path:
    return folder / "sequences" / "EXP-1-head" / "images"

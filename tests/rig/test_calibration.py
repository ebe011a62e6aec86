"""Calibration finds simulated cameras from rendered pictures, says what is wrong, and keeps other programs' files."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from rig.calibration.boards import Board, board_from_table
from rig.calibration.bundle import Adjustment, Corners, Free, Solution
from rig.calibration.compare import compare
from rig.calibration.detection import BoardFinder
from rig.calibration.drift import find_drift
from rig.calibration.footage import match_times
from rig.calibration.formats import read_any, write_as
from rig.calibration.lens import pack_intrinsics
from rig.calibration.patches import Tracks
from rig.calibration.poses import matrix_of, pose_of
from rig.calibration.world import aligned
from rig.simulation.boards import BoardLook, print_board, random_board_poses, see_board
from rig.simulation.cameras import demo_ring
from streamer.calibration import load_calibration, save_calibration
from streamer.errors import CalibrationError
from streamer.geometry import inverse_rigid, project, transform
from streamer.types import Calibration

BOARD = Board("chessboard", 8, 5, 25.0)
TOML = 'kind = "chessboard"\ncolumns = 8\nrows = 5\nsquare_mm = 25.0\n'
WIDTH, HEIGHT = 480, 360


def three_cameras() -> Calibration:
    ring = demo_ring(8, WIDTH, HEIGHT, 3)
    return Calibration(ring.cameras[2:5], "truth")


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a waved board: <camera>_<set>.png, and board.toml."""
    folder = tmp_path_factory.mktemp("board")
    truth, rng = three_cameras(), np.random.default_rng(5)
    texture = print_board(BOARD)
    (folder / "board.toml").write_text(TOML)
    for number, pose in enumerate(random_board_poses(rng, truth, BOARD, 24)):
        for camera in truth.cameras:
            seen = see_board(camera, BOARD, texture, pose, BoardLook(), rng)
            cv2.imwrite(str(folder / f"{camera.id}_{number:02d}.png"), seen)
    return folder


def arguments(shot: Path, out: Path, *more: str) -> list[str]:
    images = [f"{name}={shot}/{name}_*.png" for name in three_cameras().ids]
    return [
        "calibrate",
        "extrinsic",
        "--board",
        str(shot / "board.toml"),
        "--images",
        *images,
        "--out",
        str(out),
        *more,
    ]


def test_a_rendered_rig_is_found_again(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "rig.toml", tmp_path / "report.html"
    assert mien.main(arguments(shot, out, "--report", str(report), "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    truth, found = three_cameras(), load_calibration(out)
    world = aligned(found, truth)
    for camera in truth.cameras:
        one = result["cameras"][camera.id]
        assert one["rms_px"] < 0.1  # corners are found to 0.03 px
        assert one["fx"] == pytest.approx(camera.K[0, 0], rel=0.01)
        assert result["camera_from_world"][camera.id] == found[camera.id].camera_from_world.tolist()
        # small pictures of 24 sets: centimetres at 1 m would be a wrong geometry, millimetres are the noise
        then = inverse_rigid(camera.camera_from_world @ world)
        assert np.linalg.norm(found[camera.id].centre_world - then[:3, 3]) < 0.01
    assert abs(result["board_error_mm"]["bias"]) < 0.1 and result["board_error_mm"]["rmse"] < 0.5
    assert report.read_text().count("<img") == 3


def test_an_earlier_calibration_tells_what_moved_and_which_length_was_wrong(
    shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = three_cameras()
    wrong = tuple(replace(c, camera_from_world=_scaled(c.camera_from_world, 1.1)) for c in truth.cameras)
    save_calibration(Calibration(wrong, "old"), tmp_path / "old.toml")
    given = tmp_path / "truth.toml"
    save_calibration(truth, given)
    more = ("--intrinsics", str(given), "--reference", str(tmp_path / "old.toml"), "--json")
    assert mien.main(arguments(shot, tmp_path / "rig.toml", *more)) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    size = next(f for f in findings if f["kind"] == "board-size")
    assert size["square_mm"] == pytest.approx(27.5, abs=0.1)
    assert not [f for f in findings if f["kind"] in ("moved", "flipped")]


def _scaled(pose: np.ndarray, factor: float) -> np.ndarray:
    changed = pose.copy()
    changed[:3, 3] *= factor
    return changed


def test_a_camera_that_moved_or_was_flipped_is_named() -> None:
    ring = demo_ring(6, 640, 480, 1)
    same, _ = compare(ring, ring)
    assert not any(c.moved or c.flipped for c in same)
    pushed = matrix_of(np.array([0, np.radians(0.2), 0, 0.002, 0, 0]))
    over = np.diag([-1.0, -1.0, 1.0, 1.0])
    cameras = list(ring.cameras)
    cameras[1] = replace(cameras[1], camera_from_world=pushed @ cameras[1].camera_from_world)
    cameras[4] = replace(cameras[4], camera_from_world=over @ cameras[4].camera_from_world)
    changes, _ = compare(Calibration(tuple(cameras)), ring)
    assert [c.camera for c in changes if c.moved and not c.flipped] == ["cam_1"]
    assert [c.camera for c in changes if c.flipped] == ["cam_4"]


def test_the_derivatives_of_the_bundle_adjustment_are_those_of_its_errors() -> None:
    rng, cameras = np.random.default_rng(2), three_cameras().cameras
    poses = random_board_poses(rng, three_cameras(), BOARD, 4)
    state = Solution(
        np.stack([pack_intrinsics(c.K, c.distortion) for c in cameras]),
        np.stack([pose_of(c.camera_from_world) for c in cameras]),
        np.stack([pose_of(pose) for pose in poses]),
    )
    index = np.stack(np.meshgrid(range(3), range(4), [0, 17, 39], indexing="ij"), -1).reshape(-1, 3)
    corners = Corners(index[:, 0], index[:, 1], index[:, 2], np.zeros((len(index), 2)))
    problem = Adjustment(BOARD.points(), corners, Free(np.ones((3, 9), bool), np.ones(3, bool)))
    _, rows = problem.rows(state)
    for row in range(len(index)):
        camera, number = problem.corners.camera[row], problem.corners.set[row]
        for column in range(21):
            part = "intrinsics" if column < 9 else "cameras" if column < 15 else "boards"
            at = (camera, column) if column < 9 else (camera, column - 9) if column < 15 else (number, column - 15)
            values = getattr(state, part)
            step = 1e-6 * max(1.0, abs(values[at]))
            ends = []
            for sign in (1, -1):
                changed = values.copy()
                changed[at] += sign * step
                ends.append(problem.residuals(replace(state, **{part: changed}))[row])
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(rows[row, :, column], slope, rtol=1e-5, atol=1e-3)


def test_a_chessboard_is_found_to_a_fraction_of_a_pixel_and_numbered_alike() -> None:
    rng, camera = np.random.default_rng(1), three_cameras().cameras[1]
    for pose in random_board_poses(rng, Calibration((camera,)), BOARD, 4):
        turned = pose @ np.diag([-1.0, -1.0, 1.0, 1.0])
        turned[:3, 3] += 2 * (pose[:3, :3] @ BOARD.points().mean(0))
        for place in (pose, turned):
            found = BoardFinder(BOARD)(see_board(camera, BOARD, print_board(BOARD), place, BoardLook(), rng))
            if found is None:
                continue
            true = project(camera, transform(place, BOARD.points()[found.ids]))[0]
            assert np.abs(found.pixels - true).max() < 0.3
            break
        else:
            pytest.fail("the board was not found")


@pytest.mark.parametrize("kind", ["opencv", "colmap", "caliscope", "nersemble"])
def test_other_programs_formats_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    ring = demo_ring(3, 640, 480, 4)
    ring = Calibration(tuple(replace(c, serial=c.id) for c in ring.cameras))
    out = tmp_path / {"opencv": "rig.yml", "caliscope": "array.toml"}.get(kind, kind)
    assert write_as(ring, kind, out) == []
    back = read_any(out, "m" if kind == "colmap" else None)
    assert back.ids == ring.ids
    for camera in ring.cameras:
        other = back[camera.id]
        assert (other.width, other.height) == (camera.width, camera.height)
        for name in ("K", "distortion", "camera_from_world"):
            np.testing.assert_allclose(getattr(other, name), getattr(camera, name), rtol=0, atol=1e-9)


def test_famos_keeps_poses_and_radial_lenses(tmp_path: Path) -> None:
    ring = demo_ring(3, 640, 480, 4)
    ring = Calibration(tuple(replace(c, distortion=c.distortion * [1, 1, 0, 0, 0]) for c in ring.cameras))
    write_as(ring, "famos", tmp_path / "out")
    back = read_any(tmp_path / "out")
    points = np.random.default_rng(0).uniform(-0.12, 0.12, (200, 3))
    for camera in ring.cameras:
        assert np.abs(project(back[camera.id], points)[0] - project(camera, points)[0]).max() < 0.05


def test_times_match_by_the_nearest_and_late_pictures_stay_alone() -> None:
    sets = match_times({"a": [0, 100, 200, 300], "b": [20, 130, 290]})
    assert sets == [{"a": 0, "b": 0}, {"a": 1, "b": 1}, {"a": 2}, {"a": 3, "b": 2}]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "circles"}, "kind = 'circles'"),
        ({"columns": 2}, "columns = 2"),
        ({"square_mm": 0}, "square_mm = 0"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"kind": "charuco", "marker_mm": 30.0, "dictionary": "DICT_4X4_50"}, "does not fit"),
        ({"kind": "charuco", "marker_mm": 20.0, "dictionary": "DICT_9"}, "DICT_9"),
    ],
)
def test_boards_that_cannot_be_are_refused(change: dict[str, object], says: str) -> None:
    table = {"kind": "chessboard", "columns": 9, "rows": 6, "square_mm": 25.0, **change}
    with pytest.raises(CalibrationError, match=says):
        board_from_table(table, "board.toml")


def test_wrong_material_is_refused_in_one_line(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = three_cameras().ids[0]
    (tmp_path / "wrong.toml").write_text(TOML.replace("columns = 8", "columns = 7"))
    small = tmp_path / "small"
    small.mkdir()
    for k, name in enumerate(sorted(shot.glob(f"{first}_*.png"))):
        picture = cv2.imread(str(name), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        cv2.imwrite(str(small / name.name), picture if k < 6 else cv2.resize(picture, (320, 240)))
    (tmp_path / "cut.mp4").write_bytes(b"not a video")
    board, out = str(shot / "board.toml"), str(tmp_path / "out.toml")
    cases = {
        f"--board {tmp_path}/wrong.toml --images a={shot}/{first}_*.png": "8x5 inner corners",
        f"--board {board} --images a={small}/*.png": "sort the pictures",
        f"--board {board} --images a={shot}/{first}_00.png": "at least 4 are needed",
        f"--board {board} --images a={shot}/nothing_*.png": "no file matches",
        f"--board {board} --videos a={tmp_path}/cut.mp4": "cannot be read as a video",
    }
    for given, says in cases.items():
        assert mien.main(["calibrate", "intrinsic", *given.split(), "--out", out]) == 1
        assert says in capsys.readouterr().err, given
    assert not Path(out).exists()


def test_the_check_names_the_camera_that_moved_and_no_other() -> None:
    ring = demo_ring(8, 640, 480, 9)
    rng = np.random.default_rng(4)
    assert find_drift([_tracks(ring, ring, rng) for _ in range(4)], ring).moved == ()
    cameras = list(ring.cameras)
    pushed = matrix_of(np.array([0.0, np.radians(0.2), 0, 0, 0.002, 0]))
    cameras[3] = replace(cameras[3], camera_from_world=pushed @ cameras[3].camera_from_world)
    there = Calibration(tuple(cameras))
    drift = find_drift([_tracks(ring, there, rng) for _ in range(4)], ring)
    assert drift.moved == ("cam_3",)
    points = rng.uniform(-0.1, 0.1, (50, 3))
    off = project(drift.refined["cam_3"], points)[0] - project(there["cam_3"], points)[0]
    assert np.abs(off).max() < 0.5  # from 5 px


def _tracks(believed: Calibration, real: Calibration, rng: np.random.Generator) -> Tracks:
    """Pieces on a ball of 10 cm, found with 0.2 px of noise; the mesh is off by 1 mm; one find in twenty is wrong."""
    normal = rng.normal(size=(150, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    true = normal * 0.1
    mesh = true + rng.normal(0, 0.001, true.shape)
    parts = []
    for index, (old, new) in enumerate(zip(believed.cameras, real.cameras, strict=True)):
        way = old.centre_world - true
        seen = np.flatnonzero(np.einsum("ni,ni->n", way, normal) / np.linalg.norm(way, axis=1) > 0.4)
        offset = project(new, true[seen])[0] - project(old, mesh[seen])[0] + rng.normal(0, 0.2, (len(seen), 2))
        wrong = rng.random(len(seen)) < 0.05
        offset[wrong] += rng.uniform(-8, 8, (int(wrong.sum()), 2))
        information = np.tile(np.eye(2) / 0.2**2, (len(seen), 1, 1))
        parts.append((seen, np.full(len(seen), index), mesh[seen], offset, information, np.ones(len(seen))))
    return Tracks(*(np.concatenate(column) for column in zip(*parts, strict=True)))

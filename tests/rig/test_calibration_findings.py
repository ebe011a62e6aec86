"""Each finding of the report fires on its own fault, and on nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from rig.calibration.boards import Board
from rig.calibration.detection import Detection
from rig.calibration.diagnosis import diagnose, worst_views
from rig.calibration.extrinsics import Rig, calibrate_rig
from rig.calibration.harvest import Harvest
from rig.calibration.intrinsics import Evidence, Intrinsics
from rig.calibration.judge import judge
from rig.calibration.poses import matrix_of
from rig.simulation.boards import random_board_poses
from rig.simulation.cameras import demo_ring
from streamer.geometry import project, transform
from streamer.types import F64, Calibration, Camera

BOARD = Board("chessboard", 8, 5, 25.0)
SETS = 36
LATE = SETS // 2
TRUTH = Calibration(demo_ring(8, 1280, 960, 1).cameras[2:6], "truth")
MIDDLE = "cam_3"
KNOCK = matrix_of(np.array([0.0, np.radians(0.2), 0.0, 0.002, 0.0, 0.0]))
OVER = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Session:
    """What was filmed; each field is a fault."""

    points: F64
    camera: Callable[[Camera, int], Camera] = lambda camera, k: camera
    """The camera as it was at set k."""
    pixels: Callable[[str, int, F64, np.random.Generator], F64] = lambda name, k, pixels, rng: pixels
    """What became of its corners."""


def filmed(session: Session) -> Harvest:
    rng, points = np.random.default_rng(1), BOARD.points()
    views: dict[str, dict[int, Detection]] = {c.id: {} for c in TRUTH.cameras}
    for k, pose in enumerate(random_board_poses(rng, TRUTH, BOARD, SETS)):
        for each in TRUTH.cameras:
            camera = session.camera(each, k)
            pixels = project(camera, transform(pose, session.points))[0] + rng.normal(0, 0.05, (len(points), 2))
            seen = each.camera_from_world @ pose
            facing = seen[:3, 2] @ transform(seen, points.mean(0)) > 0.15
            if facing and (pixels > 5).all() and (pixels < [camera.width - 5, camera.height - 5]).all():
                told = session.pixels(each.id, k, pixels, rng)
                views[each.id][k] = Detection(np.arange(len(points), dtype=np.int32), told, 1.5)
    sizes = {c.id: (c.width, c.height) for c in TRUTH.cameras}
    labels = {(name, k): 100 + k for name, own in views.items() for k in own}
    return Harvest(BOARD, sizes, views, dict.fromkeys(sizes, SETS), labels)


def calibrated(found: Harvest) -> Rig:
    return calibrate_rig(found, lens="k1k2p1p2")


def kinds(findings: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Kind and camera of the findings, but for coverage: two dozen views never cover a picture."""
    return {(f["kind"], f["camera"]) for f in findings if f["kind"] != "coverage"}


def changed(name: str, camera_from_world: F64) -> Calibration:
    """The truth with one camera elsewhere."""
    cameras = (
        replace(c, camera_from_world=camera_from_world @ c.camera_from_world) if c.id == name else c
        for c in TRUTH.cameras
    )
    return Calibration(tuple(cameras), "before")


def scaled(factor: float) -> Calibration:
    cameras = []
    for camera in TRUTH.cameras:
        pose = camera.camera_from_world.copy()
        pose[:3, 3] *= factor
        cameras.append(replace(camera, camera_from_world=pose))
    return Calibration(tuple(cameras), "before")


def noisy(name: str, _: int, pixels: F64, rng: np.random.Generator) -> F64:
    return pixels + rng.normal(0, 0.8, pixels.shape) if name == MIDDLE else pixels


def misread(name: str, _: int, pixels: F64, rng: np.random.Generator) -> F64:
    return pixels + 9.0 * (rng.random((len(pixels), 1)) < 0.2) if name == MIDDLE else pixels


def knocked(camera: Camera, k: int) -> Camera:
    there = matrix_of(np.array([0.0, np.radians(0.3), 0.0, 0.0, 0.0, 0.0]))
    late = camera.id == MIDDLE and k >= LATE
    return replace(camera, camera_from_world=there @ camera.camera_from_world) if late else camera


def turned_picture(name: str, _: int, pixels: F64, __: np.random.Generator) -> F64:
    size = [TRUTH[name].width - 1, TRUTH[name].height - 1]
    return size - pixels if name == MIDDLE else pixels


def bent() -> F64:
    points = BOARD.points()
    x = (points[:, 0] - points[:, 0].mean()) / np.ptp(points[:, 0])
    return points + np.array([0.0, 0.0, 1.0]) * (0.012 * x**2)[:, None]


FAULTS = {
    "high-error": (Session(BOARD.points(), pixels=noisy), {("high-error", MIDDLE)}),
    "wrong-corners": (Session(BOARD.points(), pixels=misread), {("wrong-corners", MIDDLE)}),
    "moved-within": (Session(BOARD.points(), camera=knocked), {("moved-within", MIDDLE)}),
    "upside-down": (Session(BOARD.points(), pixels=turned_picture), {("upside-down", MIDDLE)}),
    "bent-board": (Session(bent()), {("bent-board", "")}),
    "stretched-board": (Session(BOARD.points() * [1.0, 1.012, 1.0]), {("stretched-board", "")}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_session_is_found_and_no_other(fault: str) -> None:
    session, expected = FAULTS[fault]
    found = filmed(session)
    # free lenses bend after a camera that moved, which takes long and adds nothing
    rig = calibrate_rig(found, given=TRUTH) if fault == "moved-within" else calibrated(found)
    findings = diagnose(rig, found)
    # a fault may well raise a camera's errors; what it must not do is to accuse another camera or the board
    told = kinds(findings)
    assert expected <= told
    assert told - expected <= {("high-error", MIDDLE), ("wrong-corners", MIDDLE)} - (
        {("high-error", MIDDLE)} & expected
    )
    if fault == "moved-within":
        step = next(f for f in findings if f["kind"] == "moved-within")
        assert abs(step["set"] - LATE) <= 2


@pytest.fixture(scope="module")
def clean() -> tuple[Harvest, Rig]:
    found = filmed(Session(BOARD.points()))
    return found, calibrated(found)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (TRUTH, set()),
        (changed(MIDDLE, KNOCK), {("moved", MIDDLE)}),
        (changed(MIDDLE, OVER), {("flipped", MIDDLE)}),
        (scaled(1.1), {("board-size", "")}),
    ],
    ids=["nothing", "moved", "flipped", "board-size"],
)
def test_an_earlier_calibration_tells_what_changed_since(
    clean: tuple[Harvest, Rig], before: Calibration, expected: set[tuple[str, str]]
) -> None:
    found, rig = clean
    findings = diagnose(rig, found, before)
    assert kinds(findings) == expected
    if expected == {("board-size", "")}:
        assert findings[0]["square_mm"] == pytest.approx(27.5, rel=0.005)


def test_views_left_out_and_a_richer_lens_are_told(clean: tuple[Harvest, Rig]) -> None:
    found, rig = clean
    for reason in ("blurred", "out of step"):
        lossy = replace(found, left_out={MIDDLE: {reason: SETS // 2}})
        assert kinds(diagnose(rig, lossy)) == {(reason.replace(" ", "-"), MIDDLE)}
        few = replace(found, left_out={MIDDLE: {reason: SETS // 8, "redundant": SETS}})
        assert not kinds(diagnose(rig, few))
    evidence = Evidence({"k1k2p1p2": 0.4, "fisheye": 0.1}, "k1k2p1p2", "fisheye")
    lens = Intrinsics(np.zeros(9), "k1k2p1p2", evidence, 0.4, 20)
    assert kinds(diagnose(replace(rig, singles={MIDDLE: lens}), found)) == {("lens", MIDDLE)}


def test_a_picture_that_lacks_views_is_told_with_where(clean: tuple[Harvest, Rig]) -> None:
    found, rig = clean
    views = dict(found.views)
    views[MIDDLE] = {k: d for k, d in views[MIDDLE].items() if d.pixels[:, 0].max() < 900}
    lacking = {f["camera"]: f["lacking"] for f in diagnose(rig, replace(found, views=views)) if f["kind"] == "coverage"}
    assert all("right" in where for where in lacking[MIDDLE] if "views" not in where), lacking
    views[MIDDLE] = dict(list(views[MIDDLE].items())[:5])
    lacking = {f["camera"]: f["lacking"] for f in diagnose(rig, replace(found, views=views)) if f["kind"] == "coverage"}
    assert lacking[MIDDLE][0] == "10 more views"


def test_the_worst_views_are_named_first(clean: tuple[Harvest, Rig]) -> None:
    def bad(name: str, k: int, pixels: F64, rng: np.random.Generator) -> F64:
        return pixels + rng.normal(0, 0.25, pixels.shape) if (name, k) == chosen else pixels

    chosen = (MIDDLE, min(clean[0].views[MIDDLE]))
    found = filmed(Session(BOARD.points(), pixels=bad))
    first = worst_views(calibrated(found), found)[0]
    assert (first["camera"], first["set"], first["picture"]) == (*chosen, 100 + chosen[1])


def test_a_calibration_that_cannot_be_is_held_against_the_pictures(clean: tuple[Harvest, Rig]) -> None:
    found, _ = clean
    away = matrix_of(np.array([0.0, np.radians(12.0), 0.0, 0.0, 0.0, 0.0]))
    judged, fresh = judge(found, changed(MIDDLE, away))
    told = kinds(diagnose(judged, found, changed(MIDDLE, away), fresh))
    assert ("moved", MIDDLE) in told
    assert {camera for _, camera in told} == {MIDDLE}

"""Guidance and the check by the head on a rig that runs; the world from a take's head."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from rig.calibration.boards import load_board
from rig.calibration.guide import guide_live
from rig.calibration.poses import matrix_of
from rig.config import RigConfig, SimulatedConfig
from rig.drivers.simulated import SimulatedDriver, gl_stage
from rig.node import run_node
from rig.simulation.board_stage import BoardStage
from rig.simulation.takes import simulate_takes
from streamer.calibration import load_calibration, save_calibration
from streamer.config import BusConfig
from streamer.errors import CalibrationError
from streamer.takes import open_take
from streamer.transport import Publisher, Subscriber
from streamer.types import Calibration, MeshFrame, Topology

BOARD = 'kind = "chessboard"\ncolumns = 8\nrows = 5\nsquare_mm = 25.0\n'
SMALL = SimulatedConfig(cameras=4, width=480, height=360, seed=12)


@contextmanager
def running_node(rig: RigConfig) -> Iterator[str]:
    """A node of the simulated rig; yields its endpoint."""
    stop, bound, endpoints = threading.Event(), threading.Event(), list[str]()

    def tell(endpoint: str) -> None:
        endpoints.append(endpoint)
        bound.set()

    with ThreadPoolExecutor(1) as pool:
        bus = BusConfig(node_port=0, ring_slots=64)
        driver = SimulatedDriver(rig.simulated, rig.fps)
        node = pool.submit(run_node, rig, bus, stop=stop, driver=driver, bound=tell)
        try:
            assert bound.wait(60.0)
            yield endpoints[0]
        finally:
            stop.set()
        node.result()


@contextmanager
def inference(node: str) -> Iterator[str]:
    """A process that finds the true head: it says so one pulse later, as a network would; yields its endpoint."""
    stop = threading.Event()

    def run(publisher: Publisher) -> None:
        held: MeshFrame | None = None
        with Subscriber([node], ("truth", "topology")) as subscriber:
            while not stop.is_set():
                heard = subscriber.receive(0.1)
                if heard is not None and isinstance(heard[1], Topology):
                    publisher.send("topology", heard[1])
                elif heard is not None and isinstance(heard[1], MeshFrame):
                    if held is not None:
                        publisher.send("mesh", held)
                    held = heard[1]

    with Publisher("tcp://127.0.0.1:0") as publisher, ThreadPoolExecutor(1) as pool:
        work = pool.submit(run, publisher)
        try:
            yield publisher.endpoint
        finally:
            stop.set()
        work.result()


def pushed(calibration: Calibration, name: str) -> Calibration:
    """The rig as it is believed to stand after one camera was knocked by 4 mm and 0.4 degrees."""
    knock = matrix_of(np.array([np.radians(0.4), 0.0, 0.0, 0.004, 0.0, 0.0]))
    cameras = (
        replace(c, camera_from_world=knock @ c.camera_from_world) if c.id == name else c for c in calibration.cameras
    )
    return Calibration(tuple(cameras), "before")


def test_the_running_rig_is_checked_by_the_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = RigConfig(fps=2.0, simulated=SMALL)
    stage = gl_stage(SMALL)
    save_calibration(pushed(stage.calibration, "cam_2"), tmp_path / "before.toml")
    stage.close()
    out = tmp_path / "refined.toml"
    with running_node(rig) as node, inference(node) as infer:
        bus = ["--set", f'bus.nodes=["{node}"]', "--set", f'bus.infer="{infer}"', "--seconds", "90", "--json"]
        assert mien.main(["calibrate", "check", "--live", "--sets", "3", *bus]) == 0
        clean = json.loads(capsys.readouterr().out)
        more = ["--calibration", str(tmp_path / "before.toml"), "--out", str(out)]
        assert mien.main(["calibrate", "check", "--live", "--sets", "4", *more, *bus]) == 0
        moved = json.loads(capsys.readouterr().out)
    assert (clean["moved"], clean["sets"]) == ([], 3)
    assert (moved["moved"], moved["sets"]) == (["cam_2"], 4)
    assert load_calibration(out)["cam_2"].camera_from_world.tolist() == moved["camera_from_world"]["cam_2"]


def test_a_bus_without_meshes_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    bus = ["--set", 'bus.nodes=["tcp://127.0.0.1:9"]', "--seconds", "0.3"]
    assert mien.main(["calibrate", "check", "--live", *bus]) == 1
    assert "no mesh with its pictures was heard in 0.3 s" in capsys.readouterr().err


def test_guidance_follows_a_board_before_the_running_rig(tmp_path: Path) -> None:
    board, out = tmp_path / "board.toml", tmp_path / "coverage.png"
    board.write_text(BOARD)
    rig = RigConfig(fps=4.0, simulated=replace(SMALL, cameras=3, board=str(board)))
    lines: list[str] = []
    stop = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) >= 3:
            stop.set()

    with running_node(rig) as node:
        state = guide_live(BusConfig(nodes=(node,)), board, 90.0, out, stop, tell)  # type: ignore[arg-type]
    assert len(lines) >= 3 and "cam_" in lines[-1]
    assert sum(one["views"] for one in state.values()) >= 3
    assert not any(one["done"] for one in state.values()), "three views do not suffice"
    picture = cv2.imread(str(out))
    assert picture is not None and picture.shape[1] >= 480


def test_the_simulated_board_goes_before_all_cameras_and_there_is_no_head(tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(BOARD)
    stage = BoardStage(replace(SMALL, cameras=3, width=240, height=180, board=str(board)))
    first, truth = stage.render(0.0)
    again, _ = stage.render(0.9)
    assert truth is None and stage.topology is None
    noise = np.abs(first["cam_1"].astype(int) - again["cam_1"]).max()
    assert 0 < noise < 30, "held still, with fresh noise"
    assert max(np.abs(first[name].astype(int) - stage.render(1.0)[0][name]).max() for name in first) > 60
    with pytest.raises(CalibrationError, match=r"no such file; docs/calibration\.md"):
        gl_stage(replace(SMALL, board=str(tmp_path / "none.toml")))
    assert load_board(board).corner_count == 40


def test_the_world_is_set_by_the_head_of_a_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take, out = tmp_path / "take", tmp_path / "headed.toml"
    simulate_takes(
        take,
        RigConfig(fps=2.0, simulated=replace(SMALL, cameras=2, width=96, height=72)),
        takes=1,
        frames=3,
        world="demo",
    )
    with open_take(take) as opened:
        save_calibration(opened.calibration, tmp_path / "rig.toml")
        poses = np.array([m.world_from_head for m in opened.meshes("truth")], float)
    words = ["calibrate", "world", str(tmp_path / "rig.toml"), "--take", str(take), "--out", str(out)]
    assert mien.main(words) == 1
    assert "no mesh to set the world by" in capsys.readouterr().err, "a simulated take has the truth only"
    assert mien.main([*words, "--channel", "truth"]) == 0
    before, after = load_calibration(tmp_path / "rig.toml"), load_calibration(out)
    for camera in before.cameras:
        new_from_old = np.linalg.inv(after[camera.id].camera_from_world) @ camera.camera_from_world
        middle = np.median(poses[:, :3, 3], axis=0)
        np.testing.assert_allclose(new_from_old[:3, :3] @ middle + new_from_old[:3, 3], 0, atol=1e-6)

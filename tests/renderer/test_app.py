"""The viewer process on a real bus and real OpenGL."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import moderngl
import numpy as np
import pytest

from renderer.config import ViewConfig
from renderer.viewer.app import ViewOptions, ViewReport, run_view
from renderer.viewer.captures import Captures
from renderer.viewer.layers import open_layer
from renderer.viewer.presenter import Presenter
from renderer.viewer.source import BusSource, TakeSource
from renderer.viewer.state import ViewState
from streamer.config import BusConfig
from streamer.errors import ConfigError, GraphicsError, TakeError, TransportError
from streamer.takes import TakeWriter
from streamer.types import Health
from tests.renderer.makers import (
    HEIGHT,
    PERIOD_NS,
    WIDTH,
    Troupe,
    frame,
    head_topology,
    in_thread,
    mesh,
    on_gl,
    picture,
    rig,
)

VIEW = ViewConfig(width=480, height=272, max_fps=30.0, cameras=2)
NOBODY = BusConfig(node_port=1, infer_port=1, record_port=1, demo_port=1)


def until(condition: Callable[[], bool], source: BusSource, state: ViewState, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        for message in source.drain(0.0):
            state.apply(message, time.time_ns())
        time.sleep(0.01)


def test_the_bus_is_absent_comes_goes_away_and_comes_back_with_another_head() -> None:
    with Troupe() as first:
        bus, ports = first.bus, (first.bus.node_port, first.bus.infer_port)
    source, state = BusSource(bus), ViewState("bus")
    try:
        assert source.drain(0.0) == [] and state.figures(time.time_ns()).connection == "waiting"
        with Troupe(node_port=ports[0], infer_port=ports[1]) as second:
            until(lambda: state.mesh is not None and state.picture("cam_1") is not None, source, state)
            assert state.topology is not None and state.topology.id == second.topology.id
            assert state.figures(time.time_ns()).connection == "live"
        gone = time.time_ns() + 1_500_000_000
        for message in source.drain(0.0):
            state.apply(message, time.time_ns())
        assert state.figures(gone).connection == "stale" and state.mesh is not None, "the last head stays on screen"
        other = head_topology("another")
        with Troupe(other, node_port=ports[0], infer_port=ports[1]):
            until(lambda: state.topology is not None and state.topology.id == other.id, source, state)
        assert state.figures(time.time_ns()).connection == "live"
    finally:
        source.close()


def test_a_snapshot_is_written_when_mesh_and_pictures_are_there(tmp_path: Path) -> None:
    path = tmp_path / "shot.png"
    with Troupe() as troupe:
        report = in_thread(
            lambda: run_view(VIEW, troupe.bus, ViewOptions(seconds=30.0, snapshot=path), stop=threading.Event())
        )
    rgb = cv2.imread(str(path))[..., ::-1]
    assert rgb.shape == (272, 480, 3)
    face = rgb[100:150, 120:170].astype(int)
    assert (face[..., 0] - face[..., 2]).mean() > 20, "a lit face of skin stands in the main view"
    assert rgb[:, 290:][..., 2].astype(int).max() > 200, "the overlay stands in the tiles"
    assert report.meshes > 0 and report.seconds < 29.0 and report.mesh_to_screen_ms is not None


def test_a_video_runs_until_stopped_and_a_snapshot_of_its_end_is_left(tmp_path: Path) -> None:
    video, shot, stop = tmp_path / "film.mp4", tmp_path / "shot.png", threading.Event()
    result: list[ViewReport] = []
    with Troupe() as troupe:
        in_thread(lambda: None)
        runner = threading.Thread(
            target=lambda: result.append(
                run_view(VIEW, troupe.bus, ViewOptions(video=video, snapshot=shot, window="off"), stop=stop)
            )
        )
        runner.start()
        partial = tmp_path / ".film.partial.mp4"
        deadline = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size > 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.wait(1.5)
    stop.wait(2.5)  # the bus is gone: the film goes on and tells
    stop.set()
    runner.join()
    with av.open(str(video)) as film:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
    assert len(frames) >= 3 and [time for time, _ in frames] == sorted({time for time, _ in frames})
    assert frames[0][0] == 0.0 and frames[-1][1].shape == (272, 480, 3)
    last = cv2.imread(str(shot))[..., ::-1].astype(int)
    badge = np.s_[30:60, 8:60]  # green while meshes come, red when not
    end = frames[-1][1].astype(int)
    assert (last[badge][..., 1] - last[badge][..., 0]).max() > 40, "the snapshot is of the last live moment"
    assert (end[badge][..., 0] - end[badge][..., 1]).max() > 40, "the film shows that the meshes stopped"
    assert result[0].drawn >= len(frames) and result[0].refused == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "shot.png"]


PLAYER = """
import sys, time
sys.path.insert(0, sys.argv[3])
from tests.renderer.makers import Troupe, head_topology
with Troupe(head_topology(sys.argv[4]), node_port=int(sys.argv[1]), infer_port=int(sys.argv[2])):
    print("playing", flush=True)
    time.sleep(120)
"""


def play(ports: tuple[int, int], name: str) -> "subprocess.Popen[str]":
    """Node and inference process in a process of their own, to be killed."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", PLAYER, *map(str, ports), root, name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "playing\n"
    return process


def test_the_viewer_lives_on_when_the_processes_it_shows_are_killed_and_started_again() -> None:
    """Three lives, each with another head, two of them ended by SIGKILL; the viewer is there before and after each."""
    with Troupe() as troupe:
        bus, ports = troupe.bus, (troupe.bus.node_port, troupe.bus.infer_port)

    def watch(context: moderngl.Context) -> list[tuple[str, bool]]:
        source, state = BusSource(bus), ViewState("bus")
        presenter, seen = Presenter(context, VIEW, (480, 272)), []
        presenter.refresh(state, time.time_ns(), time.monotonic())
        try:
            for name in ("first life", "second life", "third life"):
                player = play(ports, name)
                try:
                    wanted = head_topology(name).id
                    until(
                        lambda wanted=wanted: state.mesh is not None and state.mesh.topology_id == wanted, source, state
                    )
                    drew = presenter.refresh(state, time.time_ns(), time.monotonic())
                finally:
                    player.kill()
                    player.wait()
                seen.append((state.connection(time.time_ns() + 2_000_000_000), drew))
        finally:
            presenter.release()
            source.close()
        assert state.refused == {}
        return seen

    assert on_gl(watch) == [("stale", True)] * 3


def test_no_mesh_is_an_error_that_says_what_to_start_and_leaves_nothing(tmp_path: Path) -> None:
    def look() -> ViewReport:
        return run_view(VIEW, NOBODY, ViewOptions(seconds=0.2, video=tmp_path / "film.mp4"), stop=threading.Event())

    with pytest.raises(TransportError, match=r"no mesh arrived from tcp://127\.0\.0\.1:1 .*mien live"):
        in_thread(look)
    assert list(tmp_path.iterdir()) == []


def test_without_display_and_output_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(GraphicsError, match=r"--snapshot.*--video.*--web"):
        run_view(VIEW, NOBODY, ViewOptions(), stop=threading.Event())


def write_take(path: Path, channel: str) -> None:
    topology = head_topology()
    with TakeWriter(path, calibration=rig(), config_text="", show="show", slate="slate", take=1) as writer:
        writer.write("topology", topology, 0)
        for k in range(6):
            now = (100 + k) * PERIOD_NS
            for name in rig().ids:
                writer.write("frame", frame(name, 100 + k), now)
            if channel:
                writer.write(channel, mesh(100 + k, topology), now + PERIOD_NS // 2)


def test_a_take_is_played_at_its_pace_once_or_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "show" / "slate_T001"
    write_take(path, "truth")
    for loop in (False, True):
        source = TakeSource(path, loop=loop)
        state = ViewState(source.name, live=source.live)
        seen = []
        for step in range(14):  # half a period each
            for message in source.drain(50.0 + step * PERIOD_NS / 2e9 + 1e-6):
                state.apply(message, 0)
            seen.append(None if state.mesh is None else state.mesh.frame_id)
        assert seen[:5] == [100, 100, 101, 101, 102] and source.name == "show / slate_T001"
        assert source.ended is not loop
        assert seen[10] == 105 and state.picture("cam_0").frame_id == state.mesh.frame_id
        assert (seen[12] == 100) is loop, "a loop has begun again"
        source.close()


def test_a_take_without_meshes_says_what_to_do(tmp_path: Path) -> None:
    write_take(tmp_path / "take", "")
    with pytest.raises(TakeError, match="mien reprocess"):
        TakeSource(tmp_path / "take", loop=False)


def test_a_snapshot_of_a_take(tmp_path: Path) -> None:
    write_take(tmp_path / "take", "mesh")
    path = tmp_path / "shot.png"
    stop = threading.Event()
    report = in_thread(lambda: run_view(VIEW, NOBODY, ViewOptions(snapshot=path, take=tmp_path / "take"), stop=stop))
    assert report.meshes >= 1 and cv2.imread(str(path)).shape == (272, 480, 3)


def test_a_take_is_filmed_picture_by_picture_in_its_own_time(tmp_path: Path) -> None:
    write_take(tmp_path / "take", "mesh")
    options = ViewOptions(video=tmp_path / "film.webp", take=tmp_path / "take", keys=("t",))
    report = in_thread(lambda: run_view(VIEW, NOBODY, options, stop=threading.Event()))
    found, animation = cv2.imreadanimation(str(tmp_path / "film.webp"))
    assert found and len(animation.frames) == report.drawn == 6, "each mesh once, however slow the machine"
    assert abs(np.asarray(animation.durations) - 33).max() <= 1
    assert report.meshes == 6 and animation.frames[0].shape[:2] == (272, 480)


def test_a_take_is_wound_to_any_place_with_what_was_before_it(tmp_path: Path) -> None:
    write_take(tmp_path / "take", "mesh")
    source, state = TakeSource(tmp_path / "take", loop=True), ViewState("take", live=False)

    def shown(now_s: float) -> int:
        for message in source.drain(now_s):
            state.apply(message, 0)
        assert state.mesh is not None and state.picture("cam_1").frame_id == state.mesh.frame_id
        return state.mesh.frame_id

    source.line.press("space")
    assert shown(0.0) == 100 and shown(5.0) == 100
    source.line.seek(1.0)
    assert shown(6.0) == 105 and [mesh.frame_id for mesh in state.earlier] == [100, 101, 102, 103, 104]
    source.line.press("left")
    assert shown(7.0) == 104 and [mesh.frame_id for mesh in state.earlier] == [100, 101, 102, 103]
    assert state.figures(0).mesh_rate == pytest.approx(30.0, rel=1e-3), "of the take, not of the hand that winds it"
    source.close()


def test_a_finished_take_shows_the_health_of_its_moment_not_the_first(tmp_path: Path) -> None:
    topology = head_topology()
    with TakeWriter(tmp_path / "take", calibration=rig(), config_text="", show="s", slate="s", take=1) as writer:
        writer.write("topology", topology, 0)
        for k, words in enumerate(("no calibration yet", "", "", "late frames")):
            now = (k - 1) * 1_000_000_000 + 10**10
            writer.write("health", Health("infer", now, "running", {}, {}, words), now)
            writer.write("mesh", replace(mesh(k, topology), exposure_time_ns=now), now + 1)
    source, told = TakeSource(tmp_path / "take", loop=False), []
    state = ViewState("take", live=False)
    for step in range(8):
        for message in source.drain(step / 2):
            state.apply(message, 0)
        told.append(state.figures(0).message)
    assert told[0] == "" and told[-1] == "infer: late frames" and source.ended
    source.line.press("home")
    for message in source.drain(9.0):
        state.apply(message, 0)
    assert state.figures(0).message == "", "wound back: what came later does not count"
    source.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ViewOptions(snapshot=Path("a.jpg")), r"\.png or \.webp"),
        (ViewOptions(snapshot=Path("a.png"), at_s=1.0), "--take"),
        (ViewOptions(snapshot=Path("a.png"), keys=("m", "q")), "no key 'q'"),
    ],
)
def test_options_that_would_be_passed_over_are_refused_at_once(options: ViewOptions, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_view(VIEW, NOBODY, options, stop=threading.Event())


def test_layers_belong_to_meshes_by_id_else_by_time(tmp_path: Path) -> None:
    write_take(tmp_path / "take", "mesh")
    write_take(tmp_path / "other", "truth")
    with pytest.raises(TakeError, match="--against"):
        open_layer("truth", tmp_path / "take")
    with pytest.raises(TakeError, match="no layer 'b'"):
        open_layer("b", tmp_path / "take")
    same = open_layer("truth", tmp_path / "other")
    topology = head_topology()
    found = same.beside(mesh(103, topology))
    assert found is not None and found[0].frame_id == 103 and found[1].id == topology.id
    assert same.beside(mesh(999, topology)) is None, "ids are shared: there is none for this one"
    same.close()
    earlier = open_layer(str(tmp_path / "take"), None)
    rows = []
    for k in range(12):
        found = earlier.beside(mesh(5000 + k, topology))
        assert found is not None
        rows.append(found[0].frame_id)
    assert rows[:5] == [100, 101, 102, 103, 104] and rows[5:10] == rows[:5], "it begins again at its end"
    earlier.close()


def test_keys_write_pictures_and_films_under_names_of_their_own(tmp_path: Path) -> None:
    captures, rgb = Captures(tmp_path / "shots", 30.0), picture()
    captures.shoot(rgb)
    captures.shoot(rgb)
    captures.toggle((WIDTH, HEIGHT), 10.0)
    for k in range(4):
        captures.add(rgb, 10.0 + k / 30)
    assert captures.filming and "recording" in captures.said
    captures.toggle((WIDTH, HEIGHT), 11.0)
    assert not captures.filming
    names = sorted(path.suffix for path in (tmp_path / "shots").iterdir())
    assert names == [".mp4", ".png", ".png"] and captures.said.startswith("video: ")
    captures.toggle((WIDTH, HEIGHT), 12.0)
    captures.add(rgb[:100], 12.1)  # the window has changed its size
    assert not captures.filming and captures.said == "nothing was recorded"


def test_the_viewer_reaches_neither_torch_nor_a_window_and_its_verb_is_cheap() -> None:
    script = (
        "import sys, argparse, renderer.cli\n"
        "heavy = {'numpy', 'moderngl', 'cv2', 'av', 'viser', 'zmq'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import renderer.viewer.app, renderer.viewer.web, renderer.viewer.overlay\n"
        "heavy = {'torch', 'glfw', 'viser', 'openvino', 'rig', 'inference'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)

"""The console's state and alarms: figures worked out by hand, each alarm by the trouble that it is for."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.console import compose, panels
from streamer.console.alarms import find
from streamer.console.metrics import exposition, for_the_bus
from streamer.console.state import CameraView, ConsoleState, FlowView, ProcessView, TakeView, as_json
from tests.streamer.console_makers import infer, node, status, trouble

GOOD = ConsoleState(
    1,
    60.0,
    ready=True,
    processes=(ProcessView("node", "ready", "running", age_s=0.5), ProcessView("infer", "ready", "running", age_s=0.5)),
    cameras=tuple(CameraView(f"cam_{k}", fps=30.0, published=900) for k in range(4)),
    flow=FlowView(sets_lately={"complete": 300}, meshes_lately=295, views=4.0, unused_lately={"superseded": 20}),
    take=TakeView("recording", disk_free_gb=100.0, disk_mb_per_s=10.0, minutes_left=160.0),
)


def test_nothing_wrong_no_alarm() -> None:
    assert find(GOOD) == ()
    assert find(ConsoleState(1, 0.0)) == (), "nothing was heard yet: nothing is wrong yet"
    assert find(flow(meshes_lately=0, sets_lately={"complete": 80})(GOOD)) == (), "of under 3 s no mesh has to be there"
    assert find(process(why="was killed", restarts=1, pid=7, up_s=61.0)(GOOD)) == (), "a minute later it is no news"


def camera(**changes: object) -> Callable[[ConsoleState], ConsoleState]:
    return lambda state: replace(
        state, cameras=(replace(state.cameras[0], **changes), *state.cameras[1:])  # type: ignore[arg-type]
    )  # fmt: skip


def flow(**changes: object) -> Callable[[ConsoleState], ConsoleState]:
    return lambda state: replace(state, flow=replace(state.flow, **changes))  # type: ignore[arg-type]


def take(**changes: object) -> Callable[[ConsoleState], ConsoleState]:
    return lambda state: replace(state, take=replace(state.take, **changes))  # type: ignore[arg-type]


def process(**changes: object) -> Callable[[ConsoleState], ConsoleState]:
    return lambda state: replace(
        state, processes=(replace(state.processes[0], **changes), *state.processes[1:])  # type: ignore[arg-type]
    )  # fmt: skip


def silent(published: int, still_s: float) -> Callable[[ConsoleState], ConsoleState]:
    """Return what makes all cameras send nothing; the engine has nothing to do then."""

    def spoil(state: ConsoleState) -> ConsoleState:
        cameras = (replace(each, fps=0.0, published=published, still_s=still_s) for each in state.cameras)
        return replace(state, cameras=tuple(cameras), flow=FlowView())

    return spoil


def silent_recorder(silent_s: float | None, state: str = "ready", up_s: float = 60.0) -> Callable[..., ConsoleState]:
    record = ProcessView("record", state, "running", age_s=0.5, up_s=up_s)
    return lambda was: replace(was, processes=(*was.processes, record), take=TakeView(silent_s=silent_s))


def test_a_start_is_no_trouble() -> None:
    for spoil in (
        silent(0, 10.0),  # the cameras have yet to begin
        silent(900, 2.0),  # slow ones, between two pictures
        camera(fps=None),  # the first heartbeat of a node
        process(state="starting", up_s=200.0),  # the first compilation of a network
        process(state="starting", restarts=1, up_s=59.0),
        silent_recorder(6.0, up_s=2.0),
        silent_recorder(6.0, state="starting"),
        silent_recorder(None),  # bus.control_port = 0: there is none to ask
    ):
        assert find(spoil(GOOD)) == ()


def test_all_is_well_only_when_everything_is_ready() -> None:
    assert "all is well" in str(panels.header(GOOD))
    starting = str(panels.header(replace(GOOD, ready=False)))
    assert "all is well" not in starting and "not everything is ready yet" in starting
    assert "1 alarm" in str(panels.header(replace(GOOD, ready=False, alarms=find(silent(900, 4.0)(GOOD)))))


@pytest.mark.parametrize(
    ("spoil", "level", "what", "cause"),
    [
        (camera(fps=0.0), "alarm", "cam_0", "no pictures"),
        (camera(fps=20.0), "warning", "cam_0", "20.0 pictures per second, the others 30.0"),
        (camera(lost_lately={"dropped-in-queue": 7}), "warning", "cam_0", "7 pictures lost in 10 s"),
        (camera(temperature_c=81.0), "warning", "cam_0", "81 degrees"),
        (process(state="pause", why="was killed", retry_in_s=2.0), "alarm", "node", "was killed"),
        (
            process(why="was killed: nothing", restarts=1, pid=7, up_s=12.0),
            "warning",
            "node",
            "was killed; it was started",
        ),
        (silent(900, 4.0), "alarm", "cameras", "no camera sends pictures"),
        (silent(0, 16.0), "alarm", "cameras", "no camera sends pictures"),
        (process(state="starting", restarts=1, up_s=61.0), "alarm", "node", "not ready 61 s after it was started"),
        (silent_recorder(6.0), "alarm", "record", "has not answered for 6 s"),
        (process(age_s=9.0), "alarm", "node", "no sign of life for 9 s"),
        (flow(meshes_lately=0), "alarm", "infer", "300 sets came and no mesh was made of them: the engine hangs"),
        (process(health="degraded", message="cam_2 is away"), "alarm", "node", "cam_2 is away"),
        (process(health="starting", message="no calibration yet"), "warning", "node", "no calibration yet"),
        (process(state="elsewhere", age_s=8.0), "alarm", "node", "not heard for 8 s"),
        (flow(unused_lately={"lost-on-bus": 3}), "warning", "infer", "the bus lost frames: 3"),
        (flow(unused_lately={"overwritten": 3}), "warning", "infer", "overwritten before inference"),
        (flow(unused_lately={"superseded": 700}), "warning", "infer", "slower than the cameras"),
        (flow(sets_lately={"complete": 80, "partial": 20}), "warning", "infer", "20 of 100 sets lack cameras"),
        (take(alarm="/x: disk full"), "alarm", "record", "/x: disk full"),
        (take(lost={"queue-full": 4}), "alarm", "record", "4 queue-full"),
        (take(minutes_left=7.0), "warning", "disk", "full in 7.0 minutes"),
        (take(minutes_left=1.0), "alarm", "disk", "full in 1.0 minutes"),
        (lambda state: replace(state, fits={"failed": 1}), "warning", "fits", "1 jobs failed"),
    ],
)
def test_each_trouble_is_one_alarm_with_a_remedy(
    spoil: Callable[[ConsoleState], ConsoleState], level: str, what: str, cause: str
) -> None:
    (alarm,) = find(spoil(GOOD))
    assert (alarm.level, alarm.what) == (level, what)
    assert cause in alarm.cause and alarm.remedy


def test_a_jump_of_the_clock_is_told() -> None:
    (alarm,) = find(GOOD, jump_s=-3600.0)
    assert (alarm.what, alarm.cause) == ("clock", "the clock of this machine jumped by -3600.0 s")


def test_the_worst_comes_first() -> None:
    levels = [alarm.level for alarm in trouble().alarms]
    assert levels == sorted(levels) and {"alarm", "warning"} == set(levels)


def test_heartbeats_become_figures() -> None:
    views = compose.camera_views([(compose.Heard(node(), 0.1), {"dropped-in-queue.cam_6": 2})])
    assert [view.name for view in views] == [f"cam_{k}" for k in range(8)]
    assert views[6].lost == {"dropped-by-camera": 41, "dropped-in-queue": 3}
    assert views[6].lost_lately == {"dropped-in-queue": 2} and views[0].lost == {}
    assert (views[3].fps, views[3].temperature_c, views[1].clock) == (22.1, 78.0, "locked -0.7 ppm")
    flow = compose.flow_view(compose.Heard(infer(), 0.1), {})
    assert flow.load == pytest.approx(29.4 * 21.3 / 1000, abs=1e-3)
    assert flow.used == 8 * 20_900 and flow.unused == {"superseded": 3120, "late": 96, "lost-on-bus": 8}
    assert flow.latency_ms == {"p50": 48.1, "p95": 61.7, "p99": 88.0}
    view = compose.take_view(status(disk_free_gb=7.0), 100.0, 1.0)
    assert view.minutes_left == pytest.approx(1.0), "6 GB to write at 100 MB/s"
    assert compose.take_view(None, 100.0, 1.0).state == "absent"


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.integers(0, 50)), min_size=1, max_size=60))
def test_lately_is_what_grew_within_the_span(steps: list[tuple[float, int]]) -> None:
    lately, now, total, history = compose.Lately(10.0), 0.0, 0, [(0.0, 0)]
    lately.add(0.0, {"a": 0})
    for wait, more in steps:
        now, total = now + wait, total + more
        grown = lately.add(now, {"a": total})
        history.append((now, total))
        # The last note at least ten seconds old, or the first there is.
        base = max((entry for entry in history if entry[0] <= now - 10.0), default=history[0])
        assert grown.get("a", 0) == total - base[1]


def test_a_restart_begins_lately_anew() -> None:
    lately = compose.Lately()
    lately.add(0.0, {"a": 1000})
    assert lately.add(1.0, {"a": 3}) == {}
    assert lately.add(2.0, {"a": 5}) == {"a": 2}


def test_growth_is_measured_per_take_and_kept_between() -> None:
    growth = compose.Growth()
    for second in range(5):
        growth.add("t1", float(second), 8e6 * second)
    assert growth.mb_per_s == pytest.approx(8.0)
    growth.add("", 6.0, 0.0)
    growth.add("t2", 7.0, 0.0)
    assert growth.mb_per_s == pytest.approx(8.0), "a new take has not grown yet"


def test_the_same_numbers_for_prometheus_and_for_the_bus() -> None:
    state = trouble()
    text = exposition(lambda: state).decode()
    counters, gauges = for_the_bus(state)
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['mien_camera_fps{camera="cam_3"}']) == gauges["camera_fps.cam_3"] == 22.1
    assert float(lines['mien_frames_unused_total{reason="late"}']) == counters["frames_unused.late"] == 96
    assert len(lines) == len(counters) + len(gauges), "nothing is told on one road only"
    assert as_json(state)["flow"]["latency_ms"]["p99"] == 88.0

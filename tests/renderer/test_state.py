from dataclasses import replace

import numpy as np
import pytest

from renderer.viewer.history import PictureHistory
from renderer.viewer.hud import HudText, count, hud_text, milliseconds
from renderer.viewer.hud_draw import nice_ceiling
from renderer.viewer.state import ViewState
from streamer.types import Calibration, Health
from tests.renderer.makers import PERIOD_NS, camera, frame, head_topology, mesh, rig

S = 1_000_000_000
T0 = 1_700_000_000 * S
FIRST = T0 // PERIOD_NS
TOPOLOGY = head_topology()


def value(text: HudText, label: str) -> str:
    return next(row.value for row in text.rows if row.label == label)


def test_a_mesh_waits_for_its_topology_and_is_then_shown() -> None:
    state = ViewState("bus")
    state.apply(mesh(FIRST, TOPOLOGY), T0)
    assert state.mesh is None
    assert TOPOLOGY.id[:8] in state.figures(T0).message
    state.apply(TOPOLOGY, T0)
    assert state.mesh is not None and state.mesh.frame_id == FIRST and state.topology is TOPOLOGY
    assert state.figures(T0).message == ""


def test_a_new_topology_mid_stream_takes_over_and_the_old_one_still_works() -> None:
    state, other = ViewState("bus"), head_topology("another head")
    for message in (TOPOLOGY, mesh(FIRST, TOPOLOGY), mesh(FIRST + 1, other)):
        state.apply(message, T0)
    assert state.mesh is not None and state.mesh.frame_id == FIRST, "the last drawable mesh stays"
    state.apply(other, T0)
    assert state.mesh.frame_id == FIRST + 1 and state.topology is other
    state.apply(mesh(FIRST + 2, TOPOLOGY), T0)
    assert state.topology is TOPOLOGY


def test_meshes_that_cannot_be_drawn_are_counted_and_leave_the_last_good_one() -> None:
    state = ViewState("bus")
    good = mesh(FIRST, TOPOLOGY)
    broken = np.array(good.vertices)
    broken[3, 1] = np.nan
    state.apply(TOPOLOGY, T0)
    for message in (good, replace(good, vertices=good.vertices[:-1]), replace(good, vertices=broken)):
        state.apply(message, T0)
    assert state.mesh is good and state.meshes == 1
    assert state.refused == {"mesh-of-wrong-size": 1, "mesh-not-finite": 1}
    assert value(hud_text(state.figures(T0)), "Refused") == "2"


def test_waiting_live_stale_and_live_again() -> None:
    state = ViewState("bus")
    seen = [state.figures(T0).connection]
    state.apply(TOPOLOGY, T0)
    state.apply(mesh(FIRST, TOPOLOGY), T0)
    seen += [state.figures(T0 + S).connection, state.figures(T0 + S + 1).connection]
    state.apply(mesh(FIRST + 200, TOPOLOGY), T0 + 7 * S)
    seen.append(state.figures(T0 + 7 * S).connection)
    assert seen == ["waiting", "live", "stale", "live"]
    assert hud_text(state.figures(T0 + 12 * S)).badge == ("NO MESH FOR 5 s", "bad")


def test_pictures_are_those_of_the_mesh_not_the_newest() -> None:
    state = ViewState("bus")
    for k in range(6):
        state.apply(frame("cam_0", FIRST + k), T0)
    assert state.picture("cam_0").frame_id == FIRST + 5, "the newest while there is no mesh"
    state.apply(TOPOLOGY, T0)
    state.apply(mesh(FIRST + 2, TOPOLOGY), T0)
    assert state.picture("cam_0").frame_id == FIRST + 2
    state.apply(mesh(FIRST - 9, TOPOLOGY), T0)
    assert state.picture("cam_0").frame_id == FIRST, "the nearest exposure where the set's own is gone"
    assert state.picture("cam_7") is None


def test_history_is_bounded_in_frames_and_bytes() -> None:
    history, size = PictureHistory(frames=4, size_bytes=10**9), frame("cam_0", 0).data.nbytes
    for k in range(9):
        history.push(frame("cam_0", k))
    assert len(history) == 4 and history.newest.frame_id == 8
    small = PictureHistory(frames=100, size_bytes=size * 2)
    for k in range(5):
        small.push(frame("cam_0", k))
    assert len(small) == 2


def test_a_new_calibration_forgets_cameras_that_are_gone() -> None:
    state = ViewState("bus")
    state.apply(rig(), T0)
    state.apply(frame("cam_2", FIRST), T0)
    state.apply(Calibration((camera("cam_0", 0.0),)), T0)
    assert state.picture("cam_2") is None and state.figures(T0).cameras == 1


def test_the_figures_are_those_of_the_messages() -> None:
    state = ViewState("bus")
    state.apply(rig(), T0)
    state.apply(TOPOLOGY, T0)
    for k in range(21):  # 20 intervals of 50 ms
        publish = (FIRST + k) * PERIOD_NS + (60 + k) * 1_000_000
        state.apply(mesh(FIRST + k, TOPOLOGY, publish_ns=publish), T0 + k * S // 20)
        state.mark_drawn(publish + 12_500_000)
    last = FIRST + 20
    state.apply(frame("cam_0", last), T0 + S)
    state.apply(frame("cam_1", last, exposure_ns=last * PERIOD_NS + 37_000), T0 + S)
    counters = {"sets.assembled": 1210, "sets.complete": 1204, "sets.partial": 4, "sets.dropped": 2, "unused.late": 3}
    state.apply(Health("infer", T0, "running", {**counters, "unused.superseded": 40, "used.cam_0": 9}), T0 + S)
    node = {"published.cam_0": 99, "dropped-by-camera.cam_0": 2, "dropped-in-queue.cam_1": 1}
    state.apply(Health("node", T0, "degraded", node, message="camera cam_1 is silent"), T0 + S)
    text = hud_text(state.figures(T0 + S))
    expected = {
        "Meshes": "20.0 /s", "Mesh → screen": "12 ms", "Skew": "37 µs", "Views": "2 of 3",
        "Sets complete": "1 204 of 1 210", "Sets partial": "4", "Sets dropped": "2", "Frames unused": "43",
        "Camera drops": "3",
    }  # fmt: skip
    assert {label: value(text, label) for label in expected} == expected
    assert text.headline.value == "70 ms", "the median of 60..80"
    assert text.headline_note == "p95 79 ms   now 80 ms"
    assert text.identity == f"frame {last}"
    assert text.unused == "superseded 40 · late 3"
    assert text.processes == (("infer", "good"), ("node", "warn"))
    assert text.message == "node: camera cam_1 is silent"
    assert hud_text(state.figures(T0 + 9 * S)).processes == (("infer", "bad"), ("node", "bad")), "heartbeats stopped"


def test_rates_fall_to_zero_when_meshes_stop() -> None:
    state = ViewState("bus")
    for k in range(11):
        state.apply(mesh(FIRST + k, TOPOLOGY), T0 + k * S // 10)
    rates = [state.figures(T0 + S + wait).mesh_rate for wait in (0, S // 2, S, 3 * S)]
    assert rates[0] == pytest.approx(10.0) and rates[0] > rates[1] > rates[2] > rates[3] == 0.0


def test_a_take_says_nothing_about_the_screen_and_never_goes_stale() -> None:
    state = ViewState("show / slate_T001", live=False)
    state.apply(TOPOLOGY, T0)
    state.apply(mesh(FIRST, TOPOLOGY), T0)
    state.mark_drawn(T0 + 10**18)
    figures = state.figures(T0 + 60 * S)
    assert figures.connection == "take" and figures.mesh_to_screen_ms is None
    assert hud_text(figures).source == "show / slate_T001"


@pytest.mark.parametrize(
    ("number", "text"), [(0.04, "0.0 ms"), (9.94, "9.9 ms"), (9.96, "10 ms"), (12_340.0, "12.3 s")]
)
def test_milliseconds(number: float, text: str) -> None:
    assert milliseconds(number) == text


def test_counts_and_scales() -> None:
    assert count(1234567) == "1 234 567"
    assert [nice_ceiling(v) for v in (0, 10, 11, 84, 100, 101, 480)] == [10, 10, 20, 100, 100, 200, 500]


def test_the_take_that_is_recorded_is_named_while_the_recorder_says_so() -> None:
    state = ViewState("bus")
    assert hud_text(state.figures(T0)).source == "live bus" and hud_text(state.figures(T0)).recording == ""
    gauges = {"recording": 1.0, "take_begun_s.s12_T004": T0 / S - 83.0}
    state.apply(Health("record", T0, "running", {}, gauges), T0)
    text = hud_text(state.figures(T0))
    assert (text.source, text.recording) == ("s12_T004", "REC 1:23")
    assert state.title(T0) == "s12_T004 ● REC · Mien"
    assert ViewState("show / s1", live=False).title(T0) == "show / s1 · Mien"
    assert hud_text(state.figures(T0 + 5 * S)).recording == "", "a recorder that is silent records nothing"
    state.apply(Health("record", T0, "running", {}, {"recording": 0.0}), T0)
    assert hud_text(state.figures(T0)).source == "live bus"


def test_who_sees_no_head_yet_is_told_the_next_step() -> None:
    state = ViewState("bus")
    assert "mien demo" in state.figures(T0).message
    state.apply(frame("cam_0", FIRST), T0)
    state.apply(Health("node", T0, "running"), T0)
    assert "start mien infer" in state.figures(T0).message
    state.apply(Health("infer", T0, "running"), T0)
    assert "waiting for its first mesh" in state.figures(T0).message
    without_cameras = ViewState("bus")
    without_cameras.apply(Health("infer", T0, "running"), T0)
    assert "start mien node" in without_cameras.figures(T0).message


def test_a_take_shows_what_it_holds_and_no_dashes() -> None:
    state = ViewState("show / s1", live=False)
    state.apply(TOPOLOGY, T0)
    for k in range(4):
        state.apply(replace(mesh(FIRST + k, TOPOLOGY), publish_time_ns=0), T0)
    text = hud_text(state.figures(T0))
    assert (text.headline.label, text.headline.value) == ("Meshes", "30.0 /s") and text.headline_note == ""
    assert text.rows and all(row.value != "–" and row.label != "Meshes" for row in text.rows)
    assert any(row.value == "–" for row in hud_text(ViewState("bus").figures(T0)).rows), (
        "live a dash says: not yet known"
    )

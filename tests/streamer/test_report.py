"""The demo's report: figures against values worked out by hand, and the account of frames that must close."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ProcessError
from streamer.report import Tally, add_beat, build_report, frames_account, require_closed, summary, write_report
from streamer.types import F32, Health, MeshFrame

CAMERAS = ("cam_0", "cam_1")
MS = 1_000_000


def beat(process: str, second: int, counters: Mapping[str, int]) -> Health:
    return Health(process, second * 1000 * MS, "running", dict(counters))


def mesh(frame_id: int, vertices: F32, *, topology: str = "a", latency_ms: int = 0) -> MeshFrame:
    exposure = frame_id * 100 * MS
    stages = {"wait": 3 * MS, "network": 40 * MS, "publish": 1 * MS}
    return MeshFrame(
        frame_id, exposure, exposure + latency_ms * MS, topology, vertices, np.eye(4, dtype=np.float32), CAMERAS,
        stages_ns=stages,
    )  # fmt: skip


def test_figures_are_those_worked_out_by_hand() -> None:
    tally = Tally()
    base = np.zeros((10, 3), np.float32)
    shifted = base + np.array([0.003, 0.0, 0.004], np.float32)  # 5 mm
    tally.add("truth", mesh(1, base))
    tally.add("mesh", mesh(1, shifted, latency_ms=50))
    tally.add("mesh", mesh(2, base, latency_ms=70))  # the truth may come after the mesh
    tally.add("truth", mesh(2, base))
    tally.add("truth", mesh(3, base, topology="b"))
    tally.add("mesh", mesh(3, shifted * 100, latency_ms=60))  # of another topology: not compared
    tally.add("mesh", mesh(4, shifted * 100, latency_ms=60))  # without truth
    tally.add("health", beat("node", 1, {"published.cam_0": 4, "published.cam_1": 5}))
    used = {"used.cam_0": 4, "used.cam_1": 4, "unused.late": 1, "sets.assembled": 4, "sets.complete": 4}
    tally.add("health", beat("infer", 1, used))
    report = build_report(tally, engine="openvino", model="live", restarts={"infer": 0})
    assert report["latency_ms"] == {"p50": 60.0, "p95": pytest.approx(68.5), "p99": pytest.approx(69.7)}
    assert report["overhead_ms"] == {"p50": 4.0, "p95": 4.0}
    assert report["meshes_per_s"] == pytest.approx(3 / 0.31, abs=1e-3)
    zero, five = pytest.approx(0.0, abs=0.002), pytest.approx(5.0, abs=0.002)
    assert report["truth_error_mm"] == {"median": zero, "p90": five, "meshes": 2}
    assert report["sets"] == {"assembled": 4, "complete": 4, "partial": 0, "dropped": 0}
    assert report["views"] == 2
    require_closed(report["frames"])
    assert "9 published, 8 used; not used: 1 late" in summary(report)


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=4),
    st.integers(0, 20),
)
def test_account_closes_over_restarts(lives: list[tuple[int, int, int]], lost: int) -> None:
    """Each life of inference sees the sequence numbers of all before it and books them as before-join."""
    beats, published, first = [], 0, True
    for k, (used, late, superseded) in enumerate(lives):
        beats.append(beat("infer", 10 * k, {}))
        join = published if first else published + lost
        counters = {"used.cam_0": used + 1, "unused.late": late, "unused.superseded": superseded}
        counters["unused.before-join"] = join
        published = join + used + 1 + late + superseded
        beats.append(beat("infer", 10 * k + 1, counters))
        first = False
    kept: list[Health] = []
    for each in beats:
        add_beat(kept, each)
    frames = frames_account([beat("node", 99, {"published.cam_0": published})], kept)
    require_closed(frames)
    assert frames["unused"].get("lost-at-restart", 0) == lost * (len(lives) - 1)
    assert frames["used"] == sum(used + 1 for used, _, _ in lives)


def test_lives_are_told_apart_though_the_second_did_more_and_the_clock_went_back() -> None:
    lives: list[Health] = []
    for second, life, published in ((9, 1, 5), (10, 1, 7), (3, 2, 8), (4, 2, 20)):
        add_beat(lives, beat("node", second, {"life": life, "published.cam_0": published}))
    assert [life.counters["published.cam_0"] for life in lives] == [7, 20]
    assert frames_account(lives, [])["published"] == 27


def test_what_restarts_of_both_sides_lost_is_what_is_left() -> None:
    node = [beat("node", 1, {"life": 1, "published.cam_0": 100}), beat("node", 9, {"life": 2, "published.cam_0": 80})]
    first = beat("infer", 5, {"life": 3, "used.cam_0": 90, "unused.late": 4, "unannounced": 3})
    frames = frames_account(node, [first, beat("infer", 9, {"life": 4, "used.cam_0": 50, "unused.before-join": 26})])
    assert frames == {"published": 183, "used": 140, "unused": {"late": 4, "lost-at-restart": 39}}
    require_closed(frames)


def test_planted_mismatch_is_caught() -> None:
    node = [beat("node", 1, {"published.cam_0": 10})]
    frames = frames_account(node, [beat("infer", 1, {"used.cam_0": 8, "unused.late": 1})])
    with pytest.raises(ProcessError, match="10 published, 9 accounted for"):
        require_closed(frames)


def test_nothing_measured_is_none_not_zero() -> None:
    report = build_report(Tally(), engine="openvino", model="live", restarts={})
    assert report["meshes_per_s"] is None
    assert report["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert report["truth_error_mm"]["median"] is None
    assert summary(report)


def test_report_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report({"a": 1}, path)
    with pytest.raises(TypeError):
        write_report({"a": 2, "b": object()}, path)
    assert json.loads(path.read_text()) == {"a": 1}

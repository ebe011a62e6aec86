"""What is wrong with a set costs that set, by every engine: the others come out as if it had never been there."""

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference import node
from inference.config import InferenceConfig
from inference.engines import Graph
from inference.model_store import ModelFiles, load_model
from inference.networks import compile_graphs
from inference.pipeline import Outcome
from inference.reconstruct import Reconstructor
from inference.stand_in import stand_in_rig, stand_in_sets
from inference.tempeh.tracking import Tracker
from streamer.config import SyncConfig
from streamer.errors import CalibrationError, MissingExtra, NoHeadError, WireError
from streamer.pixels import encode_pixels
from streamer.transport import Publisher
from streamer.types import Calibration, Frame, FrameSet, MeshFrame
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine
from tests.inference.makers import ring, tiny_model

ENGINES = ("openvino", "torch", "tensorrt")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An engine's name; `tensorrt` works on a GPU that is not there."""
    machine = Machine()
    if request.param == "tensorrt":
        (tmp_path / "gpu").mkdir()
        install(machine, Libraries(tmp_path), tmp_path / "gpu", monkeypatch)
    yield request.param
    machine.check_fences()
    assert machine.faults == []


class Short:
    """A graph that finds no memory when it is told so."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self.short = graph, False
        self.name, self.precision = graph.name, graph.precision
        self.inputs, self.outputs = graph.inputs, graph.outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self.short:
            raise MemoryError("no memory for the maps of 8 views")
        return self._graph.run(inputs)


@pytest.fixture(scope="module")
def live() -> ModelFiles:
    return load_model("live")


def with_frame(frame_set: FrameSet, camera: str, **changes: Any) -> FrameSet:
    """The set with one frame changed."""
    return replace(frame_set, members={**frame_set.members, camera: replace(frame_set.members[camera], **changes)})


def torn(frame: Frame) -> np.ndarray:
    """The frame's picture as a JPEG of which the end is lost."""
    return encode_pixels(np.asarray(frame.data), "jpeg")[1][:-200]


def bad_sets(good: FrameSet) -> dict[str, tuple[FrameSet, type[Exception], str]]:
    """What comes in, what it raises, and what it says."""
    first = good.members["cam_3"]
    nothing = np.zeros_like(first.data)
    foreign = {"other": replace(first, camera="other")}
    return {
        "size": (with_frame(good, "cam_3", data=first.data[:120], height=120), CalibrationError, "'cam_3'.* 320x120"),
        "no numbers": (
            with_frame(good, "cam_3", data=np.full(first.data.shape, np.nan)),
            WireError,
            "'cam_3'.*float64",
        ),
        "torn": (with_frame(good, "cam_3", encoding="jpeg", data=torn(first)), WireError, "'cam_3'.*truncated"),
        "strangers": (replace(good, members=foreign), CalibrationError, "none of its cameras"),
        "dark": (
            replace(good, members={k: replace(f, data=nothing) for k, f in good.members.items()}),
            NoHeadError,
            "no head in sight of two cameras",
        ),
        "one view": (replace(good, members={"cam_3": first}), NoHeadError, "no head in sight of two cameras"),
        "memory": (good, MemoryError, "no memory for the maps of 8 views"),
    }


def test_a_bad_set_costs_itself_and_is_named(engine: str, live: ModelFiles, caplog: pytest.LogCaptureFixture) -> None:
    calibration = stand_in_rig(8, live.width, live.height)
    try:
        graphs = compile_graphs(live, engine, "f32", 1)
    except MissingExtra as error:
        pytest.skip(str(error))
    short = Short(graphs["features"])
    (good,) = stand_in_sets(live.topology, calibration, 1)
    bad = bad_sets(good)
    missing = replace(good, members={k: f for k, f in good.members.items() if k not in ("cam_1", "cam_6")})
    outcomes: list[Outcome[FrameSet, MeshFrame]] = []
    arrived = threading.Semaphore(0)

    def deliver(outcome: Outcome[FrameSet, MeshFrame]) -> None:
        outcomes.append(outcome)
        arrived.release()

    with Reconstructor(live, calibration, graphs=graphs | {"features": short}) as reconstructor:
        pipeline = reconstructor.pipeline(deliver, mode="every")
        with caplog.at_level(logging.CRITICAL):  # a defect is logged with its traceback
            for what in ("good", *bad, "missing", "good"):
                short.short = what == "memory"
                pipeline.submit({"good": good, "missing": missing}[what] if what not in bad else bad[what][0])
                assert arrived.acquire(timeout=120)
        pipeline.close(drain=True)
    first, *wrong, fewer, last = outcomes
    for outcome, (_, kind, said) in zip(wrong, bad.values(), strict=True):
        assert outcome.result is None and isinstance(outcome.error, kind), outcome.error
        with pytest.raises(kind, match=said):
            raise outcome.error
    assert first.result is not None and last.result is not None and fewer.result is not None
    np.testing.assert_array_equal(first.result.vertices, last.result.vertices)
    assert fewer.result.views == tuple(camera for camera in calibration.ids if camera not in ("cam_1", "cam_6"))
    apart = np.linalg.norm(fewer.result.vertices - first.result.vertices, axis=1)
    assert 0 < np.median(apart) < 5e-3  # the same head, seen by six


def test_one_camera_of_four_that_misleads_does_not_hide_the_head(
    live: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that was knocked aside shows the head elsewhere: the three others see it where it is."""
    whole = stand_in_rig(8, live.width, live.height)
    chosen = [whole.cameras[k] for k in (0, 2, 5, 7)]
    calibration = replace(whole, cameras=tuple(chosen))
    (seen,) = stand_in_sets(live.topology, calibration, 1)
    knocked = np.roll(seen.members[chosen[1].id].data, (60, 90), (0, 1))
    three = replace(seen, members={key: frame for key, frame in seen.members.items() if key != chosen[1].id})
    misled = with_frame(seen, chosen[1].id, data=knocked)
    with Reconstructor(live, calibration, graphs=compile_graphs(live, "openvino", "f32", 1)) as reconstructor:
        alone, found = reconstructor(three), reconstructor(misled)
        monkeypatch.setattr("inference.tempeh.live.FEW", range(0))
        with pytest.raises(NoHeadError):
            reconstructor(misled)
    apart = np.linalg.norm(found.vertices - alone.vertices, axis=1)
    assert np.median(apart) < 1e-5 and apart.max() < 5e-3  # the close-ups of eyes and mouth weigh all four


def test_a_new_rig_is_said_and_the_head_is_looked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was known of the head holds for the cameras that saw it, and for no others."""
    trackers: list[Tracker] = []
    pipelines: list[Any] = []

    def made(model: ModelFiles, graphs: Any, cameras: Any, tracker: Tracker, **chosen: Any) -> Any:
        tracker._counts["tracked"] += 1  # as a run of this rig would
        trackers.append(tracker)
        return SimpleNamespace(run=None)

    monkeypatch.setattr(node, "own_network", made)
    model = tiny_model(tmp_path / "tiny")
    with Publisher("tcp://127.0.0.1:0") as publisher:
        one = node._Node(model, InferenceConfig(), SyncConfig(), publisher, None, merge=False)
        one._graphs = compile_graphs(model, "openvino", "f32", 1)
        for calibration in (ring(8), ring(8), Calibration(ring(8).cameras[:6])):
            with caplog.at_level(logging.WARNING):
                one._calibrate(calibration)
            if one._pipeline not in pipelines:
                pipelines.append(one._pipeline)
        counters = one.vitals().counters
        one._retire(drain=False)
    assert len(pipelines) == len(trackers) == 2  # the second calibration is the first, told again
    assert trackers[0] is not trackers[1] and counters["tracking.tracked"] == 2
    assert caplog.text.count("the calibration has changed: 6 cameras") == 1

"""The inference process on a real bus, with a small network: what comes out, what is counted, what a change does."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.config import InferenceConfig
from inference.networks import NetworkFactory
from inference.node import run_infer
from inference.pipeline import SLOTS
from inference.reconstruct import Reconstructor, compile_graphs
from streamer.config import BusConfig, SyncConfig
from streamer.errors import MienError, TransportError
from streamer.transport import Publisher, Subscriber
from streamer.types import Calibration, Frame, FrameSet, Health, MeshFrame, Topology
from tests.inference.fake_network import FakeNetwork, HeldNetwork
from tests.inference.makers import frame, grey, grey_set, octahedron, ring, tiny_model

PATIENCE_S = 20.0
SYNC = SyncConfig(deadline_ms=20_000, stall_ms=20_000)


class Stage:
    """A camera node that the test plays, the inference process in a thread, and a listener to what that publishes."""

    def __init__(
        self, model: Path, sync: SyncConfig, network: NetworkFactory, calibration: Calibration, *, calibrate: bool
    ) -> None:
        self.calibration = calibration
        self.sequence = dict.fromkeys(calibration.ids, 0)
        self.node = Publisher("tcp://127.0.0.1:0", ring_slots=32)
        self.stop = threading.Event()
        self.result: list[dict[str, int]] = []
        self.error: list[MienError] = []
        self.meshes: list[MeshFrame] = []
        self.topologies: list[Topology] = []
        self.health: list[Health] = []
        bound: list[str] = []
        ready = threading.Event()
        bus = BusConfig(nodes=(self.node.endpoint,), infer_port=0)
        config = InferenceConfig(model=str(model), threads=1)

        def tell(endpoint: str) -> None:
            bound.append(endpoint)
            ready.set()

        def work() -> None:
            try:
                self.result.append(run_infer(config, bus, sync, stop=self.stop, network=network, bound=tell))
            except MienError as error:
                self.error.append(error)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        assert ready.wait(PATIENCE_S)
        self.listener = Subscriber(bound, ["mesh", "topology", "health"])
        self.until(lambda: self.topologies, calibrate=False)
        self.until(lambda: self.health[-1:] and self.health[-1].state == "running", calibrate=False)
        assert self.health[-1].message == "no calibration yet: waiting for a camera node"
        if calibrate:
            self.until(lambda: self.health[-1].message == "")

    def until(self, done: Callable[[], Any], *, calibrate: bool = True) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, "what was waited for did not come"
            if calibrate:  # repeated until heard, as a node does
                self.node.send("calibration", self.calibration)
            self.listen(0.05)

    def listen(self, timeout_s: float) -> None:
        received = self.listener.receive(timeout_s)
        if received is not None:
            kind = {"mesh": self.meshes, "topology": self.topologies, "health": self.health}[received[0]]
            kind.append(received[1])  # type: ignore[attr-defined]

    def send(self, frames: Sequence[Frame]) -> None:
        for one in frames:
            self.node.send("frame", replace(one, sequence=self.sequence[one.camera]))
            self.sequence[one.camera] += 1

    def lose(self, camera: str, count: int = 1) -> None:
        """Frames that were published and that nobody got."""
        self.sequence[camera] += count

    def send_set(self, frame_id: int) -> FrameSet:
        made = grey_set(self.calibration, frame_id)
        self.send(list(made.members.values()))
        return made

    def end(self) -> dict[str, int]:
        """End as a supervisor does: the node first."""
        counters = {f"published.{camera}": count for camera, count in self.sequence.items()}
        self.node.send("health", Health("node", time.time_ns(), "stopping", counters))
        self.stop.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error[0]
        return self.result[0]

    def close(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_S)
        self.listener.close()
        self.node.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(network: NetworkFactory = FakeNetwork, sync: SyncConfig = SYNC, *, calibrate: bool = True) -> Stage:
        model = tiny_model(tmp_path / "tiny").folder
        stages.append(Stage(model, sync, network, ring(8), calibrate=calibrate))
        return stages[-1]

    yield make
    for one in stages:
        one.close()
    left = [t.name for t in threading.enumerate() if t.name.startswith(("pipeline", "decode", "health"))]
    assert left == []


def closes(counters: dict[str, int], sequence: dict[str, int]) -> dict[str, int]:
    """Check that the account closes and return the reasons that occur."""
    used = sum(count for name, count in counters.items() if name.startswith("used."))
    unused = {n.removeprefix("unused."): c for n, c in counters.items() if n.startswith("unused.") and c}
    assert used + sum(unused.values()) == sum(sequence.values()), (counters, sequence)
    return unused


def test_meshes_are_those_of_the_offline_reconstruction_bit_for_bit(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    one = stage()
    sets = []
    for k in range(1, 4):
        sets.append(one.send_set(k))
        one.until(lambda k=k: len(one.meshes) == k, calibrate=False)
    counters = one.end()
    assert closes(counters, one.sequence) == {}
    assert (counters["meshes"], counters["sets.assembled"], counters["sets.complete"]) == (3, 3, 3)
    assert all(counters[f"used.{camera}"] == 3 for camera in one.calibration.ids)
    model = tiny_model(tmp_path / "again")
    with Reconstructor(model, one.calibration, threads=1, network=FakeNetwork) as offline:
        for mesh, frame_set in zip(one.meshes, sets, strict=True):
            expected = offline(frame_set)
            assert (mesh.frame_id, mesh.exposure_time_ns) == (frame_set.frame_id, frame_set.exposure_time_ns)
            assert mesh.topology_id == octahedron().id == one.topologies[0].id
            assert mesh.views == one.calibration.ids and mesh.publish_time_ns > 0
            np.testing.assert_array_equal(mesh.vertices, expected.vertices)
            np.testing.assert_array_equal(mesh.world_from_head, expected.world_from_head)
            assert set(mesh.stages_ns) == {"prepare", "wait", "network", "publish"}


def test_every_frame_ends_in_one_place_whatever_goes_wrong(stage: Callable[..., Stage]) -> None:
    one = stage()
    one.send_set(1)
    one.until(lambda: len(one.meshes) == 1, calibrate=False)
    one.lose("cam_2", 3)
    small = list(grey_set(one.calibration, 2).members.values())
    small[5] = frame("cam_5", 2, grey(9, 60, 50))  # not the calibrated size
    one.send(small)
    one.until(lambda: one.health[-1].counters["errors"] == 1)
    assert one.health[-1].state == "degraded" and "camera 'cam_5': its pictures are 60x50" in one.health[-1].message
    one.send_set(3)
    one.until(lambda: len(one.meshes) == 2, calibrate=False)
    waiting = list(grey_set(one.calibration, 4, ["cam_0", "cam_1", "cam_2"]).members.values())  # for the others
    one.send([*waiting, waiting[0]])
    # messages keep their order: once the repeated frame is counted, the three before it have been taken as well
    one.until(lambda: one.health[-1].counters.get("unused.duplicate") == 1, calibrate=False)
    one.lose("cam_7", 2)  # the tail: only Health tells of it
    counters = one.end()
    assert closes(counters, one.sequence) == {"lost-on-bus": 5, "failed": 8, "duplicate": 1, "after-stop": 3}
    assert (counters["meshes"], counters["errors"]) == (2, 1)


def test_a_busy_network_takes_the_newest_set_and_counts_the_others(stage: Callable[..., Stage]) -> None:
    gate = threading.Semaphore(0)
    one = stage(network=partial(HeldNetwork, gate))
    for k in range(1, 11):
        one.send_set(k)
    one.until(lambda: one.health[-1].counters["sets.assembled"] == 10)
    gate.release(10)
    one.until(lambda: one.meshes and one.meshes[-1].frame_id == 10, calibrate=False)
    counters = one.end()
    ids = [mesh.frame_id for mesh in one.meshes]
    assert ids == sorted(set(ids)) and ids[-1] == 10 and len(ids) <= SLOTS + 1
    assert closes(counters, one.sequence) == {"superseded": 8 * (10 - len(ids))}


def test_frames_before_calibration_and_before_joining_are_counted(stage: Callable[..., Stage]) -> None:
    one = stage(calibrate=False)
    for camera in one.sequence:
        one.lose(camera, 7)

    def arrived() -> bool:
        one.send_set(one.sequence["cam_0"])
        return any(health.counters.get("unused.before-calibration", 0) > 0 for health in one.health)

    one.until(arrived, calibrate=False)
    unused = closes(one.end(), one.sequence)
    assert unused["before-join"] >= 7 * 8 and set(unused) <= {"before-join", "before-calibration", "after-stop"}


def test_a_new_calibration_is_taken_while_running(stage: Callable[..., Stage]) -> None:
    one = stage()
    one.send_set(1)
    one.until(lambda: len(one.meshes) == 1, calibrate=False)
    moved = tuple(
        replace(c, camera_from_world=c.camera_from_world @ np.array(
            [[1.0, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])) for c in one.calibration.cameras[:6]
    )  # fmt: skip
    one.send(list(grey_set(one.calibration, 2, ["cam_0", "cam_1", "cam_2"]).members.values()))
    one.calibration = Calibration(moved)
    one.node.send("calibration", one.calibration)
    one.send_set(3)
    one.until(lambda: len(one.meshes) == 3, calibrate=False)
    assert [mesh.views for mesh in one.meshes] == [ring(8).ids, ring(8).ids[:3], one.calibration.ids]
    shift = one.meshes[2].world_from_head[:3, 3] - np.mean([c.centre_world for c in ring(8).cameras[:6]], 0)
    np.testing.assert_allclose(shift, [-0.5, 0, 0], atol=1e-6)
    counters = one.end()
    assert closes(counters, one.sequence) == {}
    assert (counters["sets.assembled"], counters["sets.complete"], counters["sets.partial"]) == (3, 2, 1)


def test_camera_hosts_with_few_cameras_each_make_one_rig(tmp_path: Path) -> None:
    rig = ring(4)
    halves = [Calibration(rig.cameras[:1], "host a"), Calibration(rig.cameras[1:], "host b")]
    stop, bound, results = threading.Event(), list[str](), list[dict[str, int]]()
    ready = threading.Event()
    with Publisher("tcp://127.0.0.1:0") as one, Publisher("tcp://127.0.0.1:0") as two:
        bus = BusConfig(nodes=(one.endpoint, two.endpoint), infer_port=0)
        sync = replace(SYNC, min_cameras=4, per_camera={"cam_3": "drop"})
        config = InferenceConfig(model=str(tiny_model(tmp_path / "tiny").folder), threads=1)

        def tell(endpoint: str) -> None:
            bound.append(endpoint)
            ready.set()

        def work() -> None:
            results.append(run_infer(config, bus, sync, stop=stop, network=FakeNetwork, bound=tell))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            assert ready.wait(PATIENCE_S)
            with Subscriber(bound, ["mesh", "health"]) as listener:
                _hear(listener, lambda m: isinstance(m, Health) and m.message.startswith("so far only cam_0: "),
                      lambda: one.send("calibration", halves[0]))  # fmt: skip
                _hear(listener, lambda m: isinstance(m, Health) and m.state == "running" and not m.message,
                      lambda: two.send("calibration", halves[1]))  # fmt: skip
                for camera, sent in grey_set(rig, 7).members.items():
                    (one if camera == "cam_0" else two).send("frame", sent)
                mesh = _hear(listener, lambda m: isinstance(m, MeshFrame), lambda: None)
                assert isinstance(mesh, MeshFrame) and set(mesh.views) == set(rig.ids)
        finally:
            stop.set()
            thread.join(PATIENCE_S)
    assert results and results[0]["meshes"] == 1


def _hear(listener: Subscriber, wanted: Callable[[object], bool], meanwhile: Callable[[], object]) -> object:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        meanwhile()
        received = listener.receive(0.05)
        if received is not None and wanted(received[1]):
            return received[1]
    raise AssertionError("what was waited for did not come")


def test_policy_stop_ends_the_process_with_the_camera_named(stage: Callable[..., Stage]) -> None:
    one = stage(sync=SyncConfig(on_missing="stop", deadline_ms=50, stall_ms=20_000))
    one.send_set(1)
    one.until(lambda: len(one.meshes) == 1, calibrate=False)
    one.send(list(grey_set(one.calibration, 2, one.calibration.ids[:7]).members.values()))
    one.thread.join(PATIENCE_S)
    with pytest.raises(TransportError, match="cam_7"):
        one.end()


def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    with Publisher("tcp://127.0.0.1:0") as taken:
        bus = BusConfig(infer_port=int(taken.endpoint.rsplit(":", 1)[1]))
        with pytest.raises(TransportError, match="in use"):
            run_infer(InferenceConfig(), bus, SYNC, stop=threading.Event())


class Failing(FakeNetwork):
    """Runs out of memory for the first set, and gives what is no number for the second."""

    calls = 0

    def run(self, pictures: Any, mask: Any) -> Any:
        Failing.calls += 1
        if Failing.calls == 1:
            raise MemoryError("no memory for 8 pictures")
        result = super().run(pictures, mask)
        if Failing.calls == 2:
            result.vertices[0] = np.nan
        return result


def test_no_memory_and_vertices_that_are_no_numbers_cost_their_sets_and_nothing_else(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "calls", 0)
    one = stage(network=Failing)
    for number, said in ((1, "no memory for 8 pictures"), (2, "gave vertices that are not finite")):
        one.send_set(number)
        one.until(lambda number=number: one.health[-1].counters["errors"] == number, calibrate=False)
        assert one.health[-1].state == "degraded" and said in one.health[-1].message
    one.send_set(3)
    one.until(lambda: [mesh.frame_id for mesh in one.meshes] == [3], calibrate=False)
    assert closes(one.end(), one.sequence) == {"failed": 16}


def test_missing_views_are_left_out_and_a_set_of_strangers_is_counted(stage: Callable[..., Stage]) -> None:
    one = stage(sync=replace(SYNC, min_cameras=1, deadline_ms=50))
    one.send(list(grey_set(one.calibration, 1, ["cam_3"]).members.values()))
    one.until(lambda: one.meshes and one.meshes[-1].views == ("cam_3",), calibrate=False)
    one.sequence["stranger"] = 0
    one.send([frame("stranger", 2, grey(9))])
    one.until(lambda: one.health[-1].counters.get("unused.unknown-camera") == 1, calibrate=False)
    one.send_set(3)
    one.until(lambda: one.meshes[-1].frame_id == 3, calibrate=False)
    assert closes(one.end(), one.sequence) == {"unknown-camera": 1}


def test_a_node_that_goes_on_is_not_waited_for(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference that an operator starts again ends while the cameras run: the quiet at the end never comes."""
    monkeypatch.setattr("inference.node.LAST_S", 10 * PATIENCE_S)
    one = stage()
    one.stop.set()
    number, deadline = 1, time.monotonic() + PATIENCE_S
    while one.thread.is_alive():
        assert time.monotonic() < deadline, "it waits for the cameras to end"
        members = grey_set(one.calibration, number).members.values()
        one.send([replace(each, publish_time_ns=time.time_ns()) for each in members])
        one.thread.join(0.02)
        number += 1
    assert one.result[0]["unused.after-stop"] > 0 and not one.error


def test_cameras_that_are_told_while_the_engine_starts_are_known_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, stop, done = threading.Event(), threading.Event(), list[dict[str, int]]()

    def compile_slowly(*args: Any) -> Any:
        assert told.wait(PATIENCE_S)
        return compile_graphs(*args)

    monkeypatch.setattr("inference.node.compile_graphs", compile_slowly)
    config = InferenceConfig(model=str(tiny_model(tmp_path / "tiny").folder), threads=1)
    bound: list[str] = []
    with Publisher("tcp://127.0.0.1:0") as node:
        bus = BusConfig(nodes=(node.endpoint,), infer_port=0)

        def work() -> None:
            done.append(run_infer(config, bus, SYNC, stop=stop, network=FakeNetwork, bound=bound.append))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + PATIENCE_S
            while (
                not bound or time.monotonic() < deadline - PATIENCE_S + 1.0
            ):  # a second of telling, and no more after it
                node.send("calibration", ring(8))
                assert not told.wait(0.05) and time.monotonic() < deadline
            told.set()
            with Subscriber(bound, ["health"]) as listener:
                while (heard := listener.receive(PATIENCE_S)) is not None:
                    assert time.monotonic() < deadline + PATIENCE_S, "nobody tells it of the cameras any more"
                    health = heard[1]
                    if isinstance(health, Health) and health.state == "running" and not health.message:
                        break
            assert heard is not None
        finally:
            told.set()
            stop.set()
            thread.join(PATIENCE_S)
    assert len(done) == 1

"""The node end to end: real sockets, real shared memory, every picture accounted for."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from rig.config import FaultConfig, RigConfig
from rig.driver import CameraDriver, RawFrame
from rig.drivers.playback import PlaybackDriver
from rig.drivers.simulated import SimulatedDriver
from rig.node import run_node
from rig.patterns import MARK_PX, mark_level, phase_at
from streamer.config import BusConfig
from streamer.errors import DriverError, TransportError
from streamer.pixels import decode_pixels
from streamer.transport import Subscriber
from streamer.types import Calibration, Frame, Health, MeshFrame, Topology
from tests.rig.makers import SMALL, pattern_rig, playback_of, write_take

CHANNELS = ("frame", "truth", "calibration", "topology", "health")
BUS = BusConfig(node_port=0, ring_slots=512)
"""A ring that outlasts any pause of the test's own thread, so that only planted slowness loses pictures."""


@dataclass
class Heard:
    """What one subscriber got of one node."""

    final: Mapping[str, int] = field(default_factory=dict)
    frames: dict[str, list[Frame]] = field(default_factory=lambda: defaultdict(list))
    truths: list[MeshFrame] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    calibration: Calibration | None = None
    topology: Topology | None = None
    health: list[Health] = field(default_factory=list)
    rejected: Mapping[str, int] = field(default_factory=dict)
    rested: bool = False

    @property
    def count(self) -> int:
        return sum(map(len, self.frames.values()))

    @property
    def ready(self) -> bool:
        """Whether the messages that are told now and then have arrived: a late joiner waits for them."""
        return self.calibration is not None and self.topology is not None

    def take(self, message: object) -> None:
        if isinstance(message, Frame):
            self.frames[message.camera].append(message)
        elif isinstance(message, MeshFrame):
            self.truths.append(message)
        elif isinstance(message, Calibration):
            self.calibration = message
        elif isinstance(message, Topology):
            self.topology = message
        elif isinstance(message, Health):
            self.health.append(message)


def listen(
    rig: RigConfig,
    driver: CameraDriver,
    *,
    until: Callable[[Heard], bool],
    bus: BusConfig = BUS,
    depth: int = 2000,
    rest: int = 0,
) -> Heard:
    """Run a node in a thread until the subscriber has heard enough, then to its end; returns all that it said.

    With `rest` the subscriber once takes nothing until the device has delivered so many pictures more.
    """
    stop, endpoints, heard = threading.Event(), queue.SimpleQueue[str](), Heard()
    delivered, fetch = Counter[str](), driver.next_frame

    def counted(timeout_s: float) -> RawFrame | None:
        raw = fetch(timeout_s)
        delivered["pictures"] += raw is not None
        return raw

    driver.next_frame = counted  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        node = pool.submit(run_node, rig, bus, stop=stop, driver=driver, bound=endpoints.put)
        try:
            with Subscriber([endpoints.get(timeout=10.0)], CHANNELS, depth=depth) as subscriber:
                deadline = time.monotonic() + 40.0
                while not (heard.health and heard.health[-1].state == "stopping"):
                    assert time.monotonic() < deadline, f"no end in sight; counters {heard.health[-1:]}"
                    over = node.done()
                    if (received := subscriber.receive(0.2)) is not None:
                        heard.take(received[1])
                    elif over:
                        break  # a subscriber that is far behind loses even the last message
                    if rest and not heard.rested and heard.count > 10:
                        enough = delivered["pictures"] + rest
                        while delivered["pictures"] < enough:
                            assert time.monotonic() < deadline, f"{delivered} of {enough}"
                            time.sleep(0.01)
                        heard.rested = True
                    if until(heard):
                        stop.set()
                heard.rejected = subscriber.rejected
        finally:
            stop.set()
        heard.final = node.result()
    return heard


def lost_on_the_way(frames: list[Frame], published: int) -> int:
    """Published frames that did not arrive: holes in the sequence, before, between and after."""
    sequences = np.array([-1, *(f.sequence for f in frames), published])
    assert (np.diff(sequences) >= 1).all(), "sequences rise and stay below the published total"
    return int((np.diff(sequences) - 1).sum())


def test_every_picture_is_published_and_every_published_picture_arrives_or_is_counted() -> None:
    rig = RigConfig(fps=100.0, simulated=SMALL)
    heard = listen(rig, pattern_rig(rig), until=lambda h: len(h.frames["cam_2"]) >= 60)
    assert heard.final.items() == {k: n for k, n in heard.health[-1].counters.items() if k != "life"}.items(), (
        "the last health message holds the final counters"
    )
    for camera in ("cam_0", "cam_1", "cam_2"):
        frames, final = heard.frames[camera], heard.final
        assert final[f"grabbed.{camera}"] == final[f"published.{camera}"] + final[f"dropped-in-queue.{camera}"]
        assert len(frames) + lost_on_the_way(frames, final[f"published.{camera}"]) == final[f"published.{camera}"]
        first = frames[0].sequence
        assert [f.sequence for f in frames] == list(range(first, first + len(frames))), "only the join may lose any"
        assert first + len(frames) == final[f"published.{camera}"]
        assert (np.diff([f.counter for f in frames]) > 0).all(), "frames of a camera never overtake one another"
    assert not heard.rejected


def test_pictures_times_and_truth_belong_together() -> None:
    def pairs(heard: Heard) -> int:
        """Pictures whose truth arrived too; the join may have lost either of the two."""
        told = {mesh.frame_id for mesh in heard.truths}
        return sum(frame.frame_id in told for frames in heard.frames.values() for frame in frames)

    rig = RigConfig(fps=50.0, simulated=SMALL, encoding="jpeg")
    wanted = 40
    heard = listen(rig, pattern_rig(rig), until=lambda h: pairs(h) >= wanted and h.ready)
    truths = {mesh.frame_id: mesh for mesh in heard.truths}
    checked = 0
    for frames in heard.frames.values():
        for frame in frames:
            if frame.frame_id not in truths:
                continue
            truth = truths[frame.frame_id]
            assert frame.exposure_time_ns == truth.exposure_time_ns
            assert frame.frame_id == frame.exposure_time_ns * 50 // 10**9
            assert frame.exposure_time_ns <= frame.receive_time_ns <= frame.publish_time_ns
            level = decode_pixels(frame)[: MARK_PX // 2, : MARK_PX // 2].mean()
            assert level == pytest.approx(mark_level(phase_at(float(truth.world_from_head[0, 3]))), abs=8)
            checked += 1
    assert checked >= wanted
    assert heard.calibration is not None
    assert heard.calibration.ids == ("cam_0", "cam_1", "cam_2")
    assert heard.topology is not None
    assert {mesh.topology_id for mesh in heard.truths} == {heard.topology.id}


def test_proxies_are_small_and_the_calibration_stays_full() -> None:
    rig = RigConfig(fps=50.0, simulated=replace(SMALL, width=100, height=64), publish="proxy", proxy_factor=3)
    heard = listen(rig, pattern_rig(rig), until=lambda h: bool(h.frames["cam_0"]) and h.calibration is not None)
    frame = heard.frames["cam_0"][0]
    assert (frame.width, frame.height, frame.encoding) == (33, 21, "jpeg")
    assert decode_pixels(frame).shape == (21, 33, 3)
    assert heard.calibration is not None
    assert (heard.calibration["cam_0"].width, heard.calibration["cam_0"].height) == (100, 64)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_slow_subscriber_loses_pictures_and_all_of_them_are_counted(shared_memory: bool) -> None:
    """It rests for 600 pictures; socket buffers and rings hold far less than their 140 MB."""
    rig = RigConfig(fps=200.0, simulated=replace(SMALL, width=320, height=240), encoding="raw")
    bus = BusConfig(node_port=0, shared_memory=shared_memory, ring_slots=8)
    heard = listen(rig, pattern_rig(rig), until=lambda h: h.rested and h.count > 30, bus=bus, depth=20, rest=600)
    lost = 0
    for camera in ("cam_0", "cam_1", "cam_2"):
        frames, published = heard.frames[camera], heard.final[f"published.{camera}"]
        holes = lost_on_the_way(frames, published)
        lost += holes
        assert len(frames) + holes == published == heard.final[f"grabbed.{camera}"]
        assert all(len(np.unique(f.data[:MARK_PX, :MARK_PX])) == 1 for f in frames), "no picture is torn"
    assert lost >= 100
    assert bool(heard.rejected.get("overwritten")) == shared_memory
    assert lost >= sum(heard.rejected.values())


def test_injected_drops_are_found_by_the_gaps_they_leave() -> None:
    faults = FaultConfig(drop_probability=0.3)
    rig = RigConfig(fps=200.0, simulated=replace(SMALL, faults=faults))
    heard = listen(rig, pattern_rig(rig), until=lambda h: len(h.frames["cam_1"]) >= 80)
    for camera in ("cam_0", "cam_1", "cam_2"):
        last = heard.frames[camera][-1]
        found, injected = (heard.final[f"{kind}.{camera}"] for kind in ("dropped-by-camera", "injected-drops"))
        assert found + heard.final[f"grabbed.{camera}"] == last.counter + 1, "each exposure is a picture or a loss"
        assert 10 < found <= injected


def test_a_rig_slower_than_its_rate_skips_pulses_for_all_cameras_together() -> None:
    class SlowDriver(SimulatedDriver):
        """Renders for 2.2 periods."""

    rig = RigConfig(fps=100.0, simulated=SMALL)
    fast = pattern_rig(rig)
    make = fast._make_stage

    def slow_stage(config: object) -> object:
        stage = make(SMALL)
        render = stage.render

        def slow(time_s: float) -> object:
            time.sleep(0.022)
            return render(time_s)

        stage.render = slow  # type: ignore[method-assign,assignment]
        return stage

    driver = SlowDriver(SMALL, 100.0, slow_stage)  # type: ignore[arg-type]
    heard = listen(rig, driver, until=lambda h: len(h.frames["cam_2"]) >= 15)
    ids = [{f.frame_id for f in frames} for frames in heard.frames.values()]
    complete = set.union(*ids)
    assert max(len(complete - one) for one in ids) <= 1, "only the set that the end cut may be partial"
    span = max(complete) - min(complete) + 1
    assert heard.final["skipped-pulses"] >= span - len(complete) > len(complete) / 2
    assert heard.final["dropped-by-camera.cam_0"] == 0, "what was never exposed was not lost"


def test_a_replayed_take_is_bit_identical_and_ends_by_itself(tmp_path: Path) -> None:
    recorded = write_take(tmp_path / "take", sets=30)
    rig = playback_of(tmp_path / "take", speed=1.0)
    heard = listen(rig, PlaybackDriver.from_config(rig), until=lambda h: False)
    originals = {(f.camera, f.frame_id): f for f in recorded}
    arrived = [frame for frames in heard.frames.values() for frame in frames]
    assert sum(heard.final[f"published.cam_{k}"] for k in range(3)) == 90
    assert len(arrived) >= 10
    for frame in arrived:
        original = originals[frame.camera, frame.frame_id]
        assert frame.data.tobytes() == original.data.tobytes()
        assert (frame.exposure_time_ns, frame.clock) == (original.exposure_time_ns, "ptp")
    assert heard.truths[-1].frame_id == recorded[-1].frame_id, "the truth of the last set was recorded behind it"


class FailingDriver(SimulatedDriver):
    """Delivers one picture of a wrong size."""

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        frame = super().next_frame(timeout_s)
        return (
            None
            if frame is None
            else replace(frame, pixels=np.zeros((9, 9), np.uint8), width=9, height=9, encoding="mono8")
        )


def test_pictures_of_a_wrong_size_end_the_node_with_their_reason() -> None:
    rig = RigConfig(fps=50.0, simulated=SMALL)
    driver = pattern_rig(rig)
    failing = FailingDriver(SMALL, 50.0, driver._make_stage)
    with pytest.raises(DriverError, match=r"camera 'cam_0': a picture of 9x9, calibrated for 64x48"):
        run_node(rig, BUS, stop=threading.Event(), driver=failing)
    with pytest.raises(DriverError, match="not open"):
        _ = failing.calibration


def test_a_port_in_use_is_refused_before_the_device_is_opened() -> None:
    rig = RigConfig(fps=50.0, simulated=SMALL)
    stop, endpoints = threading.Event(), queue.SimpleQueue[str]()
    with ThreadPoolExecutor(1) as pool:
        node = pool.submit(run_node, rig, BUS, stop=stop, driver=pattern_rig(rig), bound=endpoints.put)
        try:
            port = int(endpoints.get(timeout=10.0).rpartition(":")[2])
            second = pattern_rig(rig)
            with pytest.raises(TransportError, match=f"port {port} is in use"):
                run_node(rig, BusConfig(node_port=port), stop=stop, driver=second)
            with pytest.raises(DriverError, match="not open"):
                _ = second.calibration
        finally:
            stop.set()
        node.result()


NODE = """
import json
from rig.config import RigConfig
from rig.node import run_node
from streamer.config import BusConfig
from streamer.processes import Stop
from tests.rig.makers import SMALL, pattern_rig

rig = RigConfig(fps=100.0, simulated=SMALL)
with Stop() as stop:
    told = lambda endpoint: print(endpoint, flush=True)
    counters = run_node(rig, BusConfig(node_port=0), stop=stop, driver=pattern_rig(rig), bound=told)
print(json.dumps(dict(counters)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_cleanly_with_final_counters(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", NODE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            endpoint, heard = process.stdout.readline().strip(), Heard()
            deadline = time.monotonic() + 40.0
            with Subscriber([endpoint], CHANNELS, depth=5000) as subscriber:
                while not (heard.health and heard.health[-1].state == "stopping"):
                    assert time.monotonic() < deadline
                    if (received := subscriber.receive(0.2)) is not None:
                        heard.take(received[1])
                    if len(heard.frames["cam_0"]) == 10:
                        process.send_signal(number)
                        heard.frames["cam_0"].append(heard.frames["cam_0"][-1])
            final = json.loads(process.stdout.readline())
            assert process.wait(20.0) == 0
        finally:
            process.kill()
    assert final == {key: count for key, count in heard.health[-1].counters.items() if key != "life"}
    assert final["published.cam_0"] == final["grabbed.cam_0"] >= 10

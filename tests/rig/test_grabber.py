"""The one grab loop, against a driver that plays a script."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import pytest

from rig.config import RigConfig, SimulatedConfig
from rig.driver import RawFrame, StreamEnded, TriggerMode
from rig.grabber import BackOff, Grabber, queue_capacity
from rig.patterns import PatternStage
from streamer.errors import DriverError
from streamer.types import Calibration, Topology

SOON = BackOff(0.0, 0.0)
CALIBRATION = PatternStage(SimulatedConfig(cameras=2, width=32, height=32)).calibration
PIXELS = np.zeros((32, 32), np.uint8)
PULSE_BYTES = 2 * 32 * 32 * 3


def frame(camera: int, counter: int, time_ns: int = 0, frame_id: int | None = None) -> RawFrame:
    return RawFrame(f"cam_{camera}", counter, time_ns, "host", PIXELS, "mono8", 32, 32, frame_id)


class ScriptedDriver:
    """Each `open` begins the next connection of the script; an item is a frame, None (silence) or an error."""

    triggers: ClassVar[tuple[TriggerMode, ...]] = ("clock",)
    can_wait: ClassVar[bool] = False
    calibration: Calibration = CALIBRATION
    topologies: Sequence[Topology] = ()
    fps = 10.0

    def __init__(self, *connections: Sequence[RawFrame | Exception | None] | Exception) -> None:
        self._connections = deque(connections)
        self._script: deque[RawFrame | Exception | None] = deque()
        self.log: list[str] = []
        self.threads: set[int] = set()
        self.counters: Mapping[str, int] = {"device": 3}

    @classmethod
    def from_config(cls, rig: RigConfig) -> Self:
        raise NotImplementedError

    def _note(self, what: str) -> None:
        self.log.append(what)
        self.threads.add(threading.get_ident())

    def open(self) -> None:
        self._note("open")
        connection = self._connections.popleft()
        if isinstance(connection, Exception):
            raise connection
        self._script = deque(connection)

    def arm(self, trigger: TriggerMode) -> None:
        self._note(f"arm {trigger}")

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        self.threads.add(threading.get_ident())
        item = self._script.popleft() if self._script else StreamEnded("the script is over")
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self._note("close")


class PatientDriver(ScriptedDriver):
    can_wait: ClassVar[bool] = True


@pytest.fixture
def grabbing() -> Iterator[Callable[..., Grabber]]:
    started: list[Grabber] = []

    def start(driver: ScriptedDriver, pulses: int = 32, trigger: TriggerMode = "clock") -> Grabber:
        grabber = Grabber(driver, trigger, queue_bytes=pulses * PULSE_BYTES, back_off=SOON, now_ns=lambda: 77)
        started.append(grabber)
        grabber.start()
        return grabber

    yield start
    for grabber in started:
        grabber.stop()


def take_all(grabber: Grabber) -> list[tuple[str, int, int]]:
    """(camera, counter, frame id) of everything until the source has ended."""
    taken = []
    while (grabbed := grabber.get(10.0)) is not None:
        assert grabbed.receive_time_ns == 77
        taken.append((grabbed.raw.camera, grabbed.raw.counter, grabbed.frame_id))
    assert grabber.finished
    return taken


def test_frames_are_numbered_by_time_unless_a_recording_numbered_them(grabbing: Callable[..., Grabber]) -> None:
    script = [frame(0, 0, 50_000_000), frame(1, 0, 149_999_999), frame(0, 1, 150_000_000), None, frame(1, 1, 0, 99)]
    grabber = grabbing(ScriptedDriver(script))
    assert take_all(grabber) == [("cam_0", 0, 0), ("cam_1", 0, 1), ("cam_0", 1, 1), ("cam_1", 1, 99)]
    assert grabber.counters == {"device": 3, "grabbed.cam_0": 2, "grabbed.cam_1": 2}


def test_counter_gaps_are_losses_of_the_camera(grabbing: Callable[..., Grabber]) -> None:
    script = [frame(0, 2), frame(0, 3), frame(1, 0), frame(0, 7), frame(1, 1), frame(0, 5), frame(0, 6)]
    grabber = grabbing(ScriptedDriver(script))
    assert len(take_all(grabber)) == 7
    assert grabber.counters["dropped-by-camera.cam_0"] == 2 + 3, "two before the first picture, three before the fourth"
    assert grabber.counters["counter-resets.cam_0"] == 1
    assert "dropped-by-camera.cam_1" not in grabber.counters


def test_a_recording_may_start_at_any_counter(grabbing: Callable[..., Grabber]) -> None:
    grabber = grabbing(ScriptedDriver([frame(0, 500), frame(0, 502)]), trigger="recorded")
    take_all(grabber)
    assert grabber.counters["dropped-by-camera.cam_0"] == 1


def test_a_slow_consumer_loses_the_oldest_pictures_and_each_is_counted(grabbing: Callable[..., Grabber]) -> None:
    grabber = grabbing(ScriptedDriver([frame(k % 2, k // 2) for k in range(50)]), pulses=3)
    wait_until_finished(grabber)
    taken = take_all(grabber)
    assert [counter for camera, counter, _ in taken if camera == "cam_0"] == [22, 23, 24]
    counters = grabber.counters
    for camera in ("cam_0", "cam_1"):
        got = sum(name == camera for name, _, _ in taken)
        assert counters[f"grabbed.{camera}"] == 25 == got + counters[f"dropped-in-queue.{camera}"]


def test_a_source_that_can_wait_loses_nothing(grabbing: Callable[..., Grabber]) -> None:
    grabber = grabbing(PatientDriver([frame(k % 2, k // 2) for k in range(50)]), pulses=1)
    assert [counter for _, counter, _ in take_all(grabber)] == [k // 2 for k in range(50)]


def test_a_device_that_vanishes_comes_back(grabbing: Callable[..., Grabber]) -> None:
    lost = DriverError("unplugged")
    driver = ScriptedDriver([frame(0, 0), lost], DriverError("still away"), DriverError("away"), [frame(0, 1)])
    grabber = grabbing(driver)
    assert [counter for _, counter, _ in take_all(grabber)] == [0, 1]
    assert grabber.counters["reconnects"] == 1
    assert grabber.trouble == ""
    assert driver.log == ["open", "arm clock", "close", "open", "close", "open", "close", "open", "arm clock"]
    grabber.stop()
    grabber.stop()
    assert driver.log[-1] == "close"
    assert driver.log.count("close") == 4, "a second stop does nothing"
    assert len(driver.threads) == 1, "a driver sees one thread"
    assert threading.get_ident() not in driver.threads


def test_losses_before_the_first_picture_after_a_reconnect_are_counted(grabbing: Callable[..., Grabber]) -> None:
    driver = ScriptedDriver([frame(0, 0), frame(0, 9), DriverError("gone")], [frame(0, 4)])
    grabber = grabbing(driver)
    take_all(grabber)
    assert grabber.counters["dropped-by-camera.cam_0"] == 8 + 4
    assert "counter-resets.cam_0" not in grabber.counters


def test_trouble_says_what_is_wrong_while_the_device_is_away() -> None:
    away = threading.Event()
    driver = ScriptedDriver([DriverError("camera 7 unplugged")])
    grabber = Grabber(driver, "clock", back_off=BackOff(60.0, 60.0))
    driver.close = lambda: away.set()  # type: ignore[method-assign]
    grabber.start()
    assert away.wait(10.0)
    assert grabber.trouble.startswith("camera 7 unplugged; looking")
    grabber.stop()
    assert grabber.finished, "stop does not sit out the back-off"


def test_a_device_that_is_absent_at_the_start_is_an_error() -> None:
    driver = ScriptedDriver(DriverError("no camera at 10.0.0.7; check the cable"))
    grabber = Grabber(driver, "clock", back_off=SOON)
    with pytest.raises(DriverError, match=r"no camera at 10\.0\.0\.7"):
        grabber.start()
    assert driver.log == ["open", "close"]


def test_a_defect_in_a_driver_is_not_swallowed(grabbing: Callable[..., Grabber]) -> None:
    grabber = grabbing(ScriptedDriver([frame(0, 0), ZeroDivisionError("defect")]))
    grabbed = grabber.get(10.0)
    assert grabbed is not None
    assert grabbed.raw.counter == 0, "what came before the defect is delivered"
    with pytest.raises(ZeroDivisionError):
        grabber.get(10.0)


def test_back_off_doubles_up_to_its_limit() -> None:
    back_off = BackOff(0.25, 8.0)
    assert [back_off.pause_s(k) for k in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert back_off.pause_s(10**6) == 8.0


def wait_until_finished(grabber: Grabber) -> None:
    done = threading.Event()
    assert grabber._loop is not None
    grabber._loop.add_done_callback(lambda _: done.set())
    assert done.wait(10.0)


def test_the_end_takes_what_had_arrived_and_no_more() -> None:
    """A set that has been exposed is not torn by the end of the run."""
    inside = threading.Event()

    class QuietDriver(ScriptedDriver):
        def next_frame(self, timeout_s: float) -> RawFrame | None:
            if timeout_s > 0:
                inside.set()
                assert grabber._stop.wait(10.0)
            return super().next_frame(timeout_s)

    grabber = Grabber(
        QuietDriver([None, frame(0, 0), frame(1, 0), None, frame(0, 1)]), "clock", back_off=SOON, now_ns=lambda: 77
    )
    grabber.start()
    assert inside.wait(10.0)
    grabber.stop()
    assert take_all(grabber) == [("cam_0", 0, 0), ("cam_1", 0, 0)]


def test_the_queue_holds_whole_pulses_within_its_memory() -> None:
    assert queue_capacity(CALIBRATION, 5 * PULSE_BYTES + 1) == 2 * 5
    assert queue_capacity(CALIBRATION, 1) == 2, "one pulse always"
    assert queue_capacity(CALIBRATION, 1 << 30) == 2 * 32

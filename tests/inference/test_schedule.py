"""The schedule has no race, and every wait in it is needed: the production scheduler under the race detector."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from inference.devices import BufferSpec
from inference.devices.cpu import CpuDevice
from inference.pipeline import SLOTS, delivery
from inference.published import Straightener, after_straightening
from inference.reconstruct import CHECK, PREPARE, VIEWS
from inference.schedule import ITEM, PICTURES, RESULT, WHEN, Access, Plan, Scheduler, Slot, Stage, ends
from inference.tempeh.close_ups import CloseUpNetwork
from inference.tempeh.compiled.network import PublishedNetwork
from inference.tempeh.live import LiveNetwork
from inference.tempeh.second_stage import HALVED, SecondStageNetwork
from inference.tempeh.tracking import Tracker
from tests.inference.race_detector import TracingDevice

SETS = 12


def nothing(access: Access) -> None:
    """A stage whose work the test replaces."""


def live_stages(tracker: Tracker | None = None) -> tuple[Stage, ...]:
    """The declarations of the live network, between those of the reconstructor."""
    bare = object.__new__(LiveNetwork)
    bare._source, bare._tracker = PICTURES, tracker
    return _between(bare.stages())


def published_stages() -> tuple[Stage, ...]:
    """The declarations of the published network on the CPU, fine features beside the coarse stage."""
    first, *rest = PublishedNetwork.stages(object.__new__(PublishedNetwork))
    return (Stage(PREPARE, PREPARE, nothing, (ITEM,), (PICTURES,)), replace(first, after=(PREPARE,)), *rest)


def second_stages() -> tuple[Stage, ...]:
    """The declarations of the live network with its second stage."""
    bare = object.__new__(SecondStageNetwork)
    bare._first, bare._without = object.__new__(LiveNetwork), ""
    bare._first._source, bare._first._tracker = HALVED, None
    first, *rest = bare.stages()
    return (Stage(PREPARE, PREPARE, nothing, (ITEM,), (PICTURES,)), replace(first, after=(PREPARE,)), *rest)


def close_up_stages() -> tuple[Stage, ...]:
    """The declarations of the live network as it ships: with close-ups, which look at the pictures once more."""
    network, first = object.__new__(CloseUpNetwork), object.__new__(LiveNetwork)
    first._source, first._tracker = PICTURES, None
    network._network = first
    return _between(network.stages())


def rig_stages() -> tuple[Stage, ...]:
    """The declarations of the published network in a rig, which makes its pictures straight."""
    stages = PublishedNetwork.stages(object.__new__(PublishedNetwork))
    return _between(after_straightening(stages, Straightener(())))


def _between(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """A network's stages between those of the reconstructor."""
    first, *rest = stages
    return (
        Stage(PREPARE, PREPARE, nothing, (ITEM,), (PICTURES, WHEN, VIEWS)),
        replace(first, after=(PREPARE,)),
        *rest,
        Stage(CHECK, rest[-1].stream, nothing, (ITEM, VIEWS, RESULT), (RESULT,)),
    )


GPU_LIKE = (
    Stage("stage in", "host in", nothing, (ITEM,), ("pictures",)),
    Stage("upload", "upload", nothing, ("pictures",), ("pictures",), after=("stage in",)),
    Stage("coarse", "compute", nothing, ("pictures",), ("points",), after=("upload",)),
    Stage("fine features", "beside", nothing, ("pictures",), ("maps",), after=("upload",)),
    Stage("visibility", "compute", nothing, ("points",), ("visible",)),
    Stage("refine", "compute", nothing, ("points", "maps", "visible"), ("refined",), after=("fine features",)),
    Stage("download", "download", nothing, ("refined",), ("refined", RESULT), after=("refine",)),
)
BUFFERS = {name: BufferSpec((4,)) for name in ("pictures", "points", "maps", "visible", "refined")}


def honest(stage: Stage) -> Stage:
    """The stage with work that uses exactly what it declares, and complains when a value is of another set."""

    def work(access: Access) -> None:
        number = access.slot.ticket[0]
        for name in stage.reads:
            if name != ITEM:
                held = access[name]
                found = held.host[0] if hasattr(held, "host") else held
                if found != number:
                    access.slot.ticket[1].append(f"{stage.name} of {number} read {name} of {found}")
        for name in stage.writes:
            if name in BUFFERS and name in access.slot.kept:
                access[name].host[0] = number
            else:
                access[name] = number

    return replace(stage, work=work)


def plan_of(name: str) -> Plan:
    makers = {
        "live": live_stages,
        "tracked": lambda: live_stages(Tracker()),
        "second": second_stages,
        "close-ups": close_up_stages,
        "published": published_stages,
        "rig": rig_stages,
        "gpu": lambda: GPU_LIKE,
    }
    declared = makers[name]()
    stages = tuple(honest(stage) for stage in declared)
    return Plan((*stages, honest(delivery(stages, nothing))), BUFFERS if name == "gpu" else {})


def drive(plan: Plan, device: TracingDevice, slots: int = SLOTS) -> list[str]:
    """Run sets through the production scheduler; returns what stages read of other sets."""
    wrong: list[str] = []
    scheduler = Scheduler(plan, device, slots)
    for number in range(1, SETS + 1):
        slot = scheduler.acquire()
        scheduler.start(slot, number, (number, wrong))
        device.wander(40)
    scheduler.close()
    return wrong


def waits_of(plan: Plan) -> list[tuple[str, str]]:
    return [(stage.name, other) for stage in plan.stages for other in stage.after]


PLANS = ("live", "tracked", "second", "close-ups", "published", "rig", "gpu")
ALL_WAITS = [(name, k) for name in PLANS for k in range(len(waits_of(plan_of(name))))]


@pytest.mark.parametrize("slots", [1, 2, SLOTS])
@pytest.mark.parametrize("name", PLANS)
def test_no_timing_has_a_race(name: str, slots: int) -> None:
    for seed in range(60):
        device = TracingDevice(seed)
        assert drive(plan_of(name), device, slots) == [] and device.races == []
        assert device.waits == SETS * len(waits_of(plan_of(name)))


@pytest.mark.parametrize(("name", "k"), ALL_WAITS, ids=lambda value: str(value))
def test_every_wait_is_needed_and_its_absence_is_caught_every_time(name: str, k: int) -> None:
    plan = plan_of(name)
    for seed in range(25):
        device = TracingDevice(seed, skip=k, waits_per_set=len(waits_of(plan)))
        drive(plan, device)
        assert device.races, f"seed {seed}: nothing noticed that {waits_of(plan)[k]} was left out"


@pytest.mark.parametrize("name", PLANS)
def test_taking_a_slot_before_its_set_is_out_is_caught_every_time(name: str) -> None:
    for seed in range(25):
        device = TracingDevice(seed, without_reuse_wait=True)
        drive(plan_of(name), device)
        assert device.races


def test_a_value_shared_without_a_wait_is_caught() -> None:
    """The detector on a schedule that it did not come with: two stages that share a value and do not know it."""
    stages = (
        Stage("a", "one", nothing, (ITEM,), ("x",)),
        Stage("b", "two", nothing, ("x",), ("y",)),
        Stage("last", "one", nothing, ("x",), (), after=("b",)),
    )
    device = TracingDevice(1)
    drive(Plan(tuple(honest(stage) for stage in stages)), device)
    assert any("'x' of slot" in race for race in device.races)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((Stage("a", "s", nothing), Stage("a", "t", nothing, after=("a",))), "twice"),
        ((Stage("a", "s", nothing, after=("b",)), Stage("b", "t", nothing)), "cannot wait for 'b'"),
        ((Stage("a", "s", nothing), Stage("b", "s", nothing, after=("a",))), "cannot wait for 'a'"),
        ((Stage("a", "s", nothing, ("x",)),), r"reads \['x'\]"),
        ((Stage("a", "s", nothing), Stage("b", "t", nothing)), r"does not wait for \['a'\]"),
        ((), "needs a stage"),
    ],
)
def test_a_plan_that_cannot_be_right_is_refused(stages: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(stages)


def test_a_stage_sees_what_it_declares_and_nothing_else() -> None:
    stage = Stage("a", "s", nothing, ("x",), ("y",))
    access = Access(Slot(0, {}, {"x": 1, "y": 0, "z": 2}), stage, CpuDevice().stream("s", "host"))
    access["y"] = access["x"]
    assert access["y"] == 1
    with pytest.raises(KeyError, match="does not declare that it reads 'z'"):
        access["z"]
    with pytest.raises(KeyError, match="does not declare that it writes 'x'"):
        access["x"] = 3
    access.stream.close()  # type: ignore[attr-defined]


def test_the_last_stage_waits_for_ends_only() -> None:
    assert ends(GPU_LIKE) == ("download",)
    assert ends(GPU_LIKE[:5]) == ("fine features", "visibility")


def test_real_threads_keep_sets_apart_and_leave_nothing_behind() -> None:
    wrong: list[str] = []
    order: list[int] = []
    stages = tuple(honest(stage) for stage in GPU_LIKE)
    last = delivery(stages, lambda access: order.append(access[RESULT]))
    scheduler = Scheduler(Plan((*stages, last), BUFFERS), CpuDevice(), SLOTS)
    held: list[Any] = []
    for number in range(1, 301):
        slot = scheduler.acquire()
        held.append(slot)
        assert set(slot.values) == set(BUFFERS) and slot.ticket is None
        scheduler.start(slot, number, (number, wrong))
    scheduler.close()
    assert wrong == [] and order == list(range(1, 301))
    assert all(set(slot.values) == set(BUFFERS) for slot in held)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]

"""The CUDA path's plan has no race and no wait too many: the production scheduler under the race detector."""

from dataclasses import replace

import pytest

from inference.pipeline import SLOTS, delivery
from inference.schedule import ITEM, PICTURES, Access, Plan, Scheduler, Stage
from inference.tempeh.gpu.network import CudaPublishedNetwork
from tests.inference.race_detector import TracingDevice

BUFFERS = ("pictures in", "mask", "weights", "inverse", "fine maps", "vertices", "seen", "offsets")
SETS = 12


def nothing(access: Access) -> None:
    """The detector looks at what stages declare."""


def cuda_plan() -> Plan:
    stages = tuple(replace(s, work=nothing) for s in object.__new__(CudaPublishedNetwork).stages())
    first = replace(stages[0], after=("prepare",))
    # what a slot's buffers hold is a value like any other here
    written = Stage("prepare", "prepare", nothing, (ITEM,), (PICTURES, *BUFFERS))
    whole = (written, first, *stages[1:])
    return Plan((*whole, replace(delivery(whole, nothing), work=nothing)))


def waits_of(plan: Plan) -> list[tuple[str, str]]:
    return [(stage.name, other) for stage in plan.stages for other in stage.after]


def drive(plan: Plan, device: TracingDevice) -> None:
    scheduler = Scheduler(plan, device, SLOTS)
    for number in range(1, SETS + 1):
        scheduler.start(scheduler.acquire(), number, (number, []))
        device.wander(40)
    scheduler.close()


def test_no_timing_has_a_race() -> None:
    for seed in range(40):
        device = TracingDevice(seed)
        drive(cuda_plan(), device)
        assert device.races == [] and device.waits == SETS * len(waits_of(cuda_plan()))


@pytest.mark.parametrize("k", range(len(waits_of(cuda_plan()))), ids=lambda k: " after ".join(waits_of(cuda_plan())[k]))
def test_every_wait_is_needed_and_its_absence_is_caught_every_time(k: int) -> None:
    plan = cuda_plan()
    for seed in range(15):
        device = TracingDevice(seed, skip=k, waits_per_set=len(waits_of(plan)))
        drive(plan, device)
        assert device.races, f"seed {seed}: nothing noticed that {waits_of(plan)[k]} was left out"


def test_stages_that_issue_stand_on_streams_of_the_device() -> None:
    network = object.__new__(CudaPublishedNetwork)
    host = {"stage in", "place"}
    assert {stage.stream for stage in network.stages()} - host == set(network.spaces)
    assert all(stage.stream not in host for stage in network.stages() if stage.capture)

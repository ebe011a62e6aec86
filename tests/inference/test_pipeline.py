"""The pipeline: overlap, order, what is dropped and told, errors that stay with their set. No sleeps."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.pipeline import Mode, Outcome, Pace, Pipeline, idle_times
from inference.schedule import ITEM, RESULT, Access, Stage
from streamer.errors import EngineError

PATIENCE_S = 20.0


class Gate:
    """A stage that tells when it begins and waits until it may go on."""

    def __init__(self) -> None:
        self.began: dict[int, threading.Event] = {}
        self.may: dict[int, threading.Event] = {}
        self._lock = threading.Lock()

    def _event(self, table: dict[int, threading.Event], item: int) -> threading.Event:
        with self._lock:
            return table.setdefault(item, threading.Event())

    def __call__(self, item: int) -> int:
        self._event(self.began, item).set()
        if not self._event(self.may, item).wait(PATIENCE_S):
            raise TimeoutError(item)
        return item

    def wait_for(self, item: int) -> None:
        assert self._event(self.began, item).wait(PATIENCE_S), f"{item} was not started"

    def open(self, *items: int) -> None:
        for item in items:
            self._event(self.may, item).set()


def two_stages(prepare: Callable[[int], int], infer: Callable[[int], int]) -> tuple[Stage, ...]:
    """`prepare` on one stream, `infer` on another."""

    def first(access: Access) -> None:
        access["half"] = prepare(access[ITEM])

    def second(access: Access) -> None:
        access[RESULT] = infer(access["half"])

    return (
        Stage("prepare", "one", first, (ITEM,), ("half",)),
        Stage("infer", "two", second, ("half",), (RESULT,), after=("prepare",)),
    )


class World:
    """A pipeline, what came out of it, and a way to wait for that."""

    def __init__(self, prepare: Callable[[int], int], infer: Callable[[int], int], mode: Mode) -> None:
        self.out: list[Outcome[int, int]] = []
        self.count = threading.Semaphore(0)
        self.pipeline: Pipeline[int, int] = Pipeline(two_stages(prepare, infer), self._deliver, mode=mode, slots=2)

    def _deliver(self, outcome: Outcome[int, int]) -> None:
        self.out.append(outcome)
        self.count.release()

    def wait(self, count: int) -> list[int]:
        for _ in range(count):
            assert self.count.acquire(timeout=PATIENCE_S)
        return [outcome.item for outcome in self.out]


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(prepare: Callable[[int], int], infer: Callable[[int], int], mode: Mode = "every") -> World:
        worlds.append(World(prepare, infer, mode))
        return worlds[-1]

    yield make
    for one in worlds:
        with suppress(OSError):
            one.pipeline.close(drain=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]


def same(item: int) -> int:
    return item


@pytest.mark.parametrize("mode", ["every", "latest"])
def test_the_next_set_is_prepared_while_the_network_works(world: Callable[..., World], mode: Mode) -> None:
    prepare, infer = Gate(), Gate()
    one = world(prepare, infer, mode)
    prepare.open(1, 2)
    one.pipeline.submit(1)
    infer.wait_for(1)
    one.pipeline.submit(2)
    prepare.wait_for(2)  # the network still holds 1: without overlap this would never come
    assert one.out == []
    infer.open(1, 2)
    assert one.wait(2) == [1, 2]


def test_latest_drops_the_oldest_that_was_not_started_and_says_which(world: Callable[..., World]) -> None:
    infer = Gate()
    one = world(same, infer, "latest")
    one.pipeline.submit(1)
    infer.wait_for(1)
    infer.open(2, 3, 4, 5, 6)
    dropped = [one.pipeline.submit(item) for item in (2, 3, 4, 5, 6)]
    infer.open(1)
    left = one.pipeline.close(drain=True)
    done = [outcome.item for outcome in one.out]
    told = [item for item in dropped if item is not None]
    assert left == [] and done == sorted(done) and told == sorted(told)
    assert sorted(done + told) == [1, 2, 3, 4, 5, 6] and done[-1] == 6


def test_every_waits_and_loses_nothing(world: Callable[..., World]) -> None:
    infer = Gate()
    one = world(same, infer, "every")
    submitted: list[int] = []

    def feed() -> None:
        for item in range(6):
            assert one.pipeline.submit(item) is None
            submitted.append(item)

    feeder = threading.Thread(target=feed)
    feeder.start()
    infer.wait_for(0)
    feeder.join(0.3)  # one in the network, one prepared, one waits: the fourth must not be taken
    assert feeder.is_alive() and len(submitted) <= 3
    infer.open(*range(6))
    feeder.join(PATIENCE_S)
    assert one.wait(6) == [0, 1, 2, 3, 4, 5] and not feeder.is_alive()


def test_an_error_belongs_to_its_set_and_keeps_its_place(
    world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(item: int) -> int:
        if item == 1:
            raise EngineError("set 1 is bad")
        return item

    def infer(item: int) -> int:
        return 10 // (item - 3)

    one = world(prepare, infer)
    for item in range(5):
        one.pipeline.submit(item)
    assert one.wait(5) == [0, 1, 2, 3, 4]
    assert [outcome.result for outcome in one.out] == [-4, None, -10, None, 10]
    errors = [outcome.error for outcome in one.out]
    assert isinstance(errors[1], EngineError) and isinstance(errors[3], ZeroDivisionError)
    assert [error is None for error in errors] == [True, False, True, False, True]
    assert len(caplog.records) == 1 and "ZeroDivisionError" in caplog.text  # a defect is logged with its traceback


def test_a_fault_while_delivering_ends_the_pipeline_and_comes_out() -> None:
    def deliver(outcome: Outcome[int, int]) -> None:
        raise OSError(f"no bus for {outcome.item}")

    pipeline: Pipeline[int, int] = Pipeline(two_stages(same, same), deliver, mode="every")
    pipeline.submit(1)
    pipeline._thread.join(PATIENCE_S)
    with pytest.raises(OSError, match="no bus for 1"):
        pipeline.submit(2)
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.submit(3)
    assert pipeline.close(drain=True) == []


def test_closing_finishes_what_was_started_and_gives_back_the_rest(world: Callable[..., World]) -> None:
    prepare, infer = Gate(), Gate()
    one = world(prepare, infer, "latest")
    prepare.open(1, 2, 3)
    one.pipeline.submit(1)
    infer.wait_for(1)
    one.pipeline.submit(2)
    prepare.wait_for(2)
    one.pipeline.submit(3)  # not started: 2 stands between it and the network
    left: list[int] = []
    closer = threading.Thread(target=lambda: left.extend(one.pipeline.close(drain=False)))
    closer.start()
    infer.open(1, 2, 3)
    closer.join(PATIENCE_S)
    assert left == [3] and [outcome.item for outcome in one.out] == [1, 2]


STREAMS = {"prepare": "one", "infer": "two"}


def test_lost_time_is_told_from_waiting_for_streams_that_are_busy() -> None:
    # Could start at 100, was prepared 120..140, though its stream was free; the network worked for another until 150,
    # and 4 were lost to the hand-over.
    hidden = {"prepare": (120, 140), "infer": (154, 200)}
    assert idle_times(hidden, STREAMS, {"two": 150}, 100, 203) == (20 + 4 + 3, 10)
    # The network had been idle: 5 until somebody woke up, 3 to hand over.
    idle = {"prepare": (105, 125), "infer": (128, 180)}
    assert idle_times(idle, STREAMS, {"two": 50}, 100, 180) == (8, 0)
    # Stages of one item that overlap are counted once.
    beside = {"prepare": (100, 140), "infer": (110, 130)}
    assert idle_times(beside, STREAMS, {}, 100, 140) == (0, 0)


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6), st.integers(0, 400))
def test_lost_queued_and_busy_time_add_up(steps: list[int], free: int) -> None:
    edges = [sum(steps[: k + 1]) for k in range(6)]
    spans = {"prepare": (edges[1], edges[2]), "infer": (edges[3], edges[4])}
    lost, queued = idle_times(spans, STREAMS, {"one": free, "two": free}, edges[0], edges[5])
    assert lost >= 0 and queued >= 0
    assert lost + queued + steps[2] + steps[4] == edges[5] - edges[0]


def test_pace_spaces_starts_by_the_busiest_stream() -> None:
    pace = Pace(early=0.9)
    assert pace.start_ns(1000) == 1000  # nothing known: at once
    for _ in range(50):
        pace.observe({"prepare": (0, 10), "infer": (10, 110), "more": (110, 130)}, STREAMS | {"more": "two"})
    assert pace.start_ns(1000) == 1000 + 108
    for _ in range(80):
        pace.observe({"prepare": (0, 200), "infer": (200, 210)}, STREAMS)
    assert pace.start_ns(1000) == 1000 + 180


def test_latest_holds_the_start_back_and_takes_the_newest() -> None:
    """With a clock that the test moves: the set that comes during the hold is the one that is started."""
    now = [0]
    out: list[int] = []
    done = threading.Semaphore(0)

    def deliver(outcome: Outcome[int, int]) -> None:
        out.append(outcome.item)
        done.release()

    pipeline: Pipeline[int, int] = Pipeline(two_stages(same, same), deliver, mode="latest", clock_ns=lambda: now[0])
    pipeline.submit(1)
    assert done.acquire(timeout=PATIENCE_S)
    pipeline._pace.observe({"infer": (0, 10**15)}, STREAMS)
    assert pipeline.submit(2) is None
    assert pipeline.submit(3) == 2 and pipeline.submit(4) == 3  # held back, so the newer one replaces it
    assert out == [1]
    assert pipeline.close(drain=True) == [] and out == [1, 4]


def test_stages_of_one_set_run_beside_each_other_where_streams_differ() -> None:
    """Both wait for the other to begin: on one stream, or with a wait between them, this would never end."""
    together = threading.Barrier(2, timeout=PATIENCE_S)

    def meet(name: str) -> Callable[[Access], None]:
        def work(access: Access) -> None:
            together.wait()
            access[name] = 1

        return work

    def add(access: Access) -> None:
        access[RESULT] = access["coarse"] + access["features"]

    stages = (
        Stage("coarse", "one", meet("coarse"), (ITEM,), ("coarse",)),
        Stage("features", "two", meet("features"), (ITEM,), ("features",)),
        Stage("refine", "one", add, ("coarse", "features"), (RESULT,), after=("features",)),
    )
    out: list[int | None] = []
    pipeline: Pipeline[int, int] = Pipeline(stages, lambda outcome: out.append(outcome.result), mode="every")
    pipeline.submit(1)
    assert pipeline.close(drain=True) == [] and out == [2]

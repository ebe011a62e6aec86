"""Following the head: a guess saves the localiser and never costs a mesh."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.engines import Graph
from inference.model_store import ModelFiles, load_model
from inference.networks import compile_graphs, live_network
from inference.pipeline import Outcome, Pipeline
from inference.reconstruct import Reconstructor
from inference.tempeh.shape import Fit
from inference.tempeh.tracking import AGE_NS, ANCHOR_NS, LIMIT_MM, LIMIT_RAD, SURE, Guess, Tracker, continued, off_by
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.assembler import Assembler
from streamer.config import SyncConfig
from streamer.errors import NoHeadError
from streamer.geometry import rotation_matrices, rotation_vector
from streamer.pixels import encode_pixels
from streamer.takes import Take, open_take
from streamer.types import F64, U8, FrameSet, MeshFrame

PERIOD_NS = 40_000_000
WELL = 2 * SURE


def pose(turn: tuple[float, float, float], place: tuple[float, float, float]) -> F64:
    """A rigid (4, 4)."""
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = rotation_matrices(np.array(turn)), place
    return found


def head(k: float) -> Fit:
    """A head that walks and turns steadily; the k-th set of a sequence."""
    return Fit(pose((0.0, 0.02 * k, 0.0), (3.0 * k, 0.0, -1.0 * k)), np.full(4, 0.5))


def followed(sets: int, tracker: Tracker | None = None, first: int = 0) -> Tracker:
    """A tracker that has seen sets of the steady head, each finished before the next began."""
    tracker = tracker or Tracker()
    for k in range(first, first + sets):
        assert tracker.judge(k * PERIOD_NS, tracker.guess(k * PERIOD_NS), head(k), WELL)
    return tracker


angles = st.floats(-1.0, 1.0)


@example((0.0, 0.0, 0.0), (0.0, 0.0, 1e-5), 1)
@given(st.tuples(angles, angles, angles), st.tuples(angles, angles, angles), st.integers(1, 5))
def test_a_steady_motion_is_carried_on_exactly(
    start: tuple[float, float, float], turn: tuple[float, float, float], share: int
) -> None:
    first = pose(start, (10.0, -20.0, 30.0))
    step = rotation_matrices(np.array(turn) * 0.2)
    poses = [first]
    for _ in range(share + 1):
        after = np.eye(4)
        after[:3, :3], after[:3, 3] = step @ poses[-1][:3, :3], poses[-1][:3, 3] + np.array(turn)
        poses.append(after)
    np.testing.assert_allclose(continued(poses[0], poses[1], share), poses[-1], atol=1e-6)
    np.testing.assert_allclose(rotation_vector(step), np.array(turn) * 0.2, atol=1e-12)


def test_a_head_that_was_seen_twice_is_followed_and_anchored_every_second() -> None:
    tracker = Tracker()
    trusted = []
    for k in range(60):
        guess = tracker.guess(k * PERIOD_NS)
        trusted.append(guess.trusted)
        if guess.trusted:
            assert guess.fit is not None and off_by(guess.fit, head(k)) < 1e-6
        assert tracker.judge(k * PERIOD_NS, guess, head(k), WELL)
    assert trusted[:3] == [False, False, True]  # the second set shows that the first was a good guess for it
    anchors = np.diff([k for k, used in enumerate(trusted) if not used][1:])
    assert len(anchors) >= 2 and (anchors * PERIOD_NS == ANCHOR_NS).all()
    assert tracker.counters == {"tracked": sum(trusted), "localised": 60 - sum(trusted), "lost": 0}


@pytest.mark.parametrize(
    ("shift", "turn", "information"),
    [
        ((1.1 * LIMIT_MM, 0, 0), (0, 0, 0), WELL),
        ((0, 0, 0), (0, 0, 1.1 * LIMIT_RAD), WELL),
        ((0, 0, 0), (0, 0, 0), 0.5 * SURE),
    ],
)
def test_a_guess_that_was_wrong_or_sees_no_head_does_not_stand(
    shift: tuple[float, float, float], turn: tuple[float, float, float], information: float
) -> None:
    tracker, when = followed(6), 6 * PERIOD_NS
    guess = tracker.guess(when)
    assert guess.trusted and guess.fit is not None
    found = Fit(guess.fit.a_from_head @ pose(turn, shift), guess.fit.coefficients)
    assert not tracker.judge(when, guess, found, information)
    assert tracker.counters["lost"] == 1
    assert tracker.judge(when, Guess(guess.fit, trusted=False), found, information)
    assert not tracker.guess(when + PERIOD_NS).trusted  # sets that follow are localised until guesses are good again


def test_guesses_that_are_poor_pause_the_following_before_they_fail() -> None:
    tracker, when = followed(6), 6 * PERIOD_NS
    guess = tracker.guess(when)
    found = Fit(guess.fit.a_from_head @ pose((0, 0, 0), (0.8 * LIMIT_MM, 0, 0)), np.zeros(4))  # type: ignore[union-attr]
    assert tracker.judge(when, guess, found, WELL)
    assert not tracker.guess(when + PERIOD_NS).trusted
    assert tracker.counters["lost"] == 0


@pytest.mark.parametrize("when_ns", [5 * PERIOD_NS + AGE_NS + 1, 5 * PERIOD_NS, 4 * PERIOD_NS, 0])
def test_nothing_is_guessed_after_a_gap_or_for_a_set_of_the_past(when_ns: int) -> None:
    guess = followed(6).guess(when_ns)
    assert guess == Guess(None, trusted=False)


def test_sets_in_flight_do_not_know_each_other() -> None:
    """Four sets begin before the first ends, as in the pipeline: guesses reach further, and hold."""
    tracker, flying = Tracker(), []
    for k in range(40):
        flying.append((k, tracker.guess(k * PERIOD_NS)))
        if len(flying) == 4:
            number, guess = flying.pop(0)
            assert tracker.judge(number * PERIOD_NS, guess, head(number), WELL)
    assert tracker.counters["tracked"] > 20 and tracker.counters["lost"] == 0


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ModelFiles, dict[str, Graph], Take, list[FrameSet]]]:
    """The shipped model, compiled, and a rendered take of a second."""
    folder = tmp_path_factory.mktemp("tracking") / "take"
    rig = RigConfig(fps=24.0, simulated=SimulatedConfig(cameras=4, width=320, height=240, seed=7))
    simulate_takes(folder, rig, world="demo", takes=1, frames=20)
    model = load_model("live")
    with open_take(folder) as take:
        assembler = Assembler(take.calibration.ids, SyncConfig(deadline_ms=1e6, stall_ms=1e6))
        sets = [one for _, time_ns, frame in take.messages(["frame"]) for one in assembler.push(frame, time_ns)]  # type: ignore[arg-type]
        yield model, compile_graphs(model, "openvino", "f32", 1), take, sets


def run_all(world: Any, sets: list[FrameSet], tracker: Tracker | None) -> list[Outcome[FrameSet, MeshFrame]]:
    """What becomes of the sets in a pipeline."""
    model, graphs, take, _ = world
    outcomes: list[Outcome[FrameSet, MeshFrame]] = []
    factory = partial(live_network, tracker=tracker)
    with Reconstructor(model, take.calibration, graphs=graphs, threads=1, network=factory) as reconstructor:
        pipeline: Pipeline[FrameSet, MeshFrame] = Pipeline(reconstructor.stages, outcomes.append, mode="every")
        for one in sets:
            pipeline.submit(one)
        pipeline.close(drain=True)
    return outcomes


def reconstructed(world: Any, sets: list[FrameSet], tracker: Tracker | None) -> list[MeshFrame]:
    """The meshes of sets, all of which must give one."""
    outcomes = run_all(world, sets, tracker)
    assert [outcome.error for outcome in outcomes] == [None] * len(sets)
    return [outcome.result for outcome in outcomes if outcome.result is not None]


def nothing_but(one: FrameSet, shown: Callable[[int], U8 | None]) -> FrameSet:
    """The set with other pictures: of the n-th camera `shown(n)`; None: its own."""
    members = {}
    for number, (name, frame) in enumerate(one.members.items()):
        picture = shown(number)
        if picture is not None:
            encoding, data = encode_pixels(picture, "jpeg")
            frame = replace(frame, encoding=encoding, data=data)
        members[name] = frame
    return replace(one, members=members)


def test_no_head_is_made_of_pictures_without_one_or_of_one_picture(world: Any) -> None:
    """Black, noise, the head before one camera alone, one picture in all: named, none of it followed, and then on."""
    one, rng = world[3][0], np.random.default_rng(0)
    black = np.zeros((240, 320, 3), np.uint8)
    noise = rng.integers(0, 255, (240, 320, 3), np.uint8)
    front = len(one.members) // 2
    sets = [
        nothing_but(one, lambda _: black),
        nothing_but(one, lambda _: noise),
        nothing_but(one, lambda number: None if number == front else black),
        replace(one, members=dict([list(one.members.items())[front]])),
        one,
    ]
    tracker = Tracker()
    outcomes = run_all(world, sets, tracker)
    assert tracker.counters == {"tracked": 0, "localised": 5, "lost": 0}
    for outcome in outcomes[:4]:
        assert isinstance(outcome.error, NoHeadError) and "no head in sight of two cameras" in str(outcome.error)
    assert outcomes[4].error is None and outcomes[4].result is not None


def test_a_followed_head_is_the_localised_one(world: Any, tmp_path: Path) -> None:
    sets = world[3]
    assert len(sets) == 20
    tracker = Tracker()
    plain, tracked = (reconstructed(world, sets, one) for one in (None, tracker))
    counts = tracker.counters
    assert counts["tracked"] >= 4 and counts["tracked"] + counts["localised"] == 20
    gap_mm = [np.linalg.norm(a.vertices - b.vertices, axis=1) * 1e3 for a, b in zip(plain, tracked, strict=True)]
    # another crop of the same head: as far apart as two crops are, a fraction of the model's error of 2 mm
    assert np.median(np.concatenate(gap_mm)) < 0.6 and max(map(np.median, gap_mm)) < 1.5


def test_a_set_whose_guess_fails_is_the_set_without_guess_bit_for_bit(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = world[3][:8]
    monkeypatch.setattr("inference.tempeh.tracking.ANCHOR_NS", 10 * ANCHOR_NS)

    class Misled(Tracker):
        def guess(self, when_ns: int) -> Guess:  # always sure, always wrong: the head 60 mm beside where it is
            return Guess(Fit(pose((0.0, 0.3, 0.0), (60.0, 40.0, 0.0)), np.zeros(128)), trusted=True)

    tracker = Misled()
    plain, misled = (reconstructed(world, sets, one) for one in (None, tracker))
    assert tracker.counters == {"tracked": 0, "localised": 8, "lost": 8}
    for a, b in zip(plain, misled, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)

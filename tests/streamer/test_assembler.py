"""The assembler on a fake clock: every frame accounted, nobody waits too long, every absence has its reason."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.assembler import MAX_PENDING, Assembler
from streamer.config import SyncConfig
from streamer.errors import ConfigError, TransportError
from streamer.types import Frame, FrameSet

MS = 1_000_000
PERIOD = 33 * MS
CAMERAS = ("a", "b", "c", "d")
PIXELS = np.zeros(0, np.uint8)
LAST = 10**15

Arrival = tuple[int, Frame]


def frame(
    camera: str, n: int, *, sequence: int | None = None, counter: int | None = None, exposure: int | None = None
) -> Frame:
    exposure = n * PERIOD if exposure is None else exposure
    sequence = n if sequence is None else sequence
    counter = n if counter is None else counter
    return Frame(camera, n, counter, sequence, exposure, "host", 0, 0, 8, 8, "jpeg", PIXELS)


def drive(assembler: Assembler, arrivals: Sequence[Arrival], *, flush: bool = True) -> list[FrameSet]:
    """Push frames as they arrive, poll exactly when the assembler asks for it, and check what always holds."""
    sets: list[FrameSet] = []
    deadline_ns = assembler._deadline_ns
    for now, one in sorted(arrivals, key=lambda arrival: arrival[0]):
        while (due := assembler.next_deadline_ns) is not None and due <= now:
            sets += assembler.poll(due)
            later = assembler.next_deadline_ns
            assert later is None or later > due, "a poll at the deadline must make progress"
        sets += assembler.push(one, now)
    while (due := assembler.next_deadline_ns) is not None and not flush:
        sets += assembler.poll(due)
    sets += assembler.flush(arrivals[-1][0] if arrivals else 0)
    assert assembler.next_deadline_ns is None
    own = [member for one in sets for camera, member in one.members.items() if camera not in one.frozen]
    assert len({id(member) for member in own}) == len(own), "a frame is in two sets"
    assert len(own) + sum(assembler.unused.values()) == len(arrivals), assembler.unused
    assert [one.frame_id for one in sets] == sorted({one.frame_id for one in sets})
    assert all(one.waited_ns <= deadline_ns for one in sets)
    cameras = tuple(assembler._cameras)
    for one in sets:
        assert tuple(one.members) == tuple(c for c in cameras if c in one.members)
        assert one.members.keys() | one.absent.keys() == set(cameras)
        assert not one.members.keys() & one.absent.keys()
        assert one.waited_for in cameras
        assert one.skew_ns <= assembler._rules.spread_ns
    counts = assembler.sets
    assert counts["assembled"] == len(sets) == counts["complete"] + counts["partial"]
    assert counts["complete"] == sum(one.complete for one in sets)
    return sets


def stream(cameras: Sequence[str], first: int, last: int, delay_ms: float = 5.0) -> list[Arrival]:
    """Frames first..last-1 of these cameras, each a little after the one before, `delay_ms` after exposure."""
    return [
        (n * PERIOD + round(delay_ms * MS) + k * 1000, frame(camera, n))
        for n in range(first, last)
        for k, camera in enumerate(cameras)
    ]


def troubled_rig(seed: int, length: int) -> list[Arrival]:
    """Arrivals of four cameras with delays, losses, repeats, stalls and wild clocks; in order per camera.

    Drawn from a seed: hypothesis would spend its minutes on shrinking thousands of choices.
    """
    rng = np.random.default_rng(seed)
    arrivals: list[Arrival] = []
    for camera in CAMERAS:
        ready = 0
        sequence = int(rng.integers(0, 4))
        wild = int(rng.choice([0, 0, 0, 5, -3, 10**6]))
        silent = range(*rng.integers(0, 40, 2))
        for n in range(int(rng.integers(0, 3)), length):
            fate = rng.choice(["", "", "", "", "lost", "camera", "repeat", "slow", "late"])
            if n in silent or fate in ("lost", "camera"):
                sequence += int(fate == "lost")
                continue
            delay = {"slow": 30 * MS, "late": 150 * MS}.get(str(fate), 4 * MS) + int(rng.integers(0, 12 * MS))
            ready = max(ready, n * PERIOD + delay)
            exposure = n * PERIOD + int(rng.integers(-2 * MS, 2 * MS))
            one = frame(camera, n + wild, sequence=sequence, counter=n, exposure=exposure)
            sequence += 1
            arrivals += [(ready, one)] + [(ready, replace(one))] * (fate == "repeat")
    return sorted(arrivals, key=lambda arrival: arrival[0])


RIGS = st.builds(troubled_rig, st.integers(0, 2**32 - 1), st.integers(1, 30))


@settings(max_examples=300, deadline=None)
@given(
    RIGS,
    st.sampled_from(["frame_id", "time"]),
    st.sampled_from(["omit", "freeze", "drop"]),
    st.integers(1, 4),
    st.sampled_from([3000, 8000, 20_000]),
    st.sampled_from([20.0, 60.0, 400.0]),
    st.sampled_from([50.0, 200.0]),
    st.booleans(),
)
def test_every_frame_is_accounted_once_and_no_set_waits_too_long(
    arrivals: list[Arrival],
    match: str,
    policy: str,
    least: int,
    tolerance: int,
    deadline: float,
    stall: float,
    flush: bool,
) -> None:
    config = SyncConfig(
        match=match,  # type: ignore[arg-type]
        tolerance_us=tolerance,
        deadline_ms=deadline,
        on_missing=policy,  # type: ignore[arg-type]
        min_cameras=least,
        stall_ms=stall,
    )
    for one in drive(Assembler(CAMERAS, config), arrivals, flush=flush):
        assert len(one.members) - len(one.frozen) >= least
        assert policy != "drop" or not one.absent
        assert policy == "freeze" or not one.frozen


@settings(max_examples=40, deadline=None)
@given(RIGS, st.integers(1, 4))
def test_stop_ends_with_an_error_and_a_closed_account(arrivals: list[Arrival], least: int) -> None:
    assembler = Assembler(CAMERAS, SyncConfig(on_missing="stop", min_cameras=least, stall_ms=100))
    used = pushed = 0
    failed = False
    for now, one in arrivals:
        pushed += 1
        try:
            sets = assembler.push(one, now)
        except TransportError as error:
            assert "policy is stop" in str(error)
            failed = True
            continue
        assert not failed, "what has stopped must not go on"
        assert all(one.complete for one in sets)
        used += sum(len(one.members) for one in sets)
    if not failed:
        used += sum(len(one.members) for one in assembler.flush(LAST))
    assert used + sum(assembler.unused.values()) == pushed
    assert not failed or "stopped" in assembler.unused


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12 * MS), st.integers(0, 3 * MS), st.sampled_from([30, 33, 25]))
def test_free_running_cameras_are_matched_as_they_were_exposed(seed: int, phase: int, jitter: int, period: int) -> None:
    """Any phases and jitter that fit the tolerance, any order of arrival of cameras: the sets are the true ones."""
    rng = np.random.default_rng(seed)
    arrivals: list[Arrival] = []
    for camera in CAMERAS:
        offset, ready = int(rng.integers(0, phase + 1)), 0
        for n in range(12):
            exposure = n * period * MS + offset + int(rng.integers(0, jitter + 1))
            ready = max(ready, exposure + int(rng.integers(2 * MS, 20 * MS)))
            # Ids by an imagined period: nothing but the time tells what belongs together.
            arrivals.append((ready, replace(frame(camera, n, exposure=exposure), frame_id=exposure // PERIOD)))
    config = SyncConfig(match="time", tolerance_us=(phase + jitter) // 1000 + 1, deadline_ms=200)
    sets = drive(Assembler(CAMERAS, config), arrivals)
    assert [sorted({member.sequence for member in one.members.values()}) for one in sets] == [[n] for n in range(12)]
    assert all(one.complete for one in sets)


def test_a_complete_set_leaves_with_its_last_member() -> None:
    sets = drive(Assembler(CAMERAS, SyncConfig()), stream(CAMERAS, 0, 5))
    assert [one.frame_id for one in sets] == list(range(5))
    assert all(one.complete and one.waited_for == "d" and one.waited_ns == 3000 for one in sets)


def test_a_set_waits_for_a_late_camera_to_its_deadline_and_no_longer() -> None:
    config = SyncConfig(deadline_ms=20)
    arrivals = [*stream("abc", 0, 1), (60 * MS, frame("d", 0)), *stream(CAMERAS, 3, 4)]
    assembler = Assembler(CAMERAS, config)
    late, whole = drive(assembler, arrivals)
    assert late.absent == {"d": "late"}
    assert (late.waited_for, late.waited_ns) == ("d", 20 * MS)
    assert assembler.unused == {"late": 1}
    assert whole.complete


@pytest.mark.parametrize(
    ("sequence", "counter", "reason"),
    [(5, 6, "dropped-by-camera"), (6, 6, "lost-on-bus"), (5, 5, "missing")],
)
def test_a_gap_tells_why_a_picture_is_absent_without_waiting(sequence: int, counter: int, reason: str) -> None:
    """Camera d has nothing for set 5 and goes on with 6: that set leaves when d's next frame arrives."""
    arrivals = stream("abc", 0, 7) + stream("d", 0, 5)
    arrivals.append((6 * PERIOD + 5 * MS, frame("d", 6, sequence=sequence, counter=counter)))
    sets = drive(Assembler(CAMERAS, SyncConfig(deadline_ms=300)), arrivals)
    assert [dict(one.absent) for one in sets] == [{}] * 5 + [{"d": reason}, {}]
    assert sets[5].waited_for == "d"
    assert sets[5].waited_ns <= PERIOD


def test_a_camera_seen_first_later_is_before_join() -> None:
    sets = drive(Assembler(CAMERAS, SyncConfig(deadline_ms=200)), stream("abc", 0, 2) + stream("d", 1, 2))
    assert [dict(one.absent) for one in sets] == [{"d": "before-join"}, {}]


def test_a_stalled_camera_does_not_delay_the_rest_and_is_waited_for_again_when_it_speaks() -> None:
    config = SyncConfig(deadline_ms=100, stall_ms=300)
    # d is slower than the others by 20 ms; it is silent from 10 to 29.
    arrivals = stream("abc", 0, 40) + stream("d", 0, 10, 25) + stream("d", 30, 40, 25)
    assembler = Assembler(CAMERAS, config)
    sets = drive(assembler, arrivals)
    by_id = {one.frame_id: one for one in sets}
    assert set(by_id) == set(range(40))
    silent_since = 9 * PERIOD + 25 * MS
    for n in range(10, 30):
        assert by_id[n].absent["d"] in ("late", "stalled")
        released = n * PERIOD + 5 * MS + by_id[n].waited_ns
        if released > silent_since + 300 * MS:
            assert by_id[n].absent == {"d": "stalled"}
            assert by_id[n].waited_ns == 2000, "nobody waits for the stalled camera"
    assert by_id[30].absent, "the first set after the silence did not know yet"
    assert all(by_id[n].complete for n in (*range(10), *range(31, 40)))
    assert assembler.unused == {"late": 1}


def test_a_camera_that_is_always_too_late_counts_as_stalled_but_its_reason_is_late() -> None:
    config = SyncConfig(deadline_ms=30, stall_ms=200)
    sets = drive(Assembler(CAMERAS, config), stream("abc", 0, 40) + stream("d", 0, 20, 70) + stream("d", 20, 40, 15))
    by_id = {one.frame_id: one for one in sets}
    assert all(by_id[n].absent == {"d": "late"} for n in range(20))
    assert all(by_id[n].waited_ns == 2000 for n in range(10, 18)), "waiting for it is futile"
    assert all(by_id[n].complete for n in range(22, 40)), "it was waited for again once it was fast enough"


def test_after_a_silence_of_the_whole_rig_the_first_set_is_whole() -> None:
    sets = drive(Assembler(CAMERAS, SyncConfig(stall_ms=100)), stream(CAMERAS, 0, 3) + stream(CAMERAS, 90, 93))
    assert [one.frame_id for one in sets] == [0, 1, 2, 90, 91, 92]
    assert all(one.complete for one in sets)


def test_a_restart_with_an_earlier_clock_begins_anew_after_a_few_frames() -> None:
    assembler = Assembler(CAMERAS, SyncConfig(deadline_ms=40))
    sets: list[FrameSet] = []
    for now, one in stream(CAMERAS, 50, 60):
        sets += assembler.push(one, now)
    for now, one in stream(CAMERAS, 0, 6):
        sets += assembler.push(one, now + 70 * PERIOD)
    assert [one.frame_id for one in sets] == [*range(50, 60), *range(2, 6)]
    assert all(one.complete for one in sets)
    assert assembler.unused == {"late": 8}


def test_a_stray_repeat_of_an_old_frame_is_no_restart() -> None:
    assembler = Assembler(CAMERAS, SyncConfig())
    strays = [(n * PERIOD + 20 * MS, frame("a", n - 3)) for n in range(5, 9)]
    assert [one.frame_id for one in drive(assembler, stream(CAMERAS, 0, 10) + strays)] == list(range(10))
    assert assembler.unused == {"late": 4}


def test_one_camera_with_a_wrong_clock_neither_hurries_nor_delays_the_others() -> None:
    wild = [(now, replace(one, frame_id=one.frame_id + 10**9)) for now, one in stream("d", 0, 20, 1)]
    assembler = Assembler(CAMERAS, SyncConfig(deadline_ms=25))
    # d's sets expire 26 ms after exposure, while those of a and b still wait for c.
    sets = drive(assembler, stream("ab", 0, 20) + stream("c", 0, 20, 28) + wild)
    assert [tuple(one.members) for one in sets] == [("a", "b", "c")] * 20
    assert assembler.unused == {"too-few": 20}
    assert all(one.waited_for == "c" for one in sets[1:])


def test_freeze_repeats_the_last_picture_and_says_so() -> None:
    config = SyncConfig(per_camera={"d": "freeze"}, min_cameras=3, deadline_ms=20)
    arrivals = [
        (now, one) for now, one in stream(CAMERAS, 0, 6) if not (one.camera == "d" and one.frame_id in (0, 3, 4))
    ]
    sets = drive(Assembler(CAMERAS, config), arrivals)
    shown = [(one.members["d"].frame_id if "d" in one.members else None, sorted(one.frozen)) for one in sets]
    assert shown == [(None, []), (1, []), (2, []), (2, ["d"]), (2, ["d"]), (5, [])]
    assert sets[0].absent.keys() == {"d"}
    assert not sets[3].complete
    assert not sets[3].absent
    assert sets[3].skew_ns == 0, "a frozen picture says nothing about the skew of the others"


def test_frozen_pictures_do_not_make_up_the_numbers() -> None:
    config = SyncConfig(on_missing="freeze", min_cameras=2, deadline_ms=20)
    assembler = Assembler(CAMERAS, config)
    assert len(drive(assembler, stream(CAMERAS, 0, 2) + stream("a", 2, 5))) == 2
    assert assembler.unused == {"too-few": 3}


def test_drop_gives_up_the_set_and_counts_its_frames() -> None:
    config = SyncConfig(per_camera={"d": "drop"}, min_cameras=1, deadline_ms=20)
    arrivals = [
        (now, one) for now, one in stream(CAMERAS, 0, 4) if (one.camera, one.frame_id) not in {("d", 1), ("a", 2)}
    ]
    assembler = Assembler(CAMERAS, config)
    sets = drive(assembler, arrivals)
    assert [one.frame_id for one in sets] == [0, 2, 3]
    assert assembler.unused == {"set-dropped": 3}
    assert assembler.sets == {"assembled": 3, "complete": 2, "partial": 1, "dropped": 1}


def test_stop_names_the_camera_and_how_long_it_was_waited_for() -> None:
    assembler = Assembler(CAMERAS, SyncConfig(per_camera={"d": "stop"}, deadline_ms=40))
    for now, one in stream(CAMERAS, 0, 2) + stream("abc", 2, 3):
        assembler.push(one, now)
    due = assembler.next_deadline_ns
    assert due == 2 * PERIOD + 45 * MS
    with pytest.raises(TransportError, match=r"camera 'd' is missing \(late\) from frame set 2 after 40 ms"):
        assembler.poll(due)
    with pytest.raises(TransportError, match="camera 'd'"):
        assembler.push(frame("d", 2), due + 1)
    assert assembler.flush(due + 2) == []
    assert assembler.unused == {"stopped": 4}
    assert assembler.sets["complete"] == 2


def test_stop_gives_a_camera_until_it_is_stalled_to_begin() -> None:
    config = SyncConfig(per_camera={"d": "stop"}, deadline_ms=20, stall_ms=100)
    assembler = Assembler(CAMERAS, config)
    sets = drive(assembler, stream("abc", 0, 2) + stream(CAMERAS, 2, 4))
    assert [one.frame_id for one in sets] == [2, 3]
    assert assembler.unused == {"set-dropped": 6}
    with pytest.raises(TransportError, match=r"camera 'd' is missing \(stalled\)"):
        drive(Assembler(CAMERAS, config), stream("abc", 0, 9))


def test_a_frame_exposed_too_far_from_the_others_of_its_id_is_left_out() -> None:
    arrivals = [
        (now, replace(one, exposure_time_ns=one.exposure_time_ns + (9 * MS if one.camera == "a" else 1 * MS)))
        for now, one in stream("ab", 0, 3)
    ] + stream("cd", 0, 3)
    assembler = Assembler(CAMERAS, SyncConfig(tolerance_us=8000))
    sets = drive(assembler, arrivals)
    assert [dict(one.absent) for one in sets] == [{"a": "skew"}] * 3
    assert assembler.unused == {"skew": 3}
    assert all(one.skew_ns == MS for one in sets)


def test_repeats_strangers_and_small_sets_are_named() -> None:
    assembler = Assembler(CAMERAS, SyncConfig(deadline_ms=20))
    arrivals = [*stream(CAMERAS, 0, 2), (PERIOD + 5 * MS + 500, frame("a", 1)), (PERIOD + 6 * MS, frame("x", 1))]
    assert len(drive(assembler, arrivals + stream("ab", 2, 3))) == 2
    assert assembler.unused == {"duplicate": 1, "unknown-camera": 1, "too-few": 2}


def test_memory_is_bounded_though_time_stands_still() -> None:
    assembler = Assembler(("a", "b"), SyncConfig(min_cameras=1, deadline_ms=60_000, stall_ms=60_000))
    released = sum(len(assembler.push(frame("a", n), 0)) for n in range(2000))
    assert len(assembler._pending) <= MAX_PENDING
    assert len(assembler._closed) <= MAX_PENDING
    assert released + len(assembler.flush(0)) == 2000


def test_time_that_steps_back_is_held() -> None:
    assembler = Assembler(CAMERAS, SyncConfig())
    assembler.push(frame("a", 0), 1000 * MS)
    sets = [one for camera in "bcd" for one in assembler.push(frame(camera, 0), 0)]
    assert [one.waited_ns for one in sets] == [0]


def by_time(
    *exposures_ms: tuple[str, float], tolerance_ms: int, tail: Sequence[Arrival] = ()
) -> tuple[Assembler, list[FrameSet]]:
    """Sets of frames that arrive one microsecond apart in the order given."""
    assembler = Assembler(
        CAMERAS, SyncConfig(match="time", tolerance_us=tolerance_ms * 1000, min_cameras=2, deadline_ms=20)
    )
    arrivals = [
        (n * 1000, frame(camera, n, sequence=n, exposure=round(at * MS))) for n, (camera, at) in enumerate(exposures_ms)
    ]
    return assembler, drive(assembler, [*arrivals, *tail])


def exposures(sets: Sequence[FrameSet]) -> list[dict[str, float]]:
    return [{camera: member.exposure_time_ns / MS for camera, member in one.members.items()} for one in sets]


def test_a_frame_that_fits_two_sets_goes_to_the_nearer() -> None:
    _, sets = by_time(("a", 0), ("a", 33), ("b", 14), ("c", 1), ("b", 34), tolerance_ms=20)
    assert exposures(sets) == [{"a": 0, "b": 14, "c": 1}, {"a": 33, "b": 34}]


def test_no_chain_of_neighbours_stretches_a_set_beyond_the_tolerance() -> None:
    assembler, sets = by_time(("b", 15), ("a", 0), ("c", 25), ("d", 26), tolerance_ms=16)
    assert exposures(sets) == [{"a": 0, "b": 15}, {"c": 25, "d": 26}]
    assert assembler.unused == {}


def test_by_time_too_a_frame_after_the_deadline_is_late_and_a_repeat_a_duplicate() -> None:
    late = frame("d", 9, exposure=3 * MS)
    assembler, sets = by_time(("a", 0), ("b", 1), ("c", 2), tolerance_ms=8, tail=[(25 * MS, late)])
    assert [dict(one.absent) for one in sets] == [{"d": "late"}]
    assert assembler.unused == {"late": 1}
    repeat = frame("d", 3, exposure=3 * MS)
    assembler, sets = by_time(("a", 0), ("b", 1), ("c", 2), ("d", 3), tolerance_ms=8, tail=[(MS, repeat)])
    assert len(sets) == 1
    assert assembler.unused == {"duplicate": 1}


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (SyncConfig(per_camera={"e": "omit"}), "sync.per_camera.e"),
        (SyncConfig(per_camera={"a": "wait"}), "policies are omit, freeze, drop, stop"),
        (SyncConfig(min_cameras=5), "sync.min_cameras = 5, and the rig has 4 cameras"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(config: SyncConfig, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Assembler(CAMERAS, config)

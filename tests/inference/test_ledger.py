"""The account of frames closes: by hand for each reason, and by any history."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ledger import Ledger
from tests.inference.makers import frame, frame_set, grey


def total(ledger: Ledger, prefix: str = "") -> int:
    return sum(count for name, count in ledger.counters({}).items() if name.startswith(prefix))


def test_gaps_are_lost_on_the_bus_unless_the_ring_explains_them() -> None:
    ledger = Ledger()
    ledger.arrived("a", 3)  # 0, 1, 2 before
    ledger.arrived("a", 4)
    ledger.arrived("a", 8)  # 5, 6, 7 missing
    ledger.overwritten(2)
    ledger.arrived("a", 10)  # 9 missing: overwritten
    ledger.arrived("a", 14)  # 11, 12, 13 missing: one more overwritten
    expected = {"before-join": 3, "lost-on-bus": 5, "overwritten": 2}
    assert ledger.counters({}) == {f"unused.{reason}": count for reason, count in sorted(expected.items())}


def test_frozen_members_and_cameras_without_a_slot_are_not_used() -> None:
    ledger = Ledger()
    frames = [frame(c, 1, grey(1)) for c in ("a", "b", "c")]
    ledger.use(frame_set(frames, frozen=["b"]), views=["a", "b"])
    assert ledger.counters({"late": 2}) == {"used.a": 1, "unused.late": 2, "unused.no-slot": 1}
    ledger.waste(frame_set(frames, frozen=["b"]), "superseded")
    assert ledger.counters({})["unused.superseded"] == 2


def test_a_tail_that_never_came_is_lost_and_a_camera_never_heard_is_before_join() -> None:
    ledger = Ledger()
    ledger.arrived("a", 0)
    ledger.announced({"published.a": 4, "published.b": 4, "grabbed.a": 9})
    ledger.arrived("a", 1)  # was on its way
    ledger.close()
    ledger.close()  # once is enough
    assert ledger.counters({}) == {"unused.before-join": 4, "unused.lost-on-bus": 2}


FATES = st.lists(st.sampled_from(["comes", "comes", "lost", "overwritten"]), max_size=12)


@given(st.lists(st.tuples(FATES, st.integers(0, 12)), min_size=1, max_size=4), st.integers(0, 3))
def test_any_history_of_a_node_closes_and_never_counts_back(
    lives: list[tuple[list[str], int]], joined_after: int
) -> None:
    """Each life of a node publishes some frames; Health comes at its start, in its middle and at its end."""
    ledger, published, arrived, overwritten = Ledger(), 0, 0, 0
    before: Counter[str] = Counter()
    for number, (fates, middle) in enumerate(lives):
        ledger.announced({"published.a": 0})  # a heartbeat beats at once
        for sequence, fate in enumerate(fates):
            if number == 0 and sequence < joined_after:
                continue  # nobody listened yet
            if fate == "comes":
                ledger.overwritten(overwritten)
                ledger.arrived("a", sequence)
                ledger.refuse("late")
                arrived += 1
            overwritten += fate == "overwritten"
            if sequence == middle:
                ledger.announced({"published.a": sequence + 1})
            now = Counter(ledger.counters({}))
            assert all(now[name] >= count for name, count in before.items())
            before = now
        ledger.announced({"published.a": len(fates)})
        published += len(fates)
    ledger.overwritten(overwritten)
    ledger.close()
    assert total(ledger) == published
    assert ledger.counters({}).get("unused.late", 0) == arrived


def test_a_node_that_was_killed_published_more_than_it_said_and_its_next_life_is_told_apart() -> None:
    """It had announced 3 and sent 5 when it died; its next life is heard of when it has published more than that."""
    ledger = Ledger()
    for sequence in range(3):
        ledger.arrived("a", sequence)
    ledger.announced({"life": 1, "published.a": 3})
    for sequence in (3, 4):
        ledger.arrived("a", sequence)
    ledger.announced({"life": 2, "published.a": 6})  # its first six came before we were connected again
    ledger.arrived("a", 6)
    ledger.announced({"life": 2, "published.a": 7})
    for _ in range(6):
        ledger.refuse("late")
    ledger.close()
    counters = ledger.counters({})
    assert counters == {"unannounced": 2, "unused.late": 6, "unused.lost-on-bus": 6}
    assert 3 + 7 + counters["unannounced"] == total(ledger, "unused."), "what was published is all accounted for"


def test_a_new_life_seen_by_its_frames_first_is_not_begun_twice() -> None:
    ledger = Ledger()
    ledger.announced({"life": 1, "published.a": 1})
    ledger.arrived("a", 0)
    ledger.arrived("a", 0)  # counts from 0 again
    ledger.arrived("a", 1)
    ledger.announced({"life": 2, "published.a": 2})
    for _ in range(3):
        ledger.refuse("late")
    ledger.close()
    assert ledger.counters({}) == {"unused.late": 3}


def test_a_planted_miscount_is_noticed() -> None:
    ledger = Ledger()
    for sequence in (0, 1, 2):
        ledger.arrived("a", sequence)
    ledger.refuse("late")
    ledger.announced({"published.a": 3})
    ledger.close()
    with pytest.raises(AssertionError):
        assert total(ledger) == 3  # two frames came and were put nowhere

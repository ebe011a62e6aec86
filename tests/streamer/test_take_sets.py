"""Frame sets from ids and times alone."""

from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.takes.sets import Match, match_by_id, match_by_time

TIMES = st.lists(st.integers(0, 400), min_size=0, max_size=12, unique=True)
TABLES = st.dictionaries(st.sampled_from("abcd"), TIMES, min_size=1)


def _table(times: dict[str, list[int]]) -> dict[str, np.ndarray]:
    return {
        camera: np.array([(t // 10, t) for t in stamps], np.int64).reshape(-1, 2) for camera, stamps in times.items()
    }


def _members(matches: list[Match], table: dict[str, np.ndarray]) -> list[tuple[int, dict[str, int]]]:
    return [(m.frame_id, {camera: int(table[camera][row, 1]) for camera, row in m.rows.items()}) for m in matches]


@given(TABLES, st.integers(0, 60))
def test_every_frame_is_in_one_set_of_small_spread(times: dict[str, list[int]], tolerance: int) -> None:
    table = _table(times)
    matches = match_by_time(table, tolerance)
    used = sorted((camera, row) for match in matches for camera, row in match.rows.items())
    assert used == sorted((camera, row) for camera, rows in table.items() for row in range(len(rows)))
    for match in matches:
        stamps = [table[camera][row, 1] for camera, row in match.rows.items()]
        assert max(stamps) - min(stamps) <= tolerance
    ids = [match.frame_id for match in matches]
    assert all(b > a for a, b in pairwise(ids))


@given(TABLES, st.integers(0, 60), st.randoms())
def test_order_of_arrival_does_not_matter(times: dict[str, list[int]], tolerance: int, random: Random) -> None:
    first = _table({camera: sorted(stamps) for camera, stamps in times.items()})
    for stamps in times.values():
        random.shuffle(stamps)
    second = _table(dict(reversed(times.items())))
    for match in (match_by_id, lambda table: match_by_time(table, tolerance)):
        a, b = _members(match(first), first), _members(match(second), second)
        if match is match_by_id:  # of two frames with one id the first counts: compare who is there
            a, b = [(i, dict.fromkeys(rows, 0)) for i, rows in a], [(i, dict.fromkeys(rows, 0)) for i, rows in b]
        assert [(i, dict(sorted(rows.items()))) for i, rows in a] == [(i, dict(sorted(rows.items()))) for i, rows in b]


def test_jitter_drift_and_a_lost_frame() -> None:
    rng = np.random.default_rng(3)
    period, count = 33_000_000, 300
    base = np.arange(count) * period
    times = {name: base + rng.integers(0, 8_000_000, count) for name in "abc"}
    table = {name: np.stack([np.arange(count), stamps], 1) for name, stamps in times.items()}
    table["b"] = np.delete(table["b"], 100, 0)
    matches = match_by_time(table, 12_000_000)
    assert len(matches) == count
    assert all(set(m.rows) == ({"a", "c"} if k == 100 else {"a", "b", "c"}) for k, m in enumerate(matches))

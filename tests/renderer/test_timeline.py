from hypothesis import given
from hypothesis import strategies as st

from renderer.viewer.timeline import SPEEDS, Timeline

SECOND = 1_000_000_000
TIMES = [k * SECOND for k in range(11)]


def played(line: Timeline, *moments_s: float) -> list[int]:
    return [line.advance(moment) for moment in moments_s]


def test_it_plays_at_its_pace_and_ends_or_begins_again() -> None:
    once = Timeline(TIMES, looping=False)
    assert played(once, 100.0, 100.5, 101.0, 105.2, 109.9) == [0, 0, 1, 5, 9] and not once.ended
    assert played(once, 110.0, 200.0) == [10, 10] and once.ended and not once.bar().playing
    again = Timeline(TIMES, looping=True)
    assert played(again, 0.0, 10.5, 11.2, 12.3) == [0, 10, 0, 1], "the last moment stays as long as the others"
    assert not again.ended


def test_keys_pause_step_and_change_the_pace() -> None:
    line = Timeline(TIMES, looping=True)
    line.advance(0.0)
    assert line.press("space") and played(line, 3.0, 5.0) == [0, 0]
    assert line.press("right") and line.row == 1 and line.press("end") and line.row == 10
    assert line.press("left") and line.row == 9 and line.press("home") and line.row == 0
    assert line.press("space") and line.press("=") and line.speed == 2.0
    assert line.advance(6.0) == 2
    for _ in SPEEDS:
        line.press("-")
    assert line.speed == SPEEDS[0] and not line.press("m")


def test_a_loop_stays_between_its_ends() -> None:
    line = Timeline(TIMES, looping=False)
    line.advance(0.0)
    line.seek(0.3)
    assert line.press("i")
    line.seek(0.6)
    assert line.press("u") and line.looping and line.bar().loop == (0.3, 0.6)
    rows = played(line, *(k / 4 for k in range(1, 60)))
    assert set(rows) == {3, 4, 5, 6}
    assert line.press("l") and not line.looping and line.bar().loop == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.lists(st.integers(1, 10**10), min_size=1, max_size=30))
def test_scrubbing_shows_the_last_moment_that_is_not_later(places: list[float], gaps: list[int]) -> None:
    times = [0]
    for gap in gaps:
        times.append(times[-1] + gap)
    line = Timeline([time + 10**18 for time in times], looping=True)
    for place in places:
        line.seek(place)
        at = place * times[-1]
        assert times[line.row] <= at * (1 + 1e-9) + 2
        assert line.row + 1 == len(times) or times[line.row + 1] >= at * (1 - 1e-9) - 2
        bar = line.bar()
        assert 0.0 <= bar.place <= 1.0 and bar.rows == len(times)


def test_a_take_ended_begins_again_from_its_key() -> None:
    line = Timeline(TIMES, looping=False, marks=[(4 * SECOND, "look"), (99 * SECOND, "late")])
    played(line, 0.0, 50.0)
    assert line.ended and not line.bar().playing and line.press("space")
    assert line.row == 0 and line.advance(51.0) == 1
    assert line.bar().marks == ((0.4, "look"), (1.0, "late"))

"""What is asked for too often is refused: the allowance itself, and commands."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.control import AT_ONCE, ControlServer, ask
from streamer.errors import TransportError
from streamer.rates import Allowance


@given(st.lists(st.floats(0, 0.3), max_size=200), st.floats(0.5, 50), st.integers(1, 20))
def test_never_more_than_the_burst_and_the_rate(gaps: list[float], per_s: float, burst: int) -> None:
    """In any span: at most the burst and what the rate gives in that time; and what is due is given."""
    allowance, now_s, granted = Allowance(per_s, burst), 5.0, []
    for gap in gaps:
        now_s += gap
        before = len(granted)
        if allowance.take(now_s):
            granted.append(now_s)
        else:
            recent = [at for at in granted if now_s - at < burst / per_s]
            assert recent, "who was quiet for as long as a burst takes is never refused"
        assert len(granted) - before <= 1
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            assert last - first + 1 <= burst + math.floor((granted[last] - granted[first]) * per_s + 1e-6) + 1e-6


def test_a_flood_of_commands_is_refused_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with ControlServer("tcp://127.0.0.1:0", lambda _command, _arguments: {"done": 1}) as server:
        monkeypatch.setattr("streamer.control.time.monotonic", lambda: 1000.0)  # no time goes by
        for _ in range(AT_ONCE):
            assert ask(server.endpoint, "status", {}) == {"done": 1}
        with pytest.raises(TransportError, match="commands per second"):
            ask(server.endpoint, "status", {})
        monkeypatch.setattr("streamer.control.time.monotonic", lambda: 1001.0)
        assert ask(server.endpoint, "status", {}) == {"done": 1}

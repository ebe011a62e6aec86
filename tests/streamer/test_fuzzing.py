"""Bounded fuzzing of every reader of what comes from outside; benchmarks/fuzz.py runs for as long as one likes."""

import random
from pathlib import Path

import pytest

from streamer.errors import WireError
from tests.streamer.fuzzing import Target, finding, spoil, targets

ROUNDS = {"wire": 3000, "calibration": 400, "config": 150, "take": 25}


@pytest.mark.parametrize("name", list(ROUNDS))
def test_spoilt_input_is_refused_and_nothing_else(name: str, tmp_path: Path) -> None:
    target = targets(tmp_path)[name]
    for sound in target.sound:
        assert finding(target, sound) == ""
        target.read(sound)
    rng, refused = random.Random(20_261_122), 0
    for _ in range(ROUNDS[name]):
        data = spoil(rng, rng.choice(target.sound))
        found = finding(target, data)
        assert not found, f"{found}; input {data[:2000]!r}"
        refused += data not in target.sound
    assert refused > ROUNDS[name] / 2, "most were spoilt indeed"


def test_a_planted_defect_is_found() -> None:
    """A reader that trusts a length, and one that hangs on to a wrong type."""

    def trusting(data: bytes) -> object:
        if len(data) < 4:
            raise WireError("too short")
        return data[data[0]]

    target, rng = Target((b"\3abcdef",), trusting), random.Random(1)
    found = {finding(target, spoil(rng, target.sound[0])) for _ in range(200)} - {""}
    assert found == {"IndexError: index out of range"}

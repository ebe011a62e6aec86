"""Numbers on the command line: what is none, or not finite, is wrong usage in words."""

import argparse
from collections.abc import Callable

import pytest

from streamer.arguments import at_least_one, count, not_negative, picture_size, positive, size_between


@pytest.mark.parametrize(
    ("kind", "good", "wrong"),
    [
        (positive, {"0.5": 0.5, "20": 20.0}, ("0", "-1", "nan", "inf", "1e999", "x", "")),
        (not_negative, {"0": 0.0, "0.5": 0.5}, ("-1", "-0.1", "nan", "inf", "x", "")),
        (count, {"0": 0, "12": 12}, ("-1", "1.5", "\u00b2", "x", "")),
        (at_least_one, {"1": 1, "12": 12}, ("0", "-1", "1.5", "\u0663\u00b2", "x", "")),
        (size_between((16, 16), (99, 99)), {"16x99": (16, 99)}, ("15x20", "20x100", "20")),
        (picture_size, {"640x480": (640, 480), "8X9": (8, 9)}, ("640", "0x480", "640x", "x480", "6x4x2", "-6x4", "")),
    ],
)
def test_arguments(kind: Callable[[str], object], good: dict[str, object], wrong: tuple[str, ...]) -> None:
    assert {text: kind(text) for text in good} == good
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be|expected"):
            kind(text)

"""What the rooms' command lines share: how a verb is added, and types of arguments.

Each type says in one line what it wants, and argparse ends with exit code 2.
"""

import argparse
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[argparse.Namespace], int]
"""Runs a verb and returns the exit code."""
Told: TypeAlias = tuple[dict[str, Any], str]
"""The result for --json, and the line for people."""
Say: TypeAlias = Callable[[argparse.Namespace, dict[str, Any], str], None]
"""Prints a result."""


def saying(say: Say, task: Callable[[argparse.Namespace], Told]) -> Handler:
    """Return the handler that runs a task and prints what it tells."""

    def run(args: argparse.Namespace) -> int:
        say(args, *task(args))
        return 0

    return run


def add_verb(
    into: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    handler: Handler,
    text: str,
    example: str,
    *,
    common: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """Add a verb with help and an example.

    Args:
        into: the verbs to add it to.
        name: of the verb.
        handler: runs it.
        text: one line for the help.
        example: a command line.
        common: parent parser with --config, --set and --json.
    """
    parser = into.add_parser(name, parents=[common], help=text, description=text, epilog=f"Example: {example}")
    parser.set_defaults(handler=handler)
    return parser


def positive(text: str) -> float:
    """Read a finite number above 0, seconds for instance.

    Raises:
        ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")
    return value


def not_negative(text: str) -> float:
    """Read a finite number, 0 or more.

    Raises:
        ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number, 0 or more")
    return value


def count(text: str) -> int:
    """Read a whole number, 0 or more.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 0 or more")
    return int(text)


def at_least_one(text: str) -> int:
    """Read a whole number, 1 or more.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return int(text)


def fraction(text: str) -> Fraction:
    """Read a rate above 0, exact: 73, 29.97 or 60000/1001.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text}: must be a rate, for example 73 or 60000/1001")
    return value


def picture_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT in pixels.

    Raises:
        ArgumentTypeError: it is none.
    """
    width, _, height = text.lower().partition("x")
    if not all(part.isascii() and part.isdigit() and int(part) for part in (width, height)):
        raise argparse.ArgumentTypeError(f"{text}: expected WIDTHxHEIGHT, for example 640x480")
    return int(width), int(height)


def size_between(least: tuple[int, int], most: tuple[int, int]) -> Callable[[str], tuple[int, int]]:
    """Return a reader of WIDTHxHEIGHT in pixels with limits, both included; it raises `ArgumentTypeError` beyond."""

    def read(text: str) -> tuple[int, int]:
        width, height = picture_size(text)
        if not (least[0] <= width <= most[0] and least[1] <= height <= most[1]):
            raise argparse.ArgumentTypeError(
                f"{text}: expected WIDTHxHEIGHT from {least[0]}x{least[1]} to {most[0]}x{most[1]}"
            )
        return width, height

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

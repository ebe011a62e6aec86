"""The fields of each message on the wire: how a value becomes MessagePack, and the check that both ends run."""

import operator
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from streamer.errors import WireError
from streamer.types import Timecode

Parse = Callable[[Any, str], Any]

MAX_ITEMS = 4096
MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Field:
    """How one field becomes MessagePack (`plain`) and how it is checked on both ends (`parse`)."""

    plain: Callable[[Any], Any]
    parse: Parse


def refuse(where: str, value: Any, expected: str) -> WireError:
    """Return the error for a value that is not what the wire format allows; the value is shown abbreviated."""
    return WireError(f"{where} = {reprlib.repr(value)}: expected {expected}; sender and receiver must be the same Mien")


def _integer(low: int = -(2**63), high: int = 2**63 - 1) -> Parse:
    def parse(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise refuse(where, value, f"an integer from {low} to {high}")
        return value

    return parse


def _text(value: Any, where: str) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise refuse(where, value, f"text of at most {MAX_TEXT} characters")
    return value


def check_name(value: Any, where: str) -> str:
    """Return a name of a camera, clock or process if it is one.

    Raises:
        WireError: it is not printable text of 1 to 256 characters, or has slashes in it.
    """
    # Names become parts of file names and of dotted counters on the receiving side.
    if type(value) is not str or not 0 < len(value) <= 256 or not value.isprintable() or "/" in value or "\\" in value:
        raise refuse(where, value, "a printable name of 1 to 256 characters without slashes")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) is not float:
        raise refuse(where, value, "a floating-point number")
    return value


def _flag(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise refuse(where, value, "a truth value")
    return value


def _choice(*allowed: str) -> Parse:
    def parse(value: Any, where: str) -> str:
        if type(value) is not str or value not in allowed:
            raise refuse(where, value, " or ".join(allowed))
        return value

    return parse


def _items(value: Any, where: str, count: int | None = None) -> list[Any]:
    if type(value) is not list or len(value) > MAX_ITEMS or (count is not None and len(value) != count):
        raise refuse(where, value, f"a list of {count if count is not None else f'at most {MAX_ITEMS}'} values")
    return value


def _tuple_of(parse: Parse) -> Parse:
    return lambda value, where: tuple(parse(item, where) for item in _items(value, where))


def _table_of(parse: Parse) -> Parse:
    def parse_table(value: Any, where: str) -> dict[str, Any]:
        if type(value) is not dict or len(value) > MAX_ITEMS:
            raise refuse(where, value, f"a table of at most {MAX_ITEMS} entries")
        return {_text(key, where): parse(item, f"{where}[{reprlib.repr(key)}]") for key, item in value.items()}

    return parse_table


def _timecode(value: Any, where: str) -> Timecode | None:
    if value is None:
        return None
    text, numerator, denominator, drop_frame = _items(value, where, 4)
    rate = Fraction(_integer(0)(numerator, f"{where}.rate"), _integer(1)(denominator, f"{where}.rate"))
    return Timecode(_text(text, f"{where}.text"), rate, _flag(drop_frame, f"{where}.drop_frame"))


def _plain_timecode(value: Timecode | None) -> list[Any] | None:
    return None if value is None else [value.text, value.rate.numerator, value.rate.denominator, value.drop_frame]


def _camera_row(value: Any, where: str) -> tuple[str, str, int, int]:
    identity, serial, width, height = _items(value, where, 4)
    size = _integer(1, 65535)
    return (
        check_name(identity, f"{where}.id"),
        _text(serial, f"{where}.serial"),
        size(width, where),
        size(height, where),
    )


def _same(value: Any) -> Any:
    return value


def _table(convert: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda table: {key: convert(value) for key, value in table.items()}


_INT = Field(operator.index, _integer())
_COUNT = Field(operator.index, _integer(0))
_SIZE = Field(operator.index, _integer(1, 65535))
_TEXT = Field(_same, _text)
_NAME = Field(_same, check_name)
_NAMES = Field(list, _tuple_of(check_name))

FIELDS: dict[str, dict[str, Field]] = {
    "Frame": {
        "camera": _NAME,
        "frame_id": _INT,
        "counter": _INT,
        "sequence": _COUNT,
        "exposure_time_ns": _INT,
        "clock": _NAME,
        "receive_time_ns": _INT,
        "publish_time_ns": _INT,
        "width": _SIZE,
        "height": _SIZE,
        "encoding": Field(_same, _choice("mono8", "rgb8", "jpeg", "png")),
        "timecode": Field(_plain_timecode, _timecode),
    },
    "Calibration": {
        "cameras": Field(lambda rig: [[c.id, c.serial, c.width, c.height] for c in rig], _tuple_of(_camera_row)),
        "source": _TEXT,
    },
    "Topology": {"name": _TEXT, "units": _NAMES, "id": _NAME},
    "MeshFrame": {
        "frame_id": _INT,
        "exposure_time_ns": _INT,
        "publish_time_ns": _INT,
        "topology_id": _NAME,
        "views": _NAMES,
        "stages_ns": Field(_table(operator.index), _table_of(_integer())),
    },
    "Health": {
        "process": _NAME,
        "time_ns": _INT,
        "state": _NAME,
        "counters": Field(_table(operator.index), _table_of(_integer())),
        "gauges": Field(_table(float), _table_of(_number)),
        "message": _TEXT,
    },
}
"""Kind to field name to codec, in the order of the constructor."""

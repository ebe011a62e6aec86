"""Every field of vocabulary and configuration says what it is; numbers in the configuration say their unit."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mien import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
FILES = ["streamer/types.py", "streamer/channels.py", "streamer/config.py"]
FILES += [f"{room}/config.py" for room in ("rig", "inference", "renderer")]

UNITS = ("_px", "_us", "_ms", "_s", "_ns", "_mb", "_gb", "_mm", "_m", "_ppm", "_db", "_hz", "fps", "_port")
UNITS += ("_probability",)
WITHOUT_UNIT = {
    "rig.proxy_factor": "ratio",
    "rig.jpeg_quality": "libjpeg's scale",
    "rig.simulated.cameras": "count",
    "rig.simulated.width": "px, as everywhere",
    "rig.simulated.height": "px, as everywhere",
    "rig.simulated.seed": "label",
    "rig.simulated.noise": "ratio",
    "rig.simulated.faults.stall_camera": "index",
    "rig.playback.speed": "ratio",
    "bus.ring_slots": "count",
    "sync.min_cameras": "count",
    "record.audio_channels": "count",
    "inference.threads": "count",
    "view.width": "px, as everywhere",
    "view.height": "px, as everywhere",
    "view.cameras": "count",
    "fitter.threads": "count",
    "serve.max_clients": "count",
}


def undocumented(text: str) -> list[str]:
    """Fields of dataclasses that no docstring follows."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(field, ast.AnnAssign) and not said:
                    found.append(f"{node.name}.{ast.unparse(field.target)}")
    return found


@pytest.mark.parametrize("path", FILES)
def test_every_field_is_documented(path: str) -> None:
    assert undocumented((ROOT / path).read_text("utf-8")) == []


def test_an_undocumented_field_is_noticed() -> None:
    assert undocumented('@dataclass(frozen=True)\nclass A:\n    x: int\n    """Told."""\n    y: int\n') == ["A.y"]


def numbers(name: str, section: Any) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for field in dataclasses.fields(section):
        value, dotted = getattr(section, field.name), f"{name}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from numbers(dotted, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield dotted, field


ALL_NUMBERS = [entry for name, cls in SECTIONS.items() for entry in numbers(name, cls())]


def test_numbers_name_their_unit() -> None:
    bare = [dotted for dotted, _ in ALL_NUMBERS if not dotted.endswith(UNITS) and dotted not in WITHOUT_UNIT]
    assert bare == [], "end the name in its unit, or say in WITHOUT_UNIT why it has none"


def test_numbers_have_limits() -> None:
    assert [dotted for dotted, field in ALL_NUMBERS if "limits" not in field.metadata] == []


def test_the_list_of_exceptions_is_short_and_alive() -> None:
    assert set(WITHOUT_UNIT) <= {dotted for dotted, _ in ALL_NUMBERS}, "an exception outlived its field"
    assert len(WITHOUT_UNIT) <= 20

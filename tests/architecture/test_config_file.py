"""config.toml is the defaults, written out and explained; and the effective configuration survives being written."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien import SECTIONS, load_settings
from rig.config import RigConfig, SimulatedConfig
from streamer.config import SyncConfig, load
from streamer.config_text import to_toml
from streamer.errors import ConfigError

FILE = Path(__file__).resolve().parents[2] / "config.toml"


def keys(table: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, value in table.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"}
    return found


def test_file_is_complete_and_equals_the_defaults() -> None:
    assert load(FILE, SECTIONS) == {name: cls() for name, cls in SECTIONS.items()}
    written = keys(tomllib.loads(FILE.read_text("utf-8")))
    expected = keys(tomllib.loads(to_toml({name: cls() for name, cls in SECTIONS.items()})))
    assert written == expected, "every key stands in config.toml, and no other"


def test_every_line_explains_itself() -> None:
    lines = [line for line in FILE.read_text("utf-8").splitlines() if "=" in line.partition("#")[0]]
    assert [line for line in lines if len(line.partition("#")[2].strip()) < 3] == []


def test_misspelt_key_names_file_key_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[rig]\nfsp = 30\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: rig\.fsp: unknown key; did you mean 'fps'\?"):
        load_settings(path, [])


def test_override_wins_and_is_in_the_text(tmp_path: Path) -> None:
    settings = load_settings(FILE, ["rig.simulated.cameras=4", "inference.model=mine"])
    assert settings.rig.simulated.cameras == 4 and settings.inference.model == "mine"
    path = tmp_path / "effective.toml"
    path.write_text(settings.text, "utf-8")
    assert load_settings(path, []) == settings


words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(
    words,
    st.lists(words, max_size=3),
    st.dictionaries(words, words, max_size=3),
    st.floats(0.1, 1000),
    st.booleans(),
)
def test_any_value_survives_being_written(
    word: str, many: list[str], mapping: dict[str, str], number: float, flag: bool
) -> None:
    rig = RigConfig(fps=number, simulated=SimulatedConfig(seed=int(number)))
    sections = {
        "rig": dataclasses.replace(rig, playback=dataclasses.replace(rig.playback, source=word, loop=flag)),
        "sync": SyncConfig(per_camera=mapping),
        "bus": dataclasses.replace(SECTIONS["bus"](), nodes=tuple(many)),  # type: ignore[type-var]
    }
    tables = tomllib.loads(to_toml(sections))
    assert tables["rig"]["playback"] == {"source": word, "calibration": "", "loop": flag, "speed": 1.0}
    assert tables["rig"]["fps"] == number
    assert tables["sync"]["per_camera"] == mapping
    assert tables["bus"]["nodes"] == many

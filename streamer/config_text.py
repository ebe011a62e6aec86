"""Configuration sections back to TOML: what a run was really made with, for takes and for child processes."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from streamer.config import SCHEMA
from streamer.errors import ConfigError


def to_toml(sections: Mapping[str, Any]) -> str:
    """Write sections as TOML that `streamer.config.load` reads back to equal values.

    Args:
        sections: section name to an instance of its frozen dataclass.

    Raises:
        ConfigError: a value of a type that the loader does not know.
    """
    lines = [f"schema = {SCHEMA}"]
    for name, section in sections.items():
        _table(name, section, lines)
    return "\n".join(lines) + "\n"


_LOGIN = re.compile(r"(?<=://)[^/\s\"']*@")


def without_secrets(text: str) -> str:
    """Return a text without the user and password that an address in it may hold (`rtsp://user:password@host`)."""
    return _LOGIN.sub("***@", text)


def _table(name: str, section: Any, lines: list[str]) -> None:
    lines += ["", f"[{name}]"]
    inner: list[tuple[str, Any]] = []
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            inner.append((f"{name}.{field.name}", value))
        elif value is not None:  # an absent key is how TOML says None
            lines.append(f"{field.name} = {_value(value, f'{name}.{field.name}')}")
    for dotted, value in inner:
        _table(dotted, value, lines)


def _value(value: Any, where: str) -> str:
    if isinstance(value, bool | str):
        return _json(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(item, where) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_json(str(k))} = {_value(v, where)}" for k, v in value.items()) + "}"
    raise ConfigError(f"{where} = {value!r}: values of type {type(value).__name__} cannot be written as TOML")


def _json(value: bool | str) -> str:
    """JSON strings and booleans are TOML's, but for DEL; surrogate pairs (`ensure_ascii`) TOML does not know."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

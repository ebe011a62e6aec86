"""Names, paths and `take.json` of a take.

<show>/<slate>_T<nnn>/
    take.json            what is here; `state` tells whether the take was closed
    calibration.toml     the cameras as they were
    config.toml          the effective configuration as it was
    <recorder>_<nnnn>.mcap   rolled files, the messages themselves
"""

import dataclasses
import fcntl
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from streamer.config import RecordConfig
from streamer.errors import ConfigError, TakeError
from streamer.takes.disk import RESERVE_NAME, replace_file

SCHEMA = 1
TAKE_JSON = "take.json"
CALIBRATION = "calibration.toml"
CONFIG = "config.toml"
LOCK = ".lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

State = Literal["recording", "closed", "recovered"]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One MCAP file of a take."""

    name: str
    """File name inside the take."""
    size: int
    """Bytes."""
    messages: int
    """Messages in it."""
    indexed: bool = True
    """Whether it ends with an index; a file that met a full disk may have none and is then read by scanning."""


@dataclass(frozen=True, slots=True)
class TakeInfo:
    """The content of take.json."""

    show: str
    """Show name."""
    slate: str
    """Slate name."""
    take: int
    """Take number, from 1."""
    state: State
    """`recording` until the recorder has closed the take."""
    match: Literal["frame_id", "time"] = "frame_id"
    """How frames of this take become sets: by rig frame id, or by exposure time."""
    tolerance_us: int = 8000
    """Largest spread of exposure times inside a set when matching by time."""
    files: tuple[FileInfo, ...] = ()
    """MCAP files in order of time."""
    messages: Mapping[str, int] = field(default_factory=dict)
    """Topic (`frame/<camera>`, `mesh`, ...) to number of messages."""
    drops: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The drop ledger: topic to reason to number of messages that are not in this take."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """What recovery could not bring back: kind to count."""
    stopped: str = ""
    """Why the recorder stopped by itself, empty if it was told to."""
    checksums: Mapping[str, int] = field(default_factory=dict)
    """CRC-32 of calibration.toml and config.toml."""


def check_name(kind: str, name: str) -> str:
    """Return a show or slate name that is safe as a folder name.

    Raises:
        ConfigError: it is empty, longer than 64, or holds anything but letters, digits, `-` and `_`.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{kind} = {name!r}: use 1 to 64 letters, digits, '-' and '_', beginning with a letter or digit"
        )
    return name


def new_take_path(record: RecordConfig) -> Path:
    """Return `<directory>/<show>/<slate>_T<nnn>` with the next number that is free; nothing is created.

    Raises:
        ConfigError: show or slate cannot be a folder name.
    """
    show, slate = check_name("record.show", record.show), check_name("record.slate", record.slate)
    folder = Path(record.directory) / show
    pattern = re.compile(re.escape(slate) + r"_T(\d+)")
    names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
    taken = [int(match[1]) for match in map(pattern.fullmatch, names) if match]
    return folder / f"{slate}_T{max(taken, default=0) + 1:03d}"


def take_number(path: Path) -> int:
    """Return the number in a name `<slate>_T<nnn>`, 1 for folders of another name."""
    match = re.search(r"_T(\d+)$", path.name)
    return int(match[1]) if match else 1


def write_info(path: Path, info: TakeInfo) -> None:
    """Write take.json atomically, with a checksum of its own content.

    Raises:
        OSError: no space or no permission; the old file stands.
    """
    body = {"schema": SCHEMA, **dataclasses.asdict(info)}
    replace_file(path / TAKE_JSON, json.dumps({**body, "checksum": _checksum(body)}, indent=1).encode() + b"\n")


def read_info(path: Path) -> TakeInfo:
    """Read take.json.

    Raises:
        TakeError: there is none, it is damaged, or of another schema.
    """
    file = path / TAKE_JSON
    try:
        body = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        where = "no such folder" if not path.is_dir() else f"there is no {TAKE_JSON} in it"
        raise TakeError(f"{path} is not a take: {where}; if a recorder wrote here, run: mien recover {path}") from error
    except (ValueError, OSError) as error:
        raise TakeError(f"{file}: cannot be read ({error}); run: mien recover {path}") from error
    schema = body.pop("schema", None) if isinstance(body, dict) else None
    if schema != SCHEMA:
        raise TakeError(f"{file}: schema = {schema!r}, this Mien reads {SCHEMA}; use the version of Mien that wrote it")
    if body.pop("checksum", None) != _checksum({"schema": SCHEMA, **body}):
        raise TakeError(f"{file}: its checksum does not match, it was changed or damaged; run: mien recover {path}")
    try:
        values = {key: _convert(kind, body.pop(key)) for key, kind in get_type_hints(TakeInfo).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise TakeError(f"{file}: missing or wrong value {error}; run: mien recover {path}") from error
    return TakeInfo(**values)


def _convert(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(repr(value))
        return value
    if get_origin(kind) is tuple:
        return tuple(FileInfo(**item) for item in value)
    wanted = dict if get_origin(kind) is not None else kind
    if type(value) is not wanted:
        raise TypeError(repr(value))
    return value


def _checksum(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


class TakeLock:
    """Held by whoever writes a take; the system lets go of it when the process dies.

    Used as a context manager or by `release`.
    """

    def __init__(self, path: Path) -> None:
        """Lock the take folder.

        Raises:
            TakeError: another process is writing this take.
        """
        self._path = path / LOCK
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise TakeError(
                f"{path} is being written by another process; stop it first (mien record stops on Ctrl-C)"
            ) from error

    def release(self) -> None:
        """Let go and leave nothing behind. Releasing twice is allowed."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def sweep(path: Path) -> None:
    """Remove what an interrupted writer may have left beside the take's files."""
    (path / RESERVE_NAME).unlink(missing_ok=True)
    for leftover in path.glob(".*.partial"):
        leftover.unlink()

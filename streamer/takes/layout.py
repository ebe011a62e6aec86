"""Names, paths and `take.json` of a take.

<show>/<slate>_T<nnn>/
    take.json            what is here; `state` tells whether the take was closed
    calibration.toml     the cameras as they were
    config.toml          the effective configuration as it was
    <recorder>_<nnnn>.mcap   rolled files: the messages themselves, and the ledger of what they are
    ledger_<nnnn>.mcap   what was entered into the ledger when those were finished
    journal.jsonl        markers, each written when it was set
    layers/<name>/       the same pictures through another model: takes of their own
"""

import dataclasses
import fcntl
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from streamer.config import RecordConfig
from streamer.errors import ConfigError, TakeError
from streamer.takes.disk import RESERVE_NAME, replace_file

SCHEMA = 3
READABLE = (1, 2, 3)
"""Schemas that are read; what an older one does not know has its default."""
TAKE_JSON = "take.json"
CALIBRATION = "calibration.toml"
CONFIG = "config.toml"
LOCK = ".lock"
JOURNAL = "journal.jsonl"
LAYERS = "layers"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

State = Literal["recording", "closed", "recovered"]


class OtherSchema(TakeError):
    """A take of a schema that this Mien does not read: whole perhaps, but not ours to judge or repair."""


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
class Marker:
    """A moment that somebody pointed at."""

    time_ns: int
    """When it was set, CLOCK_REALTIME of the recorder, ns."""
    frame_id: int
    """Newest rig frame id at that time; -1 if there was none."""
    text: str
    """What it says."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Ties timecode to time: every other label of the take follows from it."""

    source: Literal["system", "ltc"]
    """Where the label comes from."""
    text: str
    """SMPTE label, `HH:MM:SS:FF`."""
    rate: str
    """Frames per second, exact: `30000/1001`."""
    drop_frame: bool
    """Drop-frame counting."""
    time_ns: int
    """When the label began, ns, on the clock of the frames' exposure times."""


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a take when it begins, besides its names."""

    unique_id: str = ""
    """A UUID; empty: made from the content, so that equal takes made offline are equal files."""
    notes: str = ""
    """What the operator wrote down."""
    timecode: Anchor | None = None
    """How timecode runs in this take, if it does."""


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
    """CRC-32 of calibration.toml, config.toml and whatever else lies here that is no MCAP file."""
    unique_id: str = ""
    """Tells this take from every other one in the world (a UUID); empty in takes of schema 1."""
    notes: str = ""
    """What the operator wrote down."""
    markers: tuple[Marker, ...] = ()
    """In order of time."""
    timecode: Anchor | None = None
    """How timecode runs in this take, if it does."""
    ledger: bool = False
    """Whether its ledger names every frame, mesh and loss: not before schema 3, nor where a disk had no room for it."""


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


def numbered_path(record: RecordConfig, take: int) -> Path:
    """Return `<directory>/<show>/<slate>_T<nnn>` with this number; nothing is created.

    Raises:
        ConfigError: show or slate cannot be a folder name.
    """
    show, slate = check_name("record.show", record.show), check_name("record.slate", record.slate)
    return Path(record.directory) / show / f"{slate}_T{take:03d}"


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
        OtherSchema: it is of a schema that this Mien does not know.
        TakeError: there is none, or it is damaged.
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
    if type(schema) is not int:
        raise TakeError(f"{file}: is damaged, it tells no schema; run: mien recover {path}")
    if schema not in READABLE:
        raise OtherSchema(
            f"{file}: schema = {schema}, this Mien reads {', '.join(map(str, READABLE))}; use the version of Mien "
            "that wrote it"
        )
    if body.pop("checksum", None) != _checksum({"schema": schema, **body}):
        raise TakeError(f"{file}: its checksum does not match, it was changed or damaged; run: mien recover {path}")
    hints = {key: kind for key, kind in get_type_hints(TakeInfo).items() if key in body or schema == SCHEMA}
    try:
        info = TakeInfo(**{key: _convert(kind, body.pop(key)) for key, kind in hints.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise TakeError(f"{file}: missing or wrong value {error}; run: mien recover {path}") from error
    for name in (*(item.name for item in info.files), *info.checksums):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise TakeError(f"{file}: names {name!r}, which is not in the take; it was not written by Mien")
    return info


def read_text(path: Path, name: str, info: TakeInfo) -> str:
    """Read a text that belongs to a take.

    Raises:
        TakeError: it is missing, or has changed since the take was closed.
    """
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise TakeError(f"{path / name}: {error.strerror}; restore it or run: mien recover {path}") from error
    if zlib.crc32(data) != info.checksums.get(name):
        raise TakeError(f"{path / name} has changed since the take was closed; restore it or run: mien recover {path}")
    return data.decode("utf-8", "replace")


def read_journal(path: Path) -> tuple[Marker, ...]:
    """Return the markers that were set while a take was recorded; a line that was torn is left out."""
    markers = []
    try:
        lines = (path / JOURNAL).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ()
    for line in lines:
        try:
            markers.append(_convert(Marker, json.loads(line)))
        except (ValueError, TypeError):
            continue
    return tuple(markers)


def _convert(kind: Any, value: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in args:
            raise ValueError(repr(value))
        return value
    if origin is tuple:
        return tuple(_convert(args[0], item) for item in value)
    if origin is UnionType:
        return None if value is None else _convert(args[0], value)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        if type(value) is not dict or value.keys() != hints.keys():
            raise TypeError(repr(value))
        return kind(**{key: _convert(hint, value[key]) for key, hint in hints.items()})  # type: ignore[operator]
    wanted = dict if origin is not None else kind
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

"""A take whose recorder was killed, or whose files were cut, becomes whole again: every whole message stays."""

import os
import tomllib
import uuid
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streamer.audio.wav import repair
from streamer.calibration import calibration_from_text, calibration_to_text
from streamer.config import SyncConfig
from streamer.errors import CalibrationError, TakeError, WireError
from streamer.takes.carve import Found, carve
from streamer.takes.complete import complete_ledger
from streamer.takes.disk import AppendFile, crc_of, replace_file, sync_folder
from streamer.takes.extras import write_extras
from streamer.takes.index import TakeFile
from streamer.takes.layout import (
    CALIBRATION,
    CONFIG,
    JOURNAL,
    FileInfo,
    OtherSchema,
    TakeInfo,
    TakeLock,
    read_info,
    read_journal,
    sweep,
    take_number,
    write_info,
)
from streamer.takes.mcap_file import McapFile
from streamer.takes.stored import Topic, Unpacker, channel_of, topic_of
from streamer.takes.tables import SCHEMA_NAME, SETS, TIMING, TOPICS
from streamer.takes.verify import Progress, Report, check_file, layers_of, verify_take
from streamer.types import Calibration, Camera, Frame

CHUNK_BYTES = 1_000_000
REMADE = frozenset({SETS, TIMING})
"""Tables of the ledger that follow from the messages."""


@dataclass(frozen=True, slots=True)
class _Salvage:
    """What came out of one file."""

    file: FileInfo
    messages: Mapping[str, int]
    lost: Mapping[str, int]
    calibrations: tuple[Calibration, ...]
    """In order of time; each camera host has its own."""


def recover_take(path: Path, on_progress: Progress | None = None) -> Report:
    """Make a take whole: rewrite what is cut or damaged, index it, and close the take.

    A file is replaced only by a new one that has been written, synced and checked; until then the old one stands, so
    recovery itself may be killed and repeated. A take that is whole is left alone.

    Args:
        path: the take's folder.
        on_progress: called after each file, in bytes.

    Returns:
        The report of the take as it is now, with what was lost.

    Raises:
        TakeError: not a folder, still being written, no calibration is left anywhere in it, of another schema, or the
            disk has no room for the new file.
    """
    if not path.is_dir():
        raise TakeError(f"{path}: no such folder; give that of a take, for instance takes/demo/slate_T001")
    if not any(path.glob("*.mcap")) and not (path / "take.json").exists():
        raise TakeError(f"{path} is not a take: it holds neither take.json nor an .mcap file")
    lost: Counter[str] = Counter()
    for layer in layers_of(path):
        lost.update(recover_take(layer).lost)
    lock = TakeLock(path)
    try:
        sweep(path)
        if _is_whole(path):
            return verify_take(path)
        _repair(path, on_progress)
        repair(path)
        write_extras(path)
    except OSError as error:
        sweep(path)
        raise TakeError(
            f"{path}: {error.strerror}; nothing was lost, free space on this disk and recover again"
        ) from error
    finally:
        lock.release()
    report = verify_take(path)
    return replace(report, lost=dict(lost + Counter(report.lost)))


def _is_whole(path: Path) -> bool:
    """Whether there is nothing to do; a take that was not closed is not read for that."""
    try:
        state = read_info(path).state
    except OtherSchema:
        raise
    except TakeError:
        return False
    return state != "recording" and verify_take(path).ok


def _repair(path: Path, on_progress: Progress | None) -> None:
    try:
        old: TakeInfo | None = read_info(path)
    except OtherSchema:
        raise
    except TakeError:
        old = None
    named = {file.name: file for file in old.files} if old else {}
    files = sorted(path.glob("*.mcap"))
    total, done = sum(file.stat().st_size for file in files), 0
    salvaged = []
    for file in files:
        done += file.stat().st_size
        salvaged.append(_salvage(file, named.get(file.name)))
        if on_progress is not None:
            on_progress(done, total)
    lost = Counter(old.lost if old else {})
    messages: Counter[str] = Counter()
    for item in salvaged:
        lost.update(item.lost)
        messages.update(item.messages)
    for name in named.keys() - {file.name for file in files}:
        lost["file"] += 1
        lost["message"] += named[name].messages
    _restore_texts(path, old, [calibration for item in salvaged for calibration in item.calibrations], lost)
    old = old or _guess(path)
    info = replace(
        old,
        state="recovered",
        files=tuple(item.file for item in salvaged),
        messages=dict(sorted(messages.items())),
        lost=_join(lost, Counter()),
        checksums={name: crc_of(path / name) for name in (CALIBRATION, CONFIG)},
        markers=old.markers or read_journal(path),
        ledger=True,
        unique_id=old.unique_id or str(uuid.uuid4()),
    )
    write_info(path, info)
    gone = complete_ledger(path)
    write_info(path, replace(read_info(path), lost=_join(lost, gone)))
    (path / JOURNAL).unlink(missing_ok=True)


def _join(lost: Counter[str], named: Counter[str]) -> Mapping[str, int]:
    """Join what was seen to be gone and what the ledger names as gone, each message once."""
    unseen = named - lost
    joined = lost | named
    joined["message"] -= min(joined["message"], unseen.total())
    return {kind: count for kind, count in sorted(joined.items()) if count}


def _salvage(file: Path, known: FileInfo | None) -> _Salvage:
    """Rewrite a file with every whole message of it, unless it is whole."""
    if not check_file(file):
        return _keep(file)
    lost: Counter[str] = Counter()
    fresh = AppendFile(file.with_name(f".{file.name}.partial"))
    try:
        messages, calibrations = _copy(file, fresh, lost)
        fresh.sync()
    finally:
        fresh.close()
    if known is not None:  # what left no trace at all, beyond what was seen to be broken
        lost["message"] += max(known.messages - messages.total() - lost.total(), 0)
    if problems := check_file(fresh.path):
        raise TakeError(f"{file}: the new file reads back wrong ({problems[0]}); the old one stands, check this disk")
    os.replace(fresh.path, file)
    sync_folder(file.parent)
    return _Salvage(FileInfo(file.name, file.stat().st_size, messages.total()), messages, lost, calibrations)


def _keep(file: Path) -> _Salvage:
    """Take a whole file as it is."""
    reader = TakeFile(file, FileInfo(file.name, file.stat().st_size, 0))
    topics = reader.index(0)
    messages = {topic: len(entries) for topic, entries in topics.items() if topic not in TOPICS}
    states = topics.get("calibration")
    read = [reader.message(int(row["offset"]), int(row["size"]))[1] for row in (() if states is None else states)]
    reader.close()
    info = FileInfo(file.name, file.stat().st_size, sum(messages.values()))
    return _Salvage(info, messages, {}, tuple(message for message in read if isinstance(message, Calibration)))


def _copy(file: Path, fresh: AppendFile, lost: Counter[str]) -> tuple[Counter[str], tuple[Calibration, ...]]:
    """Write every whole message of a file into a new one; count the others into `lost`."""
    mcap, unpacker = McapFile(fresh, CHUNK_BYTES), Unpacker()
    messages: Counter[str] = Counter()
    calibrations: list[Calibration] = []
    for item in carve(file):
        if not isinstance(item, Found):
            if item.channel not in REMADE:
                lost["ledger" if item.channel in TOPICS else item.channel] += 1
            continue
        if (table := channel_of(item.parts)) in TOPICS:
            mcap.add(Topic(table, SCHEMA_NAME), item.keys, 0, item.parts)
            continue
        try:
            channel, message = unpacker.decode(item.parts, item.packed, item.keys.log_time_ns)
        except WireError:  # a mesh whose key is lost; or, as its checksum is right, written by another Mien
            lost[channel_of(item.parts) if item.packed else "message"] += 1
            continue
        topic = topic_of(channel, message)
        messages[topic.name] += 1
        if isinstance(message, Calibration):
            calibrations.append(message)
        mcap.add(topic, item.keys, message.sequence if isinstance(message, Frame) else 0, item.parts, item.packed)
    mcap.finish()
    return messages, tuple(calibrations)


def _restore_texts(path: Path, old: TakeInfo | None, found: list[Calibration], lost: Counter[str]) -> None:
    """Bring calibration.toml back from the messages if it is gone or changed; config.toml stands as it is."""
    checksums = old.checksums if old else {}
    file = path / CALIBRATION
    if not _intact(file, checksums.get(CALIBRATION)):
        if found:
            cameras: dict[str, Camera] = {}
            for camera in (camera for calibration in found for camera in calibration.cameras):
                cameras.setdefault(camera.id, camera)
            whole = replace(found[0], cameras=tuple(cameras.values()))
            replace_file(file, calibration_to_text(whole).encode())
        elif not file.is_file():
            raise TakeError(f"{path} holds no calibration any more; put the rig's calibration there as {CALIBRATION}")
        else:
            lost[CALIBRATION] += 1
    try:
        calibration_from_text(file.read_text("utf-8"), str(file))
    except (CalibrationError, UnicodeDecodeError) as error:
        raise TakeError(f"{file} cannot be used ({error}); put the rig's calibration there") from error
    config = path / CONFIG
    if not config.is_file():
        replace_file(config, b"")
        lost[CONFIG] += 1
    elif not _intact(config, checksums.get(CONFIG, zlib.crc32(config.read_bytes()))):
        lost[CONFIG] += 1


def _intact(file: Path, checksum: int | None) -> bool:
    return file.is_file() and zlib.crc32(file.read_bytes()) == checksum


def _guess(path: Path) -> TakeInfo:
    """Return what the folder itself says of a take whose take.json is gone."""
    try:
        table = tomllib.loads((path / CONFIG).read_text("utf-8")).get("sync", {})
    except (OSError, ValueError):
        table = {}
    match = table.get("match") if table.get("match") in ("frame_id", "time") else SyncConfig().match
    tolerance = table.get("tolerance_us") if type(table.get("tolerance_us")) is int else SyncConfig().tolerance_us
    return TakeInfo(
        show=path.resolve().parent.name or "unknown",
        slate=path.name.rpartition("_T")[0] or path.name,
        take=take_number(path),
        state="recording",
        match=match,
        tolerance_us=tolerance,
    )

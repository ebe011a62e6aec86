"""Is a take whole, and what is in it. Reads every byte."""

import dataclasses
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from isal.isal_zlib import crc32
from mcap.opcode import Opcode
from numpy.typing import NDArray

from streamer.errors import TakeError, WireError
from streamer.takes import sets
from streamer.takes.carve import Broken, Found, carve
from streamer.takes.disk import crc_of
from streamer.takes.layout import CALIBRATION, CONFIG, LAYERS, TAKE_JSON, FileInfo, OtherSchema, TakeInfo, read_info
from streamer.takes.ledger import Difference, by_topic, compare_names, losses_of, whole_table
from streamer.takes.mcap_file import DATA_END, FOOTER, MCAP_MAGIC
from streamer.takes.reader import Take
from streamer.takes.stored import Unpacker, channel_of, topic_of
from streamer.takes.tables import LOST, TIMING, TOPICS, Columns, decode_table
from streamer.types import Frame, MeshFrame

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `mien verify` and `mien recover` say of a take."""

    ok: bool
    """Whether it is closed and every byte is as it was written."""
    sets: int
    """Frame sets, as the take itself matches."""
    meshes: int
    """Meshes on channel `mesh`."""
    frames: int
    """Frames of all cameras."""
    missing: tuple[str, ...] = ()
    """What should be there and is not."""
    damaged: tuple[str, ...] = ()
    """What is there and is not as it was written."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """What recovery could not bring back: channel, `message`, `file` or `config` to count."""
    drops: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The drop ledger: topic to reason to number of messages that were never in the take."""
    partial: int = 0
    """Sets in which a calibrated camera is missing."""
    gaps: Mapping[str, int] = field(default_factory=dict)
    """Camera to frame ids between its first and its last that it has no frame of."""
    duplicates: Mapping[str, int] = field(default_factory=dict)
    """Camera to frames whose frame id it has already."""
    jumps: Mapping[str, int] = field(default_factory=dict)
    """Camera to frames that were exposed before the one before them: its clock jumped back."""
    skew_us: Mapping[str, float] = field(default_factory=dict)
    """Spread of exposure times inside the sets: `p50`, `p95`, `max`, us."""
    ledger: bool = False
    """Whether the content was compared with a ledger; takes of older schemas have none."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return dataclasses.asdict(self)


def check_file(path: Path, indexed: bool = True) -> list[str]:
    """Compare every byte of a file with its checksums.

    Args:
        path: an MCAP file of a take.
        indexed: whether it should end with an index.

    Returns:
        One line per damage, naming file and place; empty if the file is whole.

    Raises:
        OSError: the file cannot be read.
    """
    if not indexed:
        return [item.why for item in carve(path) if isinstance(item, Broken)]
    problem = _structure(path)
    if not problem:
        return []
    return [item.why for item in carve(path) if isinstance(item, Broken)] or [f"{path.name}: {problem}"]


def _structure(path: Path) -> str:
    size = path.stat().st_size
    if size < FOOTER.size + DATA_END.size:
        return "cut: no index at its end"
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        opcode, length, start, _, checksum, magic = FOOTER.unpack_from(view, size - FOOTER.size)
        if opcode != Opcode.FOOTER or length != 20 or magic != MCAP_MAGIC:
            return "cut or damaged: no index at its end"
        if not DATA_END.size < start < size:
            return "its index is damaged"
        with view[start : size - 4 - len(MCAP_MAGIC)] as summary:
            if crc32(summary) != checksum:
                return "its index is damaged"
        data_end = start - DATA_END.size
        opcode, length, checksum = DATA_END.unpack_from(view, data_end)
        with view[:data_end] as body:
            if opcode != Opcode.DATA_END or length != 4 or crc32(body) != checksum:
                return "damaged between the messages"
    return ""


def verify_take(path: Path, on_progress: Progress | None = None) -> Report:
    """Check a take.

    Args:
        path: its folder.
        on_progress: called after each file, in bytes.

    Raises:
        TakeError: there is no such folder, or the take is of another schema.
    """
    if not path.is_dir():
        raise TakeError(f"{path}: no such folder; give that of a take, for instance takes/demo/slate_T001")
    if not any(path.glob("*.mcap")) and not (path / TAKE_JSON).exists():
        raise TakeError(f"{path} is not a take: it holds neither {TAKE_JSON} nor an .mcap file")
    info, missing, damaged = _read_info(path)
    names = [file.name for file in info.files] if info else []
    extra = [file for file in sorted(path.glob("*.mcap")) if file.name not in names]
    if info is not None and info.state != "recording":
        damaged += [f"{file.name}: take.json does not name it" for file in extra]
        extra = []
    known = [*(info.files if info else ()), *(FileInfo(file.name, file.stat().st_size, 0) for file in extra)]
    total, done = sum(file.size for file in known), 0
    for file in known:
        absent, broken = _check_named(path, file)
        missing += absent
        damaged += broken
        done += file.size
        if on_progress is not None:
            on_progress(done, total)
    if info is not None:
        for name in sorted({CALIBRATION, CONFIG, *info.checksums}):
            absent, broken = _check_text(path, name, info.checksums.get(name))
            missing += absent
            damaged += broken
    if info is None or missing or damaged:
        return _with_layers(path, _count_by_carving(path, info, missing, damaged))
    return _with_layers(path, _count(path, info))


def layers_of(path: Path) -> list[Path]:
    """Return the folders of the layers of a take, whole or not."""
    return sorted(p for p in (path / LAYERS).glob("*") if p.is_dir() and not p.name.startswith("."))


def _with_layers(path: Path, report: Report) -> Report:
    """Add what is wrong with the layers."""
    missing, damaged = list(report.missing), list(report.damaged)
    for layer in layers_of(path):
        try:
            found = verify_take(layer)
        except TakeError as error:
            damaged.append(f"{LAYERS}/{layer.name}: {error}")
            continue
        missing += [f"{LAYERS}/{layer.name}: {line}" for line in found.missing]
        damaged += [f"{LAYERS}/{layer.name}: {line}" for line in found.damaged]
    ok = report.ok and not missing and not damaged
    return dataclasses.replace(report, ok=ok, missing=tuple(missing), damaged=tuple(damaged))


def _read_info(path: Path) -> tuple[TakeInfo | None, list[str], list[str]]:
    try:
        info = read_info(path)
    except OtherSchema:
        raise
    except TakeError as error:
        return None, [], [str(error).partition("; run: mien recover")[0]]
    if info.state == "recording":
        return info, ["the end of the recording: its recorder still runs or was killed"], []
    return info, [], []


def _check_named(path: Path, file: FileInfo) -> tuple[list[str], list[str]]:
    full = path / file.name
    if not full.is_file():
        return [f"{file.name} ({file.messages} messages)"], []
    damaged = check_file(full, file.indexed)
    size = full.stat().st_size
    if size != file.size and not damaged:
        damaged = [f"{file.name}: {size} bytes, take.json says {file.size}"]
    return [], damaged


def _check_text(path: Path, name: str, checksum: int | None) -> tuple[list[str], list[str]]:
    if not (path / name).is_file():
        return [name], []
    whole = crc_of(path / name) == checksum
    return [], [] if whole else [f"{name}: changed since the take was closed"]


def _count(path: Path, info: TakeInfo) -> Report:
    with Take(path) as take:
        counts = {topic: len(entries) for topic, entries in take.topics.items()}
        wrong = [
            f"{topic}: {counts.get(topic, 0)} messages, take.json says {info.messages.get(topic, 0)}"
            for topic in sorted(counts.keys() | info.messages.keys())
            if counts.get(topic, 0) != info.messages.get(topic, 0)
        ]
        stray = [
            f"camera '{camera}' has frames and no calibration"
            for camera in take.cameras
            if camera not in take.calibration.ids
        ]
        difference = take.ledger.compare() if info.ledger else Difference()
        absent = [f"{line}: the ledger names it" for line in by_topic(difference.absent)]
        return Report(
            ok=not wrong and not stray and not difference,
            **statistics(take),
            sets=len(take.sets),
            meshes=take.mesh_count,
            frames=take.frame_count,
            missing=(*stray, *absent),
            damaged=(*wrong, *difference.lines()),
            ledger=info.ledger,
            lost=info.lost,
            drops=info.drops,
        )


def statistics(take: Take) -> dict[str, Any]:
    """Return what the ids and times of a take say of its rig: fields of `Report`. A frame missing is no damage."""
    gaps: dict[str, int] = {}
    duplicates: dict[str, int] = {}
    jumps: dict[str, int] = {}
    for camera in take.cameras:
        keys = take.keys(f"frame/{camera}")
        ids: NDArray[np.int64] = np.unique(keys[:, 0])
        for counts, count in (
            (gaps, int(np.ptp(ids)) + 1 - len(ids)),
            (duplicates, len(keys) - len(ids)),
            (jumps, int((np.diff(keys[:, 1]) < 0).sum())),
        ):
            if count:
                counts[camera] = count
    ledger = take.sets.ledger()
    skews = ledger["skew_ns"] / 1e3
    points = zip(("p50", "p95", "max"), np.percentile(skews, (50, 95, 100)), strict=True) if len(skews) else ()
    return {
        "partial": int((~ledger["complete"]).sum()),
        "gaps": gaps,
        "duplicates": duplicates,
        "jumps": jumps,
        "skew_us": {name: round(float(value), 3) for name, value in points},
    }


def _count_by_carving(path: Path, info: TakeInfo | None, missing: list[str], damaged: list[str]) -> Report:
    """Count what recovery would find."""
    keys: dict[str, list[tuple[int, int]]] = {}
    tables: dict[str, list[Columns]] = {topic: [] for topic in TOPICS}
    for file in sorted(path.glob("*.mcap")):
        unpacker = Unpacker()
        for item in carve(file):
            if not isinstance(item, Found):
                continue
            try:
                if (topic := channel_of(item.parts)) in TOPICS:
                    tables[topic].append(decode_table(item.parts)[1])
                    continue
                channel, message = unpacker.decode(item.parts, item.packed, item.keys.log_time_ns)
            except WireError as error:
                damaged.append(f"{file.name} at byte {item.offset}: {error}")
                continue
            if isinstance(message, Frame | MeshFrame):
                row = (message.frame_id, message.exposure_time_ns)
                keys.setdefault(topic_of(channel, message).name, []).append(row)
    here = {topic: np.array(rows, np.int64) for topic, rows in keys.items()}
    losses = losses_of(whole_table(LOST, tables[LOST]))
    absent, _ = compare_names(whole_table(TIMING, tables[TIMING]), losses, here)
    missing += [f"{line}: the ledger names it" for line in by_topic(absent)]
    frames = {topic.partition("/")[2]: rows for topic, rows in here.items() if topic.startswith("frame/")}
    config = sets.default_sync(info.match if info else "frame_id", info.tolerance_us if info else 8000)
    return Report(
        ok=False,
        sets=len(sets.match_frames(frames, config)),
        meshes=len(here.get("mesh", ())),
        frames=sum(map(len, frames.values())),
        ledger=bool(tables[TIMING]),
        missing=tuple(missing),
        damaged=tuple(damaged),
        lost=info.lost if info else {},
        drops=info.drops if info else {},
    )

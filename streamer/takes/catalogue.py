"""Which takes there are, and what is in one."""

from pathlib import Path
from typing import Any

import numpy as np

from streamer.errors import TakeError
from streamer.takes.layout import TAKE_JSON, read_info
from streamer.takes.ledger import by_loss
from streamer.takes.reader import FRAME, Take, open_take


def list_takes(folder: Path) -> list[dict[str, Any]]:
    """Return one row per take under a folder, in order of name; layers are not listed.

    Args:
        folder: of shows, or of takes.

    Returns:
        Rows of `take`, `state`, `seconds`, `frames`, `meshes`, `bytes`, `notes`, `problem` (why it cannot be opened).

    Raises:
        TakeError: no such folder.
    """
    if not folder.is_dir():
        raise TakeError(f"{folder}: no such folder; give the folder of shows")
    found = sorted({*folder.glob(f"*/{TAKE_JSON}"), *folder.glob(f"*/*/{TAKE_JSON}")})
    return [_row(file.parent) for file in found if not file.parent.name.startswith(".")]


def _row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "take": str(path), "state": "damaged", "seconds": 0.0, "frames": 0, "meshes": 0, "bytes": 0, "notes": "",
        "problem": "",
    }  # fmt: skip
    try:
        info = read_info(path)
        row |= {"state": info.state, "notes": info.notes, "bytes": sum(file.size for file in info.files)}
        with open_take(path) as take:
            row |= {"frames": take.frame_count, "meshes": take.mesh_count, "seconds": seconds_of(take)}
    except TakeError as error:
        row["problem"] = str(error)
    return row


def seconds_of(take: Take) -> float:
    """Return the time from the first exposure to the last, s."""
    names = [name for name in take.topics if name.startswith(FRAME) or name in ("mesh", "truth")]
    times = [take.keys(name)[[0, -1], 1] for name in names if len(take.topics[name])]
    return round(float(np.ptp(np.concatenate(times))) / 1e9, 3) if times else 0.0


def describe(path: Path) -> dict[str, Any]:
    """Return what a take holds, as plain values.

    Raises:
        TakeError: it cannot be opened.
    """
    with open_take(path) as take:
        info = take.info
        return {
            "take": str(path),
            "show": info.show,
            "slate": info.slate,
            "number": info.take,
            "unique_id": info.unique_id,
            "state": info.state,
            "notes": info.notes,
            "seconds": seconds_of(take),
            "frames": take.frame_count,
            "sets": take.count_sets(),
            "meshes": take.mesh_count,
            "cameras": {camera: len(take.topics[FRAME + camera]) for camera in take.cameras},
            "calibrated": list(take.calibration.ids),
            "topologies": {key: topology.name for key, topology in take.topologies.items()},
            "markers": [{"frame_id": m.frame_id, "time_ns": m.time_ns, "text": m.text} for m in info.markers],
            "timecode": info.timecode.text if info.timecode else "",
            "layers": list(take.layers),
            "bytes": sum(file.size for file in info.files),
            "drops": {topic: dict(reasons) for topic, reasons in info.drops.items()},
            "lost": dict(info.lost),
            "stopped": info.stopped,
            "ledger": _ledger(take) if info.ledger else {},
        }


def _ledger(take: Take) -> dict[str, Any]:
    """Return what the recorder wrote down, in short."""
    ledger = take.ledger
    absent = ledger.sets["absent"]
    whole = int((absent == "").sum())
    return {
        "sets": {"complete": whole, "partial": len(absent) - whole},
        "latency_ms": ledger.latency_ms(),
        "lost": by_loss(ledger.losses()),
        "events": [
            {"time_ns": int(time_ns), "kind": str(kind), "text": str(text)}
            for time_ns, kind, text in zip(*(ledger.events[name] for name in ("time_ns", "kind", "text")), strict=True)
        ],
    }

"""`mien register`: a take with first guesses and raw scans beside it in, the registered mesh of every scan out."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.meshes import SurfaceMesh, write_obj
from inference.tempeh.frames import MM
from inference.training.register import Registered, register_all
from inference.training.scan_corpus import ScanSet, check_corpus
from inference.training.scan_readers import read_takes
from streamer.errors import TakeError
from streamer.types import Topology

LOOKED_AT = (160, 120)
"""Size of the pictures that tell whether a camera sees a scan, px."""


def register_take(
    take: Path,
    scans: Path,
    out: Path,
    *,
    scan_unit: str = "mm",
    points: int = 6000,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Register every scan of a take, complete or not at all.

    Args:
        take: folder of the take; its meshes (`mesh`, else `truth`) are the first guesses.
        scans: `<frame id>.obj`, `.ply` or `.npy`.
        out: new folder: `<frame id>.obj` in metres, and `report.json`.
        scan_unit: `mm` or `m`.
        points: scan points per round.
        seed: draws them.
        progress: told scans done and scans in all.

    Returns:
        `out`, `scans`, `before_mm`, `after_mm`, `p90_mm` (medians over the scans), `remarks`; `report.json` holds the
        same and `frames`: each scan's own.

    Raises:
        TakeError: no scans, no meshes, scans elsewhere than the meshes, or `out` exists or cannot be written.
        MeshError: a scan cannot be read.
        CalibrationError: no two cameras see a scan: take and scans are not in one frame.
    """
    if out.exists():
        raise TakeError(f"{out} exists already; give another folder or remove it")
    if not scans.is_dir():
        raise TakeError(f"{scans}: no such folder of scans")
    corpus = check_corpus(read_takes([take], scans, scan_unit, first_channel="mesh"), LOOKED_AT)
    found = register_all(corpus, points, seed, progress)
    frames = {
        entry.name.rpartition("/")[2]: {
            "before_mm": round(one.before_mm, 4),
            "after_mm": round(one.after_mm, 4),
            "p90_mm": round(one.p90_mm, 4),
        }
        for entry, one in found
    }
    figures = {
        key: float(np.median([row[key] for row in frames.values()])) for key in ("before_mm", "after_mm", "p90_mm")
    }
    result: dict[str, Any] = {"out": str(out), "scans": len(found), **figures, "remarks": list(corpus.remarks)}
    _write(out, found, corpus.topology, json.dumps(result | {"frames": frames}, indent=1) + "\n")
    return result


def _write(out: Path, found: list[tuple[ScanSet, Registered]], topology: Topology, report: str) -> None:
    """Write all files, or none."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            for entry, one in found:
                mesh = SurfaceMesh(one.vertices / np.float32(MM), topology.triangles)
                remark = f"{entry.name}, registered by Mien; metres, topology {topology.name}"
                write_obj(work / f"{int(entry.name.rpartition('/')[2]):08d}.obj", mesh, remark)
            (work / "report.json").write_text(report)
            work.chmod(0o755)
            work.rename(out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise TakeError(f"{out}: cannot be written: {error}") from error

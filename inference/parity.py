"""How far each engine and precision is from torch in float32, in millimetres on the vertices, on one and the same sets.

What cannot run here is told with its reason, never left out.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.engines import Graph, Precision, open_engine
from inference.model_store import ModelFiles
from inference.precision import plan_folder
from inference.reconstruct import Reconstructor
from inference.stand_in import stand_in_rig, stand_in_sets
from streamer.errors import EngineError, MissingExtra
from streamer.types import F32, Calibration, FrameSet

CASES: tuple[tuple[str, Precision], ...] = (
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("torch", "f16"),
    ("tensorrt", "f32"),
    ("tensorrt", "f16"),
)
"""Engine and precision of the `net` graphs. `torch` in f16 computes on the CPU what a GPU rounds."""
MM = 1000.0


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in one precision."""

    engine: str
    """Its name."""
    precision: str
    """Of the `net` graphs."""
    median_mm: float | None = None
    """Median distance of a vertex from the reference."""
    max_mm: float | None = None
    """Largest distance of a vertex from the reference."""
    skipped: str = ""
    """Why it did not run."""


def compiled(model: ModelFiles, engine: str, precision: Precision) -> dict[str, Graph]:
    """All graphs of a live model, its `net` graphs in a precision.

    Raises:
        EngineError: the engine cannot run here, or not in this precision.
        MissingExtra: its package is not installed.
    """
    runtime = open_engine(engine, threads=0, cache_dir=plan_folder(engine))
    return {
        name: runtime.compile(graph.path, precision=precision if graph.precision == "net" else "f32")
        for name, graph in model.graphs.items()
    }


def meshes(
    model: ModelFiles, graphs: dict[str, Graph], calibration: Calibration, sets: Sequence[FrameSet]
) -> list[F32]:
    """Vertices (N, 3) of every set, metres, world."""
    with Reconstructor(model, calibration, graphs=graphs) as reconstructor:
        return [reconstructor(frame_set).vertices for frame_set in sets]


def distances(found: Sequence[F32], reference: Sequence[F32]) -> tuple[float, float]:
    """Median and largest distance of the vertices, mm."""
    apart = np.concatenate([np.linalg.norm(a - b, axis=1) for a, b in zip(found, reference, strict=True)]) * MM
    return round(float(np.median(apart)), 5), round(float(apart.max()), 5)


Run = Callable[[str, Precision], list[F32]]
"""Engine and precision to vertices (N, 3) of every set, metres; those at the end that it does not compute may lack."""


def measured(run: Run, reference: Sequence[F32], progress: Callable[[int, int], None]) -> list[Row]:
    """Run every case; what cannot run is a row with the reason."""
    rows = []
    for done, (engine, precision) in enumerate(CASES):
        progress(done + 1, len(CASES) + 1)
        try:
            found = run(engine, precision)
            rows.append(Row(engine, precision, *distances(found, reference[: len(found)])))
        except (EngineError, MissingExtra) as error:
            rows.append(Row(engine, precision, skipped=str(error)))
    progress(len(CASES) + 1, len(CASES) + 1)
    return rows


def parity(model: ModelFiles, sets: int, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Hold every engine and precision against torch in float32.

    Args:
        model: a live or a published model.
        sets: frame sets of the stand-in head; a published network gets one, of 4 views.
        progress: told what is done and what there is in all.

    Returns:
        `reference`, `sets`, `views`, for a published network `vertices` that were compared after the refinement (all of
        the coarse ones are), and `rows` as `Row` has them; without a reference `skipped` says why, and there
        are no rows.
    """
    found: dict[str, Any] = {
        "reference": "torch f32",
        "sets": sets,
        "views": model.max_views,
        "skipped": "",
        "rows": [],
    }
    try:
        if model.manifest.published is not None:
            found |= {"sets": 1, "views": 4} | _published(model, progress)
        elif "thumbs" in model.graphs:
            found["rows"] = _live(model, sets, progress)
        else:
            found["skipped"] = f"'{model.name}' is not a network that Mien knows how to run"
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx"):
            raise
        found["skipped"] = str(MissingExtra(error.name, "train"))
    except MissingExtra as error:
        found["skipped"] = str(error)
    found["rows"] = [asdict(row) for row in found["rows"]]
    return found


def _live(model: ModelFiles, sets: int, progress: Callable[[int, int], None]) -> list[Row]:
    graphs = compiled(model, "torch", "f32")
    calibration = stand_in_rig(model.max_views, model.width, model.height)
    shown = stand_in_sets(model.topology, calibration, sets)

    def run(engine: str, precision: Precision) -> list[F32]:
        return meshes(model, compiled(model, engine, precision), calibration, shown)

    return measured(run, meshes(model, graphs, calibration, shown), progress)


def _published(model: ModelFiles, progress: Callable[[int, int], None]) -> dict[str, Any]:
    from inference.tempeh.published.parity import PublishedCases

    with tempfile.TemporaryDirectory(prefix="mien-parity-") as folder:
        # the reference counts as four of the cases
        cases = PublishedCases(
            model, Path(folder), lambda done, total: progress(4 * done, 4 * total + len(CASES) * total)
        )
        rows = measured(cases.run, cases.reference, lambda done, total: progress(4 + done, 4 + total))
        return {"vertices": cases.compared, "rows": rows}


def table(found: dict[str, Any]) -> str:
    """The rows for people."""
    if found["skipped"]:
        return f"engines are not compared: {found['skipped']}"
    which = f"{found['vertices']} vertices" if "vertices" in found else "the vertices"
    lines = [f"distance from {found['reference']} on {which}, {found['sets']} sets, {found['views']} views"]
    for row in found["rows"]:
        figures = f"median {row['median_mm']:.4f}  max {row['max_mm']:.4f} mm" if not row["skipped"] else row["skipped"]
        lines.append(f"  {row['engine']:<9} {row['precision']:<5} {figures}")
    return "\n".join(lines)

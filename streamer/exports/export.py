"""The front of all exports: checks what was asked, calls the writer of the format, puts the result in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamer.errors import TakeError
from streamer.exports.alembic import write_alembic
from streamer.exports.caches import base_name, write_mdd, write_pc2
from streamer.exports.gltf import write_gltf
from streamer.exports.job import Job
from streamer.exports.motion import Motion, Progress
from streamer.exports.nersemble import write_nersemble
from streamer.exports.npz import write_npz
from streamer.exports.obj import write_obj
from streamer.exports.options import FORMATS, SUFFIXES, ExportOptions, Format
from streamer.exports.placing import placing, refuse_existing
from streamer.exports.presets import METRES, preset_for
from streamer.exports.usd.points import clips_name
from streamer.exports.usd.write import write_usd
from streamer.exports.weights import write_csv
from streamer.takes.reader import Take

WRITERS: dict[Format, Callable[[Path, Job], dict[str, Any]]] = {
    "npz": write_npz,
    "usd": write_usd,
    "abc": write_alembic,
    "gltf": write_gltf,
    "obj": write_obj,
    "pc2": write_pc2,
    "mdd": write_mdd,
    "csv": write_csv,
}
"""Writers of meshes; `nersemble` writes pictures."""


def export_take(
    take: Take,
    format: Format,
    out: Path,
    options: ExportOptions | None = None,
    *,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a take, or a part of it, for another program.

    Args:
        take: the take.
        format: one of `FORMATS`.
        out: the file or folder to make; its parents are made. It appears whole or not at all.
        options: what to write and how; None: everything, as recorded.
        on_progress: called with how much is done and how much there is.

    Returns:
        `out`, `format`, `frames`, `notes` (what the format cannot hold, what the program has to be told), `beside`
        (further files next to `out`); of meshes also `vertices`, `triangles`, `fps`; of shapes `error_mm`.

    Raises:
        TakeError: something asked for is not possible, `out` exists, or cannot be written.
        MissingExtra: the format needs a package that is not installed.
    """
    options = options or ExportOptions()
    if format not in FORMATS:
        raise TakeError(f"format {format!r} is not known; one of: {', '.join(FORMATS)}")
    suffixes = SUFFIXES.get(format)
    if suffixes is not None and out.suffix.lower() not in suffixes:
        raise TakeError(f"{out}: programs know {format} by its name; it has to end in {' or '.join(suffixes)}")
    preset = preset_for(format, options.target)
    beside = _beside(format, out, options)
    refuse_existing([out, *(out.with_name(name) for name in beside)], force=options.force)
    if format == "nersemble":
        with placing(out) as fresh:
            return {"out": str(out), "format": format, **write_nersemble(fresh, take, options, on_progress)}
    # Shapes are found in the head's own axes and converted when they are written.
    shapes = options.morphs_of(format) != "none"
    motion = Motion(take, options, METRES if shapes else preset, regular=format in ("pc2", "mdd"))
    job = Job(motion, options, preset, on_progress, motion.notes())
    with placing(out, beside) as fresh:
        result = WRITERS[format](fresh, job)
    return {
        "out": str(out),
        "format": format,
        "frames": len(motion),
        "vertices": motion.topology.vertex_count,
        "triangles": len(motion.topology.triangles),
        "fps": float(motion.timeline.rate),
        **result,
        "notes": [*job.notes, *([preset.note] if preset.note else [])],
    }


def _beside(format: Format, out: Path, options: ExportOptions) -> tuple[str, ...]:
    if format in ("pc2", "mdd"):
        return (base_name(out),)
    if format == "usd" and options.clip_frames:
        return (clips_name(out),)
    return ()

"""USD, in the way that was asked for."""

from pathlib import Path
from typing import Any

from streamer.exports.job import Job
from streamer.exports.usd.points import write_clips, write_points
from streamer.exports.usd.skel import write_skel
from streamer.exports.usd.stage import translated


def write_usd(path: Path, job: Job) -> dict[str, Any]:
    """Write `.usdc`, `.usda` or `.usd`: points over time, in value clips, or blend shapes.

    Raises:
        MissingExtra: usd-core is not installed.
        TakeError: USD could not write, or the take has no weights for blend shapes.
    """
    job.notes.append(
        "USD holds whole and broken frames, but no exposure times and no timecode; frame ids are mien:frameId"
    )
    with translated(path) as pxr:
        if job.options.morphs_of("usd") == "arkit":
            return write_skel(pxr, path, job)
        if job.options.clip_frames:
            return write_clips(pxr, path, job)
        return write_points(pxr, path, job)

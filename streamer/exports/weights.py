"""CSV of the expression weights, one row per sample."""

import csv
from pathlib import Path
from typing import Any

from streamer.errors import TakeError
from streamer.exports.job import Job
from streamer.geometry import quaternion

POSE = ("head_x_m", "head_y_m", "head_z_m", "head_qw", "head_qx", "head_qy", "head_qz")
"""Columns of the head pose: position in the world and rotation as a unit quaternion, w >= 0."""


def write_csv(path: Path, job: Job) -> dict[str, Any]:
    """Write `frame`, `frame_id`, `time_ns`, the 52 weights in 0..1 under their ARKit names, and the head pose.

    Raises:
        TakeError: the take has no weights, or not on every mesh of the range.
    """
    units = job.motion.topology.units
    with path.open("w", encoding="ascii", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["frame", "frame_id", "time_ns", *units, *POSE])
        for sample in job.samples():
            if sample.weights is None:
                raise TakeError(missing_weights(sample.frame_id, job.options.channel))
            place, turn = sample.world_from_head[:3, 3], quaternion(sample.world_from_head[:3, :3])
            numbers = (*sample.weights.tolist(), *place.tolist(), *turn.tolist())
            row = [f"{sample.frame:.12g}", sample.frame_id, sample.time_ns, *(f"{value:.6f}" for value in numbers)]
            table.writerow(row)
    job.notes.append("CSV holds weights and head pose, no mesh")
    return {"units": len(units)}


def missing_weights(frame_id: int, channel: str) -> str:
    """Return what to say of a mesh without weights."""
    return (
        f"frame {frame_id} on channel '{channel}' has no expression weights; reprocess it with a model that solves "
        "them, or use --channel truth of a simulated take"
    )

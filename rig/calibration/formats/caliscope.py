"""Caliscope's camera_array.toml; read by `streamer.imports.calibrations`."""

import json
from pathlib import Path

from streamer.types import Calibration


def write_caliscope(calibration: Calibration, out: Path) -> list[str]:
    """Write a table per camera, keyed by its number as Caliscope does; metres."""
    lines = ['units = "m"']
    for number, camera in enumerate(calibration.cameras):
        digits = camera.id.removeprefix("cam_")
        number = int(digits) if digits.isdigit() else number
        pose = camera.camera_from_world
        lines += [
            "",
            f"[cameras.{json.dumps(camera.id)}]",
            f"cam_id = {number}",
            f"name = {json.dumps(camera.id)}",
            f"serial = {json.dumps(camera.serial)}",
            "rotation_count = 0",
            "ignore = false",
            f"size = [{camera.width}, {camera.height}]",
            f"matrix = {camera.K.tolist()}",
            f"distortions = {camera.distortion.tolist()}",
            f"translation = {pose[:3, 3].tolist()}",
            f"rotation = {pose[:3, :3].tolist()}",
        ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", "utf-8")
    return []

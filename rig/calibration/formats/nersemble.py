"""NeRSemble's camera_params.json: world_2_cam, intrinsics; those per camera, distortion and sizes are extensions."""

import json
from pathlib import Path

import numpy as np

from streamer.errors import CalibrationError
from streamer.imports.calibrations import opencv5
from streamer.types import Calibration, Camera

PARAMS = Path("calibration") / "camera_params.json"


def write_nersemble(calibration: Calibration, out: Path) -> list[str]:
    """Write OUT/calibration/camera_params.json; metres."""
    params = {
        "world_2_cam": {c.id: c.camera_from_world.tolist() for c in calibration.cameras},
        "intrinsics": {c.id: c.K.tolist() for c in calibration.cameras},
        "distortion": {c.id: c.distortion.tolist() for c in calibration.cameras},
        "image_size": {c.id: [c.width, c.height] for c in calibration.cameras},
    }
    (out / PARAMS).parent.mkdir(parents=True, exist_ok=True)
    (out / PARAMS).write_text(json.dumps(params, indent=1) + "\n", "utf-8")
    return ["serial numbers are not kept"] if any(c.serial != c.id for c in calibration.cameras) else []


def read_nersemble(path: Path) -> Calibration:
    """Read camera_params.json.

    Raises:
        CalibrationError: unreadable, or it does not tell the size of the pictures (`image_size`, an extension).
    """
    try:
        params = json.loads(path.read_text("utf-8"))
        sizes = params.get("image_size")
        if sizes is None:
            raise CalibrationError(
                f'{path}: does not tell the size of the pictures; add "image_size": {{serial: [width, height]}}'
            )
        cameras = []
        for name, pose in params["world_2_cam"].items():
            K = params["intrinsics"][name] if isinstance(params["intrinsics"], dict) else params["intrinsics"]
            bend = params.get("distortion", [])
            bend = bend[name] if isinstance(bend, dict) else bend
            width, height = sizes[name] if isinstance(sizes, dict) else sizes
            cameras.append(
                Camera(
                    name, name, int(width), int(height), np.array(K), opencv5(bend, f"{path}: {name}"), np.array(pose)
                )
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(f"{path}: not a NeRSemble calibration: {error!r}") from error
    return Calibration(tuple(cameras), f"NeRSemble {path}")

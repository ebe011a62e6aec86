"""Small takes with pictures and true meshes."""

from pathlib import Path

import numpy as np

from streamer.takes import TakeWriter
from streamer.types import Calibration, FrameSet, MeshFrame
from tests.inference.makers import EXPOSURE_NS, grey_set, octahedron, ring


def write_take(
    path: Path, *, sets: int = 6, calibration: Calibration | None = None, truth: bool = True, scale: float = 1.0
) -> list[FrameSet]:
    """Write a take of grey pictures; the truth is the template, larger by `scale`, shifted from set to set."""
    calibration = calibration or ring(8)
    topology = octahedron()
    made = []
    with TakeWriter(path, calibration=calibration, config_text="", show="show", slate="slate", take=1) as writer:
        writer.write("topology", topology, EXPOSURE_NS)
        for k in range(sets):
            made.append(grey_set(calibration, k))
            time_ns = made[-1].exposure_time_ns
            for number, one in enumerate(made[-1].members.values()):
                writer.write("frame", one, time_ns + 1000 * number)
            if truth:
                pose = np.eye(4, dtype=np.float32)
                pose[0, 3] = 0.01 * k
                mesh = MeshFrame(k, time_ns, 0, topology.id, topology.template * np.float32(scale) + pose[:3, 3], pose)
                writer.write("truth", mesh, time_ns)
    return made

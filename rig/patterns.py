"""A stage without a head: test patterns of numpy, for measuring the way of a picture and for tests that need no GL."""

import numpy as np

from rig.config import SimulatedConfig
from streamer.geometry import look_at
from streamer.types import U8, Calibration, Camera, MeshFrame, Topology

PHASES = 8
"""Different pictures per camera before they repeat; they are made once, so that a picture costs nothing."""
STEPS_PER_S = 100.0
"""Rate at which the pattern moves."""
MARK_PX = 16
"""Size of the square in the corner whose grey level tells the phase."""


def phase_at(time_s: float) -> int:
    """Return the phase of the pattern at a time."""
    return int(time_s * STEPS_PER_S + 0.5) % PHASES


def mark_level(phase: int) -> int:
    """Return the grey level of the corner square in this phase; levels are 30 apart, JPEG moves them by less than 8."""
    return 15 + 30 * phase


class PatternStage:
    """Gradients that move; the truth is a tetrahedron that moves along x with the time.

    Args:
        config: number of cameras and their picture size.
        colour: (H, W, 3) pictures; otherwise (H, W).
    """

    def __init__(self, config: SimulatedConfig, *, colour: bool = False) -> None:
        """Make all pictures."""
        self.calibration = Calibration(
            tuple(_camera(index, config) for index in range(config.cameras)), source="test pattern"
        )
        corners = 0.1 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
        sides = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
        self.topology = Topology("test-tetrahedron", sides, np.zeros((3, 2), np.float32), np.zeros_like(sides), corners)
        self._pictures = [
            {camera.id: _pattern(index, phase, config, colour) for index, camera in enumerate(self.calibration.cameras)}
            for phase in range(PHASES)
        ]

    def render(self, time_s: float) -> tuple[dict[str, U8], MeshFrame]:
        """Return the pictures of a time, shared and read-only, and the tetrahedron at x = `time_s` metres."""
        world_from_head = np.eye(4, dtype=np.float32)
        world_from_head[0, 3] = time_s
        vertices = self.topology.template + world_from_head[:3, 3]
        truth = MeshFrame(0, 0, 0, self.topology.id, vertices, world_from_head, self.calibration.ids)
        return self._pictures[phase_at(time_s)], truth

    def close(self) -> None:
        """There is nothing to release."""


def _camera(index: int, config: SimulatedConfig) -> Camera:
    turn = 2 * np.pi * index / config.cameras
    place = np.array([np.sin(turn), 0.0, np.cos(turn)])
    focal = 1.2 * config.width
    k = np.array([[focal, 0, (config.width - 1) / 2], [0, focal, (config.height - 1) / 2], [0, 0, 1]])
    camera_from_world = look_at(place, np.zeros(3))
    return Camera(f"cam_{index}", f"PATTERN{index:04d}", config.width, config.height, k, np.zeros(5), camera_from_world)


def _pattern(index: int, phase: int, config: SimulatedConfig, colour: bool) -> U8:
    x, y = np.arange(config.width), np.arange(config.height)[:, None]
    grey = np.asarray((x * 2 + y + 29 * index + 256 * phase // PHASES) % 256, np.uint8)
    grey[:MARK_PX, :MARK_PX] = mark_level(phase)
    picture = np.repeat(grey[..., None], 3, axis=2) if colour else grey
    picture.setflags(write=False)
    return picture

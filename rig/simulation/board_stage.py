"""The simulated rig with a calibration board waved before it, in place of the head: a rehearsal of a calibration."""

from pathlib import Path

import cv2
import numpy as np

from rig.calibration.boards import load_board
from rig.config import SimulatedConfig
from rig.simulation.boards import BoardLook, print_board, random_board_poses, see_board
from rig.simulation.cameras import demo_ring
from streamer.types import U8, Topology

HELD_S = 1.0
"""How long the board is held still at a place."""
PLACES = 400


class BoardStage:
    """A board that is shown to all cameras in turn, near and far and tilted; there is no true head.

    Args:
        config: cameras, noise and seed; `board` names BOARD.toml.

    Raises:
        CalibrationError: the board cannot be read.
    """

    topology: Topology | None = None

    def __init__(self, config: SimulatedConfig) -> None:
        """Print the board and choose where it goes."""
        self.calibration = demo_ring(config.cameras, config.width, config.height, config.seed)
        self._board = load_board(Path(config.board))
        self._print = print_board(self._board)
        self._rng = np.random.default_rng([config.seed, 0xB0A])
        self._poses = random_board_poses(self._rng, self.calibration, self._board, PLACES)
        self._look = BoardLook(noise_dn=BoardLook().noise_dn * config.noise)

    def render(self, time_s: float) -> tuple[dict[str, U8], None]:
        """Return camera id to (H, W, 3) RGB at a time, and no true head."""
        pose = self._poses[int(time_s / HELD_S) % PLACES]
        pictures = {
            camera.id: np.asarray(
                cv2.cvtColor(
                    see_board(camera, self._board, self._print, pose, self._look, self._rng), cv2.COLOR_GRAY2RGB
                ),
                np.uint8,
            )
            for camera in self.calibration.cameras
        }
        return pictures, None

    def close(self) -> None:
        """There is nothing to release."""

"""A lamp that swells: the target of the sync check, in front of any stage."""

import math
from typing import Protocol

import cv2
import numpy as np

from streamer.types import U8, Calibration, MeshFrame, Topology

DEPTH = 0.12
"""Amplitude of each of the two swells, of the full light."""


class Lit(Protocol):
    """A stage to put the lamp in front of."""

    @property
    def calibration(self) -> Calibration:
        """The cameras."""

    @property
    def topology(self) -> Topology | None:
        """Topology of the true mesh; None where there is no head."""

    def render(self, time_s: float) -> tuple[dict[str, U8], MeshFrame | None]:
        """Return the pictures of all cameras at one instant and the true head of that instant, if there is one."""

    def close(self) -> None:
        """Release what it holds."""


def lamp_level(time_s: float) -> float:
    """Return the light at a time, 0 to 1: two swells whose pace wanders, so that no stretch looks like another."""
    first = math.sin(2 * math.pi * 2.3 * time_s + math.sin(1.1 * time_s))
    second = math.sin(2 * math.pi * 5.3 * time_s + 1.0 + 2.0 * math.sin(0.7 * time_s))
    return 1.0 - 2 * DEPTH + DEPTH * (first + second)


class LampStage:
    """A stage under the lamp.

    Args:
        stage: what the cameras see.
    """

    def __init__(self, stage: Lit) -> None:
        """Remember the stage."""
        self._stage = stage
        self.calibration = stage.calibration
        self.topology = stage.topology

    def render(self, time_s: float) -> tuple[dict[str, U8], MeshFrame | None]:
        """Return the stage's pictures in the light of that instant."""
        pictures, truth = self._stage.render(time_s)
        level = lamp_level(time_s)
        lit = {
            name: np.asarray(cv2.convertScaleAbs(picture, alpha=level), np.uint8) for name, picture in pictures.items()
        }
        return lit, truth

    def close(self) -> None:
        """Release the stage."""
        self._stage.close()

"""The wide world that networks are trained in: any person, stage, light, lens and sensor, one after another.

Every take is a function of (seed, index): it can be made again on any machine, alone or in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rig.simulation.cameras import ROOM, STUDIO, random_ring
from rig.simulation.head import load_head, random_identity
from rig.simulation.look import random_background, random_look
from rig.simulation.performance import Moment, random_moment
from rig.simulation.sensor import random_sensor
from rig.simulation.stage import Person, Set, Studio
from streamer.types import F32, U8, Calibration

ROOM_REACH_M = np.array([0.22, 0.15, 0.22])
"""How far from the middle of a room's cameras a person may be."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One instant of the wide world."""

    pictures: tuple[U8, ...]
    """(H, W, 3) RGB per camera."""
    vertices: F32
    """(N, 3) true skin, world, metres."""
    moment: Moment
    """Expression and pose."""
    jpeg_quality: int
    """How strongly this take is compressed."""


@dataclass(frozen=True, slots=True)
class WideTake:
    """A person on a stage, with some unrelated moments."""

    calibration: Calibration
    """The rig."""
    shots: Iterator[Shot]
    """Painted on demand."""


class WideWorld:
    """Makes takes of the wide world. Owns a GL context; belongs to the thread that made it.

    Args:
        width: picture width, px.
        height: picture height, px.
        cameras: cameras per rig.
        seed: of the whole set of takes.
        skins: photographic skin textures (see `random_look`), or None for painted ones only.
        rooms: webcams in a room, the person somewhere in it, instead of cameras set up for heads.

    Raises:
        DriverError: OpenGL is not available.
    """

    def __init__(
        self,
        width: int,
        height: int,
        cameras: int,
        seed: int,
        skins: NDArray[np.uint8] | None = None,
        *,
        rooms: bool = False,
    ) -> None:
        """Open the studio."""
        self._size, self._cameras, self._seed, self._skins = (width, height), cameras, seed, skins
        self._rooms = rooms
        self._studio = Studio(width, height, cameras, seed)

    def take(self, index: int, frames: int) -> WideTake:
        """Make take number `index` with this many moments."""
        rng = np.random.default_rng([self._seed, 0x71DE, index])
        width, height = self._size
        person = Person(load_head().person(random_identity(rng)), random_look(rng, self._skins))
        person = replace(person, neutral=person.neutral * np.float32(rng.uniform(0.94, 1.06)))
        calibration = random_ring(rng, self._cameras, width, height, ROOM if self._rooms else STUDIO)
        same_room, grey = rng.random() < 0.3, rng.random() < 0.15
        rooms = [random_background(rng, width, height) for _ in range(1 if same_room else self._cameras)]
        backgrounds = tuple(rooms[i % len(rooms)] for i in range(self._cameras))
        sensors = tuple(random_sensor(rng, height, grey) for _ in range(self._cameras))
        return WideTake(calibration, self._shots(rng, person, Set(calibration, backgrounds, sensors), frames))

    def _shots(self, rng: np.random.Generator, person: Person, stage_set: Set, frames: int) -> Iterator[Shot]:
        quality = int(rng.integers(55, 97))
        self._studio.dress(person)
        for _ in range(frames):
            moment = random_moment(rng, load_head().units)
            if self._rooms:
                moment.world_from_head[:3, 3] += rng.uniform(-1, 1, 3) * ROOM_REACH_M
            pictures, vertices = self._studio.shoot(person, stage_set, moment, rng)
            for picture in pictures:
                if rng.random() < 0.12:
                    _occlude(rng, picture)
            yield Shot(tuple(pictures), vertices, moment, quality)

    def close(self) -> None:
        """Release the GL context."""
        self._studio.close()


def _occlude(rng: np.random.Generator, picture: U8) -> None:
    """Something between camera and head: a hand, a microphone, a board."""
    height, width = picture.shape[:2]
    centre = (rng.uniform(0.15, 0.85, 2) * [width, height]).astype(int)
    axes = (rng.uniform(0.04, 0.16, 2) * height).astype(int)
    cv2.ellipse(
        picture, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, rng.uniform(0, 255, 3).tolist(), -1
    )

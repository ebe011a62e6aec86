"""The simulated stage: one call paints what every camera of the rig sees at one instant, with the true mesh."""

from dataclasses import dataclass

import numpy as np

from rig.config import SimulatedConfig
from rig.simulation.cameras import demo_ring
from rig.simulation.head import eye_turns, head_topology, load_head, random_identity
from rig.simulation.look import Look, random_look, studio_background, studio_light
from rig.simulation.painter import Painter
from rig.simulation.performance import Moment, Performance, rigid
from rig.simulation.sensor import Grain, Sensor, clean_sensor, expose, grain, noise_tile
from streamer.geometry import transform, vertex_normals
from streamer.types import F32, F64, U8, Calibration, MeshFrame

NOISE_DN = 2.0
"""Sensor noise of a machine-vision camera indoors at `noise = 1`, grey levels of 255."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who stands on the stage."""

    neutral: F32
    """(V, 3) neutral vertices, head frame, metres."""
    look: Look
    """Appearance."""


@dataclass(frozen=True, slots=True)
class Set:
    """Where the person stands: cameras, what is behind, how the sensors respond."""

    calibration: Calibration
    """The rig."""
    backgrounds: tuple[U8, ...]
    """(H, W, 3) per camera."""
    sensors: tuple[Sensor, ...]
    """Per camera."""


def head_vertices(person: Person, weights: F32) -> F32:
    """All vertices (V, 3) with an expression and turned eyeballs, head frame, metres."""
    head = load_head()
    vertices = person.neutral + np.tensordot(weights, head.expression, 1)
    for part, (yaw, pitch) in eye_turns(weights, head.units).items():
        eye = head.part_vertices(part)
        centre = (person.neutral[eye].min(0) + person.neutral[eye].max(0)) / 2
        turn = rigid(yaw, -pitch, 0.0, np.zeros(3))[:3, :3]
        vertices[eye] = (person.neutral[eye] - centre) @ turn.T + centre
    return np.asarray(vertices, np.float32)


class Studio:
    """Paints persons on sets. Owns a GL context; belongs to the thread that made it.

    Raises:
        DriverError: OpenGL is not available.
    """

    def __init__(self, width: int, height: int, cameras: int, seed: int) -> None:
        """Make the painter for pictures of `width` x `height` px."""
        self._painter = Painter(load_head(), width, height, cameras)
        self._noise = noise_tile(np.random.default_rng([seed, 0x5E7]))
        self._levels: dict[float, Grain] = {}
        self.mattes: U8 = np.zeros((cameras, height, width), np.uint8)
        """(cameras, H, W) where the last pictures show the person, 0 or 255: exact."""

    def dress(self, person: Person) -> None:
        """Set the appearance for the pictures to come."""
        self._painter.wear(person.look.surface, person.look.light)

    def shoot(self, person: Person, stage_set: Set, moment: Moment, rng: np.random.Generator) -> tuple[list[U8], F32]:
        """Paint one instant; the noise of the sensors is drawn from `rng`.

        Returns:
            One (H, W, 3) RGB picture per camera, and the true skin vertices (N, 3), world, metres.
        """
        head = load_head()
        vertices = transform(moment.world_from_head, head_vertices(person, moment.weights)).astype(np.float32)
        shown = vertices
        if person.look.hair_m.any():
            shown = vertices + person.look.hair_m[:, None] * vertex_normals(vertices, head.triangles)
        torso = torso_pose(moment.world_from_head)
        rgba = self._painter.paint(shown, torso, stage_set.calibration.cameras)
        self.mattes = rgba[..., 3]
        pictures = [
            expose(rgba[i], background, sensor, self._grain(sensor.noise_dn), self._offset(background.size, rng))
            for i, (background, sensor) in enumerate(zip(stage_set.backgrounds, stage_set.sensors, strict=True))
        ]
        return pictures, vertices[: head.skin_count]

    def _grain(self, noise_dn: float) -> Grain:
        level = round(noise_dn, 1)
        if level not in self._levels:
            if len(self._levels) > 8:
                self._levels.clear()
            self._levels[level] = grain(self._noise, level)
        return self._levels[level]

    def _offset(self, size: int, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self._noise) - size))

    def close(self) -> None:
        """Release the GL context."""
        self._painter.close()


def torso_pose(world_from_head: F64) -> F64:
    """The shoulders follow the head's place, but only a third of its turn."""
    forward = world_from_head[:3, 2]
    neck = transform(world_from_head, np.array([0.0, -0.09, -0.03]))
    torso = rigid(np.arctan2(forward[0], forward[2]) / 3, 0.0, 0.0, np.zeros(3))
    torso[:3, 3] = neck + np.array([0.0, 0.085, 0.03])
    return torso


class Stage:
    """The demo's stage: one person who performs in front of a tidy ring of cameras.

    Raises:
        DriverError: OpenGL is not available.
    """

    def __init__(self, config: SimulatedConfig) -> None:
        """Choose person, rig and performance from the seed."""
        rng = np.random.default_rng([config.seed, 0xD3])
        self.calibration = demo_ring(config.cameras, config.width, config.height, config.seed)
        self.topology = head_topology()
        look = random_look(rng)
        self._person = Person(load_head().person(random_identity(rng)), Look(look.surface, studio_light(), look.hair_m))
        shades = 105 + 25 * np.cos(np.linspace(0, 2 * np.pi, config.cameras, endpoint=False))
        self._set = Set(
            self.calibration,
            tuple(studio_background(config.width, config.height, float(shade)) for shade in shades),
            (clean_sensor(NOISE_DN * config.noise),) * config.cameras,
        )
        self._rng = rng
        self._performance = Performance(config.seed, self.topology.units)
        self._studio = Studio(config.width, config.height, config.cameras, config.seed)
        self._studio.dress(self._person)

    def render(self, time_s: float) -> tuple[dict[str, U8], MeshFrame]:
        """Paint the instant `time_s` seconds into the performance.

        Returns:
            Camera id to (H, W, 3) RGB picture, and the true mesh, its ids and times 0 for the caller to fill.
        """
        moment = self._performance.at(time_s)
        pictures, vertices = self._studio.shoot(self._person, self._set, moment, self._rng)
        truth = MeshFrame(
            frame_id=0,
            exposure_time_ns=0,
            publish_time_ns=0,
            topology_id=self.topology.id,
            vertices=vertices,
            world_from_head=moment.world_from_head.astype(np.float32),
            views=self.calibration.ids,
            weights=moment.weights,
        )
        return dict(zip(self.calibration.ids, pictures, strict=True)), truth

    @property
    def mattes(self) -> dict[str, U8]:
        """Camera id to the (H, W) matte of the last picture, 0 or 255."""
        return dict(zip(self.calibration.ids, self._studio.mattes, strict=True))

    def close(self) -> None:
        """Release the GL context."""
        self._studio.close()

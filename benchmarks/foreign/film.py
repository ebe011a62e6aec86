"""Foreign heads before the simulated rig: the cameras, light, sensors and compression of the demo's stage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from benchmarks.foreign.guests import guest
from benchmarks.foreign.scans import ForeignHead
from rig.simulation.cameras import demo_ring
from rig.simulation.head import head_topology, load_head, random_identity
from rig.simulation.look import random_light, random_look, studio_background, studio_light
from rig.simulation.painter import Painter
from rig.simulation.performance import rigid
from rig.simulation.sensor import clean_sensor, expose, grain, noise_tile
from rig.simulation.stage import NOISE_DN, Person, head_vertices, torso_pose
from streamer.geometry import transform
from streamer.pixels import encode_pixels
from streamer.types import F64, I32, U8, Calibration, Frame, FrameSet

SIZE = (640, 480)
CAMERAS = 8
QUALITY = 92
PERIOD_NS = 33_333_333
LATTICE = 5
"""Control points of the free-form lattice, each way."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame set, and where the head is in it."""

    calibration: Calibration
    pictures: tuple[U8, ...]
    frames: FrameSet
    world_from_head: F64
    """(4, 4) metres."""


class Subject(Protocol):
    """Somebody to be filmed."""

    name: str
    truth: F64
    """(N, 3) points of the surface, head frame, mm."""
    regions: dict[str, I32]
    """Region to indices of `truth`."""
    registered: F64
    """(S, 3) the default topology on it, head frame, mm."""
    likely: F64
    """(S, 3) the likeliest person of the default topology on it."""

    def draw(self, poses: Sequence[F64], calibrations: Sequence[Calibration], seed: int) -> list[U8]:
        """(cameras, H, W, 4) of each pose."""


class Scanned:
    """A head of any origin."""

    def __init__(self, head: ForeignHead, skins: U8 | None) -> None:
        """Keep it; `skins` (K, S, S, 3) are photographic ones to draw from."""
        self.name, self.truth, self.regions = head.name, head.vertices, head.regions
        self.registered, self.likely = head.registered, head.likely
        self._head, self._skins = head, skins

    def draw(self, poses: Sequence[F64], calibrations: Sequence[Calibration], seed: int) -> list[U8]:
        """Another skin, light and cloth each time; a texture of its own stays."""
        drawn = []
        for number, (pose, calibration) in enumerate(zip(poses, calibrations, strict=True)):
            rng = np.random.default_rng([seed, number, 0xF0])
            look = random_look(rng)
            skin = look.surface.texture if self._skins is None else self._skins[rng.integers(len(self._skins))]
            person = guest(self._head, skin, look.surface.iris)
            painter = Painter(person.head, *SIZE, CAMERAS)
            try:
                light = studio_light() if number % 2 == 0 else random_light(rng)
                painter.wear(replace(look.surface, texture=person.texture), light)
                there = transform(pose, person.head.neutral).astype(np.float32)
                drawn.append(painter.paint(there, torso_pose(pose), calibration.cameras).copy())
            finally:
                painter.close()
        return drawn


class Warped:
    """Somebody of the default topology whom a free-form lattice bends out of the space of its sliders."""

    def __init__(self, seed: int, bend_mm: float) -> None:
        """Bend a random person; control points move by about `bend_mm` each way."""
        self._rng = np.random.default_rng([seed, 0xFFD])
        head, topology = load_head(), head_topology()
        person = head.person(random_identity(self._rng))
        weights = np.zeros(len(head.units), np.float32)
        self._vertices = bent(person.astype(np.float64) * 1000, self._rng, bend_mm)
        self._person = Person((self._vertices / 1000).astype(np.float32), random_look(self._rng))
        self._posed = head_vertices(self._person, weights)
        self.name = f"warped {seed}"
        self.truth = self.registered = self.likely = self._posed[: head.skin_count].astype(np.float64) * 1000
        self.regions = dict(topology.regions)

    def draw(self, poses: Sequence[F64], calibrations: Sequence[Calibration], seed: int) -> list[U8]:
        """Another look and light each time."""
        painter = Painter(load_head(), *SIZE, CAMERAS)
        drawn = []
        try:
            for number, (pose, calibration) in enumerate(zip(poses, calibrations, strict=True)):
                rng = np.random.default_rng([seed, number, 0xF0])
                light = studio_light() if number % 2 == 0 else random_light(rng)
                painter.wear(random_look(rng).surface, light)
                there = transform(pose, self._posed).astype(np.float32)
                drawn.append(painter.paint(there, torso_pose(pose), calibration.cameras).copy())
        finally:
            painter.close()
        return drawn


def bent(vertices: F64, rng: np.random.Generator, bend_mm: float) -> F64:
    """Vertices (V, 3) mm in a lattice of LATTICE^3 control points that moved, by cubic B-splines."""
    low, high = vertices.min(0) - 1, vertices.max(0) + 1
    cells = LATTICE - 3
    moved = rng.normal(0, bend_mm, (LATTICE, LATTICE, LATTICE, 3))
    at = (vertices - low) / (high - low) * cells
    first = np.minimum(at.astype(int), cells - 1)
    t = (at - first)[..., None]
    spline = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], -1)[:, :, 0] / 6
    change = np.zeros_like(vertices)
    for i in range(4):
        for j in range(4):
            for k in range(4):
                weight = spline[:, 0, i] * spline[:, 1, j] * spline[:, 2, k]
                change += weight[:, None] * moved[first[:, 0] + i, first[:, 1] + j, first[:, 2] + k]
    return vertices + change - change.mean(0)


def film(subject: Subject, sets: int, seed: int) -> list[Shot]:
    """Film a subject: another rig, pose, light and skin each time.

    Args:
        subject: who.
        sets: how many frame sets.
        seed: of everything.
    """
    rng = np.random.default_rng([seed, 0x5407])
    calibrations = [demo_ring(CAMERAS, *SIZE, seed + number) for number in range(sets)]
    poses = []
    for _ in range(sets):
        turns = np.clip(rng.normal(size=3), -1.5, 1.5) * np.radians([16.0, 7.0, 5.0])
        poses.append(rigid(*turns.tolist(), rng.uniform(-1, 1, 3) * [0.03, 0.02, 0.03]))
    sensor, noise = clean_sensor(NOISE_DN), grain(noise_tile(rng), NOISE_DN)
    shots = []
    for number, (rgba, pose, calibration) in enumerate(
        zip(subject.draw(poses, calibrations, seed), poses, calibrations, strict=True)
    ):
        behind = studio_background(*SIZE, 105 + 25 * np.cos(number))
        pictures = tuple(
            expose(one, behind, sensor, noise, int(rng.integers(len(noise.brighter) - behind.size))) for one in rgba
        )
        shots.append(Shot(calibration, pictures, _frame_set(number, calibration, pictures), pose))
    return shots


def _frame_set(number: int, calibration: Calibration, pictures: Sequence[U8]) -> FrameSet:
    time_ns = (number + 1) * PERIOD_NS
    members = {}
    for camera, picture in zip(calibration.cameras, pictures, strict=True):
        encoding, data = encode_pixels(picture, "jpeg", QUALITY)
        members[camera.id] = Frame(
            camera.id, number, number, number, time_ns, "simulated", time_ns, 0, *SIZE, encoding, data
        )
    return FrameSet(number, members, {}, 0, calibration.ids[-1], 0)

"""A performance: smooth random acting as a pure function of time, and single random moments for training."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.types import F32, F64

MIRRORED = ("Left", "Right")
TALK = (
    "mouthFunnel",
    "mouthPucker",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the head does at one instant."""

    weights: F32
    """(52,) unit weights, 0..1."""
    world_from_head: F64
    """(4, 4) rigid, metres."""


def rigid(yaw: float, pitch: float, roll: float, position: NDArray[np.floating]) -> F64:
    """`world_from_head` (4, 4) from rad and metres; rotation order Ry Rx Rz, pitch > 0 nods down."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rx = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    rz = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    world_from_head = np.eye(4)
    world_from_head[:3, :3] = ry @ rx @ rz
    world_from_head[:3, 3] = position
    return world_from_head


@dataclass(frozen=True)
class Performance:
    """Acting without end: phrases of speech, changing expressions, blinks, glances and head turns.

    Everything is a sum of smooth noises with fixed random phases, so any time can be asked for, in any order.
    """

    seed: int
    """Two performances of one seed are equal."""
    units: tuple[str, ...]
    """Names of the expression units, in the order of the weights."""
    _rng_phase: F64 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Draw the phases."""
        rng = np.random.default_rng([self.seed, 0xAC7])
        object.__setattr__(self, "_rng_phase", rng.uniform(0, 2 * np.pi, (96, 4)))

    def _noise(self, channel: int, time_s: float, period_s: float) -> float:
        """Band-limited noise in about -1..1 with the given period."""
        rates = np.array([1.0, 1.618, 2.414, 0.577])
        phases = self._rng_phase[channel % len(self._rng_phase)] + 7.0 * (channel // len(self._rng_phase))
        return float(np.sin(2 * np.pi * rates * time_s / period_s + phases) @ [0.45, 0.3, 0.15, 0.3])

    def at(self, time_s: float) -> Moment:
        """The head at a time in seconds."""
        weights = np.zeros(len(self.units), np.float32)
        for index, unit in enumerate(self.units):
            if unit.startswith(("eyeLook", "eyeBlink", "tongue", "jaw")):
                continue
            stem = unit.removesuffix("Left").removesuffix("Right")
            both = sum(map(ord, stem)) % 40
            drive = self._noise(both, time_s, 5.0) + 0.25 * self._noise(40 + index % 50, time_s, 6.0)
            weights[index] = np.clip(1.6 * drive - 0.75, 0, 0.9)
        self._speak(weights, time_s)
        self._look(weights, time_s)
        yaw, pitch, roll = (scale * self._noise(90 + k, time_s, 7.0) for k, scale in enumerate((0.55, 0.22, 0.16)))
        position = np.array([0.03, 0.02, 0.03]) * [self._noise(93 + k, time_s, 6.0) for k in range(3)]
        return Moment(np.clip(weights, 0, 1), rigid(yaw, pitch, roll, position))

    def _set(self, weights: F32, unit: str, value: float) -> None:
        weights[self.units.index(unit)] = value

    def _speak(self, weights: F32, time_s: float) -> None:
        """Syllables at about four a second inside phrases of a few seconds."""
        phrase = np.clip(2.0 * self._noise(80, time_s, 6.0) + 0.8, 0, 1)
        syllable = 0.5 + 0.5 * np.sin(2 * np.pi * 3.7 * time_s + 2.0 * self._noise(81, time_s, 1.3))
        self._set(weights, "jawOpen", float(phrase * syllable * (0.35 + 0.25 * self._noise(82, time_s, 1.1))))
        for k, unit in enumerate(TALK):
            weights[self.units.index(unit)] += phrase * max(0.0, 0.45 * self._noise(83 + k // 2, time_s, 0.45))

    def _look(self, weights: F32, time_s: float) -> None:
        """Glances, and a blink every three seconds or so that takes 0.25 s."""
        yaw, pitch = (float(np.tanh(2 * self._noise(86 + k, time_s, 2.5))) for k in range(2))
        self._set(weights, "eyeLookOutLeft", max(yaw, 0.0))
        self._set(weights, "eyeLookInRight", max(yaw, 0.0))
        self._set(weights, "eyeLookInLeft", max(-yaw, 0.0))
        self._set(weights, "eyeLookOutRight", max(-yaw, 0.0))
        for side in MIRRORED:
            self._set(weights, f"eyeLookUp{side}", 0.6 * max(pitch, 0.0))
            self._set(weights, f"eyeLookDown{side}", 0.6 * max(-pitch, 0.0))
        beat = time_s + 0.8 * self._noise(88, time_s, 9.0)
        closed = np.exp(-((((beat % 3.1) - 1.5) / 0.09) ** 2))
        for side in MIRRORED:
            self._set(weights, f"eyeBlink{side}", float(closed))


def random_moment(rng: np.random.Generator, units: tuple[str, ...]) -> Moment:
    """A single moment for training: any expression, any pose within the field of a capture stage."""
    weights = np.zeros(len(units), np.float32)
    if rng.random() > 0.15:
        for index in rng.choice(len(units), rng.integers(1, 7), replace=False):
            weights[index] = rng.uniform()
            twin = _twin(units[index])
            if twin in units and rng.random() < 0.7:
                weights[units.index(twin)] = weights[index] * rng.uniform(0.7, 1.0)
    if rng.random() < 0.35:
        weights[units.index("jawOpen")] = rng.uniform()
    if rng.random() < 0.2:
        weights[[units.index("eyeBlinkLeft"), units.index("eyeBlinkRight")]] = rng.uniform(0.5, 1.0)
    weights[units.index("tongueOut")] = 0.0
    yaw, pitch, roll = np.clip(rng.normal(size=3), -2.2, 2.2) * np.radians([26.0, 14.0, 9.0])
    return Moment(weights, rigid(yaw, pitch, roll, rng.uniform(-1, 1, 3) * [0.06, 0.05, 0.06]))


def _twin(unit: str) -> str:
    left, right = MIRRORED
    return unit.removesuffix(left) + right if unit.endswith(left) else unit.removesuffix(right) + left

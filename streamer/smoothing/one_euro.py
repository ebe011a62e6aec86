"""The 1 euro filter: strong where the head rests, weak where it moves, so that lag stays where nobody sees it.

Casiez, Roussel, Vogel: "1 euro filter: a simple speed-based low-pass filter for noisy input in interactive systems",
CHI 2012. Pure: times come in as arguments.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

SPEED_CUTOFF_HZ = 1.0
"""Cut-off of the low-pass that the speed itself goes through; the paper's value."""


@dataclass(frozen=True, slots=True)
class OneEuroParameters:
    """How much lag is traded for calm."""

    cutoff_hz: float = 2.0
    """Cut-off for values at rest, Hz, above 0; lower is calmer."""
    beta: float = 200.0
    """Added to the cut-off per unit of speed, Hz / (m/s) for points; higher lags less in motion."""
    reset_s: float = 0.5
    """After a gap longer than this, or a clock that runs backwards, the filter begins anew."""


class OneEuro:
    """Filters one stream of points, (N, 3) or any (N, D); the speed of a row is the norm of its derivative."""

    def __init__(self, parameters: OneEuroParameters | None = None) -> None:
        """Begin a stream.

        Args:
            parameters: cut-offs; None: the defaults.
        """
        self._parameters = parameters or OneEuroParameters()
        self._state: tuple[int, F32, F32] | None = None  # time, filtered value, filtered rate

    def __call__(self, value: F32, time_ns: int) -> F32:
        """Return the filtered value.

        Args:
            value: (N, D) float32, D >= 1.
            time_ns: when it was measured, on any clock of the stream.

        Returns:
            (N, D) float32, an array of its own. The first value, one of another shape, one after a long gap, and one
            whose time does not rise come out as they are.
        """
        state = self._state
        if state is None or state[1].shape != value.shape:
            return self._begin(value, time_ns)
        then_ns, last, rate = state
        elapsed_s = (time_ns - then_ns) / 1e9
        if not 0 < elapsed_s <= self._parameters.reset_s:
            return self._begin(value, time_ns)
        rate = rate + np.float32(_gain(SPEED_CUTOFF_HZ, elapsed_s)) * ((value - last) / np.float32(elapsed_s) - rate)
        speed = np.linalg.norm(rate, axis=1, keepdims=True)
        tau_s = 1.0 / (2 * math.pi * (self._parameters.cutoff_hz + self._parameters.beta * speed))
        filtered = last + (value - last) * np.asarray(1.0 / (1.0 + tau_s / elapsed_s), np.float32)
        self._state = (time_ns, filtered, rate)
        return filtered.copy()

    def _begin(self, value: F32, time_ns: int) -> F32:
        self._state = (time_ns, value.copy(), np.zeros_like(value))
        return value.copy()


def _gain(cutoff_hz: float, elapsed_s: float) -> float:
    tau = 1.0 / (2 * math.pi * cutoff_hz)
    return 1.0 / (1.0 + tau / elapsed_s)

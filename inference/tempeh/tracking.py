"""Where the head will be, from where it was: spares the localiser, and never has the last word. Numpy, millimetres.

Sets are in flight together, so a set starts from what the last finished ones found, carried on at the same speed. What
the refinement then finds must lie near that guess, and see a head as surely as usual; else the set is made again from
the localiser, as if there had been no guess. So the guess may save time and never costs a mesh. Every second a set is
localised in any case; and while guesses are poor, all are.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from inference.tempeh.shape import Fit
from streamer.geometry import rotation_matrices, rotation_vector
from streamer.types import F64

LIMIT_MM, LIMIT_RAD = 18.0, 0.14
"""A guess may be off by this. Up to 20 mm and 8 degrees the network's error stays what it is: it was trained for it."""
POOR = 0.6
"""Guesses that are off by more than this share of the limits are not used for the sets that follow."""
ANCHOR_NS = 1_000_000_000
"""Longest time between two sets that are localised."""
AGE_NS = 400_000_000
"""A guess is made from a set at most this long before."""
PAIR_NS = 300_000_000
"""Speed is taken from two sets at most so far apart."""
SURE = 0.012
"""Information per view and vertex (1 / mm^2) from which what was found is a head: one well seen gives 0.03."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What is thought of a set before it is looked at."""

    fit: Fit | None
    """Where the head should be; None: nothing is known."""
    trusted: bool
    """Whether the set starts from it; else it is localised, and only tells how good the guess was."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    when_ns: int
    fit: Fit


class Tracker:
    """What one network knows of a head over time. Two streams use it, in the order of sets: one asks, one tells."""

    def __init__(self) -> None:
        """Know nothing."""
        self._lock = threading.Lock()
        self._seen: deque[_Sighting] = deque(maxlen=2)
        self._anchored_ns: int | None = None
        self._steady = False
        self._counts = {"tracked": 0, "localised": 0, "lost": 0}

    @property
    def counters(self) -> dict[str, int]:
        """Sets that were `tracked`, `localised`, and `lost`: tracked in vain, and localised after all."""
        with self._lock:
            return dict(self._counts)

    def guess(self, when_ns: int) -> Guess:
        """Say where the head of the next set should be.

        Args:
            when_ns: its exposure.
        """
        with self._lock:
            fit = self._carried_on(when_ns)
            anchored = self._anchored_ns is not None and 0 <= when_ns - self._anchored_ns < ANCHOR_NS
            trusted = fit is not None and self._steady and anchored
            if not trusted:
                self._anchored_ns = when_ns
            return Guess(fit, trusted)

    def judge(self, when_ns: int, guess: Guess, found: Fit, information: float) -> bool:
        """Take what a set led to, and say whether it stands.

        Args:
            when_ns: its exposure.
            guess: what `guess` gave for it.
            found: the refined head.
            information: mean trace of the information per vertex and view, 1 / mm^2.

        Returns:
            False for a set that was started from a guess and must be localised after all; then call it again with an
            untrusted guess.
        """
        error = np.inf if guess.fit is None else off_by(guess.fit, found)
        with self._lock:
            sure = information >= SURE
            if guess.trusted and not (sure and error <= 1.0):
                self._counts["lost"] += 1
                self._seen.clear()
                self._steady = False
                return False
            self._counts["tracked" if guess.trusted else "localised"] += 1
            if not sure:
                self._seen.clear()
                self._steady = False
            elif not self._seen or when_ns > self._seen[-1].when_ns:
                self._steady = error <= POOR or (self._steady and guess.fit is None)
                self._seen.append(_Sighting(when_ns, found))
            return True

    def _carried_on(self, when_ns: int) -> Fit | None:
        if not self._seen:
            return None
        last = self._seen[-1]
        ahead_ns = when_ns - last.when_ns
        if not 0 < ahead_ns <= AGE_NS:
            return None
        pose = last.fit.a_from_head
        first = self._seen[0]
        apart_ns = last.when_ns - first.when_ns
        if 0 < apart_ns <= PAIR_NS:
            pose = continued(first.fit.a_from_head, pose, ahead_ns / apart_ns)
        return Fit(pose, last.fit.coefficients)


def continued(first: F64, last: F64, share: float) -> F64:
    """Carry a rigid motion on: `share` times what led from `first` to `last` (4, 4), once more."""
    pose = np.eye(4)
    turn = rotation_matrices(share * rotation_vector(last[:3, :3] @ first[:3, :3].T))
    pose[:3, :3] = turn @ last[:3, :3]
    pose[:3, 3] = last[:3, 3] + share * (last[:3, 3] - first[:3, 3])
    return pose


def off_by(guess: Fit, found: Fit) -> float:
    """How far a guess is from what was found, in units of the limits: the larger of place and turn."""
    place = float(np.linalg.norm(guess.a_from_head[:3, 3] - found.a_from_head[:3, 3]))
    turn = rotation_vector(guess.a_from_head[:3, :3].T @ found.a_from_head[:3, :3])
    return max(place / LIMIT_MM, float(np.linalg.norm(turn)) / LIMIT_RAD)

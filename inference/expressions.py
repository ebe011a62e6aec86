"""ARKit weights of a mesh: a constrained least-squares solve of the expression units. Numpy, pure.

A head is mean + identity + sum of weights times units, moved rigidly. Over the first seconds of a take the identity is
solved together with the weights of all frames, held back by what identities are like; then it stays, and each frame is
one small problem: 0 <= w <= 1, what a rigid motion explains is taken out first. Where mesh and model disagree in ways
that another identity would explain, they count for less: the noise of the solve is that of the mesh plus what is still
unknown of the identity. A face that was held for all of the first seconds (brows always up) counts as identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelError
from streamer.types import F32, F64, I32

MM = 1000.0
KEYS = ("expression_at", "expression_mean", "expression_units", "expression_identity")
MESH_SD_MM = 1.0
"""Deviation of a vertex of a reconstructed mesh from one of this person, along an axis."""
STRENGTH_SD = 0.6
"""Deviation of a weight from zero: holds back units that the mesh does not tell apart."""
SPARSE = 1.5
"""Weight of the sum of weights: few units move at a time."""
CALIBRATION_S = 2.0
"""The identity is solved over this much time from the first mesh on."""
NEXT_PERSON_S = 5.0
"""A gap after which another person may stand there."""
MOST_FRAMES = 64
"""Frames that the identity is solved from: of more, evenly spread ones."""
STEPS, ROUNDS = 120, 6
"""Gradient steps of a frame; turns between identity and weights."""


@dataclass(frozen=True, slots=True)
class ExpressionBasis:
    """What a solve needs of a model: everything at M vertices of the face, millimetres in the head frame."""

    at: I32
    """(M,) vertex indices."""
    mean: F32
    """(M, 3) mean neutral head."""
    units: F32
    """(U, M, 3) offsets at weight 1, in the order of `Topology.units`."""
    identity: F32
    """(M, 3, K) components of neutral heads, mm per standard deviation."""

    def __post_init__(self) -> None:
        """Check that the parts belong together.

        Raises:
            ModelError: they do not.
        """
        count = len(self.at)
        if self.mean.shape != (count, 3) or self.units.shape[1:] != (count, 3) or self.identity.shape[:2] != (count, 3):
            raise ModelError(
                f"expression basis: {count} vertices, but a mean of {self.mean.shape}, units of {self.units.shape} and "
                f"an identity of {self.identity.shape}; train the model again"
            )


def pack_basis(basis: ExpressionBasis) -> dict[str, NDArray[Any]]:
    """The arrays of `constants.npz`; offsets as float16 (error below 0.01 mm)."""
    half = (basis.units.astype(np.float16), basis.identity.astype(np.float16))
    return dict(zip(KEYS, (basis.at, basis.mean, *half), strict=True))


def unpack_basis(constants: Mapping[str, NDArray[Any]]) -> ExpressionBasis | None:
    """Read `constants.npz`; None if the model holds no expression units.

    Raises:
        ModelError: it holds a part of them only.
    """
    missing = [key for key in KEYS if key not in constants]
    if len(missing) == len(KEYS):
        return None
    if missing:
        raise ModelError(f"the model's constants lack {', '.join(missing)}; train or download it again")
    at, mean, units, identity = (constants[key] for key in KEYS)
    return ExpressionBasis(at.astype(np.int32), *(np.asarray(a, np.float32) for a in (mean, units, identity)))


@dataclass(slots=True)
class _Problem:
    """Quadratic problem of one identity: 0 <= w <= 1, minimise w G w / 2 - g(x) w."""

    gram: F64
    """(U, U)."""
    readout: F64
    """(U, 3 M): g of a residual."""
    step: F64
    """(U,) scaled gradient step."""


@dataclass
class ExpressionSolver:
    """Solves the weights of the meshes of one person, in order of time.

    Args:
        basis: of the model.
    """

    basis: ExpressionBasis
    _neutral: F64 = field(init=False, repr=False)
    _seen: list[F64] = field(init=False, repr=False, default_factory=list)
    _times_ns: list[int] = field(init=False, repr=False, default_factory=list)
    _problem: _Problem = field(init=False, repr=False)
    _last_ns: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        """Unfold the basis."""
        count = len(self.basis.at)
        self._units = self.basis.units.reshape(-1, 3 * count).astype(np.float64)
        self._identity = self.basis.identity.reshape(3 * count, -1).astype(np.float64)
        self._begin()

    def _begin(self) -> None:
        """Know nothing of the identity: it is the mean."""
        self._seen, self._times_ns = [], []
        self._neutral = self.basis.mean.reshape(-1).astype(np.float64)
        self._problem = self._prepare(1.0)

    @property
    def calibrated(self) -> bool:
        """Whether the identity is settled."""
        return bool(self._times_ns) and not self._seen

    def __call__(self, vertices_m: NDArray[np.floating], world_from_head: NDArray[np.floating], time_ns: int) -> F32:
        """Solve one mesh.

        Args:
            vertices_m: (N, 3) world, metres.
            world_from_head: (4, 4) rigid, metres.
            time_ns: exposure time; meshes come in order of it. After a gap of NEXT_PERSON_S, or a step back, the
                identity is calibrated anew.

        Returns:
            (U,) in 0..1.
        """
        pose = np.asarray(world_from_head, np.float64)
        picked = np.asarray(vertices_m, np.float64)[self.basis.at]
        local = (((picked - pose[:3, 3]) @ pose[:3, :3]) * MM).reshape(-1)
        if not 0 <= time_ns - (self._last_ns or time_ns) <= NEXT_PERSON_S * 1e9:
            self._begin()
        self._last_ns = time_ns
        if not self.calibrated:
            self._learn(local, time_ns)
        return np.asarray(self._weights(local[None])[0], np.float32)

    def _learn(self, local: F64, time_ns: int) -> None:
        """Take a mesh of the first seconds in; settle the identity when they are over."""
        if self._times_ns and time_ns - self._times_ns[0] > CALIBRATION_S * 1e9:
            self._seen.clear()
            return
        self._times_ns.append(time_ns)
        self._seen.append(local)
        count = len(self._seen)
        if count & (count - 1) and count % 16:  # at the first, second, fourth, ... mesh, then at every sixteenth
            return
        chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_FRAMES)).astype(int))
        self._settle(np.stack([self._seen[k] for k in chosen]))

    def _settle(self, meshes: F64) -> None:
        """Identity of some meshes (F, 3 M), in turns with their weights."""
        mean = self.basis.mean.reshape(-1).astype(np.float64)
        certainty = len(meshes) / MESH_SD_MM**2
        basis = self._identity - self._rigid(mean) @ (self._rigid(mean).T @ self._identity)
        system = basis.T @ basis * certainty + np.eye(basis.shape[1])
        for _ in range(ROUNDS):
            weights = self._weights(meshes)
            rest = (meshes - weights @ self._units).mean(0) - mean
            rest -= self._rigid(mean) @ (self._rigid(mean).T @ rest)
            coefficients = np.linalg.solve(system, basis.T @ rest * certainty)
            self._neutral = mean + self._identity @ coefficients
        # frames of one person err alike, so that even many leave a part of the identity unknown
        self._problem = self._prepare(max(0.15, 1.0 / np.sqrt(len(meshes))))

    def _rigid(self, shape: F64) -> F64:
        """(3 M, 6) orthonormal small rigid motions of a shape."""
        x = shape.reshape(-1, 3)
        x = x - x.mean(0)
        zero = np.zeros(len(x))
        turns = [(zero, -x[:, 2], x[:, 1]), (x[:, 2], zero, -x[:, 0]), (-x[:, 1], x[:, 0], zero)]
        columns = [np.stack(turn, 1).ravel() for turn in turns]
        columns += [np.tile(axis, len(x)) for axis in np.eye(3)]
        return np.asarray(np.linalg.qr(np.stack(columns, 1))[0], np.float64)

    def _prepare(self, unknown: float) -> _Problem:
        """The problem of the present identity, a share `unknown` of whose deviation is not settled."""
        rigid = self._rigid(self._neutral)
        identity = self._identity - rigid @ (rigid.T @ self._identity)
        units = self._units - (self._units @ rigid) @ rigid.T
        identity *= unknown / MESH_SD_MM
        inner = np.linalg.solve(np.eye(identity.shape[1]) + identity.T @ identity, identity.T)
        whitened = (units - (units @ identity) @ inner) / MESH_SD_MM**2
        gram = whitened @ units.T + np.eye(len(units)) / STRENGTH_SD**2
        # Jacobi scaling of |G|: the sum of a row bounds what the others can do
        step = 1.0 / np.abs(gram).sum(1)
        return _Problem(gram, whitened, step)

    def _weights(self, meshes: F64) -> F64:
        """Weights (F, U) of meshes (F, 3 M): accelerated projected gradient (FISTA)."""
        problem = self._problem
        target = (meshes - self._neutral) @ problem.readout.T - SPARSE
        weights = np.zeros_like(target)
        ahead, momentum = weights, 1.0
        for _ in range(STEPS):
            fresh = np.clip(ahead - (ahead @ problem.gram - target) * problem.step, 0.0, 1.0)
            following = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
            ahead = fresh + ((momentum - 1) / following) * (fresh - weights)
            weights, momentum = fresh, following
        return weights

"""A performance as one base mesh, a few shapes, weights over time, and the rigid motion of the skull.

`arkit`: the shapes are what each expression unit did to this head in this take, found by least squares from its meshes
and weights; units that always moved together cannot be told apart. `pca`: principal components, so few as the
tolerance allows (Gram matrix of examples, exact error over all samples). Both leave an error, which is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError
from streamer.exports.job import Job
from streamer.exports.stabilise import Stabiliser
from streamer.exports.weights import missing_weights
from streamer.geometry import transform
from streamer.types import F32, F64

EXAMPLES = 384
"""Samples that principal components are made from; they are held at once (25 MB for 5,500 vertices)."""
RIDGE = 1e-3
"""Sum of squared weights below which a unit's shape is drawn to nothing."""
STILL_M = 1e-5
"""Vertices that a unit moves by less stay out of its shape, metres."""


@dataclass(frozen=True, slots=True)
class Morphs:
    """What morph formats hold. Metres, head frame, Mien's axes."""

    names: tuple[str, ...]
    """(K,) of the shapes."""
    base: F32
    """(N, 3) with all weights 0."""
    deltas: F32
    """(K, N, 3) added at weight 1."""
    weights: F32
    """(S, K) in 0..1."""
    world_from_head: F64
    """(S, 4, 4) rigid motion of the base."""
    error_max_mm: float
    """Largest distance of a vertex from its sample, all samples."""
    error_rms_mm: float
    """Root of the mean squared distance."""

    def vertices(self, number: int) -> F64:
        """Return (N, 3) the mesh of a sample as the shapes give it, world, metres."""
        shape = self.base + np.tensordot(self.weights[number], self.deltas, 1)
        return transform(self.world_from_head[number], shape)


@dataclass(frozen=True, slots=True)
class _Still:
    """A sample without the motion of the skull."""

    frame_id: int
    shape: F64
    pose: F64
    weights: F32 | None


class _Walker:
    """Walks a motion several times, each sample stabilised."""

    def __init__(self, job: Job, walks: int) -> None:
        self._job, self._walks, self._done = job, walks, 0
        self._stabiliser: Stabiliser | None = None
        if job.options.stabilise == "none":
            rows = np.unique(np.linspace(job.motion.timeline.row[0], job.motion.timeline.row[-1], 32).astype(np.int64))
            self._stabiliser = Stabiliser(job.motion.topology, [job.motion.mesh(row).vertices for row in rows.tolist()])

    def __call__(self, every: int = 1) -> Iterator[_Still]:
        walk, self._done = self._done, self._done + 1
        for sample in self._job.samples(walk, self._walks):
            if sample.number % every:
                continue
            shape, pose = np.asarray(sample.vertices, np.float64), np.eye(4)
            if self._stabiliser is not None:
                _, pose = self._stabiliser(sample.vertices)
                shape = (shape - pose[:3, 3]) @ pose[:3, :3]
            yield _Still(sample.frame_id, shape, pose, sample.weights)


def arkit_morphs(job: Job) -> Morphs:
    """Find the shapes of the expression units, in two walks.

    Raises:
        TakeError: a mesh has no weights.
    """
    walk, units = _Walker(job, 2), job.motion.topology.units
    count, size = len(units) + 1, 3 * job.motion.topology.vertex_count
    normal, right = np.zeros((count, count)), np.zeros((count, size))
    for still in walk():
        if still.weights is None:
            raise TakeError(missing_weights(still.frame_id, job.options.channel))
        row = np.concatenate([[1.0], still.weights])
        normal += np.outer(row, row)
        right += np.outer(row, still.shape.ravel())
    ridge = np.full(count, RIDGE)
    ridge[0] = 0.0
    solved = np.linalg.solve(normal + np.diag(ridge), right).reshape(count, -1, 3)
    deltas = solved[1:]
    deltas[np.linalg.norm(deltas, axis=2) < STILL_M] = 0.0
    return _measured(job, walk, units, solved[0].astype(np.float32), deltas.astype(np.float32), pca=False)


def pca_morphs(job: Job) -> Morphs:
    """Find principal components, in two walks."""
    walk = _Walker(job, 2)
    step = -(-len(job.motion) // EXAMPLES)
    examples = np.stack([still.shape.ravel() for still in walk(step)])
    mean = examples.mean(0)
    basis = _components(examples - mean, job.options.components, job.options.tolerance_mm / 1000)
    names = tuple(f"pca_{number:03d}" for number in range(len(basis)))
    return _measured(job, walk, names, mean.reshape(-1, 3).astype(np.float32), basis.astype(np.float32), pca=True)


def _components(centred: F64, most: int, tolerance_m: float) -> F64:
    """Return (K, N, 3) orthonormal components, as few as leave no vertex of the examples further off than allowed."""
    values, vectors = np.linalg.eigh(centred @ centred.T)
    order = np.argsort(values)[::-1]
    usable = [int(i) for i in order[:most] if values[i] > max(values[order[0]] * 1e-14, 1e-18)]
    if not usable:
        return np.zeros((0, centred.shape[1] // 3, 3))
    q, _ = np.linalg.qr((vectors[:, usable].T @ centred).T)
    basis: F64 = np.ascontiguousarray(q.T)
    few, enough = 0, len(basis)  # the error falls with the number: halve until the smallest number is found
    while few < enough:
        middle = (few + enough) // 2
        rest = centred - (centred @ basis[:middle].T) @ basis[:middle]
        few, enough = (few, middle) if _largest(rest) <= tolerance_m else (middle + 1, enough)
    return basis[:enough].reshape(enough, -1, 3)


def _largest(rows: F64) -> float:
    return float(np.sqrt((rows.reshape(len(rows), -1, 3) ** 2).sum(2).max()))


def _measured(job: Job, walk: _Walker, names: tuple[str, ...], base: F32, deltas: F32, *, pca: bool) -> Morphs:
    """Walk once more for poses, weights (projections on a PCA) and the error; bring PCA weights to 0..1."""
    count = len(job.motion)
    weights, poses = np.zeros((count, len(names))), np.zeros((count, 4, 4))
    basis, middle = deltas.reshape(len(names), base.size), base.ravel().astype(np.float64)
    worst, total = 0.0, 0.0
    for number, still in enumerate(walk()):
        poses[number], rest = still.pose, (still.shape.ravel() - middle).astype(np.float32)
        if pca:
            weights[number] = basis @ rest
        elif still.weights is not None:
            weights[number] = still.weights
        off = (rest - weights[number].astype(np.float32) @ basis).reshape(-1, 3)
        squared: NDArray[np.float32] = np.einsum("ij,ij->i", off, off)
        worst, total = max(worst, float(squared.max())), total + float(squared.mean())
    if pca and len(names):
        # Engines clamp weights to 0..1: the base moves to where every weight is smallest, the shapes grow.
        low, span = weights.min(0), np.ptp(weights, axis=0)
        base = (middle + low @ basis.astype(np.float64)).reshape(-1, 3).astype(np.float32)
        deltas = (basis * span[:, None].astype(np.float32)).reshape(deltas.shape).astype(np.float32)
        weights = (weights - low) / np.where(span > 0, span, 1.0)
    return Morphs(
        names, base, deltas, weights.astype(np.float32), poses,
        error_max_mm=1e3 * worst**0.5, error_rms_mm=1e3 * (total / count) ** 0.5,
    )  # fmt: skip

"""The meshes of a take as exports want them, one at a time: stabilised, filtered, resampled, in the target's axes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.errors import TakeError
from streamer.exports.options import ExportOptions
from streamer.exports.presets import Preset
from streamer.exports.stabilise import Stabiliser
from streamer.exports.timeline import Timeline, make_timeline
from streamer.smoothing.one_euro import OneEuro, OneEuroParameters
from streamer.smoothing.zero_phase import reach_s, smooth
from streamer.takes.reader import Take
from streamer.takes.sequences import MeshSequence
from streamer.types import F32, MeshFrame, Topology

Progress = Callable[[int, int], None]
EXAMPLES = 32
"""Meshes that the stabiliser takes the person's mean shape from."""
WARM_UP_S = 1.0
"""Of the recording before the range, that the one-euro filter settles on."""
ZERO_PHASE_HZ = 8.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of an export."""

    number: int
    """From 0."""
    frame: float
    """Frame of the file, from `start_frame` on; whole where the take keeps to its grid."""
    time_s: float
    """`frame` in seconds of the file."""
    frame_id: int
    """Rig frame id of the recorded mesh at or before it."""
    time_ns: int
    """Exposure time, interpolated where the sample is."""
    vertices: F32
    """(N, 3) in the target's axes and unit."""
    world_from_head: F32
    """(4, 4) in Mien's axes, metres; of a stabilised mesh: the pose that was taken out."""
    weights: F32 | None
    """(U,) expression weights, None if the take has none here."""


class Motion:
    """The samples of an export; may be walked several times."""

    def __init__(self, take: Take, options: ExportOptions, preset: Preset, *, regular: bool = False) -> None:
        """Lay out the samples; no mesh is kept.

        Args:
            take: the take.
            options: range, times, filters, channel.
            preset: the axes of the file.
            regular: the format has no times of its own.

        Raises:
            TakeError: there are no meshes, no topology, or not such a range.
        """
        self._take, self._options, self._preset = take, options, preset
        self._meshes: MeshSequence = take.meshes(options.channel)
        if not self._meshes:
            raise TakeError(_no_meshes(take, options.channel))
        self.topology: Topology = _topology(take, self._meshes[0])
        """Of all meshes."""
        self.triangles = self.topology.triangles[:, ::-1] if preset.axes.reverse_winding else self.topology.triangles
        """(T, 3) in the target's order."""
        self.uv_triangles = self.topology.uv_triangles
        """(T, 3) in the target's order; empty without texture coordinates."""
        if preset.axes.reverse_winding:
            self.uv_triangles = self.uv_triangles[:, ::-1]
        if not len(self.topology.uv) or len(self.uv_triangles) != len(self.triangles):
            self.uv_triangles = np.empty((0, 3), np.int32)
        self.timeline: Timeline = make_timeline(
            self._meshes.frame_ids,
            self._meshes.times_ns,
            frames=options.frames,
            fps=options.fps,
            speed=options.speed,
            regular=regular,
        )
        """When each sample stands."""
        self._stabiliser = self._make_stabiliser() if options.stabilise == "rigid" else None
        self._plain = bool(np.array_equal(preset.axes.matrix, np.eye(3)))

    def __len__(self) -> int:
        """Return the number of samples S."""
        return len(self.timeline.times_s)

    def walk(self, on_progress: Progress | None = None, part: tuple[int, int] = (0, 1)) -> Iterator[Sample]:
        """Yield the samples in order.

        Args:
            on_progress: called after each with how many are done and how many there are.
            part: this walk's number and how many there will be, for progress over several walks.

        Raises:
            TakeError: a mesh is damaged or of another topology.
        """
        line, options = self.timeline, self._options
        frames = line.frame_numbers + options.start_frame
        ids, times_ns = self._meshes.frame_ids[line.rows], self._meshes.times_ns[line.rows]
        for number, vector in enumerate(self._at_samples()):
            row, blend = int(line.row[number]), float(line.blend[number])
            later = int(times_ns[row + 1]) if blend else 0
            yield self._sample(
                vector,
                number=number,
                frame=float(frames[number]),
                frame_id=int(ids[row]),
                time_ns=int(times_ns[row]) + (round(blend * (later - int(times_ns[row]))) if blend else 0),
                blended=blend != 0.0,
            )
            if on_progress is not None:
                on_progress(part[0] * len(self) + number + 1, part[1] * len(self))

    def mesh(self, row: int) -> MeshFrame:
        """Read a recorded mesh by its row of the timeline, and check that it belongs.

        Raises:
            TakeError: it is damaged or of another topology.
        """
        mesh, topology = self._meshes[int(self.timeline.rows[row])], self.topology
        if mesh.topology_id != topology.id or len(mesh.vertices) != topology.vertex_count:
            raise TakeError(
                f"{self._take.path}: frame {mesh.frame_id} has topology {mesh.topology_id} with {len(mesh.vertices)} "
                f"vertices, the first mesh {topology.id} with {topology.vertex_count}; one export holds one topology"
            )
        return mesh

    def notes(self) -> list[str]:
        """Return what was done to the timing, for people."""
        line, found = self.timeline, []
        if line.left_out:
            found.append(f"{line.left_out} meshes whose frame id or time does not rise were left out")
        if line.missing and not line.blend.any():
            found.append(f"{line.missing} frames have no mesh; readers interpolate or hold")
        elif line.missing:
            found.append(f"{line.missing} frames have no mesh; they were interpolated")
        return found

    def _at_samples(self) -> Iterator[F32]:
        """Yield the state vector at each sample, from those at the recorded meshes."""
        line = self.timeline
        first, last = int(line.row[0]), int(line.row[-1]) + int(line.blend[-1] > 0)
        recorded = self._filtered(first, last)
        row, here, after = first, next(recorded), next(recorded, None)
        for wanted, blend in zip(line.row.tolist(), line.blend.tolist(), strict=True):
            while row < wanted and after is not None:
                row, here, after = row + 1, after, next(recorded, None)
            yield here if not blend or after is None else here + np.float32(blend) * (after - here)

    def _filtered(self, first: int, last: int) -> Iterator[F32]:
        """Yield the vectors of recorded rows `first` to `last`, filtered with what lies around them."""
        line, options = self.timeline, self._options
        if options.filter == "none":
            yield from (self._vector(row) for row in range(first, last + 1))
            return
        cutoff = options.cutoff_hz or ZERO_PHASE_HZ
        margin = reach_s(cutoff) if options.filter == "zero-phase" else WARM_UP_S
        seconds = line.recorded_s
        low = int(np.searchsorted(seconds, seconds[first] - margin))
        high = int(np.searchsorted(seconds, seconds[last] + margin, side="right"))
        rows = range(low, high if options.filter == "zero-phase" else last + 1)
        stream = ((float(seconds[row]), self._vector(row)) for row in rows)
        smoothed = smooth(stream, cutoff) if options.filter == "zero-phase" else self._one_euro(stream)
        for row, vector in zip(rows, smoothed, strict=True):
            if first <= row <= last:
                yield vector

    def _one_euro(self, stream: Iterable[tuple[float, F32]]) -> Iterator[F32]:
        """Filter the vertices as a live client would; pose and weights pass."""
        default = OneEuroParameters()
        points = OneEuro(OneEuroParameters(self._options.cutoff_hz or default.cutoff_hz, default.beta, default.reset_s))
        size = 3 * self.topology.vertex_count
        for time_s, vector in stream:
            vector[:size] = points(vector[:size].reshape(-1, 3), round(time_s * 1e9)).ravel()
            yield vector

    def _vector(self, row: int) -> F32:
        """Read a mesh as one row of numbers: vertices, pose, weights (NaN where there are none)."""
        mesh = self.mesh(row)
        vertices: NDArray[np.float32] = mesh.vertices
        pose: NDArray[np.floating] = mesh.world_from_head
        if self._stabiliser is not None:
            vertices, pose = self._stabiliser(vertices)
        units = len(self.topology.units)
        weights = mesh.weights if mesh.weights is not None and len(mesh.weights) == units else np.full(units, np.nan)
        return np.concatenate([vertices.ravel(), pose[:3].ravel(), weights]).astype(np.float32)

    def _sample(self, vector: F32, *, number: int, frame: float, frame_id: int, time_ns: int, blended: bool) -> Sample:
        size = 3 * self.topology.vertex_count
        vertices, pose = vector[:size].reshape(-1, 3), np.eye(4, dtype=np.float32)
        pose[:3] = vector[size : size + 12].reshape(3, 4)
        # A copy: a view would keep the whole mesh alive as long as somebody keeps the weights.
        solved: F32 = vector[size + 12 :].copy()
        weights = None if not len(solved) or np.isnan(solved).any() else solved
        if blended or self._options.filter != "none":
            u, _, vt = np.linalg.svd(pose[:3, :3].astype(np.float64))
            pose[:3, :3] = u @ vt
            weights = None if weights is None else np.clip(weights, 0.0, 1.0)
        if not self._plain:
            vertices = (vertices @ self._preset.axes.matrix.T).astype(np.float32)
        time_s = frame / float(self.timeline.rate)
        return Sample(number, frame, time_s, frame_id, time_ns, vertices, pose, weights)

    def _make_stabiliser(self) -> Stabiliser:
        # Of the whole take, whatever the range: two ranges then meet without a seam.
        rows = np.unique(np.linspace(0, len(self.timeline.rows) - 1, EXAMPLES).astype(np.int64))
        return Stabiliser(self.topology, [self.mesh(row).vertices for row in rows.tolist()])


def _no_meshes(take: Take, channel: str) -> str:
    other = [name for name in ("mesh", "truth") if name != channel and len(take.meshes(name))]
    hint = f"; channel '{other[0]}' has some: --channel {other[0]}" if other else "; run: mien reprocess"
    return f"{take.path} holds no meshes on channel '{channel}'{hint}"


def _topology(take: Take, mesh: MeshFrame) -> Topology:
    if mesh.topology_id not in take.topologies:
        raise TakeError(
            f"{take.path}: its meshes are of topology {mesh.topology_id}, which it does not hold; reprocess it"
        )
    return take.topologies[mesh.topology_id]

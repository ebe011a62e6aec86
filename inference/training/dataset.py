"""Training samples from takes: compressed pictures in memory, cut and projected on demand.

A `Corpus` holds many frame sets of many rigs as flat arrays; pictures stay JPEG (10 kB each), so that ten thousand
sets of eight views fit in one gigabyte. Takes of the simulated rig and real takes with a `truth` channel go the same
road.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.tempeh.frames import MM, Views, views_of
from inference.tempeh.seen import seen
from streamer.errors import TakeError
from streamer.geometry import scaled
from streamer.takes import open_take
from streamer.types import F32, F64, U8, Frame, Topology


@dataclass(frozen=True, slots=True)
class Corpus:
    """S frame sets of V views each."""

    topology: Topology
    """Shared by all sets."""
    sizes: NDArray[np.int64]
    """(S, 2) width and height of each set's pictures, px."""
    jpeg: U8
    """All pictures, end to end."""
    offset: NDArray[np.int64]
    """(S V + 1,) where each picture begins."""
    vertices: F32
    """(S, N, 3) true vertices, world, mm."""
    world_from_head: F64
    """(S, 4, 4) true poses, mm."""
    K: F64
    """(S, V, 2, 3)."""
    distortion: F64
    """(S, V, 5)."""
    camera_from_world: F64
    """(S, V, 3, 4), mm."""
    visible: NDArray[np.bool_]
    """(S, V, N) whether a view sees a vertex."""
    weights: F32
    """(S, U) true weights of the expression units; U = 0 if not every truth comes with them."""

    @property
    def sets(self) -> int:
        """Number of frame sets S."""
        return len(self.vertices)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the largest pictures, px."""
        width, height = self.sizes.max(0)
        return int(width), int(height)

    @property
    def views(self) -> int:
        """Views per set V."""
        return int(self.K.shape[1])

    def picture(self, index: int, view: int) -> U8:
        """Decode one picture: (H, W, 3) RGB."""
        k = index * self.views + view
        bgr = cv2.imdecode(self.jpeg[self.offset[k] : self.offset[k + 1]], cv2.IMREAD_COLOR_RGB)
        return np.asarray(bgr, np.uint8)

    def cameras(self, index: int, views: Sequence[int]) -> Views:
        """Some cameras of a set, for points in the world frame, mm."""
        chosen = list(views)
        width, height = self.sizes[index]
        return Views(
            self.K[index, chosen],
            self.distortion[index, chosen],
            self.camera_from_world[index, chosen],
            (int(width), int(height)),
        )

    def digest(self) -> str:
        """Equal for equal pictures and poses."""
        return hashlib.sha256(self.offset.tobytes() + self.world_from_head.tobytes()).hexdigest()[:16]

    def heads(self) -> F32:
        """(S, N, 3) true vertices in their head frames, mm."""
        shifted = self.vertices - self.world_from_head[:, None, :3, 3].astype(np.float32)
        return np.asarray(shifted @ self.world_from_head[:, :3, :3].astype(np.float32), np.float32)

    def split(self, share: float) -> tuple["Corpus", "Corpus"]:
        """Divide into a first part and about the last `share` of the sets; a take, known by its rig, stays whole."""
        cut = self.sets - int(self.sets * share)
        while 0 < cut < self.sets and np.array_equal(self.camera_from_world[cut], self.camera_from_world[cut - 1]):
            cut -= 1
        return self.part(0, cut), self.part(cut, self.sets)

    def part(self, first: int, last: int) -> "Corpus":
        """Sets first..last-1."""
        v = self.views
        begin, end = self.offset[first * v], self.offset[last * v]
        return Corpus(
            topology=self.topology,
            sizes=self.sizes[first:last],
            jpeg=self.jpeg[begin:end],
            offset=self.offset[first * v : last * v + 1] - begin,
            vertices=self.vertices[first:last],
            world_from_head=self.world_from_head[first:last],
            K=self.K[first:last],
            distortion=self.distortion[first:last],
            camera_from_world=self.camera_from_world[first:last],
            visible=self.visible[first:last],
            weights=self.weights[first:last],
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """One frame set on its way into a corpus."""

    jpegs: list[U8]
    vertices: F32
    pose: F64
    views: Views
    visible: NDArray[np.bool_]
    weights: F32 | None


def read_corpus(paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> Corpus:
    """Read takes that carry a `truth` channel.

    Args:
        paths: folders of takes, or folders that hold takes at any depth.
        progress: called with takes done and takes in all.

    Raises:
        TakeError: no take, no truth, or takes of different topology, picture size or number of cameras.
    """
    takes = sorted({file.parent for path in paths for file in Path(path).rglob("take.json")})
    if not takes:
        raise TakeError(
            f"no take under {', '.join(map(str, paths))}; make some with: mien simulate --world wide --out DIR"
        )
    topology: Topology | None = None
    rows: list[_Row] = []
    for done, folder in enumerate(takes):
        found, fresh = _read_take(folder)
        topology = topology or found
        if found.id != topology.id:
            raise TakeError(f"{folder}: its topology differs from that of {takes[0]}; train on one topology at a time")
        rows += fresh
        if progress:
            progress(done + 1, len(takes))
    if topology is None or not rows:
        raise TakeError(f"{takes[0]}: no complete frame set with a true mesh in it")
    counts = {len(row.jpegs) for row in rows}
    if len(counts) > 1:
        found_counts = ", ".join(map(str, sorted(counts)))
        raise TakeError(f"the takes have different numbers of cameras ({found_counts}); train on one kind at a time")
    jpegs = [jpeg for row in rows for jpeg in row.jpegs]
    return Corpus(
        topology=topology,
        sizes=np.array([row.views.size for row in rows], np.int64),
        jpeg=np.concatenate(jpegs),
        offset=np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in jpegs])]),
        vertices=np.stack([row.vertices for row in rows]),
        world_from_head=np.stack([row.pose for row in rows]),
        K=np.stack([row.views.K for row in rows]),
        distortion=np.stack([row.views.distortion for row in rows]),
        camera_from_world=np.stack([row.views.camera_from_a for row in rows]),
        visible=np.stack([row.visible for row in rows]),
        weights=_weights(rows),
    )


def _weights(rows: Sequence[_Row]) -> F32:
    """(S, U) true weights; U = 0 if a row has none."""
    known = [row.weights for row in rows if row.weights is not None]
    return np.stack(known) if len(known) == len(rows) else np.zeros((len(rows), 0), np.float32)


def _read_take(folder: Path) -> tuple[Topology, list[_Row]]:
    """Read the complete frame sets of a take that have a true mesh."""
    take = open_take(folder)
    truths = {mesh.frame_id: mesh for mesh in take.meshes("truth")}
    if not truths:
        raise TakeError(f"{folder}: no truth channel; training needs the true mesh of every set")
    topology = take.topologies[next(iter(truths.values())).topology_id]
    cameras = take.calibration.cameras
    rows = []
    for frame_set in take.frame_sets():
        truth = truths.get(frame_set.frame_id)
        if truth is None or len(frame_set.members) != len(cameras):
            continue
        frames = [frame_set.members[camera.id] for camera in cameras]
        shown = [scaled(camera, frame.width, frame.height) for camera, frame in zip(cameras, frames, strict=True)]
        if len({(frame.width, frame.height) for frame in frames}) > 1:
            raise TakeError(f"{folder}: its cameras have pictures of different sizes; training needs one size")
        pose = truth.world_from_head.astype(np.float64)
        pose[:3, 3] *= MM
        vertices = (truth.vertices * MM).astype(np.float32)
        views = views_of(shown, np.eye(4))
        visible = seen(vertices, topology.triangles, views)
        rows.append(
            _Row([np.array(_as_jpeg(frame)) for frame in frames], vertices, pose, views, visible, truth.weights)
        )
    return topology, rows


def _as_jpeg(frame: Frame) -> U8:
    if frame.encoding == "jpeg":
        return frame.data
    ok, data = cv2.imencode(
        ".jpg", frame.data[..., ::-1] if frame.data.ndim == 3 else frame.data, [cv2.IMWRITE_JPEG_QUALITY, 98]
    )
    if not ok:
        raise TakeError(f"camera {frame.camera}: frame {frame.frame_id} could not be compressed")
    return np.asarray(data, np.uint8)

"""What the networks are shown: batches of thumbnails or head crops with their truths, noisy where the live path is noisy."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.tempeh import frames
from inference.tempeh.frames import Views
from inference.tempeh.layout import THUMB_HEIGHT, THUMB_WIDTH, stage_points, thumb_views
from inference.training.dataset import Corpus, shuffled
from streamer.types import F32, F64, I32

POINTS = 384
"""Supervised surface points per view."""


@dataclass(frozen=True, slots=True)
class PoseNoise:
    """How far the predicted head pose may be off: standard deviations per axis."""

    rotation_rad: float = 0.10
    """About each axis."""
    translation_mm: float = 9.0
    """Along each axis."""

    def draw(self, rng: np.random.Generator) -> F64:
        """A random `head_from_noisy` (4, 4), its strength uniform up to 1.3 times the deviations."""
        strength = rng.uniform(0.0, 1.3)
        noise = np.eye(4)
        noise[:3, :3] = frames.rotation_from_vector(rng.normal(0, self.rotation_rad * strength, 3))
        noise[:3, 3] = rng.normal(0, self.translation_mm * strength, 3)
        return noise


def choose_views(rng: np.random.Generator, views: int, count: int) -> NDArray[np.int64]:
    """A random subset of the views, in rig order."""
    return np.sort(rng.choice(views, min(count, views), replace=False))


def head_sample(
    corpus: Corpus, index: int, chosen: NDArray[np.int64], head_from_noisy: F64, points: F32, controls: I32, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Crops of some views with everything the head networks are trained on.

    Returns:
        `crops` (V, 3, H, W) standardised; `grid` (V, P, 2) and `weight` (V, P) of the volume's voxels; `surface_grid` (V, POINTS, 2),
        `surface_place` (V, 3, POINTS) template coordinates in mm and `surface_weight` (V, POINTS); `controls` (M, 3) in the noisy
        head frame, mm.
    """
    noisy_pose = corpus.world_from_head[index] @ head_from_noisy
    world = corpus.cameras(index, chosen.tolist())
    in_noisy = frames.moved(world, noisy_pose)
    affine = frames.crop_affines(in_noisy)
    crops = np.stack([frames.cut(corpus.picture(index, int(v)), a) for v, a in zip(chosen, affine, strict=True)])
    views = frames.cropped(in_noisy, affine)
    grid, weight = frames.sampling_grid(frames.project_all(views, points), views.size)
    vertices = (corpus.vertices[index] - noisy_pose[:3, 3].astype(np.float32)) @ noisy_pose[:3, :3].astype(np.float32)
    surface = _surface(corpus, index, chosen, views, vertices, rng)
    return {
        "crops": frames.standardise(crops),
        "grid": grid,
        "weight": weight,
        "controls": vertices[controls],
        **surface,
    }


def _surface(
    corpus: Corpus, index: int, chosen: NDArray[np.int64], views: Views, vertices: F32, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    picked = np.zeros((len(chosen), POINTS), np.int64)
    weight = np.zeros((len(chosen), POINTS), np.float32)
    for row, view in enumerate(chosen):
        candidates = np.flatnonzero(corpus.visible[index, view])
        if len(candidates):
            picked[row] = rng.choice(candidates, POINTS)
            weight[row] = 1.0
    pixels = frames.project_all(views, vertices)
    grid, inside = frames.sampling_grid(np.take_along_axis(pixels, picked[..., None], 1), views.size)
    place = (corpus.topology.template * np.float32(frames.MM))[picked].transpose(0, 2, 1)
    return {"surface_grid": grid, "surface_place": np.ascontiguousarray(place), "surface_weight": weight * inside}


def stage_sample(corpus: Corpus, index: int, chosen: NDArray[np.int64], landmarks: I32, rig_from_true: F64) -> dict[str, NDArray[np.float32]]:
    """Thumbnails of some views with the landmarks in the rig frame.

    Args:
        corpus: the sets.
        index: the set.
        chosen: the views.
        landmarks: vertex indices.
        rig_from_true: (4, 4) mm, a random motion of the stage that makes the network independent of the rig's exact frame.

    Returns:
        `thumbs` (V, 3, h, w), `grid` (V, P, 2), `weight` (V, P), `landmarks` (L, 3) mm.
    """
    world = corpus.cameras(index, chosen.tolist())
    world_from_rig = rig_frame_of(corpus.cameras(index, range(corpus.views))) @ np.linalg.inv(rig_from_true)
    views = thumb_views(frames.moved(world, world_from_rig))
    size = (THUMB_WIDTH, THUMB_HEIGHT)
    thumbs = np.stack([cv2.resize(corpus.picture(index, int(v)), size, interpolation=cv2.INTER_AREA) for v in chosen])
    grid, weight = frames.sampling_grid(frames.project_all(views, stage_points()), size)
    rig_from_world = np.linalg.inv(world_from_rig)
    truth = corpus.vertices[index][landmarks] @ rig_from_world[:3, :3].T + rig_from_world[:3, 3]
    return {"thumbs": frames.standardise(thumbs), "grid": grid, "weight": weight, "landmarks": truth.astype(np.float32)}


def rig_frame_of(views: Views) -> F64:
    """`frames.rig_frame` for cameras that are already arrays in the world frame, mm."""
    rotation, shift = views.camera_from_a[:, :, :3], views.camera_from_a[:, :, 3]
    return frames.frame_of_axes(-np.einsum("vij,vi->vj", rotation, shift), rotation)


class Batches:
    """Batches made ahead by threads, in an order that depends on the seed alone for one thread.

    Args:
        make: makes sample number k (set index, random generator) as a dictionary of arrays.
        count: number of sets.
        batch: samples per batch.
        seed: of order and noise.
        threads: workers; the arrays of each batch are stacked in the worker.
    """

    def __init__(
        self, make: Callable[[int, np.random.Generator], dict[str, NDArray[np.float32]]], count: int, batch: int, seed: int, threads: int = 1
    ) -> None:
        """Start the threads."""
        self._queue: queue.Queue[dict[str, NDArray[np.float32]] | BaseException] = queue.Queue(4)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(make, count, batch, np.random.default_rng([seed, k])), daemon=True)
            for k in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _work(
        self,
        make: Callable[[int, np.random.Generator], dict[str, NDArray[np.float32]]],
        count: int,
        batch: int,
        rng: np.random.Generator,
    ) -> None:
        order = shuffled(count, rng)
        item: dict[str, NDArray[np.float32]] | BaseException
        while not self._stop.is_set():
            try:
                rows = [make(next(order), rng) for _ in range(batch)]
                item = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
                item = error
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield batches for ever."""
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

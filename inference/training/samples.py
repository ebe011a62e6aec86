"""What the networks are shown: thumbnails or head crops with their truths, noisy where the live path is noisy."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.tempeh import frames, thumbs
from inference.tempeh.frames import CROP_HEIGHT, CROP_WIDTH, LARGE_CROP, Views
from inference.tempeh.layout import THUMB_SPAN_MM, stage_points, template_mm
from inference.training.dataset import Corpus
from streamer.geometry import rotation_matrices, transform
from streamer.types import F32, F64, I32, U8

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
        noise[:3, :3] = rotation_matrices(rng.normal(0, self.rotation_rad * strength, 3))
        noise[:3, 3] = rng.normal(0, self.translation_mm * strength, 3)
        return noise


def choose_views(rng: np.random.Generator, views: int, count: int) -> NDArray[np.int64]:
    """A random subset of the views, in rig order."""
    return np.sort(rng.choice(views, min(count, views), replace=False))


def head_sample(
    corpus: Corpus,
    index: int,
    chosen: NDArray[np.int64],
    head_from_noisy: F64,
    points: F32,
    controls: I32,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float32]]:
    """Crops of some views with everything the head networks are trained on.

    Returns:
        `crops` (V, 3, H, W) standardised; `grid` (V, P, 2) and `weight` (V, P) of the volume's voxels; `surface_grid`
        (V, POINTS, 2), `surface_place` (V, 3, POINTS) template coordinates in mm and `surface_weight` (V, POINTS);
        `controls` (M, 3) in the noisy head frame, mm.
    """
    crops, views, vertices = _crops(corpus, index, chosen, head_from_noisy, (CROP_WIDTH, CROP_HEIGHT))
    grid, weight = frames.sampling_grid(frames.project_all(views, points), views.size)
    surface = _surface(corpus, index, chosen, views, vertices, rng)
    return {
        "crops": frames.standardise(crops),
        "grid": grid,
        "weight": weight,
        "controls": vertices[controls],
        **surface,
    }


def detail_sample(
    corpus: Corpus, index: int, chosen: NDArray[np.int64], head_from_noisy: F64, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Large crops of some views, their colours changed, with what their correspondence maps are trained on.

    Returns:
        `crops`, `surface_grid`, `surface_place` and `surface_weight` as of `head_sample`, twice as large and with
        twice the points.
    """
    crops, views, vertices = _crops(corpus, index, chosen, head_from_noisy, LARGE_CROP)
    surface = _surface(corpus, index, chosen, views, vertices, rng, 2 * POINTS)
    shown = np.stack([recoloured(crop, rng) for crop in crops])
    return {"crops": frames.standardise(shown), **surface}


def recoloured(crop: U8, rng: np.random.Generator) -> U8:
    """Change the light on a crop (H, W, 3): white balance, gamma, a shade across it, now and then no colour."""
    gain = rng.uniform(0.85, 1.15, 3)
    curve = 255 * (np.arange(256)[:, None] / 255) ** rng.uniform(0.75, 1.35) * gain
    changed = cv2.LUT(crop, np.clip(curve, 0, 255).astype(np.uint8)[:, None])
    if rng.random() < 0.3:
        shade = cv2.resize(rng.uniform(0.6, 1.25, (2, 2)).astype(np.float32), (crop.shape[1], crop.shape[0]))
        changed = np.clip(changed * shade[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.1:
        changed = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(changed, np.uint8)


def _crops(
    corpus: Corpus, index: int, chosen: NDArray[np.int64], head_from_noisy: F64, size: tuple[int, int]
) -> tuple[U8, Views, F32]:
    """Crops (V, height, width, 3) around a noisy pose, their cameras and the vertices (mm), both in the noisy frame."""
    noisy_pose = corpus.world_from_head[index] @ head_from_noisy
    in_noisy = frames.moved(corpus.cameras(index, chosen.tolist()), noisy_pose)
    affine = frames.crop_affines(in_noisy, size)
    crops = np.stack([frames.cut(corpus.picture(index, int(v)), a, size) for v, a in zip(chosen, affine, strict=True)])
    vertices = (corpus.vertices[index] - noisy_pose[:3, 3].astype(np.float32)) @ noisy_pose[:3, :3].astype(np.float32)
    return crops, frames.cropped(in_noisy, affine, size), vertices


def _surface(
    corpus: Corpus,
    index: int,
    chosen: NDArray[np.int64],
    views: Views,
    vertices: F32,
    rng: np.random.Generator,
    points: int = POINTS,
) -> dict[str, NDArray[np.float32]]:
    picked = np.zeros((len(chosen), points), np.int64)
    weight = np.zeros((len(chosen), points), np.float32)
    for row, view in enumerate(chosen):
        candidates = np.flatnonzero(corpus.visible[index, view])
        if len(candidates):
            picked[row] = rng.choice(candidates, points)
            weight[row] = 1.0
    pixels = frames.project_all(views, vertices)
    grid, inside = frames.sampling_grid(np.take_along_axis(pixels, picked[..., None], 1), views.size)
    place = template_mm(corpus.topology)[picked].transpose(0, 2, 1)
    return {"surface_grid": grid, "surface_place": np.ascontiguousarray(place), "surface_weight": weight * inside}


def stage_sample(
    corpus: Corpus,
    index: int,
    chosen: NDArray[np.int64],
    landmarks: I32,
    rig_from_true: F64,
    second_look: NDArray[np.floating] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Thumbnails of some views with the landmarks in the rig frame.

    Args:
        corpus: the sets.
        index: the set.
        chosen: the views.
        landmarks: vertex indices.
        rig_from_true: (4, 4) mm, a random motion that makes the network independent of the rig's exact frame.
        second_look: (3,) mm by which the first look missed the head; None: this is the first look, at whole pictures.

    Returns:
        `thumbs` (V, 3, h, w), `grid` (V, P, 2), `weight` (V, P), `landmarks` (L, 3) mm from the volume's centre.
    """
    world = corpus.cameras(index, chosen.tolist())
    world_from_rig = rig_frame_of(corpus.cameras(index, range(corpus.views))) @ np.linalg.inv(rig_from_true)
    in_rig = frames.moved(world, world_from_rig)
    rig_from_world = np.linalg.inv(world_from_rig)
    centre, windows = np.zeros(3), thumbs.whole(in_rig)
    if second_look is not None:
        centre = (rig_from_world @ corpus.world_from_head[index])[:3, 3] + second_look
        windows = thumbs.around(in_rig, centre, THUMB_SPAN_MM)
    views = thumbs.thumb_views(in_rig, windows)
    rows = zip(chosen.tolist(), windows, strict=True)
    small = np.stack([thumbs.shrink(corpus.picture(index, view), window) for view, window in rows])
    points = stage_points() + centre.astype(np.float32)
    grid, weight = frames.sampling_grid(frames.project_all(views, points), views.size)
    truth = transform(rig_from_world, corpus.vertices[index][landmarks]) - centre
    return {
        "thumbs": frames.standardise(small),
        "grid": grid,
        "weight": weight,
        "landmarks": truth.astype(np.float32),
    }


def rig_frame_of(views: Views) -> F64:
    """`frames.rig_frame` for cameras that are already arrays in the world frame, mm."""
    rotation, shift = views.camera_from_a[:, :, :3], views.camera_from_a[:, :, 3]
    return frames.frame_of_axes(-np.einsum("vij,vi->vj", rotation, shift), rotation)


Sample = dict[str, NDArray[np.float32]]


class Batches:
    """Batches made ahead by threads. Batch k is a function of seed and k alone, whatever the number of threads.

    Args:
        make: makes the sample of a set from its index and a random generator.
        count: number of sets.
        batch: samples per batch.
        seed: of order and noise.
        first: number of the first batch.
        threads: workers.
        share: number of this process and of all that share every batch; this one makes its part of it.
    """

    def __init__(
        self,
        make: Callable[[int, np.random.Generator], Sample],
        *,
        count: int,
        batch: int,
        seed: int,
        first: int = 0,
        threads: int = 1,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Start making the first batches."""
        self._share = share
        self._make, self._count, self._batch, self._seed, self._next = make, count, batch, seed, first
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="samples")
        self._ahead: deque[Future[Sample]] = deque()
        for _ in range(threads + 2):
            self._submit()

    def _submit(self) -> None:
        self._ahead.append(self._pool.submit(self._batch_of, self._next))
        self._next += 1

    def _batch_of(self, number: int) -> Sample:
        rows = []
        rank, ranks = self._share
        for k in range(number * self._batch + rank, (number + 1) * self._batch, ranks):
            index = int(_order(self._seed, k // self._count, self._count)[k % self._count])
            rows.append(self._make(index, np.random.default_rng([self._seed, k])))
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def __iter__(self) -> Iterator[Sample]:
        """Yield batches for ever, in order."""
        while True:
            item = self._ahead.popleft().result()
            self._submit()
            yield item

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


@lru_cache(4)
def _order(seed: int, round_: int, count: int) -> NDArray[np.int64]:
    """The order of the sets in a round: every set once."""
    return np.random.default_rng([seed, round_, 0x0DE5]).permutation(count)

"""Learning of both published stages from raw scans, with the paper's augmentations. Lengths in millimetres."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.pictures import normalised
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.sizes import PublishedSizes
from inference.tempeh.published.visibility import visibility
from inference.tempeh.published.volumes import ViewTensors
from inference.tempeh.published.weights import initial_coarse, initial_refine
from inference.training.losses import COARSE, PRETRAIN, REFINE, LossWeights, Terms
from inference.training.scan_corpus import NetworkView, ScanCorpus, ScanSet, ViewSource, sample_surface
from inference.training.tasks import Batch
from streamer.errors import TakeError
from streamer.geometry import rotations_of
from streamer.types import F32

Sample = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """How samples are made."""

    sizes: PublishedSizes
    """Of the networks."""
    coarse_size: tuple[int, int] = (200, 150)
    """Width and height of the coarse stage's pictures, px."""
    refine_size: tuple[int, int] = (400, 300)
    """Width and height of the refinement's pictures, px."""
    min_views: int = 8
    """A sample shows between so many views and all."""
    scan_points: int = 15_000
    """Points of the scan per sample."""
    refined: int = 5023
    """Vertices refined per step, drawn at random; all if there are fewer."""
    brightness: float = 0.33
    """Standard deviation of the factor on each colour of a picture."""
    zoom: float = 0.1
    """Pictures are scaled by up to this share."""
    turn: bool = True
    """Whether grids are turned at random."""
    pretrain: float = 0.375
    """Share of the coarse training that learns from vertices alone."""
    seed: int = 1
    """Of the initial weights."""


def random_turns(rng: np.random.Generator, count: int) -> F32:
    """(count, 3, 3) rotations, uniform over all (from unit quaternions)."""
    return rotations_of(rng.normal(size=(count, 4))).astype(np.float32)


def augmented(view: NetworkView, rng: np.random.Generator, settings: ScanSettings) -> tuple[F32, NDArray[np.float64]]:
    """A picture in 0..1, scaled about its corner and with other gains, and its K."""
    picture, K = np.asarray(view.picture / np.float32(255), np.float32), view.K
    if settings.zoom:
        factor = rng.uniform(1 - settings.zoom, 1 + settings.zoom)
        height, width = picture.shape[:2]
        # pixel centres at integers: the corner of the picture stays where it is
        affine = np.array([[factor, 0, 0.5 * factor - 0.5], [0, factor, 0.5 * factor - 0.5]])
        picture = np.asarray(cv2.warpAffine(picture, affine, (width, height), flags=cv2.INTER_LINEAR), np.float32)
        K = np.concatenate([affine, [[0, 0, 1]]]) @ K
    if settings.brightness:
        gain = 1 + settings.brightness * rng.normal(size=3).astype(np.float32)
        picture = np.asarray(np.clip(picture * gain, 0, 1), np.float32)
    return picture, K


def chosen_views(entry: ScanSet, rng: np.random.Generator, least: int) -> list[ViewSource]:
    """Between `least` and all views, shuffled."""
    order = rng.permutation(len(entry.views))
    count = int(rng.integers(min(least, len(order)), len(order) + 1))
    return [entry.views[k] for k in order[: max(2, count)]]


def view_arrays(
    views: list[ViewSource],
    slots: int,
    size: tuple[int, int],
    draw: Callable[[NetworkView], tuple[F32, NDArray[np.float64]]],
) -> Sample:
    """Pictures and cameras in the first of `slots` rows; `views` tells how many."""
    width, height = size
    out = {
        "images": np.zeros((slots, 3, height, width), np.float32),
        "K": np.tile(np.eye(3, dtype=np.float32), (slots, 1, 1)),
        "distortion": np.zeros((slots, 2), np.float32),
        "camera_from_world": np.zeros((slots, 3, 4), np.float32),
        "views": np.array(len(views), np.float32),
    }
    for row, source in enumerate(views):
        found = source.view(size)
        picture, K = draw(found)
        out["images"][row], out["K"][row] = normalised(picture), K
        out["distortion"][row], out["camera_from_world"][row] = found.distortion, found.camera_from_world
    return out


def require_registrations(corpus: ScanCorpus) -> None:
    """Refuse scans that nothing tells the correspondence of.

    Raises:
        TakeError: there are such.
    """
    lacking = [entry.name for entry in corpus.entries if entry.registration is None]
    if lacking:
        raise TakeError(
            f"{len(lacking)} of {corpus.sets} scans have no registration ({lacking[0]}, ...); the training begins with "
            "vertices; make registrations with: mien register"
        )


def _registration(entry: ScanSet) -> F32:
    if entry.registration is None:
        raise TakeError(f"{entry.name}: has no registration; make one with: mien register")
    return entry.registration()


def _one(batch: Batch, row: int) -> tuple[Tensor, ViewTensors]:
    """Pictures and cameras of one set of a batch, without empty slots."""
    count = int(batch["views"][row])
    cameras = [batch[name][row : row + 1, :count] for name in ("K", "distortion", "camera_from_world")]
    return batch["images"][row : row + 1, :count], ViewTensors(*cameras)


def _mean(losses: list[Tensor], figures: list[dict[str, float]]) -> tuple[Tensor, dict[str, float]]:
    names = figures[0]
    return torch.stack(losses).mean(), {name: float(np.mean([each[name] for each in figures])) for name in names}


class CoarseScanTask:
    """The coarse stage: vertices first, then raw surface, edges and eyeballs."""

    name = "coarse"

    def __init__(self, corpus: ScanCorpus, settings: ScanSettings, weights: LossWeights = COARSE) -> None:
        """Make the stage with its initial weights."""
        require_registrations(corpus)
        self.corpus, self.settings = corpus, settings
        self.model: CoarseStage = initial_coarse(settings.sizes, seed=settings.seed, quirks=False)
        self.first, self.then = Terms(corpus.topology, PRETRAIN), Terms(corpus.topology, weights)
        self.slots = max(len(entry.views) for entry in corpus.entries)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Some views of a scan, points of it, its registration and a turn of the grid."""
        entry, settings = self.corpus.entries[index], self.settings
        views = chosen_views(entry, rng, settings.min_views)
        arrays = view_arrays(views, self.slots, settings.coarse_size, lambda view: augmented(view, rng, settings))
        return arrays | {
            "scan": sample_surface(entry.scan(), settings.scan_points, rng),
            "registration": _registration(entry),
            "turn": random_turns(rng, 1)[0] if settings.turn else np.eye(3, dtype=np.float32),
        }

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Mean over the sets of the batch."""
        terms = self.first if progress < self.settings.pretrain else self.then
        losses, figures = [], []
        images, views = zip(*(_one(batch, row) for row in range(len(batch["views"]))), strict=True)
        vertices = self.model.together(images, views, batch["turn"]).vertices
        for row, found in enumerate(vertices):
            loss, told = terms(found, batch["registration"][row], batch["scan"][row])
            losses.append(loss)
            figures.append(told)
        return _mean(losses, figures)


@dataclass
class RefineScanTask:
    """The refinement stage, on the meshes of a coarse stage that no longer learns."""

    corpus: ScanCorpus
    settings: ScanSettings
    meshes: F32
    """(S, N, 3) coarse meshes."""
    weights: LossWeights = REFINE
    name: str = field(default="refine", init=False)

    def __post_init__(self) -> None:
        """Make the stage with its initial weights."""
        require_registrations(self.corpus)
        topology = self.corpus.topology
        template = np.asarray(topology.template * np.float32(1000))
        self.model: RefineStage = initial_refine(
            self.settings.sizes, template, topology.triangles, seed=self.settings.seed + 1, quirks=False
        )
        self.terms = Terms(topology, self.weights)
        self.slots = max(len(entry.views) for entry in self.corpus.entries)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Some views, what they see of the coarse mesh, the vertices to refine and turns of their grids."""
        entry, settings = self.corpus.entries[index], self.settings
        views = chosen_views(entry, rng, settings.min_views)
        arrays = view_arrays(views, self.slots, settings.refine_size, lambda view: augmented(view, rng, settings))
        mesh, triangles = self.meshes[index], self.corpus.topology.triangles
        seen = np.zeros((self.slots, len(mesh)), np.float32)
        count = len(views)
        seen[:count] = visibility(mesh, triangles, arrays["K"][:count], arrays["camera_from_world"][:count])
        refined = min(settings.refined, len(mesh))
        chosen = np.sort(rng.choice(len(mesh), refined, replace=False))
        turns = random_turns(rng, refined) if settings.turn else np.tile(np.eye(3, dtype=np.float32), (refined, 1, 1))
        return arrays | {
            "scan": sample_surface(entry.scan(), settings.scan_points, rng),
            "registration": _registration(entry),
            "coarse": mesh,
            "visibility": seen,
            "chosen": chosen.astype(np.float32),
            "turns": turns,
        }

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Mean over the sets of the batch; vertices that are not refined stay at the coarse mesh."""
        losses, figures = [], []
        for row in range(len(batch["views"])):
            images, views = _one(batch, row)
            coarse, chosen = batch["coarse"][row : row + 1], batch["chosen"][row].long()
            seen = batch["visibility"][row : row + 1, : images.shape[1]]
            refined = self.model(images, views, coarse, seen, chosen, batch["turns"][row : row + 1])[0]
            found = coarse[0].index_copy(0, chosen, refined)
            loss, told = self.terms(found, batch["registration"][row], batch["scan"][row], chosen)
            losses.append(loss)
            figures.append(told)
        return _mean(losses, figures)


def predict_coarse(
    stage: CoarseStage, corpus: ScanCorpus, size: tuple[int, int], progress: Callable[[int, int], None] | None = None
) -> F32:
    """Coarse meshes (S, N, 3) of all instants, all views, nothing augmented."""
    device, meshes = stage.centre.device, []
    stage.eval()
    for done, entry in enumerate(corpus.entries):
        arrays = view_arrays(list(entry.views), len(entry.views), size, _plain)
        batch = {name: torch.from_numpy(value)[None].to(device) for name, value in arrays.items()}
        with torch.inference_mode():
            meshes.append(stage(*_one(batch, 0)).vertices[0].cpu().numpy())
        if progress:
            progress(done + 1, corpus.sets)
    return np.stack(meshes)


def predict_refined(
    stage: RefineStage,
    corpus: ScanCorpus,
    meshes: F32,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None = None,
) -> F32:
    """Refined meshes (S, N, 3) of all instants, from their coarse ones."""
    device, refined = stage.grid.device, []
    stage.eval()
    for done, (entry, mesh) in enumerate(zip(corpus.entries, meshes, strict=True)):
        arrays = view_arrays(list(entry.views), len(entry.views), size, _plain)
        seen = visibility(mesh, corpus.topology.triangles, arrays["K"], arrays["camera_from_world"])
        batch = {name: torch.from_numpy(value)[None].to(device) for name, value in arrays.items()}
        with torch.inference_mode():
            start, sees = (
                torch.from_numpy(mesh.copy())[None].to(device),
                torch.from_numpy(seen)[None].float().to(device),
            )
            refined.append(stage(*_one(batch, 0), start, sees)[0].cpu().numpy())
        if progress:
            progress(done + 1, corpus.sets)
    return np.stack(refined)


def _plain(view: NetworkView) -> tuple[F32, NDArray[np.float64]]:
    return view.picture.astype(np.float32) / np.float32(255), view.K

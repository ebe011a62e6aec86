"""What is learned: the localiser from thumbnails, and features + coarse head from head crops. One task, one loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.tempeh.coarse import CoarseHead
from inference.tempeh.detail import DetailNet
from inference.tempeh.features import FeatureNet, split_map
from inference.tempeh.layout import DETAIL_SCALE_MM, SCALE_MM
from inference.tempeh.localiser import Localiser
from inference.tempeh.volume import sample
from inference.training.dataset import Corpus
from inference.training.samples import PoseNoise, choose_views, detail_sample, head_sample, stage_sample
from streamer.geometry import rotation_matrices
from streamer.types import F32, I32

Batch = Mapping[str, Tensor]

SECOND_LOOK_MM = 30.0
"""By how much a first look misses the head, along each axis."""


class Learnable(Protocol):
    """What a task learns from."""

    @property
    def sets(self) -> int:
        """Number of sets."""

    def digest(self) -> str:
        """Equal for equal content: a checkpoint is continued on what it was made from."""


class Task(Protocol):
    """One network with its samples and its loss."""

    @property
    def name(self) -> str:
        """Stem of its files."""

    @property
    def corpus(self) -> Learnable:
        """What it learns from."""

    @property
    def model(self) -> nn.Module:
        """The network."""

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """Make the sample of set `index`."""

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss and figures to report (mm); `progress` runs from 0 to 1."""


class LocaliserTask:
    """Landmarks in the rig frame; loss is their mean distance, robust to the odd lost head."""

    name = "localiser"

    def __init__(self, corpus: Corpus, landmarks: I32) -> None:
        """Learn these vertices of the topology."""
        self.corpus, self.landmarks = corpus, landmarks
        self.model = Localiser()

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """Four random views of the stage moved at random; in half of the samples as a second look."""
        chosen = choose_views(rng, self.corpus.views, 4)
        motion = np.eye(4)
        motion[:3, :3] = rotation_matrices(rng.normal(0, 1, 3) * np.radians([8.0, 25.0, 8.0]))
        second = rng.normal(0, SECOND_LOOK_MM * rng.uniform(0, 1.5), 3) if rng.random() < 0.5 else None
        if second is None:
            motion[:3, 3] = rng.normal(0, 50.0, 3).clip(-90, 90)
        return stage_sample(self.corpus, index, chosen, self.landmarks, motion, second)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Mean landmark distance / 25 mm, plus the spread of the errors inside a head (its shape and turn)."""
        found = self.model(batch["thumbs"], batch["grid"], batch["weight"])
        error = found - batch["landmarks"]
        distance = error.norm(dim=-1).mean()
        relative = (error - error.mean(1, keepdim=True)).norm(dim=-1).mean()
        return (distance + relative) / 25.0, {"landmark_mm": distance.item(), "relative_mm": relative.item()}


def map_loss(maps: Tensor, batch: Batch, scale_mm: tuple[float, float]) -> tuple[Tensor, dict[str, float]]:
    """Laplace likelihood of a correspondence map at surface points.

    Args:
        maps: (B V, 4 or more, h, w) float32, the correspondence map first.
        batch: `surface_grid` (B, V, P, 2), `surface_place` (B, V, 3, P) and `surface_weight` (B, V, P).
        scale_mm: range of the Laplace scale.

    Returns:
        The loss; `map_mm`, mean error of a coordinate, and `half_mm`, its median.
    """
    place, spread = split_map(sample(maps, batch["surface_grid"].flatten(0, 1)), scale_mm)
    error = (place - batch["surface_place"].flatten(0, 1)).abs().sum(1)
    weight = batch["surface_weight"].flatten(0, 1)
    likelihood = error / (3 * spread) + torch.log(spread)
    total = weight.sum().clamp(min=1.0)
    seen = (error.detach() / 3)[weight > 0]
    middle = seen.median().item() if seen.numel() else 0.0
    figures = {"map_mm": ((error / 3) * weight).sum().item() / total.item(), "half_mm": middle}
    return (likelihood * weight).sum() / total, figures


class HeadNet(nn.Module):
    """Features and coarse head together, as they are trained."""

    def __init__(self, points_mm: F32, controls_mm: F32) -> None:
        """Make both nets."""
        super().__init__()
        self.features = FeatureNet()
        self.coarse = CoarseHead(points_mm, controls_mm)


@dataclass
class HeadTask:
    """Correspondence map by a Laplace likelihood; later also the control vertices by their distance."""

    corpus: Corpus
    points: F32
    controls: I32
    views: int = 4
    noise: PoseNoise = field(default_factory=PoseNoise)
    map_only: float = 0.7
    """Share of the training in which only the map is learned."""
    name: str = "head"

    def __post_init__(self) -> None:
        """Make the model with the controls' mean places from the corpus."""
        self.controls_mm = self.corpus.heads()[:, self.controls].mean(0)
        self.model = HeadNet(self.points, self.controls_mm)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """Some random views cut around a noisy head pose."""
        chosen = choose_views(rng, self.corpus.views, self.views)
        return head_sample(self.corpus, index, chosen, self.noise.draw(rng), self.points, self.controls, rng)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Map likelihood + control distance."""
        crops = batch["crops"]
        features = self.model.features(crops.flatten(0, 1)).float()
        loss, figures = map_loss(features, batch, SCALE_MM)
        if progress >= self.map_only:
            # the features serve the map alone: where the controls could shape them too, the map got 8 % worse
            maps = features.detach().unflatten(0, crops.shape[:2])
            found = self.model.coarse(maps, batch["grid"], batch["weight"])
            distance = (found - batch["controls"]).norm(dim=-1).mean()
            loss = loss + 0.2 * distance
            figures["control_mm"] = distance.item()
        return loss, figures


@dataclass
class DetailTask:
    """The second stage's correspondence map, from large crops around a pose that the first stage found."""

    corpus: Corpus
    views: int = 4
    noise: PoseNoise = field(default_factory=lambda: PoseNoise(0.02, 2.5))
    name: str = "detail"

    def __post_init__(self) -> None:
        """Make the model."""
        self.model = DetailNet()

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """Some random views cut around a nearly true head pose."""
        chosen = choose_views(rng, self.corpus.views, self.views)
        return detail_sample(self.corpus, index, chosen, self.noise.draw(rng), rng)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Map likelihood."""
        maps = self.model(batch["crops"].flatten(0, 1)).float()
        return map_loss(maps, batch, DETAIL_SCALE_MM)

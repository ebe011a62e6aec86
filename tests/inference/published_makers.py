"""Small published networks with hard weights, a bumpy mesh of their vertex count, and cameras around it."""

import numpy as np
import torch
from torch import Tensor

from inference.tempeh.published.coarse import CoarseStage
from inference.tempeh.published.keys import official_name
from inference.tempeh.published.refine import RefineStage
from inference.tempeh.published.sizes import SMALL
from inference.tempeh.published.volumes import ViewTensors
from inference.tempeh.published.weights import initial_coarse, initial_refine, stir
from streamer.geometry import look_at

CENTRE = np.array([0.0, -50.0, 0.0])


def bumpy_head(vertices: int = SMALL.vertices, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) mm and (T, 3): a closed head-sized mesh of rings of eight and two poles."""
    assert vertices % 8 == 0
    rings = vertices // 8
    polar = np.linspace(0.15, np.pi - 0.15, rings)[:, None]
    turn = np.arange(8) * np.pi / 4 + 0.1
    ring = [np.sin(polar) * np.cos(turn), np.cos(polar) * np.ones(8), np.sin(polar) * np.sin(turn)]
    points = np.stack(ring, -1).reshape(-1, 3) * [80.0, 120.0, 100.0]
    points += np.random.default_rng(seed).normal(0, 4, points.shape)
    i, j = (a.ravel() for a in np.meshgrid(np.arange(rings - 1), np.arange(8), indexing="ij"))
    a, b = i * 8 + j, i * 8 + (j + 1) % 8
    faces = np.concatenate([np.stack([a, b, b + 8], -1), np.stack([a, b + 8, a + 8], -1)])
    return points.astype(np.float32), faces.astype(np.int32)


def rig(views: int, size: tuple[int, int], seed: int = 0) -> dict[str, np.ndarray]:
    """`K`, `distortion`, `camera_from_world` (mm, float32) of cameras on an arc of 270 degrees, 1 m away."""
    rng = np.random.default_rng(seed)
    width, height = size
    extrinsics = []
    for k in range(views):
        angle = np.radians(270) * (k / max(1, views - 1) - 0.5)
        place = np.array([np.sin(angle), rng.uniform(-0.3, 0.3), np.cos(angle)])
        camera = look_at(place + CENTRE / 1000, CENTRE / 1000, rng.normal(0, 0.1))[:3]
        camera[:, 3] *= 1000
        extrinsics.append(camera)
    focal = 1.9 * width
    K = np.array([[focal, 0, width / 2 + 3.7], [0, focal * 1.01, height / 2 - 2.2], [0, 0, 1]])
    return {
        "K": np.tile(K, (views, 1, 1)).astype(np.float32),
        "distortion": np.tile([-0.05, 0.02], (views, 1)).astype(np.float32),
        "camera_from_world": np.stack(extrinsics).astype(np.float32),
    }


def tensors(arrays: dict[str, np.ndarray]) -> ViewTensors:
    """One set's cameras."""
    return ViewTensors(*(torch.from_numpy(arrays[k])[None] for k in ("K", "distortion", "camera_from_world")))


def noise_pictures(views: int, height: int, width: int, seed: int = 7) -> Tensor:
    """(V, 3, H, W) smooth noise, normalised."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(views, 3, height // 6 + 2, width // 6 + 2, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return fine + 0.2 * torch.randn(fine.shape, generator=rng)


def hard_coarse(quirks: bool = True, peak: float = 30.0) -> CoarseStage:
    """A stirred coarse stage whose heat maps have few voxels."""
    stage = initial_coarse(SMALL, seed=1, quirks=quirks)
    stir(stage, seed=2, peak=peak)
    return stage


def hard_refine(quirks: bool = True, peak: float = 30.0) -> RefineStage:
    """A stirred refinement stage of the bumpy head."""
    template, triangles = bumpy_head()
    stage = initial_refine(SMALL, template, triangles, seed=3, quirks=quirks)
    stir(stage, seed=4, peak=peak)
    return stage


def official_state(stage: CoarseStage | RefineStage, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Its weights under the official names."""
    kind = "coarse" if isinstance(stage, CoarseStage) else "refine"
    return {
        official_name(name, kind): value.to(dtype) if value.is_floating_point() else value
        for name, value in stage.state_dict().items()
    }

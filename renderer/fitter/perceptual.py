"""How alike pictures look to people: metrics of packages that a fit does without (`pip install 'mien[fit-metrics]'`).

LPIPS (Zhang et al., CVPR 2018) with AlexNet compares pictures, ColorVideoVDP (Mantiuk et al., SIGGRAPH 2024) films; it
follows FovVideoVDP, whose licence allows no commercial use and with which NeRSemble made its JOD. A metric that cannot
be had is left out, and the reason kept.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from streamer.types import U8

Likeness = Callable[[U8, U8], float]
"""Two (H, W, 3) pictures -> how far apart, 0 the same."""
Quality = Callable[[U8, U8, float], float]
"""Two (T, H, W, 3) films, pictures per second -> just-objectionable differences, 10 the same."""

DISPLAY = "standard_4k"
"""Whose films are judged as seen on: NeRSemble's choice."""
TRUNK = "alexnet-owt-"
"""How torchvision's file of AlexNet's weights is called."""
FILM_FPS = 24.0
"""Pictures per second of a film, about: every third at 73 in NeRSemble."""
FILM_LENGTH = 48
"""Pictures of a film at most: two seconds."""


@dataclass(frozen=True)
class Perceptual:
    """The metrics that can be had. One that fails at work is left out from then on, and costs no fit."""

    lpips: Likeness | None = None
    """LPIPS."""
    jod: Quality | None = None
    """ColorVideoVDP."""
    without: dict[str, str] = field(default_factory=dict)
    """Metric to why it is not to be had."""

    def likeness(self, picture: U8, truth: U8) -> float | None:
        """Return LPIPS of two (H, W, 3) pictures, None where it cannot be had."""
        return self._tried("lpips", self.lpips, picture, truth)

    def quality(self, film: U8, truth: U8, fps: float) -> float | None:
        """Return JOD of two (T, H, W, 3) films, None where it cannot be had."""
        return self._tried("jod", self.jod, film, truth, fps)

    def _tried(self, name: str, metric: Callable[..., float] | None, *arguments: object) -> float | None:
        if metric is None or name in self.without:
            return None
        try:
            return metric(*arguments)
        except (RuntimeError, ValueError, OSError, MemoryError) as error:  # a GPU without memory, pictures too small
            self.without[name] = next(iter(str(error).splitlines()), type(error).__name__)
            return None


def load_perceptual(device: torch.device) -> Perceptual:
    """Return the metrics whose packages, and weights, this machine has; nothing is downloaded."""
    metrics: dict[str, Any] = {}
    without: dict[str, str] = {}
    for name, package, make in (("lpips", "lpips", _lpips), ("jod", "pycvvdp", _jod)):
        try:
            metrics[name] = make(importlib.import_module(package), device)
        except ModuleNotFoundError as error:
            without[name] = f"{error}; pip install 'mien[fit-metrics]'"
        except (ImportError, RuntimeError, OSError) as error:  # torchvision of another build than torch raises these
            reason = next(iter(str(error).splitlines()), "")
            without[name] = f"the package {package} does not work here: {reason}"
    return Perceptual(**metrics, without=without)


def _lpips(package: Any, device: torch.device) -> Likeness:
    """Return LPIPS with AlexNet.

    Raises:
        OSError: AlexNet's weights are not here.
    """
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    if not (os.path.isdir(folder) and any(name.startswith(TRUNK) for name in os.listdir(folder))):
        raise OSError(
            f"AlexNet's weights are not in {folder}; fetch them: python -c \"import lpips; lpips.LPIPS(net='alex')\""
        )
    network = package.LPIPS(net="alex", verbose=False).to(device).eval()

    def tensor(picture: U8) -> torch.Tensor:
        return torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1

    def likeness(picture: U8, truth: U8) -> float:
        with torch.no_grad():
            return float(network(tensor(picture), tensor(truth)))

    return likeness


def _jod(package: Any, device: torch.device) -> Quality:
    metric = package.cvvdp(display_name=DISPLAY, device=device, quiet=True)

    def quality(film: U8, truth: U8, fps: float) -> float:
        with torch.no_grad():
            found, _ = metric.predict(film, truth, dim_order="FHWC", frames_per_second=fps)
        return float(found)

    return quality


def film_steps(steps: int, fps: float) -> tuple[list[int], float]:
    """Return the time steps that a film is judged by, the middle of a long take, and its pictures per second.

    Args:
        steps: of the take.
        fps: of the take.
    """
    stride = max(1, round(fps / FILM_FPS))
    some = range(0, steps, stride)
    first = max(0, (len(some) - FILM_LENGTH) // 2)
    return list(some[first : first + FILM_LENGTH]), fps / stride

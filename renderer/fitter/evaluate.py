"""How good a fit is: pictures against those of cameras that it did not learn from."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from renderer.fitter.fit import Fit
from renderer.fitter.layers import on_white
from renderer.fitter.metrics import psnr, ssim
from renderer.fitter.render import render_views
from streamer.progress import Report
from streamer.types import U8, Camera

INSTANTS = 15
"""Evenly spaced instants that an evaluation looks at, NeRSemble's number."""


@dataclass(frozen=True)
class Scores:
    """Means over pictures."""

    psnr_db: float
    """Peak signal-to-noise ratio, dB."""
    ssim: float
    """Structural similarity."""
    per_camera: Mapping[str, float]
    """Camera id to PSNR, dB."""
    held_out: bool
    """Whether the pictures are of cameras that were not trained on."""
    pictures: int
    """How many there were."""
    masked_psnr_db: float | None = None
    """PSNR where both pictures are composed with white by the true matte (NeRSemble's "masked"): the person alone
    counts. None without mattes."""


def evaluation_pictures(fit: Fit, instants: int = INSTANTS) -> tuple[list[tuple[int, Camera, U8]], bool]:
    """Return time step, camera and truth of the pictures to compare with, and whether they were held out.

    Held-out pictures if the take has any; else the first training camera's, which says how well the fit remembers.
    """
    footage = fit.footage
    steps = np.unique(np.linspace(0, footage.steps - 1, min(instants, footage.steps)).astype(int)).tolist()
    held = [
        (step, camera, footage.held_out_pictures[step, camera.id])
        for step in steps
        for camera in footage.held_out
        if (step, camera.id) in footage.held_out_pictures
    ]
    if held:
        return held, True
    own = [(step, footage.cameras[0], footage.picture(step, 0)) for step in steps]
    return [(step, camera, picture) for step, camera, picture in own if picture is not None], False


def evaluate(fit: Fit, instants: int = INSTANTS, report: Report = lambda done, total: None) -> Scores | None:
    """Compare; None where there is nothing to compare with.

    Args:
        fit: the field.
        instants: evenly spaced instants.
        report: progress.
    """
    chosen, held_out = evaluation_pictures(fit, instants)
    found: dict[str, list[tuple[float, float]]] = {}
    masked: list[float] = []
    for done, (step, camera, truth, rgb) in enumerate(_rendered(fit, chosen)):
        found.setdefault(camera.id, []).append((psnr(rgb, truth), ssim(rgb, truth)))
        matte = fit.footage.held_out_mattes.get((step, camera.id))
        if matte is not None:
            masked.append(psnr(on_white(rgb, matte), on_white(truth, matte)))
        report(done + 1, len(chosen))
    if not found:
        return None
    every = np.array([pair for pairs in found.values() for pair in pairs])
    per_camera = {name: float(np.mean([pair[0] for pair in pairs])) for name, pairs in found.items()}
    mean_masked = float(np.mean(masked)) if masked else None
    return Scores(float(every[:, 0].mean()), float(every[:, 1].mean()), per_camera, held_out, len(every), mean_masked)


def _rendered(fit: Fit, chosen: Sequence[tuple[int, Camera, U8]]) -> Iterator[tuple[int, Camera, U8, U8]]:
    """Yield each picture with the field's, instant by instant."""
    for step, group in itertools.groupby(chosen, key=lambda one: one[0]):
        pictures = list(group)
        views = render_views(fit, [camera for _, camera, _ in pictures], step)
        for (_, camera, truth), view in zip(pictures, views, strict=True):
            yield step, camera, truth, view.rgb

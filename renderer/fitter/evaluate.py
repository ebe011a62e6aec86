"""How good a fit is: pictures against those of cameras that it did not learn from."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from renderer.fitter.fit import Fit
from renderer.fitter.layers import on_white
from renderer.fitter.metrics import psnr, ssim
from renderer.fitter.perceptual import Perceptual, film_steps
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
    lpips: float | None = None
    """LPIPS, see `renderer.fitter.perceptual`; None: not asked for, or in `without`."""
    jod: float | None = None
    """Just-objectionable differences of the cameras' films, 10: none; None as with `lpips`."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Metric that was asked for to why it could not be had."""


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


def evaluate(
    fit: Fit,
    instants: int = INSTANTS,
    perceptual: Perceptual | None = None,
    report: Report = lambda done, total: None,
) -> Scores | None:
    """Compare; None where there is nothing to compare with.

    Args:
        fit: the field.
        instants: evenly spaced instants.
        perceptual: further metrics; by default none.
        report: progress.
    """
    chosen, held_out = evaluation_pictures(fit, instants)
    perceptual = perceptual or Perceptual()
    found: dict[str, list[tuple[float, float]]] = {}
    masked: list[float] = []
    lpips: list[float | None] = []
    for done, (step, camera, truth, rgb) in enumerate(_rendered(fit, chosen)):
        found.setdefault(camera.id, []).append((psnr(rgb, truth), ssim(rgb, truth)))
        matte = fit.footage.held_out_mattes.get((step, camera.id))
        if matte is not None:
            masked.append(psnr(on_white(rgb, matte), on_white(truth, matte)))
        lpips.append(perceptual.likeness(rgb, truth))
        report(done + 1, len(chosen))
    if not found:
        return None
    every = np.array([pair for pairs in found.values() for pair in pairs])
    return Scores(
        psnr_db=float(every[:, 0].mean()),
        ssim=float(every[:, 1].mean()),
        per_camera={name: float(np.mean([pair[0] for pair in pairs])) for name, pairs in found.items()},
        held_out=held_out,
        pictures=len(every),
        masked_psnr_db=_mean(masked),
        lpips=_mean(lpips),
        jod=None if perceptual.jod is None else _jod(fit, perceptual, report),
        without=dict(perceptual.without),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _jod(fit: Fit, perceptual: Perceptual, report: Report) -> float | None:
    """Return the mean quality of the cameras' films; None where no camera has two pictures."""
    times_s = np.array(fit.footage.times_ns) / 1e9
    span_s = float(times_s[-1] - times_s[0])
    if span_s <= 0:
        return None
    steps, fps = film_steps(len(times_s), (len(times_s) - 1) / span_s)
    chosen = [one for one in evaluation_pictures(fit, len(times_s))[0] if one[0] in steps]
    found: list[float | None] = []
    rendered = 0
    for name in sorted({camera.id for _, camera, _ in chosen}):  # one film at a time: they are large
        pairs = []
        for _, _, truth, rgb in _rendered(fit, [one for one in chosen if one[1].id == name]):
            pairs.append((rgb, truth))
            rendered += 1
            report(rendered, len(chosen))
        if len(pairs) > 1:
            film, truth = (np.stack(pictures) for pictures in zip(*pairs, strict=True))
            found.append(perceptual.quality(film, truth, fps))
    return _mean(found)


def _rendered(fit: Fit, chosen: Sequence[tuple[int, Camera, U8]]) -> Iterator[tuple[int, Camera, U8, U8]]:
    """Yield each picture with the field's, instant by instant."""
    for step, group in itertools.groupby(chosen, key=lambda one: one[0]):
        pictures = list(group)
        views = render_views(fit, [camera for _, camera, _ in pictures], step)
        for (_, camera, truth), view in zip(pictures, views, strict=True):
            yield step, camera, truth, view.rgb

"""One run of a fit: a folder, checkpoints in time, a curve, and an end that can be told from a beginning.

`field.json` is written last and names what the folder holds: a folder without it is a run that has not ended.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from renderer.fitter import checkpoint
from renderer.fitter.evaluate import Scores, evaluate
from renderer.fitter.fit import Fit
from renderer.fitter.footage import read_footage
from renderer.fitter.perceptual import load_perceptual
from renderer.fitter.presets import Preset
from streamer.errors import FitError
from streamer.progress import Report
from streamer.takes.reader import open_take

CURVE = "curve.jsonl"
MANIFEST = "field.json"
CURVE_EVERY = 10
"""Steps between lines of the curve."""
LOOK_EVERY_S = 60.0
"""Seconds between glances at held-out pictures while the fit goes on."""
GLANCE = 2
"""Instants of a glance."""

Verdict = Literal["go", "pause", "cancel"]


@dataclass(frozen=True)
class Task:
    """What to fit."""

    take: Path
    """The take."""
    preset: Preset
    """How."""
    frames: tuple[int | None, int | None] = (None, None)
    """First frame and the one after the last, by their order in the take."""
    hold_out: tuple[str, ...] = ()
    """Cameras that are not trained on, besides those without pictures."""
    mesh_channel: str = "mesh"
    """Where the prior's meshes are."""


@dataclass(frozen=True)
class Pulse:
    """What a run tells while it goes on."""

    step: int
    """Steps done."""
    steps: int
    """Steps in all."""
    phase: str
    """`preparing`, `warm-up` (one table), `fade-in`, `refining`, `evaluating`."""
    loss: float | None = None
    """Of the last step."""
    psnr_db: float | None = None
    """Of the last glance at held-out pictures."""
    seconds: float | None = None
    """Spent on steps, all sittings together; None: not read yet."""
    eta_s: float | None = None
    """Until the last step, by the pace of this sitting."""
    kept: int = 0
    """Steps of this sitting that a checkpoint holds: nobody can lose them."""
    preset: str | None = None
    """Name of the recipe: what `auto` has become, and stays."""


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended."""

    state: Literal["done", "paused", "cancelled"]
    """Paused and cancelled runs leave a checkpoint."""
    step: int
    """Steps done."""
    scores: Scores | None = None
    """Of a run that is done, where there was something to compare with."""


@dataclass
class _Clock:
    """Time spent on steps; `now` is a monotonic clock in seconds."""

    now: Callable[[], float]
    earlier_s: float = 0.0
    begun_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun_s = self.now()

    @property
    def sitting_s(self) -> float:
        return self.now() - self.begun_s


class _Stopped(Exception):
    """A run was told to stop."""

    def __init__(self, state: Literal["paused", "cancelled"]) -> None:
        super().__init__(state)
        self.state = state


@dataclass
class _Ear:
    """Listens to `control`; raises `_Stopped` when it says anything but go."""

    control: Callable[[Pulse], Verdict]
    every_s: float
    now: Callable[[], float] = time.monotonic

    def during(self, pulse: Pulse, report: Report = lambda done, total: None) -> Report:
        """Tell this pulse; return a report of progress that passes on to another and tells it again in time."""
        self.tell(pulse)
        told_s = self.now()

        def heed(done: int, total: int) -> None:
            nonlocal told_s
            report(done, total)
            if self.now() - told_s >= self.every_s:
                self.tell(pulse)
                told_s = self.now()

        return heed

    def tell(self, pulse: Pulse) -> None:
        """Tell a pulse, and listen."""
        verdict = self.control(pulse)
        if verdict != "go":
            raise _Stopped("paused" if verdict == "pause" else "cancelled")


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Take denormal numbers for zero: Adam's squares of tiny gradients are such, slow and worth nothing.

    Off again afterwards: it holds for the whole thread, and others count on all numbers.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def open_fit(task: Task, folder: Path, device: torch.device, report: Callable[[int, int], None]) -> Fit:
    """Read the take and return its fit, as far as the newest whole checkpoint of the folder has come.

    A damaged newest checkpoint is passed over for the one before it.

    Raises:
        TakeError, CalibrationError: the take cannot be fitted.
        FitError: the folder's checkpoints are all damaged, or of another fit.
    """
    with open_take(task.take) as take:
        footage = read_footage(
            take,
            frames=slice(*task.frames),
            hold_out=task.hold_out,
            width=task.preset.picture_width,
            mesh_channel=task.mesh_channel,
            spill=folder,
            report=report,
        )
    fit = Fit(footage, task.preset, device, report)
    errors: list[FitError] = []
    for path in reversed(checkpoint.checkpoints(folder)):
        try:
            checkpoint.load(fit, path)
            return fit
        except FitError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return fit


def run_fit(
    task: Task,
    folder: Path,
    control: Callable[[Pulse], Verdict],
    *,
    device: torch.device | None = None,
    checkpoint_every_s: float = 120.0,
    beat_every_s: float = 1.0,
    rate_scale: float | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Fit, from the beginning or from the folder's newest checkpoint, until the end or until told otherwise.

    Args:
        task: what to fit.
        folder: of the run; made if needed. One process at a time.
        control: called about each `beat_every_s` and before each phase; what it answers is obeyed at the next step, the
            next picture that is read or rendered.
        device: default: the CPU.
        checkpoint_every_s: seconds between checkpoints.
        beat_every_s: seconds between calls of `control`.
        rate_scale: learning rates from now on, as a part of the preset's; default: as the checkpoint says.
        report: progress of the preparations.

    Raises:
        TakeError, CalibrationError: the take cannot be fitted.
        DivergedError: the loss is not finite; the newest checkpoint is from before.
        OSError: a checkpoint or the curve cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ear, fit, name = _Ear(control, beat_every_s), None, task.preset.name
    preparing = Pulse(checkpoint.steps_in(folder), task.preset.steps, "preparing", preset=name)
    try:
        fit = open_fit(task, folder, device or torch.device("cpu"), ear.during(preparing, report))
        if rate_scale is not None:
            fit.rate_scale = rate_scale
        clock = _Clock(time.monotonic, _cut_curve(folder / CURVE, fit.step))
        if fit.step == 0:
            checkpoint.save(fit, folder)
        with _flushed_denormals():
            loss, psnr_db = _steps(fit, folder, ear, clock, checkpoint_every_s)
        checkpoint.save(fit, folder)
        seconds = clock.earlier_s + clock.sitting_s
        evaluating = Pulse(fit.step, task.preset.steps, "evaluating", loss, psnr_db, seconds, 0.0, preset=name)
        scores = evaluate(fit, perceptual=load_perceptual(fit.device), report=ear.during(evaluating))
    except _Stopped as stopped:
        if fit is not None:
            checkpoint.save(fit, folder)
        return Outcome(stopped.state, preparing.step if fit is None else fit.step)
    _write_manifest(folder, task, fit, scores, seconds)
    return Outcome("done", fit.step, scores)


def _steps(
    fit: Fit, folder: Path, ear: _Ear, clock: _Clock, checkpoint_every_s: float
) -> tuple[float | None, float | None]:
    """Step until the end; return the last loss and the last glance's PSNR."""
    first, psnr_db, loss, kept = fit.step, None, None, 0
    saved_s = beaten_s = looked_s = clock.now()
    with (folder / CURVE).open("a", encoding="utf-8") as curve:
        while fit.step < fit.preset.steps:
            now_s = clock.now()
            if now_s - beaten_s >= ear.every_s or fit.step == first:
                beaten_s = now_s
                ear.tell(_pulse(fit, first, clock, loss, psnr_db, kept))
            terms = fit.advance()
            loss = terms["loss"]
            if fit.step % CURVE_EVERY == 0:
                _write_line(curve, {"step": fit.step, "seconds": clock.earlier_s + clock.sitting_s, **terms})
            if now_s - looked_s >= LOOK_EVERY_S:
                pulse = _pulse(fit, first, clock, loss, psnr_db, kept)
                glance = evaluate(fit, GLANCE, report=ear.during(pulse))
                psnr_db = glance.psnr_db if glance else None
                _write_line(curve, {"step": fit.step, "seconds": clock.earlier_s + clock.sitting_s, "psnr_db": psnr_db})
                looked_s = clock.now()
            if now_s - saved_s >= checkpoint_every_s:
                checkpoint.save(fit, folder)
                saved_s, kept = clock.now(), fit.step - first
    return loss, psnr_db


def _pulse(fit: Fit, first: int, clock: _Clock, loss: float | None, psnr_db: float | None, kept: int) -> Pulse:
    steps, tables = fit.preset.steps, fit.opening().tables
    phase = "warm-up" if tables <= 1 < fit.preset.shape.tables else "refining"
    if 1 < tables < fit.preset.shape.tables:
        phase = "fade-in"
    pace = clock.sitting_s / (fit.step - first) if fit.step > first else None
    eta_s = None if pace is None else pace * (steps - fit.step)
    seconds = clock.earlier_s + clock.sitting_s
    return Pulse(fit.step, steps, phase, loss, psnr_db, seconds, eta_s, kept, fit.preset.name)


def _write_line(file: Any, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def _cut_curve(path: Path, step: int) -> float:
    """Drop the lines after `step` (a resumed run makes them again); return the seconds spent until there."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text("utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break  # the line that a killed run was writing
            if line["step"] <= step:
                lines.append(line)
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    part.replace(path)
    return float(lines[-1]["seconds"]) if lines else 0.0


def _write_manifest(folder: Path, task: Task, fit: Fit, scores: Scores | None, seconds: float) -> None:
    manifest = {
        "schema": 1,
        "take": str(task.take.resolve()),
        "frames": list(task.frames),
        "hold_out": list(task.hold_out),
        "mesh_channel": task.mesh_channel,
        "preset": dataclasses.asdict(task.preset),
        "checkpoint": checkpoint.checkpoints(folder)[-1].name,
        "steps": fit.step,
        "seconds": seconds,
        "scores": None if scores is None else dataclasses.asdict(scores),
    }
    part = folder / (MANIFEST + ".part")
    part.write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    part.replace(folder / MANIFEST)

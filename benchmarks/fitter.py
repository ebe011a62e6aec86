"""What each part of a radiance-field fit is worth, at equal time, on a simulated take with held-out cameras.

    python benchmarks/fitter.py [--json] [--seconds 60] [--curves full plain static deformation ensemble] [--mattes]
                                [--out DIR] [--with schedule.rate_fields=0.005]

The take: 16 cameras of 160x120 round a talking head that turns by 50 degrees, 24 frames over six seconds; every fourth
camera is held out. Meshes are the true ones. Without `--mattes` pictures are fitted whole, before a studio's sweep that
is another in each camera; with it they stand on white, as NeRSemble's do.

Every curve gets the same seconds of steps, CPU time of one thread, one after the other; its schedule is stretched to
the steps that it makes in this time: a short trial before says how many, and at `REPLAN`, when the box has emptied and
all tables are open, the pace by then. Held-out PSNR at `GLANCES` parts of this time (not counted), whole pictures and
masked as NeRSemble does: both on white by the true matte, the person alone counts.

Curves: `full` all there is; `plain` without the meshes; `static`, `deformation`, `ensemble` without the meshes and one
field that does not move, no ensemble, no deformation; `static_prior` a field that does not move, with the meshes'
density, mask and depth; `no_ensemble`, `no_deformation` all but these; `no_pose`, `no_skin`, `no_density`, `no_mask`,
`no_depth` all but a part of what meshes tell.

`frame_ratio`: what a picture of 160x120 costs, against one of `static`; four cameras at one instant, which share the
instant's preparation. `reached_s`: when a curve had the PSNR that `plain` ends with, by interpolation. `--out` gets
curves.svg, a picture for each curve with its last views above the truth, and curves.json; a run that finds one there
makes only the curves that it lacks. A short run takes about 1.4 times the curves' seconds, a long one 1.1.
"""

import argparse
import dataclasses
import itertools
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from renderer.fitter.chart import chart
from renderer.fitter.enqueue import values_from
from renderer.fitter.evaluate import evaluate, evaluation_pictures
from renderer.fitter.film import write_png
from renderer.fitter.fit import Fit
from renderer.fitter.footage import Footage, read_footage
from renderer.fitter.presets import preset_of
from renderer.fitter.render import render_views
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.progress import progress
from streamer.takes.reader import open_take

HELD_OUT = ("cam_2", "cam_6", "cam_10", "cam_14")
STILL = {"shape.tables": 1, "shape.deform_layers": 0}
CURVES: dict[str, dict[str, object]] = {
    "full": {},
    "plain": {"prior": False},
    "static": {"prior": False, **STILL},
    "deformation": {"prior": False, "shape.tables": 1},
    "ensemble": {"prior": False, "shape.deform_layers": 0},
    "static_prior": {"prior_parts.pose": False, **STILL},
    "no_ensemble": {"shape.tables": 1},
    "no_deformation": {"shape.deform_layers": 0},
    **{f"no_{part}": {f"prior_parts.{part}": False} for part in ("pose", "skin", "density", "mask", "depth")},
}
DEFAULT = ("full", "plain", "static", "deformation", "ensemble")
GLANCES = (0.25, 0.5, 1.0)
INSTANTS = 3
TRIAL_STEPS = 40
REPLAN = (0.25, 0.35)
"""Between these parts of a curve's seconds its pace is measured again, and its schedule stretched to it."""


def footage(folder: Path, *, mattes: bool) -> Footage:
    """Simulate the take and read it; without `mattes` a fit gets none, but held-out pictures are judged by them."""
    rig = RigConfig(fps=4.0, encoding="raw", simulated=SimulatedConfig(cameras=16, width=160, height=120))
    found = []
    for matted in (True,) if mattes else (False, True):
        path = folder / str(matted)
        simulate_takes(path, rig, takes=1, frames=24, world="demo", mattes=matted)
        with open_take(path) as take:
            found.append(read_footage(take, hold_out=HELD_OUT, mesh_channel="truth"))
    return dataclasses.replace(found[0], held_out_mattes=found[-1].held_out_mattes)


Curve = tuple[dict[str, Any], np.ndarray]
"""Figures; views above the truth."""


def run(pictures: Footage, values: dict[str, object], seconds: float, name: str, *, quiet: bool) -> Curve:
    """Fit for some seconds of steps; preparations, and glances at held-out pictures in between, do not count."""
    begin = time.process_time()
    trial = Fit(pictures, preset_of("preview", values), torch.device("cpu"))
    prepared = time.process_time() - begin
    begin = time.process_time()
    while trial.step < TRIAL_STEPS:
        trial.advance()
    guess = TRIAL_STEPS + int((seconds - time.process_time() + begin) * TRIAL_STEPS / (time.process_time() - begin))
    fit = Fit(pictures, preset_of("preview", {**values, "steps": guess}), torch.device("cpu"))
    spent, due, curve, plan = 0.0, [part * seconds for part in GLANCES[:-1]], [], Plan(seconds)
    with progress(name, quiet=quiet) as report:
        while spent < seconds and fit.step < fit.preset.steps:
            begin = time.process_time()
            fit.advance()
            spent += time.process_time() - begin
            fit.preset = dataclasses.replace(fit.preset, steps=plan.steps(fit.step, spent, fit.preset.steps))
            report(int(10 * spent), int(10 * seconds))
            if due and spent >= due[0]:
                due.pop(0)
                curve.append(glance(fit, spent))
    curve.append(glance(fit, spent))
    views, frame_ms = last_views(fit)
    told = {"steps": fit.step, "of": fit.preset.steps, "prepared_s": round(prepared, 1), "frame_ms": round(frame_ms, 1)}
    return {**curve[-1], **told, "curve": curve}, views


@dataclasses.dataclass
class Plan:
    """How many steps a curve will have made at the end of its seconds."""

    seconds: float
    """All it gets."""
    first: tuple[int, float] | None = None
    """Step and seconds at which measuring began."""
    done: bool = False
    """The steps are what they were found to be."""

    def steps(self, step: int, spent: float, planned: int) -> int:
        """Return the steps to plan with, after `step` steps that took `spent` seconds."""
        if self.first is None and spent >= REPLAN[0] * self.seconds:
            self.first = step, spent
        elif self.first is not None and not self.done and spent >= REPLAN[1] * self.seconds:
            self.done = True
            pace = (step - self.first[0]) / (spent - self.first[1])
            return step + max(int(pace * (self.seconds - spent)), 1)
        return planned


def glance(fit: Fit, spent: float) -> dict[str, float]:
    """Look at the held-out pictures of some instants."""
    scores = evaluate(fit, INSTANTS)
    if scores is None or scores.masked_psnr_db is None:
        raise RuntimeError("nothing was held out")
    figures = {"psnr_db": scores.psnr_db, "masked_psnr_db": scores.masked_psnr_db, "ssim": scores.ssim}
    return {"seconds": round(spent, 1), **{name: round(value, 3) for name, value in figures.items()}}


def last_views(fit: Fit) -> tuple[np.ndarray, float]:
    """Return one instant of the held-out cameras above the truth, side by side, and what a picture costs, CPU ms."""
    chosen, _ = evaluation_pictures(fit, INSTANTS)
    some = chosen[len(HELD_OUT) : 2 * len(HELD_OUT)]
    begin = time.process_time()
    views = list(render_views(fit, [camera for _, camera, _ in some], some[0][0]))
    spent = time.process_time() - begin
    pairs = [np.vstack([view.rgb, truth]) for view, (_, _, truth) in zip(views, some, strict=True)]
    return np.hstack(pairs), 1e3 * spent / len(some)


def reached_s(curve: list[dict[str, float]], wanted_db: float, key: str) -> float | None:
    """Return the seconds at which a curve first had this PSNR, None if it never had."""
    points = [(point["seconds"], point[key]) for point in curve]
    if points[0][1] >= wanted_db:
        return points[0][0]
    for (t0, a), (t1, b) in itertools.pairwise(points):
        if a < wanted_db <= b:
            return round(t0 + (t1 - t0) * (wanted_db - a) / (b - a), 1)
    return None


def compare(found: dict[str, Any]) -> dict[str, Any]:
    """Return what the curves say together."""
    told: dict[str, Any] = {}
    for key in ("psnr_db", "masked_psnr_db"):
        ends = {name: curve[key] for name, curve in found.items()}
        mine: dict[str, Any] = {}
        if "static" in ends:
            mine["above_static_db"] = {n: round(v - ends["static"], 2) for n, v in ends.items() if n != "static"}
        if {"plain", "deformation", "ensemble"} <= ends.keys():
            mine["plain_above_its_parts_db"] = round(ends["plain"] - max(ends["deformation"], ends["ensemble"]), 2)
        if "plain" in ends:
            mine["reached_s"] = {n: reached_s(found[n]["curve"], ends["plain"], key) for n in found}
        told[key] = mine
    if "static" in found:
        told["frame_ratio"] = {n: round(c["frame_ms"] / found["static"]["frame_ms"], 2) for n, c in found.items()}
    return told


def earlier(out: Path, terms: dict[str, Any]) -> dict[str, Any]:
    """Return the curves that an earlier run of the same terms left in this folder, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "curves.json"
    if not kept.exists():
        return {}
    told = json.loads(kept.read_text("utf-8"))
    found: dict[str, Any] = told.pop("curves")
    if told != terms:
        raise SystemExit(f"{kept} is of a run with {told}, this one has {terms}; name another folder")
    return found


def draw(found: dict[str, Any], out: Path) -> None:
    """Write curves.svg and curves_masked.svg."""
    for key, name, title in (
        ("psnr_db", "curves.svg", "held-out PSNR, dB"),
        ("masked_psnr_db", "curves_masked.svg", "held-out PSNR of the person alone, dB"),
    ):
        lines = {name: [(one["seconds"], one[key]) for one in curve["curve"]] for name, curve in found.items()}
        (out / name).write_text(chart(lines, title, "seconds of steps, one thread"), "utf-8")


def main() -> None:
    """Print a line per curve, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0, help="of steps for each curve")
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(DEFAULT))
    parser.add_argument("--mattes", action="store_true", help="the fits get exact mattes, pictures stand on white")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    parser.add_argument("--with", dest="values", nargs="+", default=[], metavar="KEY=VALUE", help="for all curves")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    values = values_from(args.values)
    terms = {"seconds": args.seconds, "mattes": args.mattes, "with": values}
    found = earlier(args.out, terms) if args.out else {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = footage(Path(folder) / "take", mattes=args.mattes)
    for name in args.curves:
        if name not in found:
            found[name], views = run(pictures, {**values, **CURVES[name]}, args.seconds, name, quiet=args.json)
            if args.out:
                (args.out / "curves.json").write_text(json.dumps({**terms, "curves": found}), "utf-8")
                write_png(args.out / f"{name}.png", views)
                draw(found, args.out)
        if not args.json:
            print(f"{name:12} { ({k: v for k, v in found[name].items() if k != 'curve'}) }", flush=True)
    told = compare(found)
    print(json.dumps({**terms, "curves": found, **told} if args.json else told))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""What each part of a radiance-field fit is worth, at equal wall time, on a simulated take with held-out cameras.

    python benchmarks/fitter.py [--json] [--seconds 120] [--variants prior plain deformation ensemble static]

The take: 16 cameras of 160x120 round a talking, turning head, 24 frames over six seconds; every fourth camera is held
out. Meshes are the true ones; fits get no mattes. Every variant gets the same seconds of steps, CPU time of one thread;
its schedule is stretched to the steps that it makes in this time (measured by a short trial before). Held-out PSNR over
3 instants: of whole pictures, and masked as NeRSemble does (both on white by the true matte: the person alone counts).
"""

import argparse
import dataclasses
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path

import torch

from renderer.fitter.evaluate import evaluate
from renderer.fitter.fit import Fit
from renderer.fitter.footage import Footage, read_footage
from renderer.fitter.presets import preset_of
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.takes.reader import open_take

HELD_OUT = ("cam_2", "cam_6", "cam_10", "cam_14")
VARIANTS = {
    "prior": {},
    "plain": {"prior": False},
    "deformation": {"prior": False, "shape.tables": 1},
    "ensemble": {"prior": False, "shape.deform_layers": 0},
    "static": {"prior": False, "shape.tables": 1, "shape.deform_layers": 0},
}
INSTANTS = 3
TRIAL_STEPS = 30
SPEED_UP = 1.3
"""Later steps are quicker than the first: the box empties."""


def footage(folder: Path) -> Footage:
    """Simulate the take and read it."""
    rig = RigConfig(fps=4.0, encoding="raw", simulated=SimulatedConfig(cameras=16, width=160, height=120))
    found = []
    for mattes in (False, True):
        path = folder / str(mattes)
        simulate_takes(path, rig, takes=1, frames=24, world="demo", mattes=mattes)
        with open_take(path) as take:
            found.append(read_footage(take, hold_out=HELD_OUT, mesh_channel="truth"))
    return dataclasses.replace(found[0], held_out_mattes=found[1].held_out_mattes)


def run(pictures: Footage, values: dict[str, object], seconds: float) -> dict[str, object]:
    """Fit for some seconds of steps; glances at held-out pictures in between do not count."""
    trial = Fit(pictures, preset_of("preview", values), torch.device("cpu"))
    begin = time.process_time()
    while trial.step < TRIAL_STEPS:
        trial.advance()
    pace = TRIAL_STEPS / (time.process_time() - begin)
    steps = max(int(SPEED_UP * pace * seconds), TRIAL_STEPS)
    fit = Fit(pictures, preset_of("preview", {**values, "steps": steps}), torch.device("cpu"))
    spent = 0.0
    while spent < seconds and fit.step < fit.preset.steps:
        begin = time.process_time()
        fit.advance()
        spent += time.process_time() - begin
    scores = evaluate(fit, INSTANTS)
    if scores is None or scores.masked_psnr_db is None:
        raise RuntimeError("nothing was held out")
    figures = {"psnr_db": scores.psnr_db, "masked_psnr_db": scores.masked_psnr_db, "ssim": scores.ssim}
    return {"steps": fit.step, "seconds": round(spent, 1), **{name: round(x, 3) for name, x in figures.items()}}


def main() -> None:
    """Print a line per variant, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = footage(Path(folder) / "take")
        for name in args.variants:
            found[name] = run(pictures, VARIANTS[name], args.seconds)
            if not args.json:
                print(f"{name:12} {found[name]}", flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

"""What each part of a radiance-field fit is worth, at equal wall time, on a simulated take with held-out cameras.

    python benchmarks/fitter.py [--json] [--seconds 120] [--variants prior plain deformation ensemble static]

The take: 16 cameras of 160x120 round a talking, turning head, 24 frames at 12 a second; every fourth camera is held
out. Meshes are the true ones. Every variant gets the same seconds of steps; its schedule is stretched to the steps that
it makes in this time (measured by a short trial before). Held-out PSNR over 6 instants, whole pictures.
"""

import argparse
import json
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
TRIAL_STEPS = 40
SPEED_UP = 1.5
"""Later steps are quicker than the first: the box empties."""


def footage(folder: Path) -> Footage:
    """Simulate the take and read it."""
    rig = RigConfig(fps=12.0, simulated=SimulatedConfig(cameras=16, width=160, height=120))
    simulate_takes(folder, rig, takes=1, frames=24, world="demo")
    with open_take(folder) as take:
        return read_footage(take, hold_out=HELD_OUT, mesh_channel="truth")


def run(pictures: Footage, values: dict[str, object], seconds: float) -> dict[str, object]:
    """Fit for some seconds of steps; glances at held-out pictures in between do not count."""
    trial = Fit(pictures, preset_of("preview", values), torch.device("cpu"))
    begin = time.perf_counter()
    while trial.step < TRIAL_STEPS:
        trial.advance()
    pace = TRIAL_STEPS / (time.perf_counter() - begin)
    steps = max(int(SPEED_UP * pace * seconds), TRIAL_STEPS)
    fit = Fit(pictures, preset_of("preview", {**values, "steps": steps}), torch.device("cpu"))
    spent, curve, due = 0.0, [], [seconds * part for part in (0.1, 0.25, 0.5)]
    while spent < seconds and fit.step < fit.preset.steps:
        begin = time.perf_counter()
        fit.advance()
        spent += time.perf_counter() - begin
        if due and spent >= due[0]:
            due.pop(0)
            glance = evaluate(fit, 2)
            curve.append((round(spent, 1), round(glance.psnr_db, 2) if glance else None))
    scores = evaluate(fit, 6)
    if scores is None:
        raise RuntimeError("nothing was held out")
    return {"steps": fit.step, "seconds": spent, "psnr_db": scores.psnr_db, "ssim": scores.ssim, "curve": curve}


def main() -> None:
    """Print a line per variant, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    torch.set_flush_denormal(True)
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

"""What blending once saves: steps and pictures of the same field, ratios within one run, one thread.

    python benchmarks/fitter_speed.py [--json] [--tables 16] [--samples 8192 32768 131072]

Takes about a minute.

`lookup_ratio`: a step of the ensemble itself, values and gradients of tables, codes and points, with every table read
at every sample, divided by the same with tables blended once per time step. `step_ratio`: a whole step (march, lookup,
networks, losses, gradients, Adam) in both ways; what they share, the deformation above all, bounds it. `frame_ratio`: a
picture of the ensemble divided by a picture of a static field of one table; `frame_ratio_all`: the same with the
deformation network, which a static field has not.
"""

import argparse
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from renderer.fitter.fit import Fit
from renderer.fitter.footage import Footage, read_footage
from renderer.fitter.presets import preset_of
from renderer.fitter.render import render_view
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes
from streamer.takes.reader import open_take

REPEATS = 3
SETTLED = 10


def footage(folder: Path) -> Footage:
    """Simulate a small take and read it."""
    rig = RigConfig(fps=4.0, simulated=SimulatedConfig(cameras=6, width=160, height=120))
    simulate_takes(folder, rig, takes=1, frames=4, world="demo")
    with open_take(folder) as take:
        return read_footage(take, mesh_channel="truth")


def fit_of(pictures: Footage, **values: object) -> Fit:
    """Make an untrained fit whose box is full in its middle, the same for all; all tables take part."""
    fit = Fit(pictures, preset_of("preview", {"prior": False, "rays": 1 << 16, **values}), torch.device("cpu"))
    line = (torch.arange(fit.occupancy.cells) + 0.5) / fit.occupancy.cells - 0.5
    middle = (line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2) < 0.25**2
    fit.occupancy.occupied = fit.occupancy.visible & middle
    fit.occupancy.refresh = lambda *_: None  # type: ignore[method-assign]
    fit.step = fit.preset.steps // 2
    return fit


def best(work: Callable[[], object]) -> float:
    """Return the shortest of some CPU times, seconds, after one that does not count."""
    work()
    found = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def step_times(pictures: Footage, tables: int, samples: int) -> dict[str, float]:
    """Time steps of both ways, with as many rays."""
    found, rays = {}, 0
    for way in ("once", "each"):
        fit = fit_of(pictures, **{"shape.tables": tables, "samples": samples})
        if way == "each":
            read_all(fit)
            fit.rays = rays
        else:
            for _ in range(SETTLED):
                fit.advance()  # the number of rays settles
            rays = fit.rays
        found[way] = best(fit.advance)
    return found


def read_all(fit: Fit) -> None:
    """Have every table read at every sample."""
    ensemble = fit.field.ensemble

    def forward(points: torch.Tensor, steps: list[int], counts: list[int], opened: float) -> torch.Tensor:
        return ensemble.per_sample(points, torch.tensor(steps).repeat_interleave(torch.tensor(counts)), opened)

    ensemble.forward = forward  # type: ignore[method-assign]


def lookup_times(pictures: Footage, tables: int, samples: int) -> dict[str, float]:
    """Time the ensemble alone."""
    ensemble = fit_of(pictures, **{"shape.tables": tables}).field.ensemble
    points, half = torch.rand(samples, 3, requires_grad=True), samples // 2
    each = torch.tensor([0, 1]).repeat_interleave(half)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "once": lambda: ensemble(points, [0, 1], [half, half], float(tables)),
        "each": lambda: ensemble.per_sample(points, each, float(tables)),
    }
    return {name: best(lambda way=way: way().sum().backward()) for name, way in ways.items()}  # type: ignore[misc]


def frame_times(pictures: Footage, tables: int) -> dict[str, float]:
    """Time pictures of three fields."""
    fields = {
        "static": {"shape.tables": 1, "shape.deform_layers": 0},
        "ensemble": {"shape.tables": tables, "shape.deform_layers": 0},
        "all": {"shape.tables": tables},
    }
    fits = {name: fit_of(pictures, **values) for name, values in fields.items()}
    return {name: best(lambda fit=fit: render_view(fit, pictures.cameras[0], 1)) for name, fit in fits.items()}  # type: ignore[misc]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tables", type=int, default=16)
    parser.add_argument("--samples", type=int, nargs="+", default=[1 << 13, 1 << 15, 1 << 17])
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    found: dict[str, object] = {"tables": args.tables}
    with tempfile.TemporaryDirectory() as folder:
        pictures = footage(Path(folder) / "take")
    for samples in args.samples:
        steps, lookups = (times(pictures, args.tables, samples) for times in (step_times, lookup_times))
        found[str(samples)] = {
            "step_ms": {name: round(value * 1e3, 1) for name, value in steps.items()},
            "step_ratio": round(steps["each"] / steps["once"], 2),
            "lookup_ratio": round(lookups["each"] / lookups["once"], 2),
        }
    frames = frame_times(pictures, args.tables)
    found["frame_ratio"] = round(frames["ensemble"] / frames["static"], 3)
    found["frame_ratio_all"] = round(frames["all"] / frames["static"], 3)
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()

"""How far a model is from the truth on simulated people and rigs that it never saw.

    python benchmarks/accuracy.py --model live

Simulates held-out takes (their seeds are kept out of training), evaluates the model with 8 views and with any 4 of the
8, and prints beside each figure that of the mean head placed at the true pose: a network that does not clearly beat it
has learned only pose. `demo`: the stage of `mien demo` at 640x480, another person each take. `wide`: the world of
training, 320x240, or the size of the model's pictures if that is larger.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.evaluation.evaluate import EvaluateOptions, evaluate, table
from inference.model_store import load_model
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes

HELD_OUT = {
    "demo": (SimulatedConfig(width=640, height=480, seed=1000), 12, 8),
    "wide": (SimulatedConfig(width=320, height=240, seed=100), 24, 4),
}
"""World to its configuration, number of takes, and frame sets per take."""


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="live")
    parser.add_argument(
        "--skins", type=Path, help="npz of photographic skins for the wide world (default: painted ones)"
    )
    parser.add_argument("--stride", type=int, default=1, help="every N-th frame set")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for world, (simulated, takes, frames) in HELD_OUT.items():
            if model.width > simulated.width:  # a model for larger pictures is measured on them
                simulated = replace(simulated, width=model.width, height=model.height)
            rig = replace(RigConfig(), simulated=simulated, fps=2.0)
            skins = arguments.skins if world == "wide" else None
            simulate_takes(Path(work) / world, rig, takes=takes, frames=frames, world=world, skins=skins)
            for drop in (0, 4):
                name = f"{world}, {8 - drop} views"
                results[name] = evaluate(
                    [Path(work) / world], model, EvaluateOptions(drop_cameras=drop, stride=arguments.stride)
                )
                if not arguments.json:
                    print(f"\n{name}\n{table(results[name])}", flush=True)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

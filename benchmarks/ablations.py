"""What each part of the method is worth: the model whole, and with one part left out at a time.

    python benchmarks/ablations.py --model reprocess

Held-out people and rigs of the wide world at 640x480. `localizer`: the head is expected where the axes meet.
`surface-aware`: all views count alike, whether they see the surface or not. `point-to-surface`: no heights are read
from the pictures (second stage only). `refinement`: the coarse head as it is. `close-ups`: eyes and mouth are not
looked at once more.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.evaluation.evaluate import EvaluateOptions, evaluate
from inference.model_store import load_model
from inference.tempeh.live import PARTS
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reprocess")
    parser.add_argument("--takes", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    graph_of = {"point-to-surface": "detail", "close-ups": "eyes"}
    parts = [part for part in PARTS if graph_of.get(part, "keys") in model.graphs]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        rig = replace(RigConfig(), simulated=SimulatedConfig(width=640, height=480, seed=100), fps=2.0)
        simulate_takes(Path(work) / "wide", rig, takes=arguments.takes, frames=1, world="wide")
        for part in ("", *parts):
            found = evaluate([Path(work)], model, EvaluateOptions(ablate=part))
            results[part or "whole"] = {region: found["regions"][region] for region in ("face", "eyes", "lips", "head")}
            if not arguments.json:
                face = found["regions"]["face"]
                name = f"without {part}" if part else "whole"
                near = ", ".join(f"{region} {found['regions'][region]['median_mm']:.2f}" for region in ("eyes", "lips"))
                figures = f"face {face['median_mm']:.2f} mm, vertices {face['vertex_median_mm']:.2f} mm; {near} mm"
                print(f"{name:<28} {figures}", flush=True)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

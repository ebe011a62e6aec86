"""What an iteration of `mien train` costs and where it goes, beside what simulating its samples costs.

    python benchmarks/training_step.py

CPU milliseconds of one thread, the median of several iterations: samples (decoding, cropping, recolouring), forward
and loss, backward, optimiser and average. A frame set of eight 320x240 pictures is simulated once and read many times,
so its cost counts a share of an iteration that falls with the length of the training: the last column says what share
of all CPU time simulation takes in the training that the model cards tell.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inference.tempeh.layout import chosen_vertices, head_points, template_mm
from inference.training.dataset import Corpus, read_corpus
from inference.training.loop import Average, channels_last
from inference.training.tasks import DetailTask, HeadTask, LocaliserTask, Task
from rig.config import RigConfig, SimulatedConfig
from rig.simulation.takes import simulate_takes

PARTS = ("samples", "forward_and_loss", "backward", "optimiser")
CARD_SETS, CARD_SAMPLES = 14_800, 116_000
"""Frame sets simulated, and samples drawn from them, for the shipped `live`."""


def timed(task: Task, batch_size: int, progress: float, repeats: int, *, bf16: bool) -> dict[str, float]:
    """Median CPU milliseconds of each part of an iteration.

    Args:
        task: what is learned.
        batch_size: samples in an iteration, as `mien train` has them.
        progress: how far the training is, 0 to 1; the last part of the head's learns the coarse head too.
        repeats: iterations.
        bf16: convolutions in bfloat16.
    """
    model = task.model.train()
    channels_last(model)
    optimiser, average = torch.optim.AdamW(model.parameters(), lr=1e-6), Average(model)
    spans = []
    for number in range(repeats + 1):
        marks = [time.process_time()]
        rows = [task.sample((number + row) % task.corpus.sets, np.random.default_rng(row)) for row in range(batch_size)]
        batch = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        marks.append(time.process_time())
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, _ = task.loss(batch, progress)
        marks.append(time.process_time())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        marks.append(time.process_time())
        optimiser.step()
        average.update(model)
        marks.append(time.process_time())
        spans.append(np.diff(marks) * 1000)
    middle = np.median(spans[1:], axis=0)  # the first also makes the buffers
    row = {name: round(float(value), 1) for name, value in zip(PARTS, middle, strict=True)}
    return row | {"iteration": round(float(middle.sum()), 1), "sample": round(float(middle.sum()) / batch_size, 1)}


def tasks_of(corpus: Corpus) -> dict[str, tuple[Callable[[], Task], int, float]]:
    """Name to task, samples an iteration, and progress."""
    landmarks, controls, _ = chosen_vertices(corpus.topology)
    points = head_points(template_mm(corpus.topology))
    return {
        "localiser": (lambda: LocaliserTask(corpus, landmarks), 8, 0.0),
        "head: map": (lambda: HeadTask(corpus, points, controls), 6, 0.0),
        "head: map and coarse": (lambda: HeadTask(corpus, points, controls), 6, 1.0),
        "second stage": (lambda: DetailTask(corpus), 4, 0.0),
    }


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--f32", action="store_true", help="float32 convolutions")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as work:
        simulated = SimulatedConfig(width=320, height=240, seed=77)
        rig = replace(RigConfig(), simulated=simulated)
        simulate_takes(Path(work) / "first", rig, takes=1, frames=1, world="wide")  # compiles shaders, maps the skin
        begin = time.process_time()
        simulate_takes(Path(work) / "takes", rig, takes=3, frames=4, world="wide")
        simulation = 1000 * (time.process_time() - begin) / 12
        corpus = read_corpus([Path(work) / "takes"], lambda done, total: None)
        for name, (make, size, progress) in tasks_of(corpus).items():
            torch.manual_seed(0)
            results[name] = timed(make(), size, progress, arguments.repeats, bf16=not arguments.f32)
    learning = float(np.mean([results[name]["sample"] for name in ("localiser", "head: map")]))
    share = simulation * CARD_SETS / (simulation * CARD_SETS + learning * CARD_SAMPLES)
    results["simulation"] = {"frame_set": round(simulation, 1), "share_of_the_card": round(share, 3)}
    if arguments.json:
        print(json.dumps(results))
        return
    for name, row in results.items():
        print(f"{name:<22}" + "  ".join(f"{part} {value:g}" for part, value in row.items()))


if __name__ == "__main__":
    main()

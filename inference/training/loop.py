"""The training loop: AdamW, a plateau and a cosine descent, averaged weights, checkpoints that continue the curve."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inference.training.curves import save_curves
from inference.training.ranks import Ranks
from inference.training.samples import Batches
from inference.training.tasks import Task
from streamer.errors import ModelError

WARM_UP = 150
"""Iterations until the full learning rate."""
DESCENT = 0.4
"""Last share of the training, in which the learning rate falls along a cosine to 1 %."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to learn."""

    iterations: int
    """Steps of the optimiser."""
    batch: int
    """Sets per step."""
    rate: float = 2.5e-3
    """Learning rate of the plateau."""
    seed: int = 1
    """Of weights, order and noise."""
    bf16: bool = True
    """Convolutions in bfloat16; geometry, losses and weights stay float32."""
    every: int = 200
    """Iterations between reports and checkpoints."""
    workers: int = 1
    """Threads that make samples."""

    def rate_at(self, iteration: int) -> float:
        """Learning rate of an iteration."""
        begin = self.iterations * (1 - DESCENT)
        fall = max(0.0, (iteration - begin) / max(1.0, self.iterations - begin))
        return self.rate * min(1.0, (iteration + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall)))


ALONE = Ranks()
"""One process on the CPU."""


class Average:
    """Exponential average of weights and statistics, with a warm-up."""

    def __init__(self, model: nn.Module, decay: float = 0.998) -> None:
        """Start at the model's state."""
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Take in the model's state."""
        self.steps += 1
        keep = min(self.decay, self.steps / (self.steps + 10.0))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value.detach(), 1 - keep)
            else:
                self.state[name].copy_(value)


def channels_last(model: nn.Module) -> None:
    """Lay convolution weights out channels-last in place: about twice as fast in bfloat16 on a CPU."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])


def train(
    task: Task,
    plan: Plan,
    folder: Path,
    report: Callable[[int, dict[str, float]], None],
    start: Path | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """Train a task; continue from `folder` if it holds a checkpoint of the same plan.

    Args:
        task: network, samples and loss.
        plan: length, speed and seed.
        folder: checkpoints and the curve (`<task>.curve.jsonl`) go here.
        report: called every `plan.every` iterations with the mean figures since the last call.
        start: folder of an earlier training whose averaged weights are the initial ones.
        ranks: the processes that share the batches; the first writes files and reports.

    Returns:
        The averaged state of the model, which is also loaded into `task.model`.

    Raises:
        ModelError: the loss is not finite (the batch is saved for inspection), the checkpoint is of another plan, or
            the batch cannot be divided among the processes.
    """
    if plan.batch % ranks.count:
        raise ModelError(f"a batch of {plan.batch} sets cannot be divided among {ranks.count} processes")
    folder.mkdir(parents=True, exist_ok=True)
    model = task.model.to(ranks.device)
    if start is not None:
        _begin_with(model, start / f"{task.name}.checkpoint.pt")
    channels_last(model)
    optimiser = _optimiser(model, plan)
    average = Average(model)
    begin = _resume(folder, task, plan, model, optimiser, average)
    share, count = (ranks.rank, ranks.count), task.corpus.sets
    batches = Batches(
        task.sample, count=count, batch=plan.batch, seed=plan.seed, first=begin, threads=plan.workers, share=share
    )
    sums: dict[str, list[float]] = {}
    try:
        stream = iter(batches)
        model.train()
        for iteration in range(begin, plan.iterations):
            arrays = next(stream)
            figures = _step(task, plan, optimiser, arrays, iteration, folder, ranks)
            average.update(model)
            for name, value in figures.items():
                sums.setdefault(name, []).append(value)
            if (iteration + 1) % plan.every == 0 or iteration + 1 == plan.iterations:
                means = {name: float(np.mean(values)) for name, values in sums.items()}
                sums = {}
                if ranks.rank == 0:
                    _save(folder, task, plan, optimiser, average, iteration + 1, means)
                    report(iteration + 1, means)
    finally:
        batches.close()
    model.load_state_dict(average.state)
    model.eval()
    return average.state


def _optimiser(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; only matrices decay."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98))


def _step(
    task: Task,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    arrays: dict[str, Any],
    iteration: int,
    folder: Path,
    ranks: Ranks,
) -> dict[str, float]:
    model, device = task.model, torch.device(ranks.device)
    for group in optimiser.param_groups:
        group["lr"] = plan.rate_at(iteration)
    batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
        loss, figures = task.loss(batch, iteration / plan.iterations)
    bad = not torch.isfinite(loss)
    if ranks.any(bad):
        saved = folder / (f"bad_batch.{ranks.rank}.npz" if ranks.count > 1 else "bad_batch.npz")
        if bad:
            np.savez(saved, **arrays)
        what = f"the loss is {loss.item()}" if bad else "the loss of another process is not finite"
        raise ModelError(
            f"{task.name}: {what} at iteration {iteration}" + (f"; the batch is in {saved}" if bad else "")
        )
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    figures = {"loss": loss.item(), **figures}
    told = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    ranks.average([*gradients, *(b for b in model.buffers() if b.is_floating_point()), told])
    nn.utils.clip_grad_norm_(model.parameters(), 3.0)
    optimiser.step()
    return dict(zip(figures, told.tolist(), strict=True))


def _save(
    folder: Path,
    task: Task,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    average: Average,
    iteration: int,
    means: dict[str, float],
) -> None:
    """Continue the curve and replace the checkpoint."""
    point = {"iteration": iteration, "samples": iteration * plan.batch, **means}
    with (folder / f"{task.name}.curve.jsonl").open("a") as curve:
        curve.write(json.dumps(point) + "\n")
    save_curves(folder / f"{task.name}.curve.jsonl")
    state = {
        "model": task.model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.state,
        "average_steps": average.steps,
        "iteration": iteration,
        "plan": _identity(task, plan),
    }
    path = folder / f"{task.name}.checkpoint.pt"
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training's checkpoint.

    Raises:
        ModelError: there is none, or it is something else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: not a checkpoint of a training: {error}") from error
    return state


def _begin_with(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(read_checkpoint(path)["average"])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: not a checkpoint of this network: {error}") from error


def _resume(
    folder: Path, task: Task, plan: Plan, model: nn.Module, optimiser: torch.optim.Optimizer, average: Average
) -> int:
    path = folder / f"{task.name}.checkpoint.pt"
    if not path.exists():
        return 0
    state = read_checkpoint(path)
    if state.get("plan") != _identity(task, plan):
        raise ModelError(
            f"{path} belongs to another plan ({state.get('plan')}); give another --out, or the same takes and options "
            "to continue it"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    average.state = {name: value.to(average.state[name].device) for name, value in state["average"].items()}
    average.steps = state["average_steps"]
    return int(state["iteration"])


def _identity(task: Task, plan: Plan) -> str:
    """What a checkpoint must have been made by to be continued: the plan and the takes."""
    return f"{plan} on {task.corpus.sets} sets {task.corpus.digest()}"

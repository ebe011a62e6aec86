"""`mien train`: takes in, a model folder out."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.manifest import Provenance
from inference.model_store import ModelFiles
from inference.tempeh.layout import COMPONENTS, chosen_vertices, head_points, template_mm
from inference.training.assemble import Trained, assemble
from inference.training.dataset import Corpus, read_corpus
from inference.training.loop import Plan, train
from inference.training.tasks import HeadTask, LocaliserTask, Task
from streamer.errors import TakeError
from streamer.progress import progress


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What `mien train` was asked for."""

    takes: tuple[Path, ...]
    out: Path
    name: str
    head_iterations: int = 7000
    localiser_iterations: int = 4500
    only: str = ""
    seed: int = 1
    max_views: int = 8
    threads: int = 1
    bf16: bool = True
    held_out: float = 0.02
    start: Path | None = None
    rate: float = 2.5e-3


def cli_train(args: argparse.Namespace) -> int:
    """Run `mien train`."""
    if args.network == "published":
        return _train_on_scans(args)
    if args.second_stage:
        return _train_second_stage(args)
    if args.close_ups:
        return _train_close_ups(args)
    options = TrainOptions(
        takes=tuple(args.takes),
        out=args.out,
        name=args.name,
        head_iterations=args.head_iterations,
        localiser_iterations=args.localiser_iterations,
        only=args.only,
        seed=args.seed,
        max_views=args.max_views,
        threads=args.threads,
        bf16=not args.f32,
        start=args.start,
        rate=args.rate,
    )
    result = run_training(options, quiet=args.json)
    if args.json:
        print(json.dumps(result))
    else:
        print("; ".join(f"{key} {value}" for key, value in result.items()))
    return 0


def _train_second_stage(args: argparse.Namespace) -> int:
    from inference.training.second_stage import SecondStageOptions, train_second_stage

    options = SecondStageOptions(
        takes=tuple(args.takes),
        first=args.second_stage,
        out=args.out,
        name=args.name,
        iterations=args.detail_iterations,
        rate=args.rate,
        seed=args.seed,
        threads=args.threads,
        bf16=not args.f32,
        start=args.start,
    )
    model = train_second_stage(options, quiet=args.json)
    return _told(args, model)


def _train_close_ups(args: argparse.Namespace) -> int:
    from inference.training.close_up_task import CloseUpOptions, train_close_ups

    options = CloseUpOptions(
        takes=tuple(args.takes),
        model=args.close_ups,
        out=args.out,
        name=args.name,
        iterations=args.close_up_iterations,
        rate=args.rate,
        seed=args.seed,
        threads=args.threads,
        start=args.start,
    )
    model = train_close_ups(options, quiet=args.json)
    return _told(args, model)


def _told(args: argparse.Namespace, model: ModelFiles) -> int:
    result = {"run": str(args.out), "model": str(model.folder)}
    print(json.dumps(result) if args.json else f"{model.name}: {model.folder}")
    return 0


def _train_on_scans(args: argparse.Namespace) -> int:
    from inference.training.scan_training import ScanOptions, train_on_scans

    options = ScanOptions(
        sources=tuple(args.takes),
        out=args.out,
        name=args.name,
        layout=args.layout,
        scans=args.scans,
        registrations=args.registrations,
        scan_unit=args.scan_unit,
        template=args.template,
        size=args.size,
        coarse_iterations=args.coarse_iterations,
        refine_iterations=args.refine_iterations,
        batch=args.batch,
        min_views=args.min_views,
        scan_points=args.scan_points,
        refined=args.refined,
        pretrain=args.pretrain,
        rate=args.learning_rate,
        every=args.every,
        seed=args.seed,
        bf16=not args.f32,
        threads=args.threads,
    )

    def report(stage: str, step: int, steps: int, figures: dict[str, float]) -> None:
        if not args.json:
            text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            print(f"{stage} {step}/{steps}  {text}", file=sys.stderr, flush=True)

    result = train_on_scans(options, report, quiet=args.json)
    if result and args.json:
        print(json.dumps(result))
    elif result:
        print("\n".join([f"{result['model']}: from {result['scans']} scans", *map(str, result["remarks"])]))
    return 0


def run_training(options: TrainOptions, *, quiet: bool = False) -> dict[str, str]:
    """Train what was asked for, then assemble the model if all of it is there.

    Returns:
        `run`, and `model` if one was written.

    Raises:
        TakeError: the takes cannot be trained on, or are too few.
        ModelError: the loss is not finite, or a checkpoint belongs to another plan.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    with progress("reading takes", quiet=quiet) as advance:
        corpus = read_corpus(options.takes, advance)
    learn, held_out = corpus.split(options.held_out)
    if not options.only and (learn.sets <= COMPONENTS or not held_out.sets):
        raise TakeError(
            f"{corpus.sets} frame sets are too few to train on: the shape prior has {COMPONENTS} components, and some "
            "sets are held out; simulate more takes"
        )
    trained: dict[str, dict[str, torch.Tensor]] = {}
    plans = _plans(options, learn)
    for task, plan in plans:
        with progress(f"training the {task.name}", quiet=quiet) as advance:
            trained[task.name] = dict(
                train(task, plan, options.out, reporter(task, plan, advance, quiet), options.start)
            )
    if options.only:
        return {"run": str(options.out)}
    samples = sum(plan.iterations * plan.batch for _, plan in plans)
    provenance = Provenance(shell_command(), options.seed, commit_here(), samples, {})
    model = assemble(
        Trained(trained["localiser"], trained["head"]),
        learn,
        held_out,
        name=options.name,
        folder=options.out / "model",
        max_views=options.max_views,
        provenance=provenance,
    )
    return {"run": str(options.out), "model": str(model.folder)}


def _plans(options: TrainOptions, corpus: Corpus) -> list[tuple[Task, Plan]]:
    landmarks, controls, _ = chosen_vertices(corpus.topology)
    points = head_points(template_mm(corpus.topology))
    plans: list[tuple[Task, Plan]] = []
    if options.only != "head":
        plan = Plan(options.localiser_iterations, 8, rate=options.rate, seed=options.seed, bf16=options.bf16)
        plans.append((LocaliserTask(corpus, landmarks), plan))
    if options.only != "localiser":
        plan = Plan(options.head_iterations, 6, rate=options.rate, seed=options.seed, bf16=options.bf16)
        plans.append((HeadTask(corpus, points, controls), plan))
    return plans


def reporter(
    task: Task, plan: Plan, advance: Callable[[int, int], None], quiet: bool
) -> Callable[[int, dict[str, float]], None]:
    """What tells the progress of a training, to the bar and in lines."""

    def report(iteration: int, figures: dict[str, float]) -> None:
        advance(iteration, plan.iterations)
        if not quiet:
            text = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
            print(f"{task.name} {iteration}/{plan.iterations}  {text}", file=sys.stderr, flush=True)

    return report


def shell_command() -> str:
    """The command line that is running, for the manifest."""
    return " ".join(["mien", *sys.argv[1:]])


def commit_here() -> str:
    """Commit of the source tree, empty outside a git checkout."""
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()

"""The mind's verbs: infer, reprocess, evaluate, train, model, bench. Modules are imported when a verb runs."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.arguments import add_verb, at_least_one, count, picture_size, positive
from streamer.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from inference.config import InferenceConfig
    from inference.model_store import ModelFiles


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    """Add the verbs of this room.

    `reprocess --overlay` draws with `args.overlay_take(take, video) -> pictures`, which the composition root supplies:
    this room knows no renderer.

    Args:
        verbs: where verbs are added.
        common: parent parser with --config, --set and --json.
    """
    from inference.tempeh.cli import add_published_verbs, add_register, add_scan_arguments
    from inference.tensorrt.cli import add_model_verbs

    _add_runs(verbs, common)
    add_scan_arguments(_add_train(verbs, common))
    add_register(verbs, common)
    model = verbs.add_parser("model", help="models: list, check, import, run", description="what is done with models")
    models = model.add_subparsers(dest="what", metavar="WHAT", required=True)
    add_verb(
        models, "list", _model_list, "models that ship with Mien, and their figures", "mien model list", common=common
    )
    add_model_verbs(models, common)
    add_published_verbs(models, common)
    bench = verbs.add_parser("bench", help="what things cost on this machine", description="what things cost here")
    benches = bench.add_subparsers(dest="what", metavar="WHAT", required=True)
    speed = add_verb(
        benches,
        "model",
        _bench_model,
        "what a mesh costs: time, rate, memory",
        "mien bench model live --json",
        common=common,
    )
    speed.add_argument(
        "model", nargs="?", metavar="MODEL", help="name, folder, or full: the published size (default: inference.model)"
    )
    speed.add_argument("--views", type=at_least_one, default=8, metavar="V", help="cameras (default: 8)")
    speed.add_argument("--size", type=picture_size, default=(640, 480), metavar="WxH", help="default: 640x480")
    speed.add_argument(
        "--meshes", type=at_least_one, metavar="N", help="meshes per figure (default: 60, published networks 3)"
    )
    _engine_arguments(speed)


def _add_runs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    infer = add_verb(
        verbs, "infer", _infer, "frames from the bus to meshes on the bus", "mien infer --seconds 60", common=common
    )
    infer.add_argument("--seconds", type=positive, metavar="N", help="stop after this long (default: at Ctrl-C)")

    example = "mien reprocess takes/demo/slate_T001 --layer second --model models/second"
    reprocess = add_verb(
        verbs, "reprocess", _reprocess, "run a model over a take: a new take, or a layer of it", example, common=common
    )
    reprocess.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    where = reprocess.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="TAKE2", help="folder of the new take: pictures and meshes")
    where.add_argument("--layer", metavar="NAME", help="the meshes only, as a new layer of TAKE")
    reprocess.add_argument("--calibration", type=Path, metavar="FILE", help="other cameras (default: as they were)")
    policies = ("omit", "freeze", "drop", "stop")
    reprocess.add_argument("--on-missing", choices=policies, help="what a missing camera does (default: omit)")
    reprocess.add_argument("--model", metavar="MODEL", help="name or folder (default: inference.model)")
    reprocess.add_argument("--overlay", type=Path, metavar="VIDEO.mp4", help="also draw the meshes over every view")
    _engine_arguments(reprocess)

    evaluate = add_verb(
        verbs,
        "evaluate",
        _evaluate,
        "a model's distance from the truth, beside the mean head's at the true pose",
        "mien evaluate data/held-out --drop-cameras 4 --json",
        common=common,
    )
    evaluate.add_argument("takes", nargs="+", type=Path, metavar="TAKE", help="takes with truth, or folders of them")
    evaluate.add_argument("--model", metavar="MODEL", help="name or folder (default: inference.model)")
    evaluate.add_argument("--views", type=at_least_one, metavar="V", help="so many cameras, evenly spread")
    evaluate.add_argument(
        "--drop-cameras", type=count, default=0, metavar="N", help="leave out N cameras, others for each frame set"
    )
    evaluate.add_argument("--stride", type=at_least_one, default=1, metavar="N", help="every N-th frame set")
    evaluate.add_argument(
        "--ablate",
        choices=("localizer", "surface-aware", "point-to-surface", "refinement", "close-ups"),
        default="",
        help="leave out a part of the method",
    )
    evaluate.add_argument("--scans", type=Path, metavar="DIR", help="raw scans by frame id are the truth, not meshes")
    evaluate.add_argument("--scan-unit", choices=("mm", "m"), default="mm", help="of the scans (default: mm)")
    evaluate.add_argument("--curve", type=Path, metavar="FILE.png", help="draw the cumulative error curve")
    _engine_arguments(evaluate)


def _add_train(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Declare `mien train`. Its own module imports torch; a test holds the defaults to those of `TrainOptions`."""
    example = "mien train data/train --out runs/live --name live"
    train = add_verb(verbs, "train", _train, "takes in, a model folder out", example, common=common)
    train.add_argument("takes", nargs="+", type=Path, metavar="DIR", help="takes with truth, or folders of them")
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="checkpoints, curves, model folder")
    train.add_argument("--name", default="live", help="name of the model (default: live)")
    train.add_argument("--head-iterations", type=at_least_one, default=7000, metavar="N", help="6 sets each")
    train.add_argument("--localiser-iterations", type=at_least_one, default=4500, metavar="N", help="8 sets each")
    train.add_argument("--only", choices=("localiser", "head"), default="", help="one network, and no model yet")
    train.add_argument("--rate", type=float, default=2.5e-3, help="learning rate of the plateau (default: 2.5e-3)")
    train.add_argument("--start", type=Path, metavar="RUN", help="begin with the weights of an earlier training")
    train.add_argument("--second-stage", metavar="MODEL", help="learn what `reprocess` adds to this live model")
    train.add_argument("--close-ups", metavar="MODEL", help="learn eyes and mouth for this model, from where it errs")
    train.add_argument("--close-up-iterations", type=at_least_one, default=4000, metavar="N", help="48 patches each")
    train.add_argument("--detail-iterations", type=at_least_one, default=4200, metavar="N", help="4 sets each")
    train.add_argument("--seed", type=int, default=1, help="of weights, order and noise")
    train.add_argument("--max-views", type=at_least_one, default=8, metavar="V", help="camera slots of the model")
    train.add_argument("--threads", type=at_least_one, default=1, metavar="T", help="threads of the arithmetic")
    train.add_argument("--f32", action="store_true", help="float32 convolutions (default: bfloat16)")
    return train


def _engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", metavar="NAME", help="what runs the model (default: inference.engine)")
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16", "f16"),
        help="of the convolution nets (default: inference.precision)",
    )


def _infer(args: argparse.Namespace) -> int:
    from inference.node import run_infer
    from streamer.processes import Stop

    settings = args.load()
    with Stop() as stop:
        counters = run_infer(settings.inference, settings.bus, settings.sync, stop=stop, seconds=args.seconds)
    _print(args, counters, f"{counters['meshes']} meshes, {counters['errors']} sets failed")
    return 0


def _reprocess(args: argparse.Namespace) -> int:
    from dataclasses import asdict, replace

    from inference.reprocess import Setting, layer_path, offline_sync, reprocess_take
    from streamer.imports.calibrations import read_calibration
    from streamer.progress import progress
    from streamer.takes import open_take

    settings = args.load()
    chosen = _inference(args, settings)
    overlay: Callable[[Any, Path], int] | None = getattr(args, "overlay_take", None)
    if args.overlay is not None and overlay is None:
        raise ConfigError("--overlay: this command line brings no renderer; run it as: mien reprocess")
    if args.overlay is not None and args.overlay.suffix.lower() != ".mp4":  # not after the work of an hour
        raise ConfigError(f"--overlay {args.overlay}: videos are written as .mp4; choose a name that ends so")
    if args.overlay is not None and args.layer is not None:
        raise ConfigError("--overlay draws over the pictures of a new take; use it with --out")
    with open_take(args.take) as take:
        sync = replace(offline_sync(take, settings.sync.min_cameras), on_missing=args.on_missing or "omit")
    calibration = None if args.calibration is None else read_calibration(args.calibration)
    out = args.out if args.layer is None else layer_path(args.take, args.layer)
    with progress("reconstructing", quiet=args.json) as advance:
        done = reprocess_take(
            args.take,
            out,
            model=_model(args, settings),
            engine=chosen.engine,
            precision=chosen.precision,
            threads=chosen.threads,
            setting=Setting(sync, calibration, settings.text if args.layer is not None else None),
            progress=advance,
        )
    result: dict[str, Any] = {"out": str(out), **asdict(done)}
    if args.overlay is not None and overlay is not None:
        with open_take(args.out) as take:
            result["overlay"] = {"path": str(args.overlay), "pictures": overlay(take, args.overlay)}
    trouble = f"; {done.failed} sets failed, the first: {done.first_error}" if done.failed else ""
    _print(args, result, f"{done.meshes} meshes of {done.sets} sets in {out}{trouble}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from inference.evaluation.evaluate import EvaluateOptions, evaluate, table
    from streamer.progress import progress

    settings = args.load()
    chosen = _inference(args, settings)
    options = EvaluateOptions(
        engine=chosen.engine,
        precision=chosen.precision,
        threads=chosen.threads,
        views=args.views or 0,
        drop_cameras=args.drop_cameras,
        stride=args.stride,
        ablate=args.ablate,
        scans=args.scans,
        scan_unit=args.scan_unit,
    )
    with progress("evaluating", quiet=args.json) as advance:
        result = evaluate(args.takes, _model(args, settings), options, progress=advance)
    if args.curve is not None:
        from inference.evaluation.curve_picture import save_curves

        title = f"{result['model']}, {result['meshes']} meshes from {result['views']:g} views"
        save_curves(args.curve, title, result["curve"]["mm"], result["curve"]["share"])
    _print(args, result, table(result))
    return 0


def _train(args: argparse.Namespace) -> int:
    try:
        from inference.training.cli import cli_train
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx"):
            raise
        raise MissingExtra(error.name, "train") from error
    args.load()
    return cli_train(args)


def _model_list(args: argparse.Namespace) -> int:
    from inference.describe import describe
    from inference.model_store import load_model, shipped_models

    args.load()
    models = [describe(load_model(name)) for name in shipped_models()]
    lines = [
        f"{m['name']:<12} {m['vertices']} vertices, up to {m['max_views']} views of {m['width']}x{m['height']}, "
        f"{m['megabytes']} MB" + "".join(f"\n             {key} {value:g}" for key, value in m["measured"].items())
        for m in models
    ]
    _print(args, {"models": models}, "\n".join(lines) or "no model ships with this Mien; make one with: mien train")
    return 0


def _bench_model(args: argparse.Namespace) -> int:
    from inference.bench import BenchOptions, bench_model

    settings = args.load()
    chosen = _inference(args, settings)
    result = _bench_published(args, settings, chosen)
    if result is not None:
        _print(args, result, "\n".join(f"{key:<16} {value}" for key, value in result.items()))
        return 0
    options = BenchOptions(
        engine=chosen.engine,
        precision=chosen.precision,
        threads=chosen.threads,
        views=args.views,
        width=args.size[0],
        height=args.size[1],
        meshes=args.meshes or 60,
    )
    result = bench_model(_model(args, settings), options)
    _print(args, result, "\n".join(f"{key:<16} {value}" for key, value in result.items()))
    return 0


def _bench_published(args: argparse.Namespace, settings: Any, chosen: "InferenceConfig") -> dict[str, Any] | None:
    """Return the figures of a published network; None if the model is a live one."""
    from inference.bench_published import bench_published
    from inference.published_graphs import means_seeded, prepared

    seeded = means_seeded(args.model or settings.inference.model)
    if not seeded and _model(args, settings).manifest.published is None:
        return None
    if chosen.engine == "tensorrt":
        return _bench_on_device(None if seeded else _model(args, settings), chosen.precision, args)
    if chosen.precision in ("bf16", "f16"):
        raise ConfigError(f"--precision {chosen.precision}: published networks run in f32 here; leave it out")
    model, graphs = prepared(None if seeded else str(_model(args, settings).folder))
    return bench_published(
        model, graphs, engine=chosen.engine, threads=chosen.threads, views=args.views, meshes=args.meshes or 3
    )


def _bench_on_device(model: "ModelFiles | None", precision: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a published network on a GPU; None: the seeded one, which refines its template."""
    from inference.engines import open_engine

    open_engine("tensorrt")  # not after a network was exported
    try:
        from inference.tempeh.gpu.bench import bench_on_device
        from inference.tempeh.published.seeded import seeded_model

        return bench_on_device(
            model or seeded_model(),
            precision=precision,
            views=args.views,
            meshes=args.meshes or 30,
            from_template=model is None,
        )
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx", "scipy"):
            raise
        raise MissingExtra(error.name, "train") from error


def _inference(args: argparse.Namespace, settings: Any) -> "InferenceConfig":
    """Return `[inference]` with what --engine and --precision say instead."""
    from dataclasses import replace

    given = {key: value for key in ("engine", "precision") if (value := getattr(args, key))}
    changed: InferenceConfig = replace(settings.inference, **given)
    return changed


def _model(args: argparse.Namespace, settings: Any) -> "ModelFiles":
    from inference.model_store import load_model

    return load_model(args.model or settings.inference.model)


def _print(args: argparse.Namespace, result: Mapping[str, Any], text: str) -> None:
    print(json.dumps(result) if args.json else text)

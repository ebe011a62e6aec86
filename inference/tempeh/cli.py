"""`mien model import-official` and `mien model run`: the published network. Torch is imported when one runs."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.arguments import add_verb, at_least_one, positive
from streamer.errors import MissingExtra

if TYPE_CHECKING:
    from inference.model_store import ModelFiles
    from inference.tempeh.published.inputs import Outputs, RunInputs


def add_published_verbs(
    models: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add the verbs of the published network below `mien model`.

    Args:
        models: where verbs are added.
        common: parent parser with --config, --set and --json.
    """
    example = "mien model import-official --coarse C.pth --refine R.pth --template T.obj --out models/official"
    bring = add_verb(
        models, "import-official", _import, "official TEMPEH checkpoints to a model folder", example, common=common
    )
    bring.add_argument("--coarse", type=Path, required=True, metavar="C.pth", help="checkpoint of the coarse stage")
    bring.add_argument("--refine", type=Path, required=True, metavar="R.pth", help="checkpoint of the refinement")
    bring.add_argument("--template", type=Path, required=True, metavar="T.obj", help="template mesh, metres")
    bring.add_argument("--out", type=Path, required=True, metavar="DIR", help="new model folder")

    example = "mien model run models/official --inputs set.npz --out heads.npz"
    run = add_verb(models, "run", _run, "a published network on raw inputs, in float32", example, common=common)
    run.add_argument("model", type=Path, metavar="DIR", help="folder of a published model")
    run.add_argument("--inputs", type=Path, required=True, metavar="IN.npz", help="pictures and cameras of a set")
    run.add_argument("--out", type=Path, required=True, metavar="OUT.npz", help="vertices, and what led to them")
    run.add_argument("--threads", type=at_least_one, metavar="T", help="threads of the arithmetic (default: all cores)")
    run.add_argument(
        "--engine",
        choices=("torch", "openvino"),
        default="torch",
        help="torch, the reference (default); openvino: the compiled path, ten times faster, equal to 0.6 mm at worst",
    )


def add_register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    """Add `mien register`.

    Args:
        verbs: where verbs are added.
        common: parent parser with --config, --set and --json.
    """
    example = "mien register takes/show/slate_T001 --scans scans/ --out registered/"
    register = add_verb(verbs, "register", _register, "raw scans to meshes of one topology", example, common=common)
    register.add_argument("take", type=Path, metavar="TAKE", help="take with meshes: the first guesses")
    register.add_argument("--scans", type=Path, required=True, metavar="DIR", help="<frame id>.obj, .ply or .npy")
    register.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of <frame id>.obj, metres")
    register.add_argument("--scan-unit", choices=("mm", "m"), default="mm", help="of the scans (default: mm)")
    register.add_argument(
        "--points", type=at_least_one, default=6000, metavar="P", help="of a scan per round (default: 6000)"
    )
    register.add_argument("--seed", type=int, default=1, help="draws the points (default: 1)")


def add_scan_arguments(train: argparse.ArgumentParser) -> None:
    """Add to `mien train` what learning from raw scans takes; a test holds the defaults to those of `ScanOptions`."""
    group = train.add_argument_group(
        "learning from raw scans", "mien train takes/ --scans scans/ --network published --out runs/own"
    )
    add = group.add_argument
    add("--network", choices=("live", "published"), default="live", help="what learns (default: live)")
    add("--layout", choices=("takes", "folder", "famos"), default="takes", help="how the data lie (default: takes)")
    add("--scans", type=Path, metavar="DIR", help="raw scans <take>/<frame id>.ply of takes (default: their truth)")
    add("--registrations", type=Path, metavar="DIR", help="what mien register wrote (default: meshes of the takes)")
    add("--scan-unit", choices=("mm", "m"), default="mm", help="of the scans (default: mm)")
    add("--template", type=Path, metavar="FILE", help="template mesh in metres, of folders (default: DIR/template.obj)")
    add("--size", choices=("small", "medium", "full"), default="medium", help="of the network (default: medium)")
    add("--coarse-iterations", type=at_least_one, default=20_000, metavar="N", help="steps of the coarse stage")
    add("--refine-iterations", type=at_least_one, default=5_000, metavar="N", help="steps of the refinement")
    add("--batch", type=at_least_one, default=2, metavar="B", help="scans per step, over all processes (default: 2)")
    add("--min-views", type=at_least_one, default=4, metavar="V", help="a sample shows so many or more (default: 4)")
    add("--scan-points", type=at_least_one, default=5_000, metavar="P", help="of a scan per step (default: 5000)")
    add("--refined", type=at_least_one, default=512, metavar="N", help="vertices refined per step (default: 512)")
    add("--pretrain", type=float, default=0.375, help="share of the coarse steps on vertices alone (default: 0.375)")
    add("--learning-rate", type=positive, default=1e-3, help="of the published network (default: 1e-3)")
    add("--every", type=at_least_one, default=200, metavar="N", help="steps between its checkpoints (default: 200)")


def _import(args: argparse.Namespace) -> int:
    args.load()
    _need_torch()
    from inference.tempeh.published.store import import_official

    command = " ".join(["mien", *sys.argv[1:]])
    done = import_official(args.coarse, args.refine, args.template, args.out, command=command)
    result = {
        "model": str(done.model.folder),
        "id": done.model.id,
        "vertices": done.model.topology.vertex_count,
        "consumed": dict(done.consumed),
        "explained": dict(done.explained),
    }
    if args.json:
        print(json.dumps(result))
        return 0
    keys = ", ".join(f"{stage} {count} keys" for stage, count in done.consumed.items())
    lines = [f"{result['model']} ({result['id']}): {result['vertices']} vertices; {keys}, all consumed"]
    print("\n".join(lines + [f"left out: {key}: {why}" for key, why in done.explained.items()]))
    return 0


def _run(args: argparse.Namespace) -> int:
    args.load()
    if args.engine == "torch":
        _need_torch()
    from inference.model_store import load_model
    from inference.published import published_entry
    from inference.tempeh.published.inputs import read_inputs
    from inference.topology_file import write_arrays
    from streamer.errors import ModelError
    from streamer.progress import progress

    if args.out.suffix != ".npz":
        raise ModelError(f"--out {args.out}: results are written as .npz; choose a name that ends so")
    model = load_model(args.model)
    published_entry(model)
    inputs = read_inputs(args.inputs, model.topology.vertex_count)
    with progress("reconstructing", quiet=args.json) as advance:
        outputs = _outputs(args, model, inputs, advance)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(args.out, outputs)
    views, vertices = outputs["visibility"].shape
    result = {
        "out": str(args.out),
        "views": views,
        "vertices": vertices,
        "engine": args.engine,
        "stages": ["refine"] if inputs.coarse is None else ["coarse", "refine"],
        "visible_share": round(float(outputs["visibility"].mean()), 4),
        "ignored": list(inputs.ignored),
    }
    ignored = f"; not read: {', '.join(inputs.ignored)}" if inputs.ignored else ""
    print(json.dumps(result) if args.json else f"{vertices} vertices from {views} views in {args.out}{ignored}")
    return 0


def _outputs(
    args: argparse.Namespace, model: "ModelFiles", inputs: "RunInputs", advance: Callable[[int, int], None]
) -> "Outputs":
    if args.engine != "torch":
        from inference.published_raw import run_compiled

        return run_compiled(model, inputs, advance, engine=args.engine, threads=args.threads or 0)
    import torch

    from inference.tempeh.published.run import run_published

    if args.threads:
        torch.set_num_threads(args.threads)
    return run_published(model, inputs, advance)


def _register(args: argparse.Namespace) -> int:
    args.load()
    _need_torch()
    from inference.training.registering import register_take
    from streamer.progress import progress

    with progress("registering", quiet=args.json) as advance:
        result = register_take(
            args.take,
            args.scans,
            args.out,
            scan_unit=args.scan_unit,
            points=args.points,
            seed=args.seed,
            progress=advance,
        )
    if args.json:
        print(json.dumps(result))
        return 0
    print(
        f"{result['scans']} scans registered in {result['out']}: points {result['after_mm']:.2f} mm from the surface "
        f"(median), {result['before_mm']:.2f} mm before; nine tenths within {result['p90_mm']:.2f} mm"
    )
    print("\n".join(result["remarks"]), end="\n" if result["remarks"] else "")
    return 0


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", "train") from error

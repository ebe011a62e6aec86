"""`mien model import-official` and `mien model run`: the published network. Torch is imported when one runs."""

import argparse
import json
import sys
from pathlib import Path

from streamer.arguments import add_verb, at_least_one
from streamer.errors import MissingExtra


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
    _need_torch()
    import torch

    from inference.model_store import load_model
    from inference.tempeh.published.inputs import read_inputs
    from inference.tempeh.published.run import run_published
    from inference.tempeh.published.store import published_entry
    from inference.topology_file import write_arrays
    from streamer.errors import ModelError
    from streamer.progress import progress

    if args.out.suffix != ".npz":
        raise ModelError(f"--out {args.out}: results are written as .npz; choose a name that ends so")
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_model(args.model)
    published_entry(model)
    inputs = read_inputs(args.inputs, model.topology.vertex_count)
    with progress("reconstructing", quiet=args.json) as advance:
        outputs = run_published(model, inputs, advance)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(args.out, outputs)
    views, vertices = outputs["visibility"].shape
    result = {
        "out": str(args.out),
        "views": views,
        "vertices": vertices,
        "stages": ["refine"] if inputs.coarse is None else ["coarse", "refine"],
        "visible_share": round(float(outputs["visibility"].mean()), 4),
        "ignored": list(inputs.ignored),
    }
    ignored = f"; not read: {', '.join(inputs.ignored)}" if inputs.ignored else ""
    print(json.dumps(result) if args.json else f"{vertices} vertices from {views} views in {args.out}{ignored}")
    return 0


def _need_torch() -> None:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", "train") from error

"""`mien model export` and `mien model check`: graphs for engines. Modules are imported when a verb runs."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.arguments import add_verb, at_least_one, picture_size
from streamer.errors import MissingExtra

if TYPE_CHECKING:
    from inference.model_store import ModelFiles


def add_model_verbs(
    models: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add the verbs below `mien model` that make or check graphs.

    Args:
        models: where verbs are added.
        common: parent parser with --config, --set and --json.
    """
    check = add_verb(
        models,
        "check",
        _check,
        "check a model's parts, compile it, and hold every engine against torch",
        "mien model check live --json",
        common=common,
    )
    check.add_argument(
        "model", nargs="?", metavar="MODEL", help="name, folder, or full: the published size (default: inference.model)"
    )
    check.add_argument("--no-compile", action="store_true", help="only look at the files")
    check.add_argument("--no-parity", action="store_true", help="do not hold engines against torch")
    check.add_argument("--sets", type=at_least_one, default=2, metavar="N", help="frame sets to compare (default: 2)")

    example = "mien model export live --precision f16 --out exported/live"
    export = add_verb(
        models, "export", _export, "a model's graphs as ONNX files and a manifest", example, common=common
    )
    export.add_argument(
        "model", nargs="?", metavar="MODEL", help="name, folder, or full: the published size (default: inference.model)"
    )
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    export.add_argument(
        "--precision", choices=("f32", "f16"), default="f32", help="of the convolution nets (default: f32)"
    )
    export.add_argument(
        "--views", type=at_least_one, default=0, metavar="V", help="of a published network's rig (default: 16)"
    )
    export.add_argument(
        "--size", type=picture_size, default=(0, 0), metavar="WxH", help="of its pictures (default: the model's)"
    )


def _load(args: argparse.Namespace) -> tuple["ModelFiles", Any]:
    from inference.model_store import load_model
    from inference.published_graphs import means_seeded, prepared

    settings = args.load()
    name = args.model or settings.inference.model
    return prepared(None)[0] if means_seeded(name) else load_model(name), settings


def _check(args: argparse.Namespace) -> int:
    from inference.describe import describe
    from inference.networks import compile_graphs
    from streamer.progress import progress

    model, settings = _load(args)
    result = describe(model)
    lines = [f"{result['name']} ({result['id']}): whole, and fits its topology"]
    if not args.no_compile:
        chosen = settings.inference
        graphs = compile_graphs(model, chosen.engine, chosen.precision, chosen.threads)
        result["compiled"] = {name: graph.precision for name, graph in graphs.items()}
    if not (args.no_compile or args.no_parity):
        from inference.parity import parity, table

        with progress("comparing engines", quiet=args.json) as advance:
            result["parity"] = parity(model, args.sets, advance)
        lines.append(table(result["parity"]))
    print(json.dumps({"ok": True, **result}) if args.json else "\n".join(lines))
    return 0


def _export(args: argparse.Namespace) -> int:
    from streamer.progress import progress

    model, _ = _load(args)
    try:
        from inference.model_export import ExportOptions, export_model

        options = ExportOptions(args.precision, args.views, args.size)
        with progress("exporting", quiet=args.json) as advance:
            manifest = export_model(model, args.out, options, advance)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx"):
            raise
        raise MissingExtra(error.name, "train") from error
    text = f"{len(manifest['graphs'])} graphs in {manifest['precision']} for {manifest['views']} views in {args.out}"
    print(json.dumps({"out": str(args.out), **manifest}) if args.json else text)
    return 0

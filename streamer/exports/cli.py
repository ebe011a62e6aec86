"""The verb `export`; what is heavy is imported when it runs."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from streamer.arguments import count, fraction, not_negative, positive


def add_export(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Callable[..., argparse.ArgumentParser]
) -> None:
    """Add the verb.

    Args:
        verbs: where verbs are added.
        add: `streamer.arguments.add_verb` with the common arguments.
    """
    example = "mien export takes/demo/slate_T001 --format usd --target maya --out head.usdc"
    export = add(verbs, "export", _export, "write a take for other programs", example)
    export.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    export.add_argument(
        "--format", required=True, choices=("npz", "usd", "abc", "gltf", "obj", "pc2", "mdd", "csv", "nersemble"),
        help="obj and nersemble make a folder, the others a file",
    )  # fmt: skip
    export.add_argument("--out", type=Path, required=True, metavar="PATH", help="file or folder to make")
    export.add_argument("--channel", default="mesh", choices=("mesh", "truth"), help="which meshes (default: mesh)")
    export.add_argument("--force", action="store_true", help="replace PATH if it exists")
    export.add_argument("--target", default="", metavar="NAME", help="axes and unit for: maya, unreal, blender, ...")
    export.add_argument("--name", default="head", help="name of the object (default: head)")
    export.add_argument("--frames", type=_range, metavar="A-B", help="meshes A to B, counted from 0 (default: all)")
    export.add_argument("--fps", type=fraction, metavar="F", help="resample, e.g. 30000/1001 (default: as recorded)")
    export.add_argument("--speed", type=positive, default=1.0, metavar="X", help="play so much faster (default: 1)")
    export.add_argument("--start-frame", type=int, default=0, metavar="N", help="of the first sample (default: 0)")
    export.add_argument(
        "--filter", default="none", choices=("none", "zero-phase", "one-euro"),
        help="over time: zero-phase adds no lag; one-euro is what a live client would do (default: none)",
    )  # fmt: skip
    export.add_argument("--cutoff-hz", type=positive, metavar="HZ", help="of the filter (default: 8; one-euro: 2)")
    export.add_argument("--stabilise", default="none", choices=("none", "rigid"), help="rigid: the skull stands still")
    export.add_argument("--morphs", choices=("none", "arkit", "pca"), help="gltf: pca (default) or arkit; usd: arkit")
    export.add_argument("--components", type=int, default=64, metavar="N", help="most shapes of pca (default: 64)")
    export.add_argument("--tolerance-mm", type=not_negative, default=0.01, metavar="MM", help="of pca (default: 0.01)")
    export.add_argument("--clip-frames", type=count, default=0, metavar="N", help="usd: value clips of N samples each")
    export.add_argument("--sequence", default="", metavar="S", help="nersemble: its name (default: the slate)")
    export.add_argument("--keep-lenses", action="store_true", help="nersemble: no resampling into one shared pinhole")


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (dash and all(part.isascii() and part.isdigit() for part in (first, last)) and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text}: expected A-B with A not above B, for example 0-99")
    return int(first), int(last)


def _export(args: argparse.Namespace) -> int:
    from dataclasses import fields

    from streamer.exports.export import export_take
    from streamer.exports.options import ExportOptions
    from streamer.progress import progress
    from streamer.takes.reader import open_take

    options = ExportOptions(**{field.name: getattr(args, field.name) for field in fields(ExportOptions)})
    with open_take(args.take) as take, progress("exporting", quiet=args.json) as report:
        result = export_take(take, args.format, args.out, options, on_progress=report)
    if args.json:
        print(json.dumps(result))
        return 0
    if "vertices" in result:
        print(f"{args.out}: {result['frames']} meshes of {result['vertices']} vertices")
    else:
        print(f"{args.out}: {result['frames']} pictures of each of {len(result['cameras'])} cameras")
    for note in result["notes"]:
        print(f"note: {note}")
    return 0

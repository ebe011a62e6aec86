"""Command line of the sync check."""

import argparse
import json
from functools import partial

from streamer.arguments import add_verb, positive

EXAMPLE = "mien sync check takes/demo/slate_T001 --plot sync.png"


def add_sync(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add `sync check`.

    Args:
        subparsers: of the main parser.
        common: parent with `--config`, `--set` and `--json`.
    """
    text = "are the cameras truly in sync?"
    sync = subparsers.add_parser("sync", help=text, description=text, epilog=f"Example: {EXAMPLE}")
    actions = sync.add_subparsers(dest="action", required=True, metavar="check")
    text = "skew of every camera, by its time stamps and by what the pictures show"
    check = partial(add_verb, actions, common=common)("check", run_sync_check, text, EXAMPLE)
    check.add_argument("take", nargs="?", metavar="TAKE", help="a take; default: the camera nodes on the bus")
    check.add_argument("--rig", action="store_true", help="open the configured cameras instead of listening to nodes")
    check.add_argument("--seconds", type=positive, metavar="S", help="how long (default: 10; of a take, all)")
    check.add_argument(
        "--method", choices=("auto", "light", "motion"), default="auto",
        help="what to look for: a light that changes, or what moves (default: auto)",
    )  # fmt: skip
    check.add_argument("--search-ms", type=positive, default=150.0, metavar="MS", help="largest stamp error (150)")
    check.add_argument("--limit-ms", type=positive, default=1.0, metavar="MS", help="what is in sync (default: 1)")
    check.add_argument("--plot", metavar="PNG", help="also draw offsets and signals")


def run_sync_check(args: argparse.Namespace) -> int:
    """Run `mien sync check`; 0: measured, whatever was found (`ok` in the report tells)."""
    from pathlib import Path

    from rig.sync import footage
    from rig.sync.check import as_table, check_sync
    from rig.sync.plot import write_plot
    from streamer.progress import progress

    settings = args.load()
    with progress("looking at the cameras", quiet=args.json) as report:
        if args.take is not None:
            tracks = footage.tracks_of_take(Path(args.take), seconds=args.seconds, progress=report)
        elif args.rig:
            tracks = footage.tracks_of_rig(settings.rig, seconds=args.seconds or 10.0, progress=report)
        else:
            tracks = footage.tracks_of_bus(settings.bus, seconds=args.seconds or 10.0, progress=report)
    found = check_sync(tracks, method=args.method, limit_ms=args.limit_ms, search_ms=args.search_ms)
    if args.plot is not None:
        write_plot(found, tracks, Path(args.plot))
    print(json.dumps(found.as_json()) if args.json else as_table(found))
    return 0

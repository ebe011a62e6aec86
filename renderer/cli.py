"""Verbs of the eye."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from streamer.arguments import positive, size_between

SIZE = size_between((160, 120), (7680, 4320))


def add_verbs(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add `view` and `fit`.

    Args:
        subparsers: of the main parser.
        common: parent with --config, --set and --json.
    """
    from renderer.viewer.keys import help_lines

    text = "the live head, camera pictures with the mesh over them, and figures"
    view = subparsers.add_parser(
        "view",
        parents=[common],
        help=text,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Example: mien view --snapshot out.png\n"
        f"         mien view --take DIR --against truth --press m m m --snapshot out.png\n\n"
        f"Keys of the window; --press takes them too:\n{help_lines()}",
    )
    view.add_argument("--snapshot", type=Path, metavar="FILE.png|.webp", help="wait for a mesh, write the screen")
    view.add_argument("--video", type=Path, metavar="FILE.mp4|.webp", help="write the screen from the first mesh on")
    view.add_argument("--web", action="store_true", help="serve the browser view on view.web_port, this machine only")
    view.add_argument("--headless", action="store_true", help="open no window even where there is a display")
    view.add_argument("--seconds", type=positive, metavar="N", help="stop after this long (--snapshot alone: 60)")
    view.add_argument("--take", type=Path, metavar="PATH", help="show a recorded take instead of the bus")
    view.add_argument("--at", type=float, default=0.0, metavar="S", help="begin at this second of the take")
    view.add_argument(
        "--against", default="", metavar="WHAT", help="second layer: 'truth' or a layer of the take, or another take"
    )
    view.add_argument("--scans", type=Path, metavar="DIR", help="raw scans of the take, <frame id>.obj, .ply or .npy")
    view.add_argument("--scan-unit", choices=("m", "cm", "mm"), default="m", help="unit of the scans (default: m)")
    view.add_argument("--press", nargs="+", default=(), metavar="KEY", help="keys to begin with, e.g. --press m 2")
    view.add_argument("--size", type=SIZE, metavar="WxH", help="size of the picture, e.g. 1920x1080 (default: [view])")
    view.set_defaults(handler=_view)
    from renderer.fitter.cli import add_fit

    add_fit(subparsers, common)


def _view(args: argparse.Namespace) -> int:
    from renderer.viewer.app import ViewOptions, run_view
    from streamer.processes import Stop

    settings = args.load()
    view = settings.view
    if args.size is not None:
        view = dataclasses.replace(view, width=args.size[0], height=args.size[1])
    alone = args.snapshot is not None and args.video is None and not args.web
    seconds = 60.0 if args.seconds is None and alone else args.seconds
    if args.web:
        print(f"browser view: http://localhost:{view.web_port}", file=sys.stderr, flush=True)
    with Stop() as stop:
        report = run_view(
            view,
            settings.bus,
            ViewOptions(
                seconds=seconds,
                snapshot=args.snapshot,
                video=args.video,
                web=args.web,
                window="off" if args.headless else "auto",
                take=args.take,
                at_s=args.at,
                against=args.against,
                scans=args.scans,
                scan_unit=args.scan_unit,
                keys=tuple(args.press),
            ),
            stop=stop,
        )
    if args.json:
        print(json.dumps(dataclasses.asdict(report)))
    return 0

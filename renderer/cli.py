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
    text = "the live head, camera pictures with the mesh over them, and figures"
    view = subparsers.add_parser(
        "view", parents=[common], help=text, description=text, epilog="Example: mien view --snapshot out.png"
    )
    view.add_argument("--snapshot", type=Path, metavar="FILE.png", help="wait for a mesh, write the screen")
    view.add_argument("--video", type=Path, metavar="FILE.mp4", help="write the screen from the first mesh on")
    view.add_argument("--web", action="store_true", help="serve the browser view on view.web_port, this machine only")
    view.add_argument("--headless", action="store_true", help="open no window even where there is a display")
    view.add_argument("--seconds", type=positive, metavar="N", help="stop after this long (--snapshot alone: 60)")
    view.add_argument("--take", type=Path, metavar="PATH", help="show a recorded take instead of the bus")
    view.add_argument("--size", type=SIZE, metavar="WxH", help="size of the picture, e.g. 1920x1080 (default: [view])")
    view.set_defaults(handler=_view)
    from renderer.fitter.cli import add_fit

    add_fit(subparsers, common)


def _view(args: argparse.Namespace) -> int:
    from renderer.viewer.app import run_view
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
            stop=stop,
            seconds=seconds,
            snapshot=args.snapshot,
            video=args.video,
            web=args.web,
            window="off" if args.headless else "auto",
            take=args.take,
        )
    if args.json:
        print(json.dumps(dataclasses.asdict(report)))
    return 0

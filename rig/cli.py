"""Command line of the rig: node, cameras, simulate, calibrate."""

import argparse
import json
from typing import TYPE_CHECKING

from streamer.arguments import at_least_one, picture_size, positive

if TYPE_CHECKING:
    from rig.config import RigConfig

NODE = """\
examples:
  mien node                                     publish the simulated rig until Ctrl-C
  mien node --seconds 10 --set rig.fps=60
  mien node --set rig.driver=playback --set rig.playback.source=takes/demo/slate_T001
"""
CAMERAS = """\
examples:
  mien cameras list --json
  mien cameras preview --out cameras.png
"""
SIMULATE = """\
examples:
  mien simulate --out takes/one --seconds 10
  mien simulate --out training --takes 200 --frames 16 --world wide --seed 1 --jobs 2
"""


def add_verbs(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add `node`, `cameras` and `simulate`.

    Args:
        subparsers: of the main parser.
        common: parent with `--config`, `--set` and `--json`.
    """
    raw = argparse.RawDescriptionHelpFormatter
    node = subparsers.add_parser(
        "node", parents=[common], help="publish the cameras of this host", epilog=NODE, formatter_class=raw
    )
    node.add_argument("--seconds", type=positive, metavar="S", help="stop after S seconds; default: Ctrl-C")
    node.add_argument("--record", action="store_true", help="also record full pictures on this host, as a take")
    node.add_argument("--out", metavar="TAKE", help="folder of that take (default: next of record.show and slate)")
    node.set_defaults(handler=run_node_verb)

    cameras = subparsers.add_parser("cameras", help="list or preview cameras", epilog=CAMERAS, formatter_class=raw)
    actions = cameras.add_subparsers(dest="action", required=True, metavar="list|preview")
    text = "the cameras that the configured driver finds"
    listing = actions.add_parser("list", parents=[common], help=text, epilog=CAMERAS, formatter_class=raw)
    listing.set_defaults(handler=run_cameras_list)
    text = "one picture of each camera in a contact sheet"
    preview = actions.add_parser("preview", parents=[common], help=text, epilog=CAMERAS, formatter_class=raw)
    preview.add_argument("--out", default="cameras.png", metavar="FILE", help="PNG to write (default: cameras.png)")
    preview.add_argument(
        "--wait", type=positive, default=10.0, metavar="S", help="longest wait for a camera (default: 10)"
    )
    preview.set_defaults(handler=run_cameras_preview)

    from rig.sync.cli import add_sync

    add_sync(subparsers, common)
    from rig.calibration.cli import add_calibrate

    add_calibrate(subparsers, common)
    simulate = subparsers.add_parser(
        "simulate", parents=[common], help="write takes of the simulated rig", epilog=SIMULATE, formatter_class=raw
    )
    _add_simulate(simulate)
    simulate.set_defaults(handler=run_simulate)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", help="the take; with --takes, a folder of takes")
    parser.add_argument("--takes", type=at_least_one, default=1, metavar="N", help="number of takes (default: 1)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=positive, metavar="S", help="length of each take (default: 5)")
    length.add_argument("--frames", type=at_least_one, metavar="N", help="length of each take in frame sets")
    parser.add_argument("--fps", type=float, help="frames per second (default: rig.fps)")
    parser.add_argument("--cameras", type=at_least_one, metavar="N", help="cameras (default: rig.simulated.cameras)")
    parser.add_argument("--size", type=picture_size, metavar="WxH", help="of pictures (default: rig.simulated's)")
    parser.add_argument("--seed", type=int, help="person, look, rig and performance (default: rig.simulated.seed)")
    parser.add_argument(
        "--world", choices=("demo", "wide", "room"), default="demo", help="the demo's; any studio; webcams in any room"
    )
    parser.add_argument("--mattes", action="store_true", help="exact mattes as the layer alpha; the demo's world only")
    parser.add_argument("--skins", metavar="NPZ", help="photographic skins (skin_textures), not for demo")
    parser.add_argument("--jobs", type=at_least_one, default=1, metavar="J", help="processes (default: 1)")


def run_node_verb(args: argparse.Namespace) -> int:
    """Run `mien node`."""
    from pathlib import Path

    from rig.node import run_node
    from streamer.processes import Stop

    settings = args.load()
    recording = None
    if args.record:
        from rig.host_recording import HostRecordingOptions

        path = None if args.out is None else Path(args.out)
        recording = HostRecordingOptions(settings.record, settings.sync, settings.text, path)
    with Stop() as stop:
        counters = run_node(settings.rig, settings.bus, stop=stop, seconds=args.seconds, recording=recording)
    if args.json:
        print(json.dumps({"counters": dict(counters)}))
    return 0


def run_cameras_list(args: argparse.Namespace) -> int:
    """Run `mien cameras list`."""
    from rig.cameras import list_cameras

    found = list_cameras(args.load().rig)
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"driver {found['driver']}, {found['fps']:g} fps, triggers: {', '.join(found['triggers'])}")
    for camera in found["cameras"]:
        size = f"{camera['width']}x{camera['height']}"
        notes = [
            camera["firmware"] and f"firmware {camera['firmware']}",
            "" if camera["calibrated"] else "not calibrated",
        ]
        print(f"{camera['id']:<16} {camera['serial']:<24} {size:<10} {', '.join(filter(None, notes))}".rstrip())
    return 0


def run_cameras_preview(args: argparse.Namespace) -> int:
    """Run `mien cameras preview`."""
    from pathlib import Path

    from rig.cameras import preview_cameras

    shown = preview_cameras(args.load().rig, Path(args.out), wait_s=args.wait)
    if args.json:
        print(json.dumps(shown))
    else:
        silent = f"; silent: {', '.join(shown['silent'])}" if shown["silent"] else ""
        print(f"{args.out}: {len(shown['cameras'])} cameras{silent}")
    return 0


def run_simulate(args: argparse.Namespace) -> int:
    """Run `mien simulate`."""
    from pathlib import Path

    from rig.simulation.takes import simulate_takes
    from streamer.progress import progress

    rig = effective_rig(args, args.load().rig)
    frames = args.frames or max(1, round((5.0 if args.seconds is None else args.seconds) * rig.fps))
    with progress("simulating takes", quiet=args.json) as advance:
        takes = simulate_takes(
            Path(args.out),
            rig,
            takes=args.takes,
            frames=frames,
            world=args.world,
            jobs=args.jobs,
            skins=None if args.skins is None else Path(args.skins),
            mattes=args.mattes,
            progress=advance,
        )
    if args.json:
        print(json.dumps({"takes": [str(path) for path in takes], "frames": frames}))
    else:
        print(f"{args.out}: {len(takes)} take(s) of {frames} frame sets")
    return 0


def effective_rig(args: argparse.Namespace, rig: "RigConfig") -> "RigConfig":
    """Return the configured rig with what the arguments of `simulate` change.

    Raises:
        ConfigError: a value that `[rig.simulated]` does not allow.
    """
    from dataclasses import replace

    from rig.config import RigConfig
    from streamer.config import parse_section

    changed = {"cameras": args.cameras, "seed": args.seed}
    if args.size is not None:
        changed["width"], changed["height"] = args.size
    given = {key: value for key, value in changed.items() if value is not None}
    # Through the parser of the file, so that a flag obeys the limits of its key.
    checked = parse_section(
        RigConfig, {"simulated": given, **({} if args.fps is None else {"fps": args.fps})}, "simulate: rig"
    )
    simulated = replace(rig.simulated, **{key: getattr(checked.simulated, key) for key in given})
    return replace(rig, simulated=simulated, fps=rig.fps if args.fps is None else checked.fps)

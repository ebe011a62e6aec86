"""Command line of calibration: `mien calibrate intrinsic|extrinsic|report|guide|check|world|convert`."""

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from streamer.arguments import add_verb, at_least_one, positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.calibration.files import Material
    from streamer.types import Calibration

LENSES = ("none", "k1", "k1k2", "k1k2p1p2", "k1k2p1p2k3")
FORMATS = ("mien", "opencv", "colmap", "caliscope", "nersemble", "famos")


def add_calibrate(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Add `calibrate` and its actions.

    Args:
        subparsers: of the main parser.
        common: parent with `--config`, `--set` and `--json`.
    """
    text = "calibrate cameras, report what is wrong, check for drift without a board, convert calibrations"
    calibrate = subparsers.add_parser(
        "calibrate",
        help=text,
        description=text,
        epilog="Example: mien calibrate extrinsic --board board.toml "
        "--videos cam_0=a.mp4 --videos cam_1=b.mp4 --out rig.toml --report report.html",
    )
    actions = calibrate.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = partial(add_verb, actions, common=common)
    one = add(
        "intrinsic",
        run_intrinsic,
        "focal length, principal point and lens of each camera",
        "mien calibrate intrinsic --board board.toml --images 'left=left*.jpg' --out left.toml",
    )
    _add_material(one)
    _add_lens(one)
    one.add_argument("--out", required=True, metavar="CAL.toml", help="calibration to write (without places)")
    rig = add(
        "extrinsic",
        run_extrinsic,
        "all cameras and lenses at once, from pictures of one moved board",
        "mien calibrate extrinsic --board board.toml --images 'l=l*.jpg' 'r=r*.jpg' --out rig.toml",
    )
    _add_material(rig)
    _add_lens(rig)
    rig.add_argument("--intrinsics", metavar="CAL.toml", help="keep these intrinsics (default: estimated together)")
    rig.add_argument(
        "--world", default="ring", metavar="W", help="ring (default: upright, by the cameras), board, board:SET"
    )
    rig.add_argument(
        "--reference", metavar="CAL", help="an earlier calibration: tells what moved, flipped or changed size"
    )
    rig.add_argument("--report", metavar="HTML", help="also write the report")
    rig.add_argument("--out", required=True, metavar="CAL.toml", help="calibration to write")
    _add_judges(add)
    _add_moves(add)


def _add_judges(add: "Callable[..., argparse.ArgumentParser]") -> None:
    report = add(
        "report",
        run_report,
        "what is wrong with a calibration, and where, on pictures of a board",
        "mien calibrate report rig.toml --board board.toml --take takes/board --out report.html",
    )
    report.add_argument("calibration", metavar="CAL", help="the calibration to judge")
    _add_material(report)
    report.add_argument("--units", choices=("m", "cm", "mm"), help="of a calibration that does not tell its own")
    report.add_argument("--out", metavar="HTML", help="report to write, self-contained")
    guide = add(
        "guide",
        run_guide,
        "which parts of each picture still lack views of the board, live or on files",
        "mien calibrate guide --board board.toml --live --seconds 60 --out coverage.png",
    )
    _add_material(guide)
    guide.add_argument("--live", action="store_true", help="look at the cameras of the bus")
    guide.add_argument(
        "--seconds", type=positive, default=60.0, metavar="S", help="longest time with --live (default: 60)"
    )
    guide.add_argument("--out", metavar="PNG", help="picture to write; with --live again and again")
    check = add(
        "check",
        run_check,
        "which camera moved since calibration, by the tracked head: no board needed",
        "mien calibrate check --take takes/demo/slate_T001 --out refined.toml",
    )
    source = check.add_mutually_exclusive_group(required=True)
    source.add_argument("--take", metavar="TAKE", help="a take with meshes")
    source.add_argument("--live", action="store_true", help="frames and meshes of the bus")
    check.add_argument(
        "--seconds", type=positive, default=20.0, metavar="S", help="longest time with --live (default: 20)"
    )
    check.add_argument("--sets", type=at_least_one, default=24, metavar="N", help="frame sets to look at (default: 24)")
    check.add_argument("--channel", choices=("mesh", "truth"), default="mesh", help="of the meshes (default: mesh)")
    check.add_argument("--calibration", metavar="CAL", help="judge this one (default: the take's, the bus's)")
    check.add_argument("--out", metavar="CAL.toml", help="refined calibration to write: a new file")


def _add_moves(add: "Callable[..., argparse.ArgumentParser]") -> None:
    world = add(
        "world",
        run_world,
        "move a calibration's origin to the head of a take",
        "mien calibrate world rig.toml --take takes/demo/slate_T001 --out headed.toml",
    )
    world.add_argument("calibration", metavar="CAL", help="calibration")
    world.add_argument("--take", required=True, metavar="TAKE", help="a take with meshes, made with this calibration")
    world.add_argument("--channel", choices=("mesh", "truth"), default="mesh", help="of the meshes (default: mesh)")
    world.add_argument("--out", required=True, metavar="CAL.toml", help="calibration to write")
    convert = add(
        "convert",
        run_convert,
        "read and write calibrations of other programs",
        "mien calibrate convert rig.toml --to opencv --out rig.yml",
    )
    convert.add_argument("calibration", metavar="IN", help="file or folder of any known format")
    convert.add_argument("--to", choices=FORMATS, default="mien", help="format to write (default: mien)")
    convert.add_argument("--units", choices=("m", "cm", "mm"), help="of IN, where it does not tell")
    convert.add_argument("--out", required=True, metavar="OUT", help="file (colmap, nersemble, famos: folder) to write")


def _add_material(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", required=True, metavar="BOARD.toml", help="kind, columns, rows, square_mm, ...")
    many: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
    parser.add_argument(
        "--images", metavar="NAME=GLOB", help="pictures of a camera; k-th pictures belong together", **many
    )
    parser.add_argument(
        "--videos", metavar="NAME=FILE", help="video of a camera; frames belong together by time", **many
    )
    parser.add_argument("--times", metavar="NAME=CSV", help="exposure times of a video, or one CSV of all", **many)
    parser.add_argument("--take", default="", metavar="TAKE", help="a take of the board")
    parser.add_argument("--max-sets", type=at_least_one, default=400, metavar="N", help="sets looked at (default: 400)")
    parser.add_argument("--max-used", type=at_least_one, default=120, metavar="N", help="sets used (default: 120)")


def _add_lens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lens", choices=LENSES, help="lens model of all cameras (default: by evidence, for each)")


def _material(args: argparse.Namespace) -> "Material":
    from pathlib import Path

    from rig.calibration.files import Material

    return Material(Path(args.board), args.images, args.videos, args.times, args.take, args.max_sets, args.max_used)


def run_intrinsic(args: argparse.Namespace) -> int:
    """Run `mien calibrate intrinsic`."""
    from pathlib import Path

    from rig.calibration.extrinsics import calibrate_lenses
    from rig.calibration.files import gather, lens_calibration, lens_json
    from streamer.calibration import save_calibration
    from streamer.progress import progress

    with progress("finding the board", quiet=args.json) as advance:
        found = gather(_material(args), advance)
    with progress("choosing lens models", quiet=args.json) as advance:
        lenses = calibrate_lenses(found, lens=args.lens, progress=advance)
    save_calibration(lens_calibration(found, lenses, "mien calibrate intrinsic"), Path(args.out))
    result = lens_json(found, lenses)
    if args.json:
        print(json.dumps(result))
    else:
        _print_cameras(result, args.out)
    return 0


def run_extrinsic(args: argparse.Namespace) -> int:
    """Run `mien calibrate extrinsic`."""
    from pathlib import Path

    from rig.calibration.diagnosis import diagnose
    from rig.calibration.extrinsics import calibrate_rig
    from rig.calibration.files import gather, rig_json
    from rig.calibration.formats import read_any
    from rig.calibration.report import write_report
    from streamer.calibration import save_calibration
    from streamer.progress import progress

    given = None if args.intrinsics is None else read_any(Path(args.intrinsics))
    reference = None if args.reference is None else read_any(Path(args.reference))
    with progress("finding the board", quiet=args.json) as advance:
        found = gather(_material(args), advance)
    with progress("calibrating", quiet=args.json) as advance:
        rig = calibrate_rig(
            found, given=given, lens=args.lens, world=args.world, source="mien calibrate extrinsic", progress=advance
        )
    save_calibration(rig.calibration, Path(args.out))
    result = {**rig_json(rig, found), "findings": diagnose(rig, found, reference)}
    if args.report:
        write_report(Path(args.report), rig, found, result)
    if args.json:
        print(json.dumps(result))
    else:
        _print_cameras(result, args.out)
    return 0


def run_report(args: argparse.Namespace) -> int:
    """Run `mien calibrate report`."""
    from pathlib import Path

    from rig.calibration.diagnosis import diagnose
    from rig.calibration.files import gather, rig_json
    from rig.calibration.formats import read_any
    from rig.calibration.judge import judge
    from rig.calibration.report import write_report
    from streamer.progress import progress

    calibration = read_any(Path(args.calibration), args.units)
    with progress("finding the board", quiet=args.json) as advance:
        found = gather(_material(args), advance)
    judged, fresh = judge(found, calibration)
    result = {**rig_json(judged, found), "findings": diagnose(judged, found, calibration if fresh else None, fresh)}
    if args.out:
        write_report(Path(args.out), judged, found, result)
    if args.json:
        print(json.dumps(result))
    else:
        _print_cameras(result, args.out or args.calibration)
    return 0


def run_guide(args: argparse.Namespace) -> int:
    """Run `mien calibrate guide`."""
    from pathlib import Path

    from rig.calibration.guide import guide_files, guide_live
    from streamer.processes import Stop
    from streamer.progress import progress

    out = None if args.out is None else Path(args.out)

    def tell(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    if args.live:
        with Stop() as stop:
            found = guide_live(args.load().bus, Path(args.board), args.seconds, out, stop, tell)
    else:
        with progress("finding the board", quiet=args.json) as advance:
            found = guide_files(_material(args), out, advance)
        for name, one in found.items():
            tell(f"{name:<12} {one['share']:4.0%} covered, {one['views']} views; {_wants(one)}")
    if args.json:
        print(json.dumps({"cameras": found, "out": args.out}))
    return 0


def _wants(one: dict[str, Any]) -> str:
    return "show: " + ", ".join(one["lacking"]) if one["lacking"] else "done"


def run_check(args: argparse.Namespace) -> int:
    """Run `mien calibrate check`."""
    from pathlib import Path

    from rig.calibration.check import check_live, check_take
    from rig.calibration.formats import read_any
    from streamer.calibration import save_calibration
    from streamer.errors import CalibrationError
    from streamer.processes import Stop
    from streamer.progress import progress

    out = None if args.out is None else Path(args.out)
    if out is not None and out.exists():
        raise CalibrationError(f"{out} exists already; a check never overwrites: give another --out")
    given = None if args.calibration is None else read_any(Path(args.calibration))
    with progress("comparing views", quiet=args.json) as advance:
        if args.live:
            with Stop() as stop:
                found = check_live(args.load().bus, args.seconds, args.sets, given, stop, advance)
        else:
            found = check_take(Path(args.take), args.sets, args.channel, given, advance)
    if out is not None:
        save_calibration(found.refined, out)
    if args.json:
        print(json.dumps({**found.as_json(), "out": args.out}))
        return 0
    for line in found.lines():
        print(line)
    if out is not None:
        print(f"{out}: refined calibration")
    return 0


def run_world(args: argparse.Namespace) -> int:
    """Run `mien calibrate world`."""
    from pathlib import Path

    from rig.calibration.check import world_by_head
    from streamer.calibration import load_calibration, save_calibration

    placed = world_by_head(load_calibration(Path(args.calibration)), Path(args.take), args.channel)
    save_calibration(placed, Path(args.out))
    result = {"out": args.out, "camera_from_world": {c.id: c.camera_from_world.tolist() for c in placed.cameras}}
    print(json.dumps(result) if args.json else f"{args.out}: the origin is the head's middle")
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """Run `mien calibrate convert`."""
    from pathlib import Path

    from rig.calibration.formats import read_any, write_as

    calibration: Calibration = read_any(Path(args.calibration), args.units)
    notes = write_as(calibration, args.to, Path(args.out))
    result = {"out": args.out, "format": args.to, "cameras": list(calibration.ids), "notes": notes}
    print(json.dumps(result) if args.json else "\n".join([f"{args.out}: {len(calibration.ids)} cameras", *notes]))
    return 0


def _print_cameras(result: dict[str, Any], out: str) -> None:
    for name, one in result["cameras"].items():
        print(
            f"{name:<12} rms {one['rms_px']:.3f} px  f {one['fx']:.2f} {one['fy']:.2f}"
            f"  c {one['cx']:.2f} {one['cy']:.2f}"
            f"  lens {one['lens']}  {one['views']} views"
        )
    board = result["board_error_mm"]
    if board["rmse"] is not None:
        print(f"distances on the board: rmse {board['rmse']:.3f} mm, bias {board['bias']:+.3f} mm")
    for note in result["notes"]:
        print(f"note: {note}")
    for finding in result.get("findings", []):
        print(f"{finding['severity']}: {finding['text']}")
    print(f"{out}: written" if out else "")

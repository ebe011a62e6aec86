"""The streamer's verbs: record, replay, serve, recover, verify, export, import. A verb imports what it needs."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.arguments import add_verb, fraction, not_negative, picture_size, positive
from streamer.errors import ConfigError, TakeError

if TYPE_CHECKING:
    from streamer.imports.footage import Storage


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    """Add the verbs of this room.

    Args:
        verbs: where verbs are added.
        common: parent parser with --config, --set and --json.
    """
    from streamer.key_cli import add_key_verbs
    from streamer.take_cli import add_take_verbs

    add = partial(add_verb, common=common)
    record = add(verbs, "record", _record, "record every channel of the bus into a take", "mien record --seconds 60")
    record.add_argument("--out", type=Path, metavar="TAKE", help="folder of the take (default: next of show and slate)")
    record.add_argument("--seconds", type=positive, metavar="N", help="stop after this long (default: at Ctrl-C)")
    record.add_argument("--show", metavar="NAME", help="show (default: record.show)")
    record.add_argument("--slate", metavar="NAME", help="slate (default: record.slate)")
    record.add_argument("--armed", action="store_true", help="wait for commands (mien take start), until Ctrl-C")
    record.add_argument("--start", action="store_true", help="with --armed: begin the first take at once")
    add_take_verbs(verbs, common, _say)
    add_key_verbs(verbs, common, _say)

    replay = add(
        verbs, "replay", _replay, "publish a take on the bus, as a node would", "mien replay takes/demo/slate_T001"
    )
    replay.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    replay.add_argument(
        "--speed", type=not_negative, default=1.0, help="1: as recorded (default); 0: as fast as it goes"
    )
    replay.add_argument("--loop", action="store_true", help="begin again at the end; ids go on counting")
    replay.add_argument("--meshes", action="store_true", help="also publish the recorded meshes")
    replay.add_argument("--lead", type=not_negative, default=1.0, metavar="S", help="seconds before the first frame")

    serve = add(verbs, "serve", _serve, "the live head for engines and tools, over TCP and WebSocket", "mien serve")
    serve.add_argument("--seconds", type=positive, metavar="N", help="stop after this long (default: at Ctrl-C)")
    serve.add_argument("--channel", default="mesh", choices=("mesh", "truth"), help="which meshes (default: mesh)")

    recover = add(
        verbs, "recover", _recover, "repair a take that was cut short or damaged", "mien recover takes/demo/slate_T001"
    )
    recover.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    verify = add(verbs, "verify", _verify, "check every byte of a take", "mien verify takes/demo/slate_T001 --json")
    verify.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")

    from streamer.exports.cli import add_export  # here, since it is light but no part of the vocabulary

    add_export(verbs, add)
    _add_imports(verbs, add)


def _add_imports(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Callable[..., argparse.ArgumentParser]
) -> None:
    text = "make a take of footage from elsewhere"
    imports = verbs.add_parser("import", help=text, description=text, epilog="Example: mien import video --help")
    sources = imports.add_subparsers(dest="source", metavar="SOURCE", required=True)

    example = "mien import video --videos shots/ --times shots/timestamps.csv --calibration rig.toml --out takes/shots"
    video = add(sources, "video", _import_video, "videos with a calibration and time stamps", example)
    video.add_argument(
        "--videos",
        nargs="+",
        required=True,
        metavar="DIR|NAME=FILE",
        help="a folder of <camera>.mp4, or each camera's file",
    )
    video.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="FILE",
        help="of Mien; or Caliscope / aniposelib TOML, cameras.json",
    )
    video.add_argument("--units", choices=("m", "cm", "mm"), help="unit of a calibration that does not tell its own")
    video.add_argument(
        "--times", nargs="+", default=[], metavar="CSV|NAME=CSV",
        help="exposure times: one file with cam_id and frame_time (s), or one per camera (default: in the videos)",
    )  # fmt: skip
    video.add_argument(
        "--tolerance-ms", type=positive, metavar="MS", help="largest spread of a set (default: 0.45 of a period)"
    )
    video.add_argument(
        "--clock", default="media", metavar="NAME", help="name of the clock of the times (default: media)"
    )
    _add_storage(video)
    _add_picture_imports(sources, add)

    example = "mien import nersemble data/017 --sequence EXP-1-head --out takes/017_EXP-1-head"
    nersemble = add(sources, "nersemble", _import_nersemble, "a sequence in the layout of NeRSemble v2", example)
    nersemble.add_argument("folder", type=Path, metavar="DIR", help="folder of one participant")
    nersemble.add_argument("--sequence", required=True, metavar="S", help="name of the sequence")
    nersemble.add_argument(
        "--fps", type=fraction, metavar="F", help="frame rate, e.g. 73 or 60000/1001 (default: the videos')"
    )
    nersemble.add_argument(
        "--calibrated-size",
        type=picture_size,
        metavar="WxH",
        help="size that the intrinsics are meant for (default: the videos')",
    )
    _add_storage(nersemble)


def _add_picture_imports(
    sources: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Callable[..., argparse.ArgumentParser]
) -> None:
    example = "mien import images --images shots/ --calibration rig.toml --fps 24 --out takes/shots"
    images = add(sources, "images", _import_images, "picture files with a calibration", example)
    images.add_argument(
        "--images", nargs="+", required=True, metavar="DIR|NAME=GLOB", help="a folder of <camera>/*.png; or each's"
    )
    _add_numbered(images)

    example = "mien import famos data/images --subject S1 --sequence smile --calibration rig.toml --out takes/smile"
    famos = add(sources, "famos", _import_images, "a sequence in the layout of FaMoS and TEMPEH", example)
    famos.add_argument("folder", type=Path, metavar="DIR", help="folder of <subject>/<sequence>/<frame>/ pictures")
    famos.add_argument("--subject", required=True, metavar="S", help="name of the subject")
    famos.add_argument("--sequence", required=True, metavar="Q", help="name of the sequence")
    _add_numbered(famos)


def _add_numbered(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration", type=Path, required=True, metavar="FILE", help="of Mien; of others: mien calibrate convert"
    )
    parser.add_argument("--units", choices=("m", "cm", "mm"), help="unit of a calibration that does not tell its own")
    parser.add_argument("--fps", type=fraction, required=True, metavar="F", help="frame rate, e.g. 60 or 60000/1001")
    _add_storage(parser)


def _add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="TAKE", help="folder of the take to make")
    parser.add_argument(
        "--encoding", choices=("jpeg", "raw"), default="jpeg", help="how pictures are kept (default: jpeg)"
    )
    parser.add_argument(
        "--jpeg-quality", type=int, default=92, choices=range(1, 101), metavar="1..100", help="default: 92"
    )
    parser.add_argument("--show", default="import", metavar="NAME", help="show name in the take (default: import)")
    parser.add_argument("--slate", default="footage", metavar="NAME", help="slate name in the take (default: footage)")


def _say(args: argparse.Namespace, result: dict[str, Any], line: str) -> None:
    print(json.dumps(result) if args.json else line)


def _record(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from streamer.processes import Stop
    from streamer.takes.layout import read_info
    from streamer.takes.recorder import run_armed, run_record

    if args.armed and (args.out is not None or args.seconds is not None):
        raise ConfigError("--armed goes on from take to take; --out and --seconds are for one: leave them away")
    if args.start and not args.armed:
        raise ConfigError("--start is for --armed; without it a take begins at once anyway")
    settings = args.load()
    names = {key: value for key in ("show", "slate") if (value := getattr(args, key)) is not None}
    record = replace(settings.record, **names)
    kept: dict[str, Any] = {"config_text": settings.text, "on_closed": partial(args.take_closed, settings)}
    if args.armed:
        with Stop() as stop:
            takes = run_armed(record, settings.bus, settings.sync, stop=stop, start=args.start, **kept)
        _say(args, {"takes": [str(path) for path in takes]}, f"{len(takes)} takes: {', '.join(map(str, takes))}")
        return 0
    with Stop() as stop:
        path = run_record(
            record,
            settings.bus,
            settings.sync,
            stop=stop,
            seconds=args.seconds,
            path=args.out,
            **kept,
        )
    info = read_info(path)
    messages = sum(info.messages.values())
    lost = sum(sum(reasons.values()) for reasons in info.drops.values())
    result = {
        "take": str(path),
        "messages": dict(info.messages),
        "drops": {key: dict(value) for key, value in info.drops.items()},
    }
    _say(args, result, f"{path}: {messages} messages, {lost} lost")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from streamer.processes import Stop
    from streamer.takes.replay import run_replay

    settings = args.load()
    with Stop() as stop:
        sent = run_replay(
            args.take,
            settings.bus,
            speed=args.speed,
            loop=args.loop,
            stop=stop,
            meshes=args.meshes,
            lead_s=args.lead,
        )
    _say(args, {"take": str(args.take), "published": sent}, f"{args.take}: {sum(sent.values())} messages published")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from streamer.gateway.serve import run_serve
    from streamer.processes import Stop

    settings = args.load()

    def bound(endpoints: tuple[str, str]) -> None:
        print(f"the head is at {' and '.join(endpoints)}", file=sys.stderr, flush=True)

    with Stop() as stop:
        done = run_serve(
            settings.serve, settings.bus, stop=stop, seconds=args.seconds, channel=args.channel, bound=bound
        )
    line = f"{done['clients.joined']} clients, {done['frames.sent']} frames sent of {done['meshes.received']} meshes"
    _say(args, done, line)
    return 0


def _recover(args: argparse.Namespace) -> int:
    from streamer.progress import progress
    from streamer.takes.recover import recover_take

    with progress("recovering", quiet=args.json) as report:
        result = recover_take(args.take, report)
    lost = ", ".join(f"{count} {kind}" for kind, count in result.lost.items()) or "nothing"
    line = f"{args.take}: {result.frames} frames in {result.sets} sets, {result.meshes} meshes; lost: {lost}"
    _say(args, result.as_json(), line)
    return 0 if result.ok else 1


def _verify(args: argparse.Namespace) -> int:
    from streamer.progress import progress
    from streamer.takes.verify import verify_take

    with progress("verifying", quiet=args.json) as report:
        result = verify_take(args.take, report)
    if args.json:
        print(json.dumps(result.as_json()))
        return 0 if result.ok else 1
    if not result.ok:
        problems = [*(f"missing: {item}" for item in result.missing), *(f"damaged: {item}" for item in result.damaged)]
        more = f" (and {len(problems) - 1} more: --json)" if len(problems) > 1 else ""
        raise TakeError(f"{args.take} is not whole: {problems[0]}{more}; run: mien recover {args.take}")
    print(f"{args.take}: whole; {result.frames} frames in {result.sets} sets, {result.meshes} meshes")
    return 0


def _import_video(args: argparse.Namespace) -> int:
    from streamer.imports.calibrations import read_calibration
    from streamer.imports.video import find_times, find_videos, import_videos
    from streamer.progress import progress

    calibration = read_calibration(args.calibration, args.units)
    videos = find_videos(args.videos, calibration)
    times = find_times(args.times, calibration, videos)
    tolerance_ns = None if args.tolerance_ms is None else round(args.tolerance_ms * 1e6)
    with progress("importing", quiet=args.json) as report:
        result = import_videos(
            videos, times, calibration, _storage(args, args.clock), tolerance_ns=tolerance_ns, on_progress=report
        )
    return _imported(args, result)


def _import_images(args: argparse.Namespace) -> int:
    from streamer.imports.calibrations import read_calibration
    from streamer.imports.images import find_famos, find_images, import_images
    from streamer.progress import progress

    calibration = read_calibration(args.calibration, args.units)
    if args.source == "famos":
        images = find_famos(args.folder, args.subject, args.sequence, calibration)
    else:
        images = find_images(args.images, calibration)
    with progress("importing", quiet=args.json) as report:
        result = import_images(images, calibration, _storage(args, "media"), args.fps, on_progress=report)
    return _imported(args, result)


def _import_nersemble(args: argparse.Namespace) -> int:
    from streamer.imports.nersemble import import_nersemble
    from streamer.progress import progress

    with progress("importing", quiet=args.json) as report:
        result = import_nersemble(
            args.folder,
            args.sequence,
            _storage(args, "media"),
            fps=args.fps,
            calibrated_size=args.calibrated_size,
            on_progress=report,
        )
    return _imported(args, result)


def _imported(args: argparse.Namespace, result: dict[str, Any]) -> int:
    sets = result["sets"]
    counts = f"{sets['complete']} of {sets['assembled']} sets complete"
    line = f"{args.out}: {result['frames']} frames of {len(result['cameras'])} cameras, {counts}"
    _say(args, result, line)
    return 0


def _storage(args: argparse.Namespace, clock: str) -> "Storage":
    from streamer.imports.footage import Storage
    from streamer.takes.layout import take_number

    return Storage(
        out=args.out,
        show=args.show,
        slate=args.slate,
        take=take_number(args.out),
        encoding=args.encoding,
        quality=args.jpeg_quality,
        clock=clock,
    )

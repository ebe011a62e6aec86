"""The verb `take`: commands to a running recorder, and what is done with takes on disk."""

import argparse
from functools import partial
from pathlib import Path

from streamer.arguments import Say, Told, add_verb, at_least_one, saying


def add_take_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser, say: Say
) -> None:
    """Add `mien take ...`.

    Args:
        verbs: where verbs are added.
        common: parent parser with --config, --set and --json.
        say: prints a result.
    """
    text = "start and stop takes, mark them; list, cut and join those on disk"
    take = verbs.add_parser("take", help=text, description=text, epilog="Example: mien take start --slate s12")
    tasks = take.add_subparsers(dest="task", metavar="TASK", required=True)

    add, command = partial(add_verb, common=common), saying(say, _command)
    for name, what in (("start", "begin a take"), ("set", "name the next take")):
        example = f"mien take {name} --slate s12 --notes 'angry'"
        task = add(tasks, name, command, f"{what} (of mien record --armed)", example)
        task.add_argument("--show", metavar="NAME", help="show (default: as it is)")
        task.add_argument("--slate", metavar="NAME", help="slate (default: as it is)")
        task.add_argument("--take", type=at_least_one, metavar="N", help="take number (default: the next free one)")
        task.add_argument("--notes", metavar="TEXT", help="notes in take.json")
    add(tasks, "stop", command, "end the take that is being recorded", "mien take stop")
    mark = add(tasks, "mark", command, "set a marker in the take that is being recorded", "mien take mark 'smile'")
    mark.add_argument("text", nargs="?", default="", metavar="TEXT", help="what it says")
    add(tasks, "status", command, "what the recorder is doing", "mien take status --json")
    _add_disk_tasks(tasks, common, say)


def _add_disk_tasks(
    tasks: "argparse._SubParsersAction[argparse.ArgumentParser]",
    common: argparse.ArgumentParser,
    say: Say,
) -> None:
    add = partial(add_verb, common=common)
    task = add(tasks, "list", saying(say, _list), "the takes in a folder of shows", "mien take list takes")
    task.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="default: record.directory")
    task = add(tasks, "info", saying(say, _info), "what is in a take", "mien take info takes/demo/slate_T001")
    task.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    example = "mien take trim takes/demo/slate_T001 --from 10:00:05:00 --to 10:00:09:12 --out takes/demo/cut_T001"
    task = add(tasks, "trim", saying(say, _trim), "a part of a take as a new take", example)
    task.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    moment = "frame id, seconds from the beginning (2.5s), timecode, or text of a marker"
    task.add_argument("--from", dest="first", metavar="MOMENT", help=f"{moment} (default: the beginning)")
    task.add_argument("--to", dest="last", metavar="MOMENT", help="the same; included (default: the end)")
    task.add_argument("--out", type=Path, required=True, metavar="TAKE", help="folder of the new take")
    example = "mien take merge takes/demo/s_T001 hosts/b/demo/s_T001 --out takes/demo/s_T001_all"
    task = add(tasks, "merge", saying(say, _merge), "several recordings of the same moment as one take", example)
    task.add_argument(
        "takes", type=Path, nargs="+", metavar="TAKE", help="folders of takes; of equal messages one stays"
    )
    task.add_argument("--out", type=Path, required=True, metavar="TAKE", help="folder of the new take")


def _command(args: argparse.Namespace) -> Told:
    from streamer.control import ask, control_endpoint

    bus = args.load().bus
    names = ("show", "slate", "take", "notes", "text")
    arguments = {name: value for name in names if (value := getattr(args, name, None)) is not None}
    status = ask(control_endpoint(bus), args.task, arguments, keys_dir=bus.keys_dir)
    what = status["take"] or f"next: {status['show']}/{status['slate']}_T{status['next_take']:03d}"
    told = f"{status['state']}: {what}; {status['messages']} messages, {status['markers']} markers"
    return status, f"{told}{'; ' + status['alarm'] if status['alarm'] else ''}"


def _list(args: argparse.Namespace) -> Told:
    from streamer.takes.catalogue import list_takes

    rows = list_takes(args.folder or Path(args.load().record.directory))
    lines = [
        f"{row['take']}  {row['state']:9s} {row['seconds']:8.1f} s  {row['frames']:7d} frames {row['meshes']:6d} meshes"
        f"{'  ' + row['problem'] if row['problem'] else ''}"
        for row in rows
    ]
    return {"takes": rows}, "\n".join(lines) or "no takes"


def _info(args: argparse.Namespace) -> Told:
    from streamer.takes.catalogue import describe

    found = describe(args.take)
    return found, "\n".join(f"{key}: {value}" for key, value in found.items() if value not in ("", [], {}))


def _trim(args: argparse.Namespace) -> Told:
    from streamer.progress import progress
    from streamer.takes.editing import trim_take

    with progress("trimming", quiet=args.json) as report:
        done = trim_take(args.take, args.out, args.first, args.last, on_progress=report)
    return done, f"{args.out}: {done['messages']} messages, {done['seconds']:.2f} s"


def _merge(args: argparse.Namespace) -> Told:
    from streamer.progress import progress
    from streamer.takes.editing import merge_takes

    with progress("merging", quiet=args.json) as report:
        done = merge_takes(args.takes, args.out, on_progress=report)
    return done, f"{args.out}: {done['messages']} messages, {done['equal']} were there more than once"

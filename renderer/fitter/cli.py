"""`mien fit`: the queue of radiance fields."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from streamer.arguments import positive, size_between
from streamer.errors import FitError

if TYPE_CHECKING:
    from renderer.fitter.finished import Finished
    from renderer.fitter.jobs import Job
    from renderer.fitter.store import Store

EXAMPLES = """examples:
  mien fit add takes/show/slate_T001 --preset preview
  mien fit work --once
  mien fit list
  mien fit render 1 --path circle --out turntable
"""
USED = {
    "add": " takes/show/slate_T001 --preset preview --hold-out cam_2 cam_6",
    "list": " --json",
    "show": " 1",
    "cancel": " 1",
    "pause": " 1",
    "resume": " 1",
    "retry": " 1",
    "work": " --once",
    "render": " 1 --split held-out --out novel",
    "play": " 1 --cameras cam_2",
    "report": " 1",
}
"""What follows the action in its example."""
CLEAN = "without crumbs in the air: the largest piece alone (not where hair flies)"
FAILED, BAD_INPUT, TRY_AGAIN = 1, 65, 75
"""Exit codes for farms: gave up, or cancelled; bad input, do not try again (EX_DATAERR); stopped or paused with a
checkpoint, or held by another worker: try again later (EX_TEMPFAIL). A killed worker has 137 from the system."""
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_fit(verbs: Verbs, common: argparse.ArgumentParser) -> None:
    """Add `fit` and what can be done with it.

    Args:
        verbs: of the main parser.
        common: parent with --config, --set and --json.
    """
    raw = argparse.RawDescriptionHelpFormatter
    text = "radiance fields of takes: queue, work, render, report"
    fit = verbs.add_parser("fit", help=text, description=text, epilog=EXAMPLES, formatter_class=raw)
    actions = fit.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, handler: Any, text: str, *, job: bool = True) -> argparse.ArgumentParser:
        example = f"Example: mien fit {name}{USED[name]}"
        parser = actions.add_parser(name, parents=[common], help=text, description=text, epilog=example)
        if job:
            parser.add_argument("job", type=int, metavar="JOB", help="its number, as mien fit list shows it")
        parser.set_defaults(handler=handler)
        return parser

    _add_options(action("add", _add, "queue a take", job=False))
    action("list", _list, "all jobs", job=False)
    action("show", _show, "one job: progress, figures, what happened to it")
    action("cancel", _ask, "end a job; what was learned stays on disk").set_defaults(wish="cancelled")
    action("pause", _ask, "stop working on a job until it is resumed").set_defaults(wish="paused")
    action("resume", _ask, "go on with a paused job").set_defaults(wish="queued")
    action("retry", _ask, "try a failed or cancelled job again, from its last checkpoint").set_defaults(wish="queued")
    work = action("work", _work, "work on the queue until stopped", job=False)
    amount = work.add_mutually_exclusive_group()
    amount.add_argument("--once", action="store_true", help="end when the queue is empty; 1 if a job failed meanwhile")
    amount.add_argument(
        "--job", type=int, metavar="JOB", help="this job alone, for render farms: 0 done, 65 bad input, 75 try again"
    )
    work.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    render = action("render", _render, "pictures of a fitted take from other viewpoints")
    what = render.add_mutually_exclusive_group()
    what.add_argument("--split", choices=("held-out", "training"), help="the rig's own cameras (default: held-out)")
    what.add_argument("--cameras", type=Path, metavar="CAL.toml", help="cameras of a calibration, in the take's world")
    what.add_argument("--path", choices=("circle", "spiral", "front"), help="a moving camera, while time goes on")
    render.add_argument("--frames", type=_range, default=(None, None), metavar="A:B", help="these frames of the fit")
    render.add_argument(
        "--size",
        type=size_between((16, 16), (8192, 8192)),
        metavar="WxH",
        help="of the pictures of a path (default: the take's)",
    )
    render.add_argument("--out", type=Path, required=True, metavar="DIR", help="PNG pictures, and a video of a path")
    render.add_argument("--clean", action="store_true", help=CLEAN)
    play = action("play", _play, "pictures of a fitted take on the bus, for mien view")
    play.add_argument("--cameras", nargs="+", default=[], metavar="CAM", help="of the rig (default: those held out)")
    play.add_argument("--frames", type=_range, default=(None, None), metavar="A:B", help="these frames of the fit")
    play.add_argument("--fps", type=positive, default=0.0, metavar="N", help="at most (default: as fast as it renders)")
    whole = play.add_mutually_exclusive_group()
    whole.add_argument("--once", action="store_true", help="end after one round")
    whole.add_argument("--by-hand", action="store_true", help="the frame that is typed: + next, - back, 12, q ends")
    play.add_argument("--clean", action="store_true", help=CLEAN)
    report = action("report", _report, "a page with pictures beside the truth, error maps and curves")
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default: report.html in the run's folder")


def _add_options(add: argparse.ArgumentParser) -> None:
    add.add_argument("take", type=Path, metavar="TAKE", help="folder of the take")
    add.add_argument("--preset", metavar="P", help="auto, ci, preview, gpu-24, gpu-48 (default: fitter.preset)")
    add.add_argument("--frames", type=_range, default=(None, None), metavar="A:B", help="these frames, e.g. 0:200")
    add.add_argument(
        "--hold-out", nargs="+", default=[], metavar="CAM", help="cameras to measure with, not to train on"
    )
    add.add_argument("--priority", type=int, default=0, metavar="N", help="greater comes first (default: 0)")
    add.add_argument("--meshes", choices=("mesh", "truth"), default="mesh", help="where registered meshes are")
    add.add_argument("--no-prior", action="store_true", help="do not begin with the take's meshes")
    add.add_argument(
        "--with", dest="values", nargs="+", default=[], metavar="KEY=VALUE", help="other values, e.g. steps=2000"
    )


def _range(text: str) -> tuple[int | None, int | None]:
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdigit() for part in (first, last)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected A:B, two whole numbers of which either may be left out")
    return (int(first) if first else None, int(last) if last else None)


def _store(args: argparse.Namespace) -> "Store":
    from renderer.fitter.store import Store

    return Store(Path(args.load().fitter.queue))


def _add(args: argparse.Namespace) -> int:
    import time

    from renderer.fitter.enqueue import job_for, values_from

    fitter = args.load().fitter
    values = values_from(args.values)
    if args.no_prior:
        values["prior"] = False
    job = job_for(
        args.take,
        preset=args.preset or fitter.preset,
        overrides=values,
        frames=args.frames,
        hold_out=(*fitter.hold_out, *args.hold_out),
        mesh_channel=args.meshes,
        priority=args.priority,
    )
    with _store(args) as store:
        number = store.add(job, time.time())
    print(json.dumps({"job": number}) if args.json else f"job {number}: {job.take}; now run: mien fit work --once")
    return 0


def _list(args: argparse.Namespace) -> int:
    with _store(args) as store:
        jobs = store.jobs()
    if args.json:
        print(json.dumps({"jobs": [_as_dict(job) for job in jobs]}))
        return 0
    for job in jobs:
        done = f"{100 * job.step // job.steps:3d} %" if job.steps else "    "
        quality = f"{job.psnr_db:5.1f} dB" if job.psnr_db is not None else "        "
        print(f"{job.id:4d}  {job.state:16}  {done}  {quality}  {job.take}  {job.message}".rstrip())
    if not jobs:
        print("the queue is empty; add a take with: mien fit add TAKE")
    return 0


def _as_dict(job: "Job") -> dict[str, Any]:
    import dataclasses

    return {"job": job.id, **dataclasses.asdict(job)}


def _show(args: argparse.Namespace) -> int:
    import time

    with _store(args) as store:
        job, events = store.get(args.job), store.events(args.job)
    if args.json:
        print(json.dumps({**_as_dict(job), "events": events}))
        return 0
    figures = [f"step {job.step} of {job.steps}", f"{job.seconds:.0f} s", job.phase]
    if job.psnr_db is not None:
        figures.append(f"{job.psnr_db:.2f} dB")
    if job.ssim is not None:
        figures.append(f"SSIM {job.ssim:.3f}")
    if job.eta_s and job.state == "running":
        figures.append(f"{job.eta_s:.0f} s to go")
    print(f"job {job.id}: {job.state}, preset {job.preset}, {job.take}")
    print(", ".join(part for part in figures if part))
    for event in events:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time_s"]))
        print(f"  {stamp}  {event['was'] or '-':>16} -> {event['is_now']:16} {event['reason']} ({event['actor']})")
    return 0


def _ask(args: argparse.Namespace) -> int:
    import time

    with _store(args) as store:
        job = store.ask(args.job, args.wish, time.time())
    print(json.dumps({"job": job.id, "state": job.state}) if args.json else f"job {job.id}: {job.state}")
    return 0


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FitError(f"there is no device '{name}' here: {str(error).splitlines()[0]}") from error
    return device


def _work(args: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that wait leave the cores to the others
    import torch

    from renderer.fitter.worker import Worker
    from streamer.processes import Stop

    fitter = args.load().fitter
    torch.set_num_threads(fitter.threads or torch.get_num_threads())

    def say(job: "Job | None", text: str) -> None:
        print(f"job {job.id}: {text}" if job else text, file=sys.stderr, flush=True)

    stop = Stop()
    options: dict[str, Any] = {"checkpoint_every_s": fitter.checkpoint_every_s, "say": say}
    paths = (Path(fitter.queue), Path(fitter.runs))
    if args.job is not None:
        worker = Worker(*paths, stop, device=_device(args.device), **options)
        with stop:
            return _told_to_farm(args, worker.work_on(args.job))
    if fitter.cluster == "ray":
        from renderer.fitter.cluster import Driver

        # before signals are caught: Ray has a handler of its own for SIGTERM, which ends the process
        work = Driver(*paths, stop, address=fitter.ray_address, threads=fitter.threads, **options).work
    else:
        work = Worker(*paths, stop, device=_device(args.device), **options).work
    with stop, _store(args) as store:
        before = {job.id for job in store.jobs() if job.state == "failed"}
        ended = work(once=args.once)
        failed = {job.id for job in store.jobs() if job.state == "failed"} - before
    if args.json:
        print(json.dumps({"ended": ended, "failed": sorted(failed)}))
    return 1 if failed else 0


def _told_to_farm(args: argparse.Namespace, job: "Job") -> int:
    """Return the exit code of `mien fit work --job`; those of sysexits.h, which farm software can be told about."""
    if args.json:
        print(json.dumps({"job": job.id, "state": job.state, "message": job.message}))
    if job.state == "failed":
        return BAD_INPUT if "input" in job.tries else FAILED
    return {"done": 0, "cancelled": FAILED}.get(job.state, TRY_AGAIN)


def _render(args: argparse.Namespace) -> int:
    from renderer.fitter.film import render_cameras, render_path, render_split
    from renderer.fitter.worker import run_folder
    from streamer.calibration import load_calibration
    from streamer.progress import progress

    fitter = args.load().fitter
    with _store(args) as store:
        job = store.get(args.job)
    with progress("rendering", quiet=args.json) as report:
        finished = _opened(run_folder(Path(fitter.runs), job.id), clean=args.clean)
        if args.cameras:
            chosen = load_calibration(args.cameras).cameras
            count = render_cameras(finished, chosen, args.out, frames=args.frames, report=report)
        elif args.path:
            count = render_path(finished, args.path, args.out, frames=args.frames, size=args.size, report=report)
        else:
            count = render_split(finished, args.split or "held-out", args.out, frames=args.frames, report=report)
    print(json.dumps({"pictures": count}) if args.json else f"{count} pictures in {args.out}")
    return 0


def _opened(folder: Path, *, clean: bool) -> "Finished":
    from renderer.fitter.finished import open_finished
    from renderer.fitter.floaters import drop_floaters

    finished = open_finished(folder)
    if clean:
        gone = drop_floaters(finished.fit.occupancy)
        print(f"{gone} cells that float were emptied", file=sys.stderr)
    return finished


def _play(args: argparse.Namespace) -> int:
    from renderer.fitter.play import play
    from renderer.fitter.worker import run_folder
    from streamer.processes import Stop

    settings = args.load()
    with _store(args) as store:
        job = store.get(args.job)
    finished = _opened(run_folder(Path(settings.fitter.runs), job.id), clean=args.clean)
    hand = None
    if args.by_hand:
        from renderer.fitter.by_hand import HELP

        print(HELP, file=sys.stderr)
        hand = sys.stdin.fileno()
    with Stop() as stop:
        options = {"cameras": tuple(args.cameras), "frames": args.frames, "fps": args.fps, "loop": not args.once}
        options["by_hand"] = hand
        count = play(finished, settings.bus, stop=stop, **options)
    print(json.dumps({"pictures": count}) if args.json else f"{count} pictures")
    return 0


def _report(args: argparse.Namespace) -> int:
    from renderer.fitter.finished import open_finished
    from renderer.fitter.report import write_report
    from renderer.fitter.worker import run_folder
    from streamer.progress import progress

    fitter = args.load().fitter
    with _store(args) as store:
        job = store.get(args.job)
    folder = run_folder(Path(fitter.runs), job.id)
    with progress("report", quiet=args.json) as report:
        path = write_report(open_finished(folder), args.out or folder / "report.html", report)
    print(json.dumps({"report": str(path)}) if args.json else str(path))
    return 0

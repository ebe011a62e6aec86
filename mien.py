"""The command line of Mien: the composition root, and nothing else.

Each room brings its verbs (`<room>/cli.py`, `add_verbs`); this file adds those that need all rooms: `demo`, `live`,
`doctor`. Every verb takes --config, --set and --json. Exit codes: 0 done, 1 failed (one line that says what to do),
2 wrong usage, 130 interrupted. Only argparse is imported before a verb is chosen.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from inference.config import InferenceConfig
from renderer.config import FitterConfig, ViewConfig
from rig.config import RigConfig
from streamer.arguments import add_verb, positive
from streamer.config import BusConfig, LiveConfig, RecordConfig, ServeConfig, SyncConfig, load
from streamer.config_text import to_toml
from streamer.errors import MienError
from streamer.leash import follow

if TYPE_CHECKING:
    from streamer.console.desk import LiveDesk
    from streamer.doctor import Check
    from streamer.takes import Take

GL_PROBE = """
from renderer.viewer.context import headless_context
context = headless_context()
print(f"OpenGL {context.version_code / 100:.1f} without a screen on {context.info['GL_RENDERER']}")
"""
PROBE_S = 60.0
ROOMS = ("rig", "streamer", "inference", "renderer")
SECTIONS = {
    "rig": RigConfig,
    "bus": BusConfig,
    "sync": SyncConfig,
    "inference": InferenceConfig,
    "record": RecordConfig,
    "view": ViewConfig,
    "fitter": FitterConfig,
    "live": LiveConfig,
    "serve": ServeConfig,
}

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration: file, then --set, defaults for the rest."""

    rig: RigConfig
    bus: BusConfig
    sync: SyncConfig
    inference: InferenceConfig
    record: RecordConfig
    view: ViewConfig
    fitter: FitterConfig
    live: LiveConfig
    serve: ServeConfig
    text: str
    """All of it as TOML, as takes keep it and as child processes read it."""


def load_settings(path: Path | None, overrides: Sequence[str]) -> Settings:
    """Read the configuration.

    Args:
        path: TOML file; None: `config.toml` of the working folder if there is one, else the defaults alone (the
            config.toml that comes with Mien says the same).
        overrides: `section.key=value`.

    Raises:
        ConfigError: see `streamer.config.load`.
    """
    if path is None and Path("config.toml").is_file():
        path = Path("config.toml")
    sections = load(path, SECTIONS, overrides)
    return Settings(**sections, text=to_toml(sections))


def common_parser() -> argparse.ArgumentParser:
    """Return the parent of every verb's parser."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("of every verb")
    group.add_argument("--config", type=Path, metavar="FILE", help="default: ./config.toml if there is one")
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one value for this run, e.g. --set rig.fps=60"
    )
    group.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    return common


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with the verbs of all rooms."""
    parser: argparse.ArgumentParser = Parser(
        prog="mien",
        description="Live head capture: calibrated cameras in, a registered 3D head mesh per frame out.",
        epilog="Example: mien demo --headless --seconds 20 --out out/demo",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    common = common_parser()
    _add_own_verbs(verbs, common)
    for room in ROOMS:
        importlib.import_module(f"{room}.cli").add_verbs(verbs, common)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    follow(os.environ)
    calm_blas()
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.exit(2, f"mien {args.verb}: not understood: {' '.join(unknown)}; see: mien {args.verb} --help\n")
    args.load = lambda: load_settings(args.config, args.set)
    args.overlay_take = _overlay_take
    args.take_closed = _take_closed
    try:
        return int(args.handler(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MienError, OSError) as error:
        if os.environ.get("MIEN_TRACE"):
            traceback.print_exc()
        print(f"mien {args.verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def calm_blas() -> None:
    """Keep numpy's products to one thread; to be called before numpy is imported.

    Those of the live path are small, and threads that spin for each other take the cores from the engine, the decoders
    and the cameras: a mesh cost 2.4 times the CPU (0.305 against 0.129 s), a simulated frame set as well (99, 41 ms).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _take_closed(settings: Settings, take: Path) -> None:
    """Queue a fit of a take that `mien record`, a verb of another room, has closed."""
    if settings.fitter.auto:
        from renderer.fitter.enqueue import queue_closed

        queue_closed(take, settings.fitter, lambda line: print(line, file=sys.stderr, flush=True))


def _overlay_take(take: "Take", video: Path) -> int:
    """Draw a take's meshes over its pictures: the renderer's work for `mien reprocess`, a verb of another room."""
    from renderer.viewer.overlay import overlay_take

    return overlay_take(take, video)


class Parser(argparse.ArgumentParser):
    """Says where to read on when it is not understood, and what may have been meant."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line, below the usage."""
        if message.endswith("required: VERB"):
            message = "say what to do; to begin with: mien demo"
        elif wrong := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            from difflib import get_close_matches

            meant = get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), 1)
            message += f"; did you mean '{meant[0]}'?" if meant else ""
        super().error(f"{message}; see: {self.prog} --help")


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all else before a verb is chosen."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("mien")
        except PackageNotFoundError:
            found = "(not installed)"
        parser.exit(message=f"mien {found}\n")


def _add_own_verbs(verbs: Verbs, common: argparse.ArgumentParser) -> None:
    add = partial(add_verb, verbs, common=common)
    demo = add(
        "demo",
        _demo,
        "simulated cameras to a live head, all on this machine; leaves a take and a report",
        "mien demo --headless --seconds 20 --out out/demo",
    )
    demo.add_argument("--headless", action="store_true", help="open nothing; also leave snapshot.png and demo.mp4")
    demo.add_argument("--web", action="store_true", help="the browser view, even where a window could be opened")
    demo.add_argument("--serve", action="store_true", help="the gateway to engines as well (or set serve.live)")
    demo.add_argument("--seconds", type=positive, metavar="N", help="length (default: 20 headless, else endless)")
    demo.add_argument("--out", type=Path, metavar="DIR", help="new folder (default: the next out/demo_<nnn>)")

    live = add("live", _live, "all processes of a configuration on this machine, supervised", "mien live --record")
    live.add_argument("--record", action="store_true", help="record a take from the start")
    live.add_argument("--no-view", action="store_true", help="no viewer")
    live.add_argument("--serve", action="store_true", help="the gateway to engines as well (or set serve.live)")
    live.add_argument("--web", action="store_true", help="the browser view, even where a window could be opened")
    live.add_argument("--seconds", type=positive, metavar="N", help="stop after this long")
    live.add_argument("--no-screen", action="store_true", help="lines of text instead of the operator's screen")

    example = 'eval "$(mien completion bash)"'
    completion = add("completion", _completion, "what a shell needs to complete commands and options", example)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell")

    add("doctor", _doctor, "what of Mien works on this machine, and what to do about the rest", "mien doctor --json")


def _demo(args: argparse.Namespace) -> int:
    from streamer.demo import DemoOptions, run_demo
    from streamer.report import summary

    settings: Settings = args.load()
    _first_look(settings, args.out)
    options = DemoOptions(args.out, args.seconds, args.headless, args.web, args.serve)
    report = run_demo(settings, options, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(report, indent=2) if args.json else summary(report))
    return 0


def _first_look(settings: Settings, out: Path | None) -> None:
    """Say what would stop the demo, and what to do about it, before anything is started.

    Raises:
        ProcessError: it cannot run.
    """
    from streamer.doctor import as_text, first_look
    from streamer.errors import ProcessError

    checks = first_look(settings.bus, replace(settings.record, directory=str(out or "out")))
    if checks:
        print(as_text(checks), file=sys.stderr)
    if failed := [check for check in checks if check.state == "fail"]:
        raise ProcessError(f"{failed[0].found}; {failed[0].remedy} (mien doctor looks at more)")


def _completion(args: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    code = shellcode(["mien"], shell=args.shell)
    print(json.dumps({"shell": args.shell, "code": code}) if args.json else code)
    return 0


def _live(args: argparse.Namespace) -> int:
    from streamer.live import LiveOptions, run_live

    settings: Settings = args.load()
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not args.json
    options = LiveOptions(args.record, not args.no_view, args.web, args.serve, args.seconds)
    show = _screen() if settings.live.screen and terminal and not args.no_screen else None
    result = run_live(
        settings,
        options,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        fits=lambda: _fits(Path(settings.fitter.queue)),
        show=show,
    )
    if args.json:
        print(json.dumps(result))
    return 0


def _screen() -> "Callable[[LiveDesk], None]":
    from streamer.console.screen import show

    return show


def _fits(queue: Path) -> Counter[str]:
    """Count the jobs of the fit queue by state: the renderer's knowledge for the console, of another room."""
    if not queue.is_file():
        return Counter()
    from renderer.fitter.store import Store

    with Store(queue) as store:
        return Counter(job.state for job in store.jobs())


def _doctor(args: argparse.Namespace) -> int:
    from rig.doctor import examine_rig
    from streamer import doctor

    settings: Settings = args.load()
    sections = (settings.bus, settings.record, settings.serve, settings.live)
    checks = [*doctor.examine(*sections, settings.view.web_port), *_room_checks(settings.inference)]
    checks += examine_rig(settings.rig, settings.bus, settings.record)
    print(json.dumps(doctor.as_json(checks)) if args.json else doctor.as_text(checks))
    return 1 if any(check.state == "fail" for check in checks) else 0


def _room_checks(inference: InferenceConfig) -> list["Check"]:
    """Check what single rooms know: OpenGL without a screen, the model, the engine at its precision."""
    from inference.engines import open_engine
    from inference.model_store import load_model
    from streamer.doctor import Check

    # In a process of its own: a broken graphics driver may take the process down.
    command = [sys.executable, "-c", GL_PROBE]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
        good, words = probe.returncode == 0, probe.stdout if probe.returncode == 0 else probe.stderr
    except subprocess.TimeoutExpired:
        good, words = False, f"the driver does not answer within {PROBE_S:g} s"
    found = (words.strip().splitlines() or ["the driver crashed"])[-1]
    remedy = "" if good else "run: sh requirements/system.sh .venv/bin/python"
    checks = [Check("graphics", "ok" if good else "fail", found, remedy)]
    try:
        model = load_model(inference.model)
        found = f"{inference.model}: {model.topology.vertex_count} vertices, at {model.folder}"
        checks.append(Check("model", "ok", found))
        engine = open_engine(inference.engine, threads=inference.threads)
        graphs = {
            engine.compile(graph.path, precision=inference.precision if graph.precision == "net" else "f32").precision
            for graph in model.graphs.values()
        }
        checks.append(Check("engine", "ok", f"{engine.name}, compiled in {' and '.join(sorted(graphs))}"))
    except MienError as error:
        name = "engine" if len(checks) > 1 else "model"
        checks.append(Check(name, "fail", str(error), "correct [inference], or run: mien model list"))
    return checks


if __name__ == "__main__":
    sys.exit(main())

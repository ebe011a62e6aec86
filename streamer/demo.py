"""`mien demo`: the whole house on one machine, every process its own, and a report of what it did."""

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streamer.board import HealthBoard
from streamer.channels import Role
from streamer.config import BusConfig, ServeConfig
from streamer.config_text import without_secrets
from streamer.errors import ProcessError
from streamer.live import Say, conduct, free_ports, plan, view_arguments
from streamer.processes import Stop
from streamer.report import Tally, build_report, require_closed, write_report
from streamer.running_config import running_config
from streamer.supervise import Supervisor
from streamer.takes.layout import read_info
from streamer.takes.reader import open_take
from streamer.takes.recover import recover_take

HEADLESS_SECONDS = 20.0
FEW_CORES = 2
"""On so few cores the film of a headless demo is made by those that make the head: see `film`."""
FILM_WIDTH, FILM_FPS = 960, 8.0
"""What it has at most then: each picture costs a third of a mesh or more."""
UNFINISHED = ".unfinished"
"""In the folder of a demo until its report is written: one that failed to start may be tried again there."""


class DemoSettings(Protocol):
    """What the demo reads of the settings."""

    @property
    def bus(self) -> BusConfig:
        """Only the host and keys are used: the demo takes free ports."""

    @property
    def serve(self) -> ServeConfig:
        """The gateway's section: unlike those of the bus its ports are as configured, so that engines find them."""

    @property
    def inference(self) -> Any:
        """`model` and `engine`, for the report; `threads`."""

    @property
    def view(self) -> Any:
        """`width`, `height` and `max_fps` of the film."""

    @property
    def text(self) -> str:
        """The effective configuration as TOML."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `mien demo` was asked for."""

    out: Path | None = None
    """New or empty folder for everything that the demo leaves; None: the next free `out/demo_<nnn>`."""
    seconds: float | None = None
    """Length of the performance, s; None: 20 headless, else until the viewer is closed or Ctrl-C."""
    headless: bool = False
    """Open nothing; leave a snapshot and a video."""
    web: bool = False
    """The browser view even where there is a display."""
    serve: bool = False
    """Run the gateway too, on the ports of `[serve]`, also where `serve.live` is false."""


def run_demo(settings: DemoSettings, options: DemoOptions, *, say: Say) -> dict[str, Any]:
    """Run the demo; leaves `take/`, `report.json`, `logs/`, and headless also `snapshot.png` and `demo.mp4`.

    `config.toml` lies there too, without the user and password of addresses; the processes read one that goes away.

    Returns:
        The report.

    Raises:
        ProcessError: the folder is in use, a process could not be kept running or did not end cleanly, or frames do not
            add up. In the last two cases the report is there all the same.
        TakeError: the recorder left no readable take.
    """
    out = prepare(options.out)
    (out / "config.toml").write_text(without_secrets(settings.text), "utf-8")  # people send this folder to others
    web_port, node_port, infer_port, record_port, demo_port, serve_port = free_ports(6, settings.bus.host)
    bus = dataclasses.replace(
        settings.bus,
        nodes=(),
        infer="",
        node_port=node_port,
        infer_port=infer_port,
        record_port=record_port,
        demo_port=demo_port,
        serve_port=serve_port,
    )
    seconds = options.seconds or (HEADLESS_SECONDS if options.headless else None)
    view: tuple[str, ...]
    if options.headless:
        view = ("--headless", "--snapshot", str(out / "snapshot.png"), "--video", str(out / "demo.mp4"))
    else:
        view = view_arguments(web_port, web=options.web, say=say)
    node = ("--seconds", f"{seconds:g}") if seconds else ()
    serve = settings.serve.live or options.serve
    if serve:
        say(f"engines connect to port {settings.serve.tcp_port}, browsers to {settings.serve.websocket_port}")
    names: tuple[Role, ...] = ("node", "infer", "record", *(("serve",) if serve else ()))
    with running_config(settings.text) as path, Stop() as stop, HealthBoard(bus, names) as board:
        config = ("--config", str(path), *_changes(settings, bus, web_port, headless=options.headless))
        specs = plan(bus, config, node=node, record=("--out", str(out / "take{again}")), view=view, serve=serve)
        say(f"starting {', '.join(spec.name for spec in specs)}; everything goes to {out}")
        with Supervisor(specs, logs=out / "logs", working_s=board.working_s, heard_s=board.heard_s) as supervisor:
            troubles = conduct(bus, supervisor, board, stop, seconds=None, say=say)
        report = _report(out, settings, board, dict(supervisor.restarts), say)
    write_report(report, out / "report.json")
    (out / UNFINISHED).unlink(missing_ok=True)
    if troubles:
        raise ProcessError("; ".join(troubles))
    require_closed(report["frames"])
    return report


def _changes(settings: DemoSettings, bus: BusConfig, web_port: int, *, headless: bool) -> list[str]:
    """Return what is another way in a demo than it is configured, as `--set` for every process."""
    changes = ["--set", "bus.nodes=[]", "--set", "bus.infer=''"]
    for key in ("node_port", "infer_port", "record_port", "demo_port", "serve_port"):
        changes += ["--set", f"bus.{key}={getattr(bus, key)}"]
    changes += ["--set", f"view.web_port={web_port}", "--set", "bus.control_port=0"]  # one take, from start to end
    cores = len(os.sched_getaffinity(0))
    if not settings.inference.threads:  # the simulated cameras need the other half of the machine
        changes += ["--set", f"inference.threads={max(1, cores // 2)}"]
    if headless and cores <= FEW_CORES:
        for key, value in film(settings.view.width, settings.view.height, settings.view.max_fps).items():
            changes += ["--set", f"view.{key}={value:g}"]
    return changes


def film(width: int, height: int, max_fps: float) -> dict[str, float]:
    """Return `width`, `height` and `max_fps` of a film on few cores: no more than was asked for, of equal shape.

    Args:
        width: as configured, px.
        height: as configured, px.
        max_fps: as configured, pictures per second.
    """
    share = min(1.0, FILM_WIDTH / width)
    return {
        "width": 2 * round(width * share / 2),
        "height": 2 * round(height * share / 2),
        "max_fps": min(max_fps, FILM_FPS),
    }


def prepare(wanted: Path | None) -> Path:
    """Make the folder of the run; one that holds anything is refused, so that nothing is overwritten."""
    if wanted is None:
        number = 1
        while True:
            out = Path("out") / f"demo_{number:03d}"
            with contextlib.suppress(FileExistsError):
                out.mkdir(parents=True)
                return out
            number += 1
    failed = (wanted / UNFINISHED).is_file() and not any(wanted.glob("take*"))  # it did not get as far as a take
    if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())) and not failed:
        raise ProcessError(f"{wanted} is not empty; give another folder with --out, or remove it")
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / UNFINISHED).touch()
    return wanted


def _report(
    out: Path, settings: DemoSettings, board: HealthBoard, restarts: dict[str, int], say: Say
) -> dict[str, Any]:
    tally = Tally()
    for path in sorted(out.glob("take*")):  # a recorder that was killed and started again left more than one
        if read_info(path).state == "recording":
            say(f"the recorder of {path} was killed; recovering: {recover_take(path).as_json()}")
        with open_take(path) as take:
            for channel, _log_time_ns, message in take.messages(["mesh", "truth", "health"]):
                tally.add(channel, message)
    tally.health.update(board.lives)  # the last counts of a process may come after the recorder's last word
    return build_report(tally, engine=settings.inference.engine, model=settings.inference.model, restarts=restarts) | {
        "out": str(out)
    }

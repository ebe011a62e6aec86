"""Everything that can go wrong, done to a running `mien live` with simulated cameras.

    python benchmarks/chaos.py [--rows WORD ...] [--times N] [--rows-of JSON ...] [--write docs/faults.md] [--json]

Each row is a fault and what was seen: how long no mesh came, what was told, what was started again. After each run
every take is verified, frames are balanced (published = used + unused by reason), and /proc is searched for leftovers.
Exits with 1 if a row is not as it should be. As root also a full disk (tmpfs) is tried. `--write` makes the page.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig.config import RigConfig, SimulatedConfig
from tests.mien import faults
from tests.mien.faults import Seen
from tests.mien.house import SMALL, Fault, House
from tests.mien.network_faults import network
from tests.streamer.hosts import why_not

PROCESSES = ("node", "infer", "record", "serve", "view")
SILENCE_S = 6.0
FROZEN_S = 4.5
"""Longer than the silence after which the console tells of a process (3 s of heartbeats, which come each second)."""
STAGE = SimulatedConfig()
DEMO = {
    "rig.fps": RigConfig().fps, "rig.simulated.cameras": STAGE.cameras, "rig.simulated.width": STAGE.width,
    "rig.simulated.height": STAGE.height, "inference.threads": 0, "sync.deadline_ms": 120, "record.roll_s": 30,
}  # fmt: skip
"""The defaults, in place of the small house's."""
DEMO_TEXT = f"{STAGE.cameras} cameras of {STAGE.width}x{STAGE.height} at {RigConfig().fps:g} per second"
CAMERAS = {
    "a camera delivers nothing for 4 s": ({"stall_camera": 1, "stall_after_s": 8.0, "stall_for_s": 4.0}, "no pictures"),
    "a camera is unplugged and plugged in again 4 s later": (
        {"stall_camera": 1, "stall_after_s": 8.0, "stall_for_s": 4.0, "stall_unplugged": True},
        "no pictures",
    ),
    "a camera loses a third of its pictures": ({"drop_probability": 0.3}, "dropped-by-camera"),
    "a camera exposes 5 ms late": ({"skew_us": 5000}, "cam_3"),
}
HEAD = """# Faults

What happens when something breaks. Made by `benchmarks/chaos.py --write` on a running `mien live` with four simulated
cameras at 10 pictures per second, gateway, browser view and recorder. `silence`: how long no mesh came because of it,
or from the cause going away until meshes came again; `-`: they never stopped. After every run takes were verified,
frames balanced (published = used + unused by reason), and what was left behind was looked for: processes, shared
memory, ports; in processes that were not touched also more threads, files or segments than before. Of a fault that was
tried several times the worst is told. Asked: 2 s, of the engine 5 s with its compiled graphs kept.{note}

| fault | what was seen | silence, s | as it should be |
| --- | --- | --- | --- |
"""


def one_house() -> Iterator[tuple[str, Callable[[House], Seen]]]:
    """Yield the rows that share a run."""
    for name in PROCESSES:
        yield f"kill {name}", lambda house, name=name: faults.kill(house, name)
    yield "restart infer", lambda house: faults.kill(house, "infer", signal.SIGTERM)
    for name in PROCESSES:
        yield f"freeze {name}", lambda house, name=name: faults.freeze(house, name, FROZEN_S)
    for name in ("node", "infer", "record", "serve"):
        yield f"freeze-for-good {name}", lambda house, name=name: faults.freeze_for_good(house, name, SILENCE_S)
    yield "garbage", faults.garbage


def demo_house() -> Iterator[tuple[str, Callable[[House], Seen]]]:
    """Yield the rows that share a run at the demo's rate and size."""
    for name in ("node", "infer", "record"):
        yield (
            f"demo-size {name}",
            lambda house, name=name: dataclasses.replace(
                row := faults.kill(house, name), fault=f"{row.fault}, {DEMO_TEXT}"
            ),
        )


def own_houses(folder: Path) -> Iterator[tuple[str, Callable[[], Seen | list[Seen]]]]:
    """Yield the rows that need a run of their own."""
    for number, (text, (settings, expect)) in enumerate(CAMERAS.items()):
        yield (
            f"camera {text}",
            lambda n=number, t=text, s=settings, e=expect: faults.camera(folder / f"camera{n}", t, s, e),  # type: ignore[misc]
        )
    for jump_s in (3600, -3600):
        yield f"clock {jump_s:+d}", lambda jump_s=jump_s: faults.clock_jump(folder / f"clock{jump_s}", jump_s)
    yield "corrupt", lambda: faults.corruption(folder / "corrupt", 0.1)
    if os.geteuid() == 0:
        yield "disk", lambda: faults.full_disk(folder / "disk")
    if why := why_not():
        print(f"left out: the line between hosts, since {why}", file=sys.stderr)
    else:
        yield "network", lambda: network(folder / "network")


def guarded(name: str, act: Callable[[], Seen | list[Seen]]) -> list[Seen]:
    """Run a row, or several that belong together; one that fails is a row as well."""
    begin = time.monotonic()
    try:
        made = act()
    except (Fault, OSError, RuntimeError) as error:
        made = Seen(name, f"FAILED: {error}", None, False)
    rows = made if isinstance(made, list) else [made]
    for row in rows:
        print(f"{'ok ' if row.ok else 'BAD'} {row.fault}: {row.seen}", file=sys.stderr, flush=True)
    print(f"    ({name}: {time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
    return rows


def run(folder: Path, wanted: list[str]) -> list[Seen]:
    """Run the rows whose name holds one of the words; all without words."""

    def chosen(name: str) -> bool:
        return not wanted or any(word in name for word in wanted)

    rows: list[Seen] = []
    for place, acts, settings in (("shared", one_house(), SMALL), ("demo", demo_house(), DEMO)):
        shared = [(name, act) for name, act in acts if chosen(name)]
        if shared:
            rows += _share(folder / place, shared, {**settings, "live.silence_s": SILENCE_S})
    for name, act in own_houses(folder):
        rows += guarded(name, act) if chosen(name) else []
    return rows


def _share(folder: Path, acts: list[tuple[str, Callable[[House], Seen]]], settings: Mapping[str, object]) -> list[Seen]:
    rows: list[Seen] = []
    with House(folder, settings, arguments=("--web", "--serve", "--record")) as house:
        house.wait_ready()
        held = house.held()
        for name, act in acts:
            rows += guarded(name, lambda act=act: act(house))  # type: ignore[misc]
        return rows + guarded("end", lambda: _end(house, held, len(acts)))


def _end(house: House, held: Mapping[str, Counter[str]], count: int) -> Seen:
    grew = faults.grown(house, held)
    house.end()
    trouble = faults.closing(house) + grew
    takes = len(house.takes())
    seen = trouble or f"{takes} takes, all sound; every frame accounted for; nothing grew, nothing is left behind"
    return Seen(f"after these {count}, in one run", seen, None, not trouble)


def worst(rows: list[Seen]) -> list[tuple[Seen, int, int]]:
    """Return, of each fault, the worst that was seen, how often it was tried and how often all was well."""
    tried: dict[str, list[Seen]] = {}
    for row in rows:
        tried.setdefault(row.fault, []).append(row)
    return [
        (max(same, key=lambda row: (not row.ok, row.back_s or 0.0)), len(same), sum(row.ok for row in same))
        for same in tried.values()
    ]


def page(rows: list[Seen], note: str = "") -> str:
    """Return the document; `note` says under what conditions it was made."""
    lines = [
        f"| {row.fault} | {row.seen.replace('|', '/')} | {'-' if row.back_s is None else f'{row.back_s:.1f}'} "
        f"| {well} of {count} |"
        for row, count, well in worst(rows)
    ]
    return HEAD.replace("{note}", f" {note}" if note else "") + "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", nargs="+", default=[], metavar="WORD", help="only rows whose name holds one of these")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="so often in a row")
    parser.add_argument("--rows-of", nargs="+", type=Path, default=[], metavar="JSON", help="run nothing, use these")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as a page")
    parser.add_argument("--note", default="", metavar="TEXT", help="under what conditions, for the page")
    args = parser.parse_args()
    rows: list[Seen] = []
    for path in args.rows_of:
        rows += [Seen(**row) for row in json.loads(path.read_text("utf-8"))["rows"]]
    for _ in range(0 if args.rows_of else args.times):
        with tempfile.TemporaryDirectory(prefix="mien-chaos-") as folder:
            # As on a machine where Mien has run before, also where a shell forbids compiled modules.
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
            rows += run(Path(folder), args.rows)
    good = bool(rows) and all(row.ok for row in rows)
    if args.write:
        args.write.write_text(page(rows, args.note), "utf-8")
    print(json.dumps({"ok": good, "rows": [dataclasses.asdict(row) for row in rows]}) if args.json else page(rows))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

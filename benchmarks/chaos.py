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
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.mien import faults
from tests.mien.faults import Seen
from tests.mien.house import Fault, House

PROCESSES = ("node", "infer", "record", "serve", "view")
SILENCE_S = 6.0
CAMERAS = {
    "a camera delivers nothing for 4 s": ({"stall_camera": 1, "stall_after_s": 8.0, "stall_for_s": 4.0}, "no pictures"),
    "a camera loses a third of its pictures": ({"drop_probability": 0.3}, "dropped-by-camera"),
    "a camera exposes 5 ms late": ({"skew_us": 5000}, "cam_3"),
}
HEAD = """# Faults

What happens when something breaks. Made by `benchmarks/chaos.py --write` on a running `mien live` with four simulated
cameras at 10 pictures per second, gateway, browser view and recorder. `silence`: how long no mesh came because of it,
or from the cause going away until meshes came again; `-`: they never stopped. After every run takes were verified,
frames balanced (published = used + unused by reason), and /proc was searched for what was left behind.

| fault | what was seen | silence, s | as it should be |
| --- | --- | --- | --- |
"""


def one_house(folder: Path) -> Iterator[tuple[str, Callable[[House], Seen]]]:
    """Yield the rows that share a run."""
    del folder
    for name in PROCESSES:
        yield f"kill {name}", lambda house, name=name: faults.kill(house, name)
    for name in PROCESSES:
        yield f"freeze {name}", lambda house, name=name: faults.freeze(house, name, 3.0)
    for name in ("node", "infer", "record", "serve"):
        yield f"freeze-for-good {name}", lambda house, name=name: faults.freeze_for_good(house, name, SILENCE_S)
    yield "garbage", faults.garbage


def own_houses(folder: Path) -> Iterator[tuple[str, Callable[[], Seen]]]:
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


def guarded(name: str, act: Callable[[], Seen]) -> Seen:
    """Run a row; one that fails is a row as well."""
    try:
        row = act()
    except (Fault, OSError) as error:
        row = Seen(name, f"FAILED: {error}", None, False)
    print(f"{'ok ' if row.ok else 'BAD'} {row.fault}: {row.seen}", file=sys.stderr, flush=True)
    return row


def run(folder: Path, wanted: list[str]) -> list[Seen]:
    """Run the rows whose name holds one of the words; all without words."""

    def chosen(name: str) -> bool:
        return not wanted or any(word in name for word in wanted)

    rows: list[Seen] = []
    shared = [(name, act) for name, act in one_house(folder) if chosen(name)]
    if shared:
        with House(
            folder / "shared", {"live.silence_s": SILENCE_S}, arguments=("--web", "--serve", "--record")
        ) as house:
            house.wait_ready()
            rows += [guarded(name, lambda act=act: act(house)) for name, act in shared]  # type: ignore[misc]
            rows.append(guarded("end", lambda: _end(house)))
    rows += [guarded(name, act) for name, act in own_houses(folder) if chosen(name)]
    return rows


def _end(house: House) -> Seen:
    house.end()
    trouble = faults.closing(house)
    count = len(house.takes())
    seen = trouble or f"{count} takes, all sound; every frame accounted for; nothing left behind"
    return Seen("after all of these, in one run", seen, None, not trouble)


def page(rows: list[Seen]) -> str:
    """Return the document."""
    lines = [
        f"| {row.fault} | {row.seen.replace('|', '/')} | {'-' if row.back_s is None else f'{row.back_s:.1f}'} "
        f"| {'yes' if row.ok else 'NO'} |"
        for row in rows
    ]
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    """Run, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", nargs="+", default=[], metavar="WORD", help="only rows whose name holds one of these")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="so often in a row")
    parser.add_argument("--rows-of", nargs="+", type=Path, default=[], metavar="JSON", help="run nothing, use these")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as a page")
    args = parser.parse_args()
    rows: list[Seen] = []
    good = True
    for path in args.rows_of:
        rows += [Seen(**row) for row in json.loads(path.read_text("utf-8"))["rows"]]
        good = all(row.ok for row in rows)
    for _ in range(0 if args.rows_of else args.times):
        with tempfile.TemporaryDirectory(prefix="mien-chaos-") as folder:
            rows = run(Path(folder), args.rows)
        good = good and all(row.ok for row in rows)
    if args.write:
        args.write.write_text(page(rows), "utf-8")
    print(json.dumps({"ok": good, "rows": [dataclasses.asdict(row) for row in rows]}) if args.json else page(rows))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

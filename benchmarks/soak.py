"""Does anything grow? The whole system of the demo at full rate for hours, cameras, engine, recorder, viewer, gateway.

    python benchmarks/soak.py [--minutes 120] [--picture soak.png] [--notes soak.jsonl] [--set KEY=VALUE] [--json]

Every minute: of each process, the supervisor with its console (`live`) included, resident memory, threads, open files
and shared-memory segments; rates, latencies, the skew of the cameras. Takes of ten minutes follow one another; each is
verified and thrown away. At the end every published frame has to be accounted for. The last quarter is compared with
the second; exits with 1 if memory grew by 2 %, a count grew at all, a take is damaged, a frame unaccounted for, or a
process was started again. One minute without an answer is left out; a second one, and more than one in a hundred, is
told and exits with 1 as well. Two hours of a drifting clock need no two hours: see benchmarks/sync.py.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from streamer.errors import TransportError
from streamer.takes.verify import verify_take
from tests.mien import faults
from tests.mien.house import Fault, House

GROWTH = 1.02
MISSED = 0.01
"""Of all readings and commands, how many may fail."""
DEMO = {
    "rig.fps": 30, "rig.simulated.cameras": 8, "rig.simulated.width": 480, "rig.simulated.height": 360,
    "inference.threads": 0, "sync.deadline_ms": 120, "record.roll_s": 30, "record.min_free_gb": 5.0,
}  # fmt: skip

Note = dict[str, float]


def held_by(pid: int, *, children: bool = True) -> Note:
    """What a process holds now, by default with all its children.

    Raises:
        OSError: it is gone, or one of its children went meanwhile.
    """
    folder = Path("/proc") / str(pid)
    shared = {line.split(None, 5)[5] for line in (folder / "maps").read_text().splitlines() if "/dev/shm/" in line}
    rss_mb = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    note = {
        "rss_mb": rss_mb,
        "threads": float(len(os.listdir(folder / "task"))),
        "files": float(len(os.listdir(folder / "fd"))),
        "segments": float(len(shared)),
    }
    for task in (folder / "task").iterdir() if children else ():
        for child in (task / "children").read_text().split():
            held = held_by(int(child))
            note = {key: value + held[key] for key, value in note.items()}
    return note


def note_of(state: dict[str, Any], live: int, minute: float) -> Note:
    """One line of the log: a flat map of figures.

    Args:
        state: what `/state` said.
        live: process id of `mien live`, whose children are the other processes.
        minute: of the run.

    Raises:
        OSError: a process went away meanwhile.
    """
    flow = state["flow"]
    skews = [abs(c["skew_us"]) for c in state["cameras"] if c["skew_us"] is not None]
    note: Note = {"minute": minute, "meshes_per_s": flow["meshes_per_s"] or 0.0, "load_average": os.getloadavg()[0]}
    note |= {f"latency_ms.{key}": value for key, value in flow["latency_ms"].items()}
    note |= {"skew_us.worst": max(skews, default=0.0)}
    note |= {f"live.{key}": value for key, value in held_by(live, children=False).items()}
    for process in state["processes"]:
        if process["pid"]:
            note |= {f"{process['name']}.{key}": value for key, value in held_by(process["pid"]).items()}
    return note


def pids_of(state: dict[str, Any]) -> dict[str, int]:
    """Process ids by name."""
    return {each["name"]: each["pid"] for each in state.get("processes", []) if each["pid"]}


def draw(notes: list[Note], path: Path) -> None:
    """One curve per figure over the run, from zero to its maximum, which stands beside its name."""
    names = [n for n in notes[0] if n != "minute" and not n.endswith((".threads", ".files", ".segments"))]
    width, height, last = 900, 84, max(note["minute"] for note in notes)
    picture = np.full((height * len(names), width, 3), 255, np.uint8)
    for row, name in enumerate(names):
        values = [note.get(name, 0.0) for note in notes]
        top, floor = max(max(values), 1e-9), (row + 1) * height - 12
        x = [20 + 860 * note["minute"] / last for note in notes]
        points = np.round([(at, floor - 50 * value / top) for at, value in zip(x, values, strict=True)])
        cv2.line(picture, (20, floor), (880, floor), (190, 190, 190), 1)
        cv2.polylines(picture, [points.astype(np.int32)], False, (160, 60, 20), 2, cv2.LINE_AA)
        text = f"{name}: {values[0]:.4g} at first, {values[-1]:.4g} at last, {top:.4g} at most; {last:.0f} minutes"
        at = (20, row * height + 16)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)


def judge(notes: list[Note]) -> tuple[dict[str, Any], list[str]]:
    """Return medians of the second and the last quarter by figure, and what grew that may not; no notes, no figures."""
    if not notes:
        return {}, []
    quarter = max(1, len(notes) // 4)
    early, late = notes[quarter : 2 * quarter] or notes[:1], notes[-quarter:]
    table, grew = {}, []
    for name in sorted(set(early[0]) & set(late[-1]) - {"minute"}):
        a, b = (median(note[name] for note in part if name in note) for part in (early, late))
        table[name] = {"second_quarter": round(a, 3), "last_quarter": round(b, 3)}
        limit = a * GROWTH if name.endswith("rss_mb") else a
        if name.endswith(("rss_mb", "threads", "files", "segments")) and b > limit:
            grew.append(f"{name}: {a:.1f} -> {b:.1f}")
    return table, grew


class Watch:
    """Notes and takes of a house. What fails once is left out or tried again; what fails again is told by `verdict`.

    Args:
        house: running.
        log: gets each note as a line of JSON; None: none does.
    """

    def __init__(self, house: House, log: Path | None) -> None:
        """Nothing is noted yet."""
        self._house, self._log = house, log
        self.notes: list[Note] = []
        self.takes = 1
        """How many were begun."""
        self.wrong: list[str] = []
        self._tries = 0
        self._missed: list[str] = []

    def note(self, minute: float) -> bool:
        """Note what everything holds now; returns whether it could be."""
        self._tries += 1
        state = self._house.state()
        if not state:
            return self._miss(f"minute {minute:.1f}: /state did not answer")
        try:
            self.notes.append(note_of(state, self._house.pid, minute))
        except OSError as error:  # a process ended between the two readings
            return self._miss(f"minute {minute:.1f}: {error}")
        if self._log is not None:
            with self._log.open("a") as file:
                print(json.dumps(self.notes[-1]), file=file)
        return True

    def renew_take(self) -> bool:
        """Begin the next take, verify those before it and throw them away; returns whether the recorder did it."""
        self._tries += 1
        try:
            if self._house.take("status")["state"] == "recording":  # it is not where the last try came half way
                self._house.take("stop")
            current = Path(self._house.take("start")["take"]).name
        except TransportError as error:
            return self._miss(f"take {self.takes + 1}: {error}")
        self.takes += 1
        for folder in (path for path in self._house.takes() if path.name != current):
            found = verify_take(folder)
            self.wrong += [] if found.ok else [f"{folder.name}: {found.as_json()}"]
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            folder.rmdir()
        return True

    def _miss(self, line: str) -> bool:
        self._missed.append(line)
        print(f"soak: {line}", file=sys.stderr, flush=True)
        return False

    def verdict(self) -> list[str]:
        """What was wrong: one miss is not, two are where they are more than 1 % of all tries."""
        often = len(self._missed) > max(1, MISSED * self._tries)
        return self.wrong + (self._missed if often else []) + ([] if self.notes else ["nothing could be noted"])


def soak(
    folder: Path, minutes: float, take_minutes: float, settings: dict[str, object], log: Path | None
) -> dict[str, Any]:
    """Run, and note."""
    with House(folder, DEMO | settings, arguments=("--web", "--serve", "--record")) as house:
        house.wait_ready()
        watch, pids, begin = Watch(house, log), house.pids(), time.monotonic()
        interval_s, take_s, count = min(60.0, 60 * minutes / 12), 60 * take_minutes, 1
        while (now_s := time.monotonic() - begin) < 60 * minutes and not house.died():
            if now_s >= interval_s * count:
                watch.note(now_s / 60)
                count += 1
            if now_s >= take_s * watch.takes:
                watch.renew_take()
            threading.Event().wait(1.0)
        after = pids_of(house.state())
        ended: dict[str, Any] = {"restarts": {}}
        if died := house.died():
            watch.wrong.append(died)
        else:
            try:
                ended = house.end()
            except Fault as error:
                watch.wrong.append(str(error))
        watch.wrong += [line for line in [faults.closing(house)] if line]
        frames, meshes = house.account(), len(house.meshes)
    table, grew = judge(watch.notes)
    failed = {name for name, count in ended["restarts"].items() if count}
    restarted = sorted(failed | {name for name, pid in after.items() if pids.get(name) != pid})
    wrong = watch.verdict()
    return {
        "minutes": minutes, "meshes": meshes, "frames": frames, "takes": watch.takes, "wrong": wrong, "grew": grew,
        "restarted": restarted, "restarts": ended["restarts"], "figures": table, "notes": watch.notes,
        "ok": not (wrong or grew or restarted),
    }  # fmt: skip


def main() -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--take-minutes", type=float, default=10.0, help="length of each take (default: 10)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the run")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the curves")
    parser.add_argument("--notes", type=Path, metavar="FILE.jsonl", help="write each minute's figures as they come")
    args = parser.parse_args()
    pairs = [text.partition("=")[::2] for text in args.set]
    settings = {key: tomllib.loads(f"value = {value}")["value"] for key, value in pairs}
    with tempfile.TemporaryDirectory(prefix="mien-soak-") as folder:
        try:
            result = soak(Path(folder), args.minutes, args.take_minutes, settings, args.notes)
        except Fault as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
    if args.picture and result["notes"]:
        draw(result["notes"], args.picture)
    if args.json:
        print(json.dumps(result))
    else:
        for name, row in result["figures"].items():
            print(f"{name:28} {row['second_quarter']:>12} {row['last_quarter']:>12}")
        print("ok" if result["ok"] else f"NOT ok: {result['grew'] + result['wrong'] + result['restarted']}")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())

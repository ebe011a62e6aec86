"""How long the fit queue takes to list its jobs: in the process, and as a person sees it.

    python benchmarks/fitter_queue.py [--json] [--jobs 1000]

`list_ms` is `Store.jobs()` on an open queue, `cli_ms` the whole of `mien fit list --json` in a process of its own, with
the start of Python. Best of five each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from renderer.fitter.jobs import Job
from renderer.fitter.store import Store

REPEATS = 5


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.sqlite"
        with Store(path) as store:
            store._db.execute("PRAGMA synchronous=OFF")  # to fill it quickly
            for number in range(args.jobs):
                store.add(Job(0, f"/takes/show/slate_T{number:04d}", "preview", {"steps": 1000}), float(number))
            within = []
            for _ in range(REPEATS):
                begin = time.perf_counter()
                found = len(store.jobs())
                within.append(time.perf_counter() - begin)
        command = [sys.executable, "-m", "mien", "fit", "list", "--json", "--set", f"fitter.queue={path}"]
        whole = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            whole.append(time.perf_counter() - begin)
    figures = {"jobs": found, "list_ms": round(min(within) * 1e3, 2), "cli_ms": round(min(whole) * 1e3, 1)}
    print(json.dumps(figures) if args.json else figures)


if __name__ == "__main__":
    main()

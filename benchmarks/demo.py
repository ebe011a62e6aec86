"""The issue's figures end to end: `mien demo --headless` on this machine, cameras rendered on the same cores.

    python benchmarks/demo.py [--seconds 20] [--json]

Prints the demo's report with the machine it ran on. Anything else that runs beside it makes the figures worse: the load
average at the start is part of the answer.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from streamer.report import summary


def measure(seconds: float, sets: list[str]) -> dict[str, Any]:
    """Run one demo in a folder that is thrown away and return its report.

    Raises:
        subprocess.CalledProcessError: the demo failed; its own words are on standard error.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="mien-bench-") as folder:
        command = [sys.executable, "-m", "mien", "demo", "--headless", "--json", "--seconds", f"{seconds:g}"]
        command += ["--out", str(Path(folder) / "demo"), *(word for text in sets for word in ("--set", text))]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(run.stdout)
    del report["out"]
    return report | {"machine": {"cpus": os.cpu_count(), "processor": platform.processor(), "load_average": load}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the performance (default: 20)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    report = measure(args.seconds, args.set)
    if args.json:
        print(json.dumps(report))
    else:
        machine = report["machine"]
        print(summary(report))
        print(f"machine    {machine['cpus']} CPUs, load average {machine['load_average']:.1f} at the start")


if __name__ == "__main__":
    main()

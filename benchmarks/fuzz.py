"""Fuzz the readers of what comes from outside: wire, calibration, config, takes.

    python benchmarks/fuzz.py [--minutes 10] [--targets wire take] [--seed N] [--keep DIR] [--json]

So many minutes for each reader. Spoilt input has to be refused with one of our errors, or read; anything else is a
finding: it is printed with the seed that makes it again, kept with --keep, and the script exits with 1.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.streamer.fuzzing import Target, finding, scratch, spoil, targets

NAMES = ("wire", "calibration", "config", "take")


def fuzz(target: Target, seconds: float, seed: int, keep: Path | None) -> dict[str, object]:
    """Fuzz one reader and return what was found."""
    end, rounds, found = time.monotonic() + seconds, 0, {}
    while time.monotonic() < end:
        rng = random.Random(seed + rounds)
        data = spoil(rng, rng.choice(target.sound))
        trouble = finding(target, data)
        if trouble and trouble not in found:
            found[trouble] = seed + rounds
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed + rounds}.bin").write_bytes(data)
        rounds += 1
    return {"seconds": seconds, "inputs": rounds, "findings": found}


def main() -> int:
    """Fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--targets", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for inputs that found something")
    args = parser.parse_args()
    with scratch() as folder:
        made = targets(Path(folder))
        results = {name: fuzz(made[name], 60 * args.minutes, args.seed, args.keep) for name in args.targets}
    print(json.dumps(results) if args.json else "\n".join(f"{name}: {row}" for name, row in results.items()))
    return 1 if any(row["findings"] for row in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

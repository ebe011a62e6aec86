"""Write requirements/*.txt: every transitive pin of pyproject.toml, found by pip itself.

Run by `make lock` inside the project's environment. Local version parts (torch's `+cpu`) are left out, so that the
same file takes the CPU build where one lies at hand and the index's own build elsewhere.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETS: dict[str, tuple[str, ...]] = {"live": ("view",), "dev": ("view", "export", "genicam", "train", "fit", "dev")}
"""File name to the extras that it holds."""


def resolve(wanted: list[str]) -> list[str]:
    """Return `name==version` of everything that pip would install for these requirements, in name order."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = json.loads(subprocess.run([*command, *wanted], check=True, capture_output=True, text=True).stdout)
    found = [item["metadata"] for item in report["install"]]
    return sorted(f"{item['name'].lower().replace('_', '-')}=={item['version'].partition('+')[0]}" for item in found)


def main() -> None:
    """Rewrite every file of `SETS`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for name, extras in SETS.items():
        wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
        for extra in extras:
            wanted += project["project"]["optional-dependencies"][extra]
        header = f"# Made by `make lock` from pyproject.toml (extras: {', '.join(extras)}). Do not edit.\n"
        path = ROOT / "requirements" / f"{name}.txt"
        path.write_text(header + "\n".join(resolve(wanted)) + "\n", "utf-8")
        print(f"{path.relative_to(ROOT)}: {len(path.read_text('utf-8').splitlines()) - 1} pins")


if __name__ == "__main__":
    main()

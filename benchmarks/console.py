"""The operator's screen: its cost, and its picture for the documents.

    python benchmarks/console.py [--svg FILE] [--json]

Figures: CPU to put a state together, to draw it, and to write the metrics. The picture shows a run in trouble; where
Chromium is installed it becomes a PNG beside the SVG too.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamer.console.metrics import exposition
from streamer.console.screen import Screen
from streamer.console.state import ConsoleState
from tests.streamer.console_makers import trouble

SIZE = (150, 42)


class Desk:
    """Shows one state and does nothing."""

    def __init__(self) -> None:
        """Make the state."""
        self._state = trouble()

    def state(self) -> ConsoleState:
        """Return it."""
        return self._state

    def command(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do nothing."""
        return {}

    def restart(self, name: str) -> None:
        """Do nothing."""

    def log(self, name: str) -> Path:
        """Return a log that says nothing."""
        return Path(f"{name}.log")

    def over(self) -> bool:
        """The run goes on."""
        return False


def cost_ms(act: Callable[[], object], times: int) -> float:
    """Return the CPU of one call, ms."""
    begin = time.process_time()
    for _ in range(times):
        act()
    return round((time.process_time() - begin) / times * 1e3, 2)


async def draw() -> tuple[str, float]:
    """Return the picture and the CPU of one drawing, ms."""
    screen = Screen(Desk())
    async with screen.run_test(size=SIZE) as pilot:
        await pilot.pause()
        begin = time.process_time()
        for _ in range(20):
            screen.draw()
            await pilot.pause()
        return screen.export_screenshot(title="mien live"), round((time.process_time() - begin) / 20 * 1e3, 2)


def to_png(svg: Path) -> Path | None:
    """Make a PNG beside an SVG with Chromium; None where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return None
    png = svg.with_suffix(".png")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"<body style='margin:0'>{svg.read_text('utf-8')}</body>", "utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        command += ["--window-size=1480,890", f"--screenshot={png}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return png


def main() -> int:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the picture")
    args = parser.parse_args()
    state = trouble()
    picture, drawn_ms = asyncio.run(draw())
    result: dict[str, Any] = {
        "compose_ms": cost_ms(trouble, 200),
        "metrics_ms": cost_ms(lambda: exposition(lambda: state), 50),
        "draw_ms": drawn_ms,
    }
    if args.svg:
        args.svg.write_text(picture, "utf-8")
        png = to_png(args.svg)
        result["picture"] = [str(args.svg), *([str(png)] if png else [])]
    print(json.dumps(result) if args.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

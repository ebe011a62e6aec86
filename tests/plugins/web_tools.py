"""Node, its packages and Chromium, where this machine has them, and the demo page in a browser."""

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / ".venv/node/node_modules"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ESBUILD = MODULES / ".bin/esbuild"

needs_node = pytest.mark.skipif(
    not NODE or not ESBUILD.exists(),
    reason="no node, or not its packages: run requirements/consumers.sh .venv/bin/python",
)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: run requirements/consumers.sh .venv/bin/python")


def bundle(source: Path, to: Path, platform: str = "browser") -> Path:
    """Build TypeScript and what it imports into one file."""
    command = [
        ESBUILD,
        source,
        "--bundle",
        "--format=esm",
        f"--platform={platform}",
        f"--outfile={to}",
        "--log-level=error",
    ]
    subprocess.run(command, check=True, env=os.environ | {"NODE_PATH": str(MODULES)}, timeout=60)
    return to


class Page:
    """A page in Chromium."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **command: Any) -> Any:
        """Do something in the page; fail on errors in it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser has gone"
        answer = json.loads(line)
        assert not answer["troubles"], answer["troubles"]
        return answer.get("value")

    def wait(self, code: str) -> None:
        """Wait until an expression is true."""
        self.ask(do="wait", code=code)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def demo_page(folder: Path, websocket: str, more: str = "") -> Iterator[Page]:
    """The demo of plugins/web, built, served and opened, connected to a gateway; `more` of its query, "&token=..."."""
    shutil.copy(ROOT / "plugins/web/demo/index.html", folder)
    bundle(ROOT / "plugins/web/demo/main.ts", folder / "main.js")
    with opened(folder, f"?plain&url={websocket}{more}") as page:
        yield page


@contextmanager
def opened(folder: Path, query: str = "") -> Iterator[Page]:
    """The index.html of a folder, served and opened in Chromium."""
    script = folder / "page.mjs"
    shutil.copy(ROOT / "tests/plugins/web_page.mjs", script)
    (folder / "node_modules").symlink_to(MODULES)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/index.html{query}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    try:
        with subprocess.Popen([str(NODE), str(script), str(CHROMIUM), url], **pipes) as process:  # type: ignore[call-overload]
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), "the browser did not start"
                yield Page(process)
            finally:
                process.stdin.close()
                try:
                    process.wait(20)
                finally:
                    process.kill()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class PageLines:
    """Lines that a page keeps in an array `lines`, as tests.plugins.clients.Lines."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def count(self) -> int:
        return int(self.page.ask(do="eval", code="lines.length"))

    def seen(self, begin: str, since: int = 0) -> bool:
        return bool(self.page.ask(do="eval", code=self._found(begin, since)))

    def wait(self, begin: str, since: int = 0) -> str:
        self.page.wait(self._found(begin, since))
        return str(self.page.ask(do="eval", code=self._found(begin, since)))

    @staticmethod
    def _found(begin: str, since: int) -> str:
        return f"lines.slice({since}).find((line) => line.startsWith({json.dumps(begin)}))"

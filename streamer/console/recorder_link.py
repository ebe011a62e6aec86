"""The recorder as the console knows it: its status twice a second, commands, and what is done when it was killed."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from streamer.config import BusConfig
from streamer.control import ask, control_endpoint
from streamer.errors import MienError

PERIOD_S = 0.5
PATIENCE_S = 2.0
COMMAND_S = 8.0
GO_ON_S = 30.0
"""How long a recorder that was started again is asked to go on."""

TROUBLE = (MienError, OSError, sqlite3.Error)
"""What asking may meet that is not a defect: it must not end the asking."""

Ask = Callable[[str, Mapping[str, Any], float], Mapping[str, Any]]
"""Command, arguments, patience in s -> answer; raises TransportError."""


class RecorderLink:
    """Asks in a thread of its own, so that nobody waits for a recorder that does not answer.

    Args:
        bus: where the recorder takes commands.
        fits: counts the jobs of the fit queue by state.
        ask_recorder: sends a command; tests put another here.
    """

    def __init__(self, bus: BusConfig, fits: Callable[[], Mapping[str, int]], ask_recorder: Ask | None = None) -> None:
        """Begin to ask."""
        self._bus, self._fits = bus, fits
        self._ask = ask_recorder or self._send
        self._stop = threading.Event()
        self.status: Mapping[str, Any] | None = None
        """Its answer of late; None: it does not answer."""
        self.answered_s = time.monotonic()
        """When it last answered; at first, when it was first asked."""
        self.before: Mapping[str, Any] | None = None
        """Its last answer, however old."""
        self.take_bytes = 0
        """Size of the folder of the take that is being recorded."""
        self.fits: Mapping[str, int] = {}
        """State to number of jobs."""
        self.told = ""
        """What became of the take of a recorder that was killed."""
        self._helpers: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="recorder link", daemon=True)
        self._thread.start()

    def command(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a command and return the recorder's status after it.

        Raises:
            TransportError: it does not answer, or refuses; the message says why.
        """
        answer = self._ask(name, arguments, COMMAND_S)
        self._heard(answer)
        return answer

    def rescue(self) -> None:
        """The recorder was killed: repair what it was recording and, once it is back, go on in the next take."""
        was = self.before
        if was is not None and was["state"] == "recording":
            helper = threading.Thread(target=self._rescue, args=(dict(was),), name="rescue", daemon=True)
            self._helpers.append(helper)
            helper.start()

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()
        for thread in (self._thread, *self._helpers):
            thread.join()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _send(self, name: str, arguments: Mapping[str, Any], patience_s: float) -> Mapping[str, Any]:
        return ask(control_endpoint(self._bus), name, arguments, keys_dir=self._bus.keys_dir, timeout_s=patience_s)

    def _heard(self, status: Mapping[str, Any]) -> None:
        self.status = self.before = status
        self.answered_s = time.monotonic()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._look()
                self._stop.wait(PERIOD_S)
        finally:
            self.status = None  # nobody asks any more

    def _look(self) -> None:
        try:
            status = self._ask("status", {}, PATIENCE_S)
            with suppress(OSError):  # a folder that cannot be read now keeps its last size
                self.take_bytes = folder_bytes(Path(status["take"])) if status["take"] else 0
            self._heard(status)
        except TROUBLE:
            self.status = None
        try:
            self.fits = self._fits()
        except MienError as error:
            self.fits, self.told = {}, str(error)
        except TROUBLE as error:
            self.fits, self.told = {}, f"the fit queue cannot be read: {error}; see fitter.queue"

    def _rescue(self, was: dict[str, Any]) -> None:
        again = {key: was[key] for key in ("show", "slate", "notes")}
        for _ in range(round(GO_ON_S / PERIOD_S)):
            if self._stop.wait(PERIOD_S):
                break
            try:
                if self._ask("status", {}, PATIENCE_S)["state"] != "recording":
                    self.command("start", again)
                break
            except TROUBLE as error:
                self.told = str(error)
        self.told = recover(Path(was["take"]))


def recover(take: Path) -> str:
    """Repair a take in a process of its own and return one line about it."""
    command = [sys.executable, "-m", "mien", "recover", str(take), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if run.returncode:
        return f"{take} was cut short and could not be repaired: {run.stderr.strip()}"
    lost = json.loads(run.stdout).get("lost", {})
    what = ", ".join(f"{count} {kind}" for kind, count in lost.items()) or "nothing"
    return f"{take} was cut short and is repaired; lost: {what}"


def folder_bytes(folder: Path) -> int:
    """Return what the files of a folder hold, bytes; 0 if there is none."""
    try:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except FileNotFoundError:
        return 0

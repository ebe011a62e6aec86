"""Other people's programs as clients: their lines as they come, servers that misbehave, a gateway that asks for proof.

A program under test prints `status ...` whenever its line for people changes and `head NAME ...` for each head that it
shows, so that one test holds for all of them.
"""

import base64
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from streamer.config import ServeConfig
from tests.plugins.golden import digits
from tests.streamer.gateway_makers import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct horse battery"
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")


class Lines(Protocol):
    """What a program has said so far."""

    def count(self) -> int:
        """How many lines there are."""

    def seen(self, begin: str, since: int = 0) -> bool:
        """Whether a line begins so."""

    def wait(self, begin: str, since: int = 0) -> str:
        """The first line that begins so, once it is there."""


class ProcessLines:
    """The lines of a process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def count(self) -> int:
        with self._news:
            return len(self.lines)

    def seen(self, begin: str, since: int = 0) -> bool:
        with self._news:
            return self._first(begin, since) is not None

    def wait(self, begin: str, since: int = 0) -> str:
        with self._news:
            self._news.wait_for(lambda: self._first(begin, since) is not None, PATIENCE_S)
            found = self._first(begin, since)
            told = [line[:100] for line in self.lines[-3:]]
            assert found is not None, f"no line begins with {begin!r}: {told}"
            return found

    def _first(self, begin: str, since: int) -> str | None:
        return next((line for line in self.lines[since:] if line.startswith(begin)), None)


@contextmanager
def program(*command: object) -> Iterator[ProcessLines]:
    """Run a client until the end of the block; it must not end before."""
    words = [str(word) for word in command]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        lines = ProcessLines(process)
        try:
            yield lines
            assert process.poll() is None, f"the program has ended: {lines.lines[-20:]}"
        finally:
            process.kill()
            lines._thread.join()


def godot3_project(folder: Path) -> Path:
    """A project of Godot 3 with the add-on and tests/plugins/godot_dump.gd."""
    shutil.copytree(ROOT / "plugins/godot/godot3", folder, dirs_exist_ok=True)
    shutil.copy(ROOT / "tests/plugins/godot_dump.gd", folder)
    background = "[rendering]\nenvironment/default_clear_color=Color(0.125, 0.14, 0.165, 1)\n"
    (folder / "project.godot").write_text(f'config_version=4\n[application]\nconfig/name="test"\n{background}')
    return folder


@contextmanager
def impostor(*answers: bytes) -> Iterator[int]:
    """A server that gives each connection its answer, the last one for ever, and hangs up; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    done = threading.Event()

    def run() -> None:
        count = 0
        while not done.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.2)
                with suppress(
                    TimeoutError
                ):  # some ask for nothing; hanging up on an unread request would cut the answer
                    connection.recv(1 << 16)
                connection.settimeout(PATIENCE_S)
                with suppress(OSError):  # it may have gone
                    connection.sendall(answers[min(count, len(answers) - 1)])
            count += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        thread.join()
        listener.close()


@contextmanager
def web_impostor(*answers: bytes) -> Iterator[int]:
    """The same over WebSocket: whole records are messages, what is left at the end is one more."""
    from websockets.sync.server import serve

    count = 0

    def answer(client: Any) -> None:
        nonlocal count
        count += 1
        for message in messages(answers[min(count, len(answers)) - 1]):
            client.send(message)

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def messages(stream: bytes) -> list[bytes]:
    """A stream cut into records; the rest, and what is no record, is one message."""
    cut: list[bytes] = []
    while stream:
        size = int.from_bytes(stream[6:8], "little") + int.from_bytes(stream[28:32], "little")
        if stream[:4] != b"HCM1" or size > len(stream):
            size = len(stream)
        cut.append(stream[:size])
        stream = stream[size:]
    return cut


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    names = folder / "cert.pem", folder / "key.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *made.split(), *extra, "-out", names[0], "-keyout", names[1]], check=True, capture_output=True
    )
    return names


def guarded(folder: Path) -> ServeConfig:
    """A gateway as it has to be beyond loopback: a secret and TLS."""
    pem, key = certificate(folder)
    secret = folder / "token"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return ServeConfig(tcp_port=0, websocket_port=0, token_file=str(secret), tls_certificate=str(pem), tls_key=str(key))


def array(line: str, name: str, kind: str) -> np.ndarray:
    """An array in hexadecimal digits in a line."""
    found = re.search(rf" {name}=([0-9a-f]+)", line)
    assert found is not None, f"no {name} in {line[:80]}"
    return np.frombuffer(bytes.fromhex(found[1]), kind)


def sections(told: str) -> list[list[str]]:
    """What a Godot printed of each file after `# NAME`: the lines of records, in the digits of the golden files."""
    parts = re.split(r"^(?=# )", told, flags=re.MULTILINE)[1:]
    kinds = ("hello ", "health ", "topology ", "frame ", "weights ", "end ", "error ", "said ")
    return [[_plain(line) for line in part.splitlines() if line.startswith(kinds)] for part in parts]


def _plain(line: str) -> str:
    """Base64 in a line as the digits of the golden files."""

    def block(found: re.Match[str]) -> str:
        if found[3] == "-":
            return f" {found[1]}=-"
        return f" {found[1]}={digits(np.frombuffer(base64.b64decode(found[3]), '<f4' if found[2] == 'f' else '<u4'))}"

    names = "triangles|uv|corners|source|positions|pose|weights|normals"
    words = re.sub(rf" ({names})=([fi])(\S*)", block, line)
    if words.startswith(("frame ", "weights ")):
        parts = words.split(" ")
        parts[3] = base64.b64decode(parts[3]).hex()
        words = " ".join(parts)
    return words


def assert_pictured(picture: np.ndarray) -> None:
    """`tests.plugins.golden.HEAD` from the front: right size, the long left ear on the right, the chin too."""
    colours = picture.reshape(-1, 3).astype(int)
    skin = (np.abs(picture.astype(int) - np.median(colours, axis=0)).max(2) > 6).astype(np.uint8)
    count, parts, sizes, _ = cv2.connectedComponentsWithStats(skin)
    assert count > 1, "nothing is in the picture but its background"
    largest = 1 + int(np.argmax(sizes[1:, cv2.CC_STAT_AREA]))
    rows, columns = np.nonzero(parts == largest)
    assert 0.05 < rows.size / skin.size < 0.5, "a head, not the whole picture"
    crown, height_px = columns[rows <= rows.min() + 2].mean(), np.ptp(rows)
    right, left = columns.max() - crown, crown - columns.min()
    assert right > 1.08 * left, "the marked ear, 0.11 m from the middle and not 0.09, is on the person's left"
    assert columns[rows >= rows.max() - 2].mean() > crown + 0.03 * height_px, "the chin is drawn to the person's left"
    assert 0.7 < np.ptp(columns) / height_px < 0.9, "0.2 m wide, 0.257 m high"

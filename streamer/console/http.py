"""The state for other programs: `/state` (JSON) and `/metrics` (Prometheus), to be read only."""

import errno
import hmac
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from streamer.config import LiveConfig
from streamer.console.metrics import CONTENT_TYPE, exposition
from streamer.console.state import ConsoleState, as_json
from streamer.errors import TransportError
from streamer.gateway.admission import read_token
from streamer.rates import Allowance
from streamer.transport import is_loopback

MOST_AT_ONCE = 16
PATIENCE_S = 5.0
"""For all of a request, however it trickles in; and for each of the two parts of an answer, head and body."""
PER_S, AT_ONCE = 50.0, 100
"""Answers over all readers; a program that polls each second or a Prometheus takes far fewer."""
LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}


class StateServer:
    """Answers GET until it is closed.

    Args:
        config: host, port and secret; port 0 takes a free one here.
        latest: gives the state; called in threads of the server.

    Raises:
        TransportError: the port is in use, the address is not this machine's, or others could read and no secret is
            asked for.
    """

    def __init__(self, config: LiveConfig, latest: Callable[[], ConsoleState]) -> None:
        """Bind and begin to answer."""
        host = "127.0.0.1" if config.host == "localhost" else config.host.strip("[]")
        if not is_loopback(host) and not config.token_file:
            raise TransportError(
                f"refusing to tell the state on {config.host!r}: anybody on the network could read it. Set "
                "live.token_file, or live.host to 127.0.0.1 and use, on the other machine: ssh -L PORT:127.0.0.1:PORT"
            )
        token = read_token(config.token_file, "live.token_file")
        handler = _handler(latest, token, local=is_loopback(host))
        try:
            self._server = _Server((host, config.http_port), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise TransportError(
                    f"live.host = {config.host!r}, live.http_port = {config.http_port}: {error.strerror or error}; "
                    "give an address of this machine and a port that its users may take, e.g. --set live.host=127.0.0.1"
                ) from error
            raise TransportError(
                f"live.http_port = {config.http_port} on {host}: {error.strerror or error}; a second mien live? Stop "
                "the other program, or move this one: --set live.http_port=PORT (0: nothing is told)"
            ) from error
        self.port = int(self._server.server_address[1])
        """TCP port that is bound."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="state", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nothing more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_AT_ONCE

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: object, client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is nobody's fault."""


class _Hurried(io.RawIOBase):
    """What a client sends within the patience for its request; who is slower must not hold a place."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._until_s = connection, time.monotonic() + PATIENCE_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


def _handler(latest: Callable[[], ConsoleState], token: str, *, local: bool) -> type[BaseHTTPRequestHandler]:
    allowance, one_at_a_time = Allowance(PER_S, AT_ONCE), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "mien", ""

        def setup(self) -> None:
            super().setup()
            self.rfile.close()
            self.rfile = io.BufferedReader(_Hurried(self.connection))

        def do_GET(self) -> None:
            name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            with one_at_a_time:
                allowed = allowance.take(time.monotonic())
            if not allowed:
                self._answer(HTTPStatus.TOO_MANY_REQUESTS, "text/plain", b"ask less often\n")
            elif local and name not in LOCAL_NAMES:  # a page in a browser that lets its own name point here
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"ask for localhost\n")
            elif token and not self._knows(token):
                self._answer(HTTPStatus.UNAUTHORIZED, "text/plain", b"Authorization: Bearer TOKEN is wanted\n")
            elif self.path == "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE, exposition(latest))
            elif self.path == "/state":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(as_json(latest())).encode())
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there are /state and /metrics\n")

        def _knows(self, token: str) -> bool:
            said = self.headers.get("Authorization", "").encode("latin-1", "replace")
            return hmac.compare_digest(said, f"Bearer {token}".encode())

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.connection.settimeout(PATIENCE_S)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing: the screen is the console's."""

    return Handler

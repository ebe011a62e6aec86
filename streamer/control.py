"""Commands to a process and its answers: one JSON object each way, over a REQ/REP pair of sockets.

Loopback by default; elsewhere CURVE keys on both ends, as for the bus.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import zmq

from streamer.config import BusConfig
from streamer.errors import MienError, TransportError
from streamer.keys import admit_known, load_client, load_server
from streamer.rates import Allowance
from streamer.transport import WILDCARDS, bind_error, is_loopback, parse_endpoint

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

VERSION = 1
MAX_BYTES = 1 << 16
POLL_MS = 100
PER_S, AT_ONCE = 50.0, 100
"""Commands that are heeded: a console asks twice a second, an operator now and then."""
Handler = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Command and its arguments -> what is answered; raises MienError to refuse."""


def control_endpoint(bus: BusConfig) -> str:
    """Return the address at which the recorder takes commands."""
    return f"tcp://{bus.host}:{bus.control_port}"


def refusal(error: Exception) -> str:
    """Return what is answered to a command that met an error, in one line. A bad disk must not end the answering."""
    line = f"{error}; see that the disk is well and may be read and written" if isinstance(error, OSError) else error
    return " ".join(str(line).split())


class ControlServer:
    """Answers requests in a thread of its own, one after the other.

    A request is `{"mien": 1, "command": NAME, ...arguments}`; the answer `{"ok": true, ...}` with what the handler
    returned, or `{"ok": false, "error": LINE}`.

    Args:
        endpoint: `tcp://host:port` to bind; port 0 takes a free one.
        handler: called in the server's thread.
        keys_dir: folder of CURVE keys; empty: no encryption, and nothing but loopback is bound.

    Raises:
        TransportError: the port is in use, the address is not this machine's, or keys are missing.
    """

    def __init__(self, endpoint: str, handler: Handler, *, keys_dir: str = "") -> None:
        """Bind and begin to answer."""
        host, port = parse_endpoint(endpoint)
        if not is_loopback(host) and not keys_dir:
            raise TransportError(
                f"refusing to take commands at {endpoint} without keys: anybody on the network could command. "
                "Set bus.keys_dir to a folder of CURVE keys, or bus.host to 127.0.0.1"
            )
        server = load_server(Path(keys_dir)) if keys_dir else None
        self._handler = handler
        self._allowance = Allowance(PER_S, AT_ONCE)
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        self._socket = self._context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        self._socket.setsockopt(zmq.IPV6, host.startswith("["))
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        try:
            if server is not None:
                self._authenticator = admit_known(self._socket, self._context, *server)
            self._socket.bind(f"tcp://{host}:{port}")
        except zmq.ZMQError as error:
            self._free()
            raise bind_error(endpoint, port, error) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(POLL_MS):
                parts = self._socket.recv_multipart()
                self._socket.send(json.dumps(self._answer(parts)).encode())

    def _answer(self, parts: list[bytes]) -> Mapping[str, Any]:
        try:
            if not self._allowance.take(time.monotonic()):
                raise TransportError(
                    f"more than {PER_S:g} commands per second; find out who sends them, then try again"
                )
            request = json.loads(parts[0]) if len(parts) == 1 else None
            if not isinstance(request, dict) or request.pop("mien", None) != VERSION:
                raise TransportError(f'a request is one JSON object with "mien": {VERSION} and "command"')
            command = request.pop("command", None)
            if not isinstance(command, str):
                raise TransportError('a request names its "command"')
            return {"ok": True, **self._handler(command, request)}
        except (MienError, OSError, ValueError, RecursionError) as error:
            return {"ok": False, "error": refusal(error)}

    def close(self) -> None:
        """Answer nothing more. Closing twice is allowed."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._free()

    def _free(self) -> None:
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def ask(
    endpoint: str, command: str, arguments: Mapping[str, Any], *, keys_dir: str = "", timeout_s: float = 10.0
) -> dict[str, Any]:
    """Send one request and return the answer, without its `ok`.

    Args:
        endpoint: of a `ControlServer`.
        command: its name.
        arguments: further keys of the request.
        keys_dir: folder of CURVE keys; empty: no encryption.
        timeout_s: how long to wait for the answer.

    Raises:
        TransportError: nobody answered in time, or the request was refused: then the message is the server's.
    """
    request = json.dumps({"mien": VERSION, "command": command, **arguments}).encode()
    try:
        reply = _exchange(endpoint, request, keys_dir, timeout_s)
    except zmq.ZMQError as error:
        raise TransportError(f"{endpoint} cannot be asked: {error.strerror}; correct bus.host") from error
    if reply is None:
        raise TransportError(
            f"no answer from {endpoint} in {timeout_s:g} s; does mien live, or mien record --armed, run there?"
        )
    try:
        answer = json.loads(reply)
    except ValueError as error:
        raise TransportError(f"{endpoint} did not answer as a Mien does; is the port another program's?") from error
    if not isinstance(answer, dict) or answer.pop("ok", False) is not True:
        line = answer.get("error") if isinstance(answer, dict) else None
        raise TransportError(str(line or f"{endpoint} answered without a result"))
    return answer


def _exchange(endpoint: str, request: bytes, keys_dir: str, timeout_s: float) -> bytes | None:
    """Send a request and return what comes back, None if nothing does in time."""
    host, port = parse_endpoint(endpoint)
    client = load_client(Path(keys_dir)) if keys_dir else None
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.setsockopt(zmq.IPV6, host.startswith("["))
        if client is not None:
            pair, socket.curve_serverkey = client
            socket.curve_publickey, socket.curve_secretkey = pair.public, pair.secret
        socket.connect(f"tcp://{WILDCARDS.get(host, host)}:{port}")
        socket.send(request)
        return socket.recv() if socket.poll(round(timeout_s * 1000)) else None

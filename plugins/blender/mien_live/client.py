"""The connection to the gateway: a thread that keeps the newest head and nothing older. No bpy here.

The thread reads all the time, so nothing piles up in the socket; whoever draws takes what is newest when it is ready.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable

from .records import End, Frame, Health, Hello, Message, Reader, RecordError, Splitter, Topology, encode_request

CONNECT_S = 2.0
POLL_S = 0.2
"""How soon the thread notices that it is to end."""
RETRY_S = 0.5
SILENCE_S = 5.0
"""Health comes each second: so long without a byte, and the connection is dead."""
REFUSED_S = 3.0
"""Pause after a server that does not speak our language: it will not learn at once."""


class Client:
    """A connection that comes back by itself.

    Args:
        host: address of the gateway.
        port: its `serve.tcp_port`.
        token: the secret of its `serve.token_file`, if it asks for one.
        heard: called with every frame, in the thread; must not touch Blender.
        tls: whether the gateway has `serve.tls_certificate`.
        certificate: that PEM file, if this machine does not trust it anyway.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str = "",
        heard: Callable[[Frame], object] | None = None,
        tls: bool = False,
        certificate: str = "",
    ) -> None:
        """Begin to connect."""
        self._address = (host, port)
        self._token = token
        self._tls = tls
        self._certificate = certificate
        self._heard = heard
        self._silent_s = SILENCE_S
        self.health: dict = {}
        """What the gateway said last of the stream."""
        self._lock = threading.Lock()
        self._topology: Topology | None = None
        self._frame: Frame | None = None
        self._fresh = False
        self._status = f"connecting to {host}:{port}"
        self._received = self._skipped = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="Mien", daemon=True)
        self._thread.start()

    @property
    def status(self) -> str:
        """One line for people."""
        with self._lock:
            return self._status

    @property
    def counts(self) -> tuple[int, int]:
        """Frames received, and those of them that were replaced before anybody took them."""
        with self._lock:
            return self._received, self._skipped

    def take(self) -> tuple[Topology | None, Frame | None]:
        """Return the newest topology if it was not taken yet, and the newest frame if it was not; never waits."""
        with self._lock:
            topology = self._topology if self._fresh else None
            frame, self._frame, self._fresh = self._frame, None, False
            return topology, frame

    def close(self) -> None:
        """Hang up; returns when the thread has ended."""
        self._done.set()
        self._thread.join(CONNECT_S + 1.0)

    def _run(self) -> None:
        host, port = self._address
        while not self._done.is_set():
            pause_s = RETRY_S
            try:
                self._say(self._talk())
            except RecordError as error:
                pause_s = RETRY_S if error.fault == "incomplete" else REFUSED_S
                self._say(str(error))
            except ssl.SSLError as error:
                pause_s = REFUSED_S
                self._say(
                    f"no TLS with {host}:{port} ({error}): is serve.tls_certificate set there, and is it trusted here "
                    "(Certificate)?"
                )
            except OSError as error:
                self._say(f"nobody answers at {host}:{port} ({error}); is `mien serve` running?")
            self._done.wait(pause_s)

    def _talk(self) -> str:
        """Receive until the connection ends; return why it did."""
        splitter, reader = Splitter(), Reader()
        with self._connected() as connection:
            connection.settimeout(POLL_S)
            if self._token:
                connection.sendall(encode_request({"token": self._token}))
            self._say("connected; waiting for a head")
            heard_s = time.monotonic()
            while not self._done.is_set():
                try:
                    data = connection.recv(1 << 18)
                except TimeoutError:
                    if time.monotonic() - heard_s > self._silent_s:
                        return "the server has fallen silent; connecting again"
                    continue
                heard_s = time.monotonic()
                if not data:
                    splitter.close()
                    return "the server hung up; connecting again"
                for record in splitter.feed(data):
                    message = reader.read(record)
                    if isinstance(message, End):
                        return f"the server says: {message.reason}; connecting again"
                    if message is not None:
                        self._receive(message)
        return "not connected"

    def _connected(self) -> socket.socket:
        plain = socket.create_connection(self._address, CONNECT_S)
        if not self._tls:
            return plain
        try:
            trusted = ssl.create_default_context(cafile=self._certificate or None)
            return trusted.wrap_socket(plain, server_hostname=self._address[0])
        except OSError:
            plain.close()
            raise

    def _receive(self, message: Message) -> None:
        if isinstance(message, Hello) and message.about.get("token") and not self._token:
            raise RecordError("damaged", "the server asks for a token: that of its serve.token_file")
        if isinstance(message, Health):
            with self._lock:
                self.health = message.about
        elif isinstance(message, Topology):
            with self._lock:
                self._topology, self._fresh = message, True
                self._skipped += self._frame is not None
                self._frame = None
            self._say(f"live: {message.name or 'head'}, {message.vertices} vertices")
        elif isinstance(message, Frame) and message.positions is not None:
            with self._lock:
                self._received += 1
                self._skipped += self._frame is not None
                self._frame = message
            if self._heard is not None:
                self._heard(message)

    def _say(self, status: str) -> None:
        with self._lock:
            self._status = status

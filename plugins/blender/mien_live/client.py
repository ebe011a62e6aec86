"""The connection to the gateway: a thread that keeps the newest head and nothing older. No bpy here.

The thread reads all the time, so nothing piles up in the socket; whoever draws takes what is newest when it is ready.
"""

import socket
import threading

from .records import END, Frame, RecordError, Splitter, Topology, decode

CONNECT_S = 2.0
POLL_S = 0.2
"""How soon the thread notices that it is to end."""
RETRY_S = 0.5
REFUSED_S = 3.0
"""Pause after a server that does not speak our language: it will not learn at once."""


class Client:
    """A connection that comes back by itself.

    Args:
        host: address of the gateway.
        port: its `serve.tcp_port`.
    """

    def __init__(self, host: str, port: int) -> None:
        """Begin to connect."""
        self._address = (host, port)
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
                pause_s = REFUSED_S
                self._say(str(error))
            except OSError as error:
                self._say(f"nobody answers at {host}:{port} ({error}); is `mien serve` running?")
            self._done.wait(pause_s)

    def _talk(self) -> str:
        """Receive until the connection ends; return why it did."""
        splitter = Splitter()
        with socket.create_connection(self._address, CONNECT_S) as connection:
            connection.settimeout(POLL_S)
            self._say("connected; waiting for a head")
            while not self._done.is_set():
                try:
                    data = connection.recv(1 << 18)
                except TimeoutError:
                    continue
                if not data:
                    return "the server hung up; connecting again"
                for record in splitter.feed(data):
                    if record[4] == END:
                        return f"the server says: {decode(record)}; connecting again"
                    self._receive(record)
        return "not connected"

    def _receive(self, record: bytes) -> None:
        message = decode(record)
        if isinstance(message, Topology):
            with self._lock:
                self._topology, self._fresh = message, True
                self._skipped += self._frame is not None
                self._frame = None
            self._say(f"live: {message.name or 'head'}, {message.vertices} vertices")
        elif isinstance(message, Frame):
            with self._lock:
                topology = self._topology
                if topology is None or topology.key != message.key or topology.vertices != len(message.positions):
                    raise RecordError("a frame came before its topology; connecting again")
                self._received += 1
                self._skipped += self._frame is not None
                self._frame = message

    def _say(self, status: str) -> None:
        with self._lock:
            self._status = status

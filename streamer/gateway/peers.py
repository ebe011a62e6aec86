"""One connection of the gateway: what waits on it, and for how long. It never waits itself."""

import socket
import ssl
from collections.abc import Callable

from streamer.errors import WireError
from streamer.gateway.clients import Parcel, Slot
from streamer.gateway.records import encode_end
from streamer.gateway.variants import Request
from streamer.gateway.web import Carrier

MAX_INCOMING = 1 << 16
"""Bytes that a client may say in its life: a handshake and some requests."""
READ = 1 << 14

_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Gone(Exception):
    """The connection has ended or cannot be used any further."""


class Peer:
    """A client from its first byte to its last.

    Args:
        connection: accepted, non-blocking; with TLS not yet shaken hands.
        carrier: its language.
        join: asked for a slot when records can be sent; raises TransportError or WireError to send the client away.
        request: told of what the client asks for; raises WireError to send it away.
    """

    def __init__(
        self,
        connection: socket.socket,
        carrier: Carrier,
        join: Callable[[], Slot],
        request: Callable[[Slot, Request], None],
        now_s: float,
    ) -> None:
        """Have nothing to send."""
        self.connection = connection
        self.slot: Slot | None = None
        self._carrier, self._join, self._request = carrier, join, request
        self._out: memoryview | None = None
        self._heard = 0
        self._shaken = not isinstance(connection, ssl.SSLSocket)
        self.begun_s = now_s
        """Since when it has been connected."""
        self.since_s = now_s
        """Since when the record that is being sent has been under way."""
        self.waits = False
        """Whether it is watched for room to write; kept by the server."""
        self.last_words_s: float | None = None
        """Since when all has been said and the client's end is waited for."""

    @property
    def busy(self) -> bool:
        """Whether a record is under way."""
        return self._out is not None

    @property
    def admitted(self) -> bool:
        """Whether the client has come so far that it gets frames."""
        return self.slot is not None and not self.slot.locked

    def hear(self) -> None:
        """Take what the client sent.

        Raises:
            Gone: the client has gone, or said more than a client of this protocol could want to.
        """
        while True:
            try:
                if not self._shake():
                    return
                data = self.connection.recv(READ)
            except _NOT_NOW:
                return
            except OSError as error:
                raise Gone(str(error)) from error
            self._heard += len(data)
            if not data or self._heard > MAX_INCOMING:
                raise Gone("the client has gone" if not data else "the client talks too much")
            if self.last_words_s is None:
                self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        try:
            requests = self._carrier.receive(data)
            self.greet()
            for request in requests:
                if self.slot is not None:
                    self._request(self.slot, request)
        except WireError as error:
            self.dismiss(str(error))

    def greet(self) -> None:
        """Ask for a slot as soon as records can be sent; say why, if there is none."""
        if self.slot is None and self._shaken and self._carrier.ready and self.last_words_s is None:
            try:
                self.slot = self._join()
            except WireError as error:
                self.dismiss(str(error))

    def dismiss(self, reason: str) -> None:
        """Let an end be the next record and the last."""
        if self.slot is None:
            self.slot = Slot()
        self.slot.close(Parcel(encode_end(reason)))

    def _shake(self) -> bool:
        """Return whether the TLS handshake, if there is one, is over."""
        if not self._shaken and isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
            self._shaken = True
        return self._shaken

    def send(self, now_s: float) -> bool:
        """Send what waits, as far as the system takes it; return whether there is more.

        Raises:
            Gone: the client has gone.
        """
        if not self._shaken:
            return False
        while (out := self._out or self._next(now_s)) is not None:
            try:
                count = self.connection.send(out)
            except _NOT_NOW:
                self._out = out
                return True
            except OSError as error:
                raise Gone(str(error)) from error
            self._out = out[count:] if count < len(out) else None
        return False

    def _next(self, now_s: float) -> memoryview | None:
        """Return the next bytes to send, None if there are none."""
        if self.last_words_s is not None:
            return None
        data = self._carrier.control()
        if not data and self._carrier.ready and self.slot is not None:
            parcel = self.slot.take()
            if parcel is not None:
                data = self._carrier.dress(parcel)
            elif self.slot.finished:
                data = self._carrier.farewell()
        over = self._carrier.over or (self.slot is not None and self.slot.finished)
        if not data and over:
            self._say_no_more(now_s)
        self.since_s = now_s
        return memoryview(data) if data else None

    def _say_no_more(self, now_s: float) -> None:
        """Close our half: the client reads what is under way, then hangs up; to close now could destroy it."""
        self.last_words_s = now_s
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Gone(str(error)) from error

"""How records travel on a connection: raw, or as WebSocket messages. No socket: bytes in, bytes out."""

import logging
import re
from typing import Any, Protocol

from streamer.errors import MissingExtra, WireError
from streamer.gateway.clients import Parcel
from streamer.gateway.decoding import Splitter, decode_record
from streamer.gateway.records import HEADER, Kind, Record
from streamer.gateway.variants import MAX_REQUEST, Request, parse_request

ORIGINS = (None, re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"))
"""Programs (no origin) and pages of this machine. Any other page in the user's browser could watch the head."""


class Carrier(Protocol):
    """The language of one connection."""

    @property
    def ready(self) -> bool:
        """Whether records may be sent."""

    @property
    def over(self) -> bool:
        """Whether the client has ended the conversation, or never begun one that we speak."""

    def receive(self, data: bytes) -> list[Request]:
        """Take what the client sent and return what it asks for.

        Raises:
            WireError: what it says is no request; the message is for the client.
        """

    def control(self) -> bytes:
        """Return bytes that have to go before the next record."""

    def dress(self, parcel: Parcel) -> bytes:
        """Return a record as it is sent here."""

    def farewell(self) -> bytes:
        """Return what follows the last record."""


class RawCarrier:
    """Records one after another."""

    ready = True
    over = False

    def __init__(self) -> None:
        """Expect a request."""
        self._splitter = Splitter(MAX_REQUEST)

    def receive(self, data: bytes) -> list[Request]:
        """Cut requests out of the bytes."""
        if data.startswith((b"GET ", b"POST", b"HEAD")):
            raise WireError("this is the gateway's port for raw records; WebSocket is serve.websocket_port")
        return [_request(record) for record in self._splitter.feed(data)]

    def control(self) -> bytes:
        """Return nothing."""
        return b""

    def dress(self, parcel: Parcel) -> bytes:
        """Return the bare record."""
        return parcel.record

    def farewell(self) -> bytes:
        """Return nothing."""
        return b""


class WebCarrier:
    """One binary message per record. The handshake, pings and the close are the library's; records are framed by us.

    Raises:
        MissingExtra: websockets is not installed.
    """

    def __init__(self) -> None:
        """Expect a handshake."""
        try:
            from websockets.http11 import Request as Handshake
            from websockets.protocol import State
            from websockets.server import ServerProtocol
        except ImportError as error:
            raise MissingExtra("websockets", "live") from error
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)  # a port scan or a refused origin is no error of ours
        self._handshake: type[Any] = Handshake
        self._open = State.OPEN
        self._protocol: Any = ServerProtocol(origins=ORIGINS, max_size=MAX_REQUEST + HEADER.size, logger=quiet)

    @property
    def ready(self) -> bool:
        """Whether the handshake is over and no close has begun."""
        return bool(self._protocol.state is self._open)

    @property
    def over(self) -> bool:
        """Whether the handshake failed or a close has begun: what `control` returns is the last."""
        return bool(self._protocol.close_expected() or self._protocol.handshake_exc)

    def receive(self, data: bytes) -> list[Request]:
        """Answer the handshake and pings; return the requests among the messages."""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        requests = []
        for event in self._protocol.events_received():
            if isinstance(event, self._handshake):
                self._protocol.send_response(self._protocol.accept(event))
            elif event.opcode in (0, 1, 2):
                if event.opcode != 2 or not event.fin:
                    raise WireError("a request is one binary message, unfragmented")
                requests.append(_request(decode_record(bytes(event.data))))
        return requests

    def control(self) -> bytes:
        """Return the library's answers."""
        return b"".join(self._protocol.data_to_send())

    def dress(self, parcel: Parcel) -> bytes:
        """Return the record as a message."""
        return parcel.message

    def farewell(self) -> bytes:
        """Return a close frame."""
        if self.ready:
            self._protocol.send_close(1000)
        return self.control()


def _request(record: Record) -> Request:
    if record.header.kind != Kind.REQUEST:
        raise WireError(f"a record of kind {record.header.kind} came; a client may send requests (kind 8) only")
    return parse_request(record.payload)

"""The sockets of the gateway: raw TCP and WebSocket, one thread that waits for all of them and for none.

Each client has its slot (`streamer.gateway.clients`); a record is sent when the system has taken all of the one before.
So nothing older than the newest frame ever waits in this process, and what waits in the kernel is bounded by
`streamer.gateway.admission.SEND_BUFFER`. A frame costs one system call per client: its bytes are made once per form.
"""

import hmac
import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from streamer.config import ServeConfig
from streamer.errors import TransportError, WireError
from streamer.gateway.admission import address, listen, read_token, tls_context
from streamer.gateway.clients import Audience, Edition, Shown, Slot
from streamer.gateway.peers import Gone, Peer
from streamer.gateway.variants import Request
from streamer.gateway.web import Carrier, RawCarrier, WebCarrier

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""A client that takes no whole record for so long is let go: else peers that have vanished would hold places."""
GREETING_S = 10.0
"""How long a client has for handshakes and the secret."""
FAREWELL_S = 1.0
"""How long clients have at the end to take what waits."""
STRANGERS = 64
"""Connections that have not come as far as a hello; more are closed at once."""
TICK_S = 0.1
"""How soon patience that has run out is noticed."""


class GatewayServer:
    """Listens while it is entered. `announce`, `offer` and `tell` may be called from any thread and never wait.

    Args:
        config: addresses and limits; port 0 takes a free one.

    Raises:
        TransportError: the address is not loopback and no secret is asked for, or a port is in use.
        MissingExtra: websockets is not installed.
    """

    def __init__(self, config: ServeConfig) -> None:
        """Bind both ports; clients are served from `__enter__` on."""
        WebCarrier()  # a missing package is told now, not to the first client
        host = address(config)
        self._token, self._tls = read_token(config.token_file, "serve.token_file"), tls_context(config)
        self._audience = Audience(config.max_clients, token=bool(self._token))
        self._peers: dict[socket.socket, Peer] = {}
        self._listeners: dict[socket.socket, Callable[[], Carrier]] = {}
        try:
            for key, carrier in (("tcp_port", RawCarrier), ("websocket_port", WebCarrier)):
                self._listeners[listen(host, getattr(config, key), key)] = carrier
        except TransportError:
            self._close_listeners()
            raise
        self.tcp_port, self.websocket_port = (int(bound.getsockname()[1]) for bound in self._listeners)
        shown, safe = f"[{host}]" if ":" in host else host, "s" if self._tls else ""
        self.endpoints = (
            f"{'tls' if safe else 'tcp'}://{shown}:{self.tcp_port}",
            f"ws{safe}://{shown}:{self.websocket_port}",
        )
        """Where it listens, raw records first."""
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._acts: deque[Callable[[], None]] = deque()
        self._closing_s: float | None = None
        self._looked_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway")

    def __enter__(self) -> Self:
        """Begin to serve."""
        for made in (self._wake, self._waker):
            made.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the clients go and close."""
        self.close()

    def announce(self, shown: Shown) -> None:
        """Give every client, and later ones, a new topology."""
        self._call(lambda: self._audience.announce(shown))

    def offer(self, edition: Edition) -> None:
        """Give every client a mesh, in place of an older one that still waits."""
        self._call(lambda: self._audience.offer(edition))

    def tell(self, state: str, numbers: Mapping[str, float], message: str = "") -> None:
        """Tell every client how the stream does."""
        self._call(lambda: self._audience.tell(state, numbers, message))

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self._audience)

    def counters(self) -> dict[str, int]:
        """Return what was done for clients."""
        return self._audience.counters()

    def close(self) -> None:
        """Send what waits and an end to every client, for at most `FAREWELL_S`; then close."""
        if self._thread.is_alive():
            self._call(self._begin_to_close)
        if self._thread.ident is not None:
            self._thread.join()
        self._close_listeners()
        for made in (self._wake, self._waker):
            made.close()
        self._selector.close()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _call(self, act: Callable[[], None]) -> None:
        if self._thread.ident is None or self._ended.is_set():
            raise TransportError("the gateway does not serve; enter it first, and see its log if it was entered")
        self._acts.append(act)
        with suppress(BlockingIOError):  # so many calls wait that it wakes anyway
            self._waker.send(b"\0")

    def _run(self) -> None:
        try:
            while self._closing_s is None or self._peers:
                self._turn()
        finally:
            self._ended.set()
            for peer in list(self._peers.values()):
                self._forget(peer)

    def _turn(self) -> None:
        """Wait for something, deal with it, and send what it made to be sent."""
        events = self._selector.select(TICK_S)
        now_s = time.monotonic()
        for key, mask in events:
            made: Any = key.fileobj
            if made is self._wake:
                with suppress(BlockingIOError):
                    made.recv(4096)
            elif made in self._listeners:
                self._accept(made, now_s)
            elif (peer := self._peers.get(made)) is not None:
                self._attend(peer, now_s, hear=bool(mask & selectors.EVENT_READ))
        acted = bool(self._acts)
        while self._acts:
            self._acts.popleft()()
        if acted:
            for peer in list(self._peers.values()):
                if not peer.busy:
                    self._attend(peer, now_s)
        if now_s - self._looked_s > TICK_S:
            self._looked_s = now_s
            for peer in list(self._peers.values()):
                self._require_patience(peer, now_s)

    def _accept(self, listener: socket.socket, now_s: float) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # none waits, or it has gone again
                return
            if sum(not peer.admitted for peer in self._peers.values()) >= STRANGERS or self._closing_s is not None:
                connection.close()
                continue
            connection.setblocking(False)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            peer = Peer(connection, self._listeners[listener](), self._join, self._requested, now_s)
            self._peers[connection] = peer
            self._selector.register(connection, selectors.EVENT_READ)
            self._attend(peer, now_s, hear=True)

    def _join(self) -> Slot:
        try:
            return self._audience.join()
        except TransportError as error:
            raise WireError(str(error)) from error

    def _requested(self, slot: Slot, request: Request) -> None:
        if self._token and not hmac.compare_digest(request.token.encode(), self._token.encode()):
            self._audience.refused += 1
            raise WireError("the token is not the one of serve.token_file on the server")
        self._audience.change(slot, request.variant)

    def _attend(self, peer: Peer, now_s: float, *, hear: bool = False) -> None:
        """Hear a client and send it what waits."""
        try:
            if hear:
                peer.hear()
            if peer.slot is None:
                peer.greet()
            more = peer.send(now_s)
        except Gone as reason:
            log.debug("a client is let go: %s", reason)
            self._forget(peer)
            return
        if more != peer.waits:
            peer.waits = more
            self._selector.modify(peer.connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0))
        if peer.last_words_s is not None and peer.slot is not None:
            self._vacate(peer)

    def _vacate(self, peer: Peer) -> None:
        """Give the place of a client on."""
        slot, peer.slot = peer.slot, None
        if slot is not None and slot in self._audience:
            self._audience.leave(slot)

    def _forget(self, peer: Peer) -> None:
        self._vacate(peer)
        self._selector.unregister(peer.connection)
        del self._peers[peer.connection]
        with suppress(OSError, ssl.SSLError):
            peer.connection.close()

    def _require_patience(self, peer: Peer, now_s: float) -> None:
        closing = self._closing_s is not None and now_s - self._closing_s > FAREWELL_S
        gone = peer.last_words_s is not None and now_s - peer.last_words_s > FAREWELL_S
        stalled = peer.busy and now_s - peer.since_s > PATIENCE_S
        mute = not peer.admitted and peer.last_words_s is None and now_s - peer.begun_s > GREETING_S
        if stalled:
            log.warning("a client took nothing for %g s and is let go", PATIENCE_S)
        if closing or gone or stalled or mute:
            self._forget(peer)

    def _begin_to_close(self) -> None:
        self._closing_s = time.monotonic()
        for listener in self._listeners:
            self._selector.unregister(listener)
        self._audience.finish("the gateway was stopped")
        for peer in list(self._peers.values()):
            if peer.slot is None:
                self._forget(peer)

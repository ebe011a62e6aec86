"""The sockets of the gateway: raw TCP and WebSocket, one event loop in a thread of its own.

Each client has its slot (`streamer.gateway.clients`) and its task; the task sends one record, waits until the system
has taken all of it, and only then takes the next from the slot. So nothing older than the newest frame ever waits
in this process, and what waits in the kernel is bounded by `SEND_BUFFER`.
"""

import asyncio
import concurrent.futures
import errno
import ipaddress
import logging
import re
import socket
import threading
from typing import Any, Protocol, Self

from streamer.config import ServeConfig
from streamer.errors import MissingExtra, TransportError
from streamer.gateway.clients import Audience, Slot
from streamer.gateway.records import encode_end

log = logging.getLogger(__name__)

SEND_BUFFER = 1 << 17
"""Bytes of kernel buffer per client (Linux doubles it): a few frames, so that a client is soon live after a stall."""
PATIENCE_S = 30.0
"""A client that takes no whole record for so long is let go: else peers that have vanished would hold places."""
FAREWELL_S = 1.0
"""How long clients have at the end to take what waits."""
MAX_INCOMING = 1 << 16
"""Bytes that a client may send; the protocol has none, later versions may ask for something."""
ORIGINS = (None, re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"))
"""Programs (no origin) and pages of this machine. Any other page in the user's browser could watch the head."""


def loopback(host: str) -> str:
    """Return the loopback address that `host` names.

    Raises:
        TransportError: it is none.
    """
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        if ipaddress.ip_address(address).is_loopback:
            return address
    except ValueError:
        pass  # a name or a wildcard: may be reached from outside
    raise TransportError(
        f"refusing to serve on {host!r}: the gateway neither encrypts nor asks who is there, so anybody on the network "
        "could watch the head. Set serve.host to 127.0.0.1 or ::1; for another machine: ssh -L PORT:127.0.0.1:PORT"
    )


class Connection(Protocol):
    """What the gateway needs of a client's connection, whatever carries it."""

    async def send(self, record: bytes) -> None:
        """Send one record and return when the system has taken it; OSError when the client is gone."""

    async def receive(self) -> int:
        """Return how many bytes came next, 0 when the client has gone; OSError when the connection broke."""

    def abort(self) -> None:
        """Drop the connection and what waits in it."""


class _Tcp:
    """A raw TCP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        writer.transport.set_write_buffer_limits(high=0)  # `drain` waits for all, not for a low-water mark

    async def send(self, record: bytes) -> None:
        self._writer.write(record)
        await self._writer.drain()

    async def receive(self) -> int:
        return len(await self._reader.read(4096))

    def abort(self) -> None:
        self._writer.transport.abort()


class _Web:
    """A WebSocket client: one binary message per record."""

    def __init__(self, socket: Any, closed: type[Exception]) -> None:
        self._socket, self._closed = socket, closed

    async def send(self, record: bytes) -> None:
        try:
            await self._socket.send(record)
        except self._closed as error:
            raise ConnectionError(str(error)) from error

    async def receive(self) -> int:
        try:
            return max(1, len(await self._socket.recv(decode=False)))
        except self._closed:
            return 0

    def abort(self) -> None:
        self._socket.transport.abort()


class GatewayServer:
    """Listens while it is entered. `announce` and `offer` may be called from any thread and never wait.

    Args:
        config: addresses and limits; port 0 takes a free one.
        hello: the first record of every client.

    Raises:
        TransportError: the address is not loopback, or a port is in use.
        MissingExtra: websockets is not installed.
    """

    def __init__(self, config: ServeConfig, hello: bytes) -> None:
        """Bind both ports; clients are served from `__enter__` on."""
        host = loopback(config.host)
        self._audience = Audience(hello, config.max_clients)
        self._wakes: dict[Connection, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        try:
            for key in ("tcp_port", "websocket_port"):
                self._sockets.append(_listen(host, getattr(config, key), key))
        except TransportError:
            self._close_sockets()
            raise
        self.tcp_port, self.websocket_port = (int(bound.getsockname()[1]) for bound in self._sockets)
        shown = f"[{host}]" if ":" in host else host
        self.endpoints = (f"tcp://{shown}:{self.tcp_port}", f"ws://{shown}:{self.websocket_port}")
        """Where it listens, raw TCP first."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="gateway")

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let the clients go and close."""
        self.close()

    def announce(self, topology: bytes) -> None:
        """Give every client, and later ones, a new topology."""
        self._call(self._audience.announce, topology)

    def offer(self, frame: bytes) -> None:
        """Give every client a frame, in place of an older one that still waits."""
        self._call(self._audience.offer, frame)

    def counters(self) -> dict[str, int]:
        """Return what was done for clients."""
        return self._audience.counters()

    def close(self) -> None:
        """Send what waits and an end to every client, for at most `FAREWELL_S`; then close."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()

    def _call(self, act: Any, record: bytes) -> None:
        def run() -> None:
            act(record)
            for wake in self._wakes.values():
                wake.set()

        if self._loop is None:
            raise TransportError("the gateway does not serve; enter it first")
        self._loop.call_soon_threadsafe(run)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed to the thread that waits for the start
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        try:
            from websockets.asyncio.server import serve
            from websockets.exceptions import ConnectionClosed
        except ImportError as error:
            raise MissingExtra("websockets", "live") from error
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)  # a port scan or a refused origin is no error of ours

        async def web(client: Any) -> None:
            await self._attend(_Web(client, ConnectionClosed))

        async def tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._attend(_Tcp(reader, writer))
            finally:
                writer.close()

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        raw = await asyncio.start_server(tcp, sock=self._sockets[0])
        sockets = await serve(
            web, sock=self._sockets[1], compression=None, origins=ORIGINS, max_size=MAX_INCOMING, write_limit=0,
            ping_interval=PATIENCE_S, ping_timeout=PATIENCE_S, close_timeout=FAREWELL_S, server_header=None,
            logger=quiet,
        )  # fmt: skip
        self._ready.set_result(None)
        await self._stop.wait()
        raw.close()
        await self._farewell()
        sockets.close()
        await sockets.wait_closed()

    async def _farewell(self) -> None:
        self._audience.finish(encode_end("the gateway was stopped"))
        for wake in self._wakes.values():
            wake.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FAREWELL_S)
        for connection in list(self._wakes):
            connection.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _attend(self, connection: Connection) -> None:
        """Serve one client until it goes, stalls for too long, or the gateway closes."""
        try:
            slot = self._audience.join()
        except TransportError as error:
            await _within_patience(connection, encode_end(str(error)))
            return
        wake = self._wakes[connection] = asyncio.Event()
        tasks = {asyncio.ensure_future(self._send(connection, slot, wake)), asyncio.ensure_future(_hear(connection))}
        self._tasks |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._wakes[connection]
            self._audience.leave(slot)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._tasks -= tasks
            for task in tasks:
                if not task.cancelled() and (defect := task.exception()) is not None:
                    log.error("serving a client failed", exc_info=defect)

    async def _send(self, connection: Connection, slot: Slot, wake: asyncio.Event) -> None:
        while not slot.finished:
            wake.clear()
            while (record := slot.take()) is not None:
                if not await _within_patience(connection, record):
                    return
            if not slot.finished:
                await wake.wait()


async def _within_patience(connection: Connection, record: bytes) -> bool:
    """Send a record; return whether the client took it."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await connection.send(record)
    except TimeoutError:
        log.warning("a client took nothing for %g s and is let go", PATIENCE_S)
        connection.abort()
        return False
    except OSError:
        return False  # the client has gone
    return True


async def _hear(connection: Connection) -> None:
    """Return when the client has gone, or has sent more than a client of this protocol could want to say."""
    received = 0
    try:
        while received <= MAX_INCOMING:
            count = await connection.receive()
            if not count:
                return
            received += count
    except OSError:
        return  # the connection broke: the client has gone
    log.warning("a client sent %d bytes to a gateway that asks for none and is let go", received)
    connection.abort()


def _listen(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # inherited by accepted sockets
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise TransportError(
                f"port {port} is in use ({host}): another program has it. Stop that one "
                f"(ss -ltnp 'sport = :{port}' names it), or move this one: --set serve.{key}=PORT"
            ) from error
        raise TransportError(f"cannot serve on {host}:{port}: {error}; correct [serve] in config.toml") from error
    return listener

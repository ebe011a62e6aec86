"""Sockets: one PUB per process, one SUB per consumer, pixels beside them in shared memory.

Publishers bind, subscribers connect to all of them; there is no broker. High-water marks are small and drop; what was
dropped shows as a gap in `Frame.sequence`. "Latest" is made by draining (`Subscriber.drain`): ZMQ_CONFLATE would tear
multipart messages. A bind beyond loopback needs CURVE keys.
"""

import ipaddress
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import zmq

from streamer.channels import Role
from streamer.config import BusConfig
from streamer.errors import TransportError, WireError
from streamer.keys import admit_known, load_client, load_server
from streamer.ring import RingReaders, RingWriter, remove_stale_segments
from streamer.types import U8, Frame
from streamer.wire import Descriptor, Message, decode, encode, topic

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

DEPTH = 128
"""Messages that wait per connection on either side before new ones are dropped."""
MAX_MESSAGE = 1 << 28
CONNECT_MS = 2000
"""Longest attempt to connect, before the next one: longer than any line's round trip."""
LINGER_MS = 500
"""How long a closing publisher tries to deliver what is queued."""
_ENDPOINT = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5}|\*)")
WILDCARDS = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""An address to bind for all of this machine -> one to connect to from here."""
_JPEG_HEADROOM = 2


def endpoint_for(bus: BusConfig, role: Role) -> str:
    """Return the address that a process of this role binds."""
    return f"tcp://{bus.host}:{getattr(bus, f'{role}_port')}"


def node_endpoints(bus: BusConfig) -> list[str]:
    """Return the addresses of all camera nodes: those configured, else the local one."""
    return list(bus.nodes) or [endpoint_for(bus, "node")]


def infer_endpoint(bus: BusConfig) -> str:
    """Return the address of the inference process: the one configured, else the local one."""
    return bus.infer or endpoint_for(bus, "infer")


def ring_slots_for(bus: BusConfig) -> int:
    """Return the slots per camera of a node's Publisher: none beyond loopback, where descriptors mean nothing."""
    host, _ = parse_endpoint(endpoint_for(bus, "node"))
    return bus.ring_slots if bus.shared_memory and is_loopback(host) else 0


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port of `tcp://HOST:PORT`.

    Raises:
        TransportError: it is none.
    """
    match = _ENDPOINT.fullmatch(endpoint)
    port = 0 if match is None or match[2] == "*" else int(match[2])
    if match is None or port > 65535:
        raise TransportError(f"{endpoint!r} is not an address of the form tcp://HOST:PORT; correct it in [bus]")
    return "127.0.0.1" if match[1] == "localhost" else match[1], port


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name or a wildcard: could be reached from outside


def _notice_dead_peers(socket: "zmq.Socket[bytes]") -> None:
    """Let the kernel find out that a peer's machine has gone.

    Not ZeroMQ's heartbeats: a subscriber at its high-water mark reads no answer to them, so it drops a live connection
    and at times aborts (`_input_stopped`, libzmq issue 3596; seen with 4.3.5).
    """
    for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 1), (zmq.TCP_KEEPALIVE_INTVL, 1)):
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 2)


class Publisher:
    """The PUB socket of a process. `send` may be called from any thread.

    Args:
        endpoint: `tcp://host:port` to bind; port 0 takes a free one.
        ring_slots: pictures that the shared-memory ring of each camera holds; 0 sends pixels in the message.
        keys_dir: folder of CURVE keys (`streamer.keys`); empty: no encryption, and nothing but loopback is bound.
        depth: messages that wait for a slow subscriber before it loses new ones.

    Raises:
        TransportError: the port is in use, the address is not this machine's, keys are missing, or a ring is asked for
            on an address that other hosts reach.
    """

    def __init__(self, endpoint: str, *, ring_slots: int = 0, keys_dir: str = "", depth: int = DEPTH) -> None:
        """Bind."""
        host, port = parse_endpoint(endpoint)
        if not is_loopback(host) and not keys_dir:
            raise TransportError(
                f"refusing to bind {endpoint} without keys: anybody on the network could watch. Set bus.keys_dir to a "
                "folder of CURVE keys, or bus.host to 127.0.0.1"
            )
        if not is_loopback(host) and ring_slots:
            raise TransportError(
                f"{endpoint} can be reached from other hosts, which have no shared memory with this one; "
                "set bus.shared_memory=false"
            )
        server = load_server(Path(keys_dir)) if keys_dir else None
        self._lock = threading.Lock()
        self._slots = ring_slots
        self._rings: dict[str, RingWriter] = {}
        self._outgrown: dict[str, RingWriter] = {}
        self._context = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, depth)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        _notice_dead_peers(self._socket)
        self._socket.setsockopt(zmq.IPV6, host.startswith("["))
        try:
            if server is not None:
                self._authenticator = admit_known(self._socket, self._context, *server)
            self._socket.bind(f"tcp://{host}:{port}")
        except zmq.ZMQError as error:
            self.close()
            raise bind_error(endpoint, port, error) from error
        if ring_slots:
            remove_stale_segments()
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, channel: str, message: Message) -> zmq.MessageTracker:
        """Publish a message; never waits. Subscribers that are `depth` messages behind lose it.

        Returns:
            A tracker whose `done` turns true when the arrays of the message may be written again. (At once, when they
            went through a ring.) To let go of the message is always safe.

        Raises:
            WireError: the message does not fit the channel.
            TransportError: shared memory is full, or the publisher is closed.
        """
        with self._lock:
            if self._socket.closed:
                raise TransportError(f"the publisher of {self.endpoint} is closed")
            if self._slots and isinstance(message, Frame) and message.data.nbytes:
                # Encoded first: a frame that is refused takes no slot.
                ring = self._ring_for(channel, message)
                parts = encode(channel, message, ring.next_place(message.data.nbytes))
                ring.write(message.data)
            else:
                parts = encode(channel, message)
            frames = [zmq.Frame(part, track=True, copy=None) for part in parts]
            self._socket.send_multipart(frames, copy=False)
        return zmq.MessageTracker(*(frame.tracker for frame in frames))

    def _ring_for(self, channel: str, frame: Frame) -> RingWriter:
        ring = self._rings.get(frame.camera)
        if ring is None or ring.capacity < frame.data.nbytes:
            encode(channel, frame)  # nor does it make a ring
            headroom = _JPEG_HEADROOM if frame.encoding == "jpeg" else 1
            grown = RingWriter(self._slots, frame.data.nbytes * headroom)
            if ring is not None:
                # Subscribers may still hold descriptors of the old ring; it goes with the next growth.
                if frame.camera in self._outgrown:
                    self._outgrown.pop(frame.camera).close()
                self._outgrown[frame.camera] = ring
            ring = self._rings[frame.camera] = grown
        return ring

    def close(self) -> None:
        """Deliver what is queued for at most half a second, then let go of socket and shared memory."""
        with self._lock:
            if self._socket.closed:
                return
            self._socket.close()
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.term()
            for ring in (*self._rings.values(), *self._outgrown.values()):
                ring.close()

    def __enter__(self) -> Self:
        """Return the publisher."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def bind_error(endpoint: str, port: int, error: zmq.ZMQError) -> TransportError:
    """Return the error for an address that could not be bound."""
    if error.errno == zmq.EADDRINUSE:
        return TransportError(
            f"port {port} is in use ({endpoint}): another program has it. Stop that one "
            f"(ss -ltnp 'sport = :{port}' names it), or move this process: --set bus.<node|infer|record|demo>_port=PORT"
        )
    return TransportError(f"cannot bind {endpoint}: {error}; set bus.host to an address of this machine, or 127.0.0.1")


class Subscriber:
    """One SUB socket connected to publishers, which may start later. For one thread.

    Pictures that lie in shared memory are copied out on receipt, so a message is whole and its own.

    Args:
        endpoints: addresses of publishers.
        channels: names of the channels wanted.
        keys_dir: folder of CURVE keys; empty: no encryption. Both ends must agree.
        depth: messages that may wait per publisher; newer ones are lost while they do.

    Raises:
        TransportError: no endpoint, a malformed one, or missing keys.
        WireError: no such channel.
    """

    def __init__(
        self, endpoints: Sequence[str], channels: Sequence[str], *, keys_dir: str = "", depth: int = DEPTH
    ) -> None:
        """Connect and subscribe."""
        topics = [topic(channel) for channel in channels]
        addresses = [parse_endpoint(endpoint) for endpoint in endpoints]
        if not addresses or not topics:
            raise TransportError("a subscriber needs at least one endpoint and one channel; see [bus] in config.toml")
        client = load_client(Path(keys_dir)) if keys_dir else None
        self._limit = 2 * depth * len(addresses)
        self._rejected: Counter[str] = Counter()
        self.last_rejection = ""
        """Why the last message was refused, for people; empty if none was."""
        self._rings = RingReaders()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, depth)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)  # who was restarted is heard at once
        # The kernel asks again after 1, 2, 4, ... s: left to it, a line that was cut is noticed late to be back.
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        _notice_dead_peers(self._socket)
        self._socket.setsockopt(zmq.IPV6, any(host.startswith("[") for host, _ in addresses))
        if client is not None:
            pair, self._socket.curve_serverkey = client
            self._socket.curve_publickey, self._socket.curve_secretkey = pair.public, pair.secret
        for name in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, name)
        for host, port in addresses:
            self._socket.connect(f"tcp://{WILDCARDS.get(host, host)}:{port}")

    @property
    def rejected(self) -> Mapping[str, int]:
        """Messages that arrived and were refused: `invalid` (wire), `overwritten` (ring), `segment` (not reachable)."""
        return dict(self._rejected)

    def receive(self, timeout_s: float) -> tuple[str, Message] | None:
        """Return the next sound message, or None when none came within the time."""
        deadline = time.monotonic() + timeout_s
        while True:
            # Look before polling: a poll costs more than the message when one is there.
            parts = self._parts()
            if parts is not None:
                received = self._decode(parts)
                if received is not None or time.monotonic() > deadline:
                    return received
            elif not self._socket.poll(max(0, round((deadline - time.monotonic()) * 1000))):
                return None

    def drain(self) -> list[tuple[str, Message]]:
        """Return everything that waits, oldest first, without waiting; for consumers that want the latest."""
        messages = []
        # Bounded, so that publishers faster than this process cannot hold it here.
        for _ in range(self._limit):
            parts = self._parts()
            if parts is None:
                break
            received = self._decode(parts)
            if received is not None:
                messages.append(received)
        return messages

    def _parts(self) -> list[memoryview] | None:
        try:
            return [part.buffer for part in self._socket.recv_multipart(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return None

    def _decode(self, parts: list[memoryview]) -> tuple[str, Message] | None:
        try:
            return decode(parts, self._resolve)
        except WireError as error:
            self._reject("invalid", error)
        except _Overwritten as error:
            self._reject("overwritten", error)
        except TransportError as error:
            self._reject("segment", error)
        return None

    def _reject(self, reason: str, error: Exception) -> None:
        self._rejected[reason] += 1
        self.last_rejection = str(error)

    def _resolve(self, descriptor: Descriptor) -> U8:
        picture = self._rings.read(descriptor)
        if picture is None:
            raise _Overwritten(f"{descriptor} was overwritten before it was read; raise bus.ring_slots")
        return picture

    def close(self) -> None:
        """Disconnect and unmap; messages that were received stay whole."""
        if not self._socket.closed:
            self._socket.close()
            self._context.term()
            self._rings.close()

    def __enter__(self) -> Self:
        """Return the subscriber."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()


class _Overwritten(TransportError):
    """The ring went round before the picture was copied out."""

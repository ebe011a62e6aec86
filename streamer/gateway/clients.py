"""What each client still has to be sent: hello and topology always, of frames the newest only. No socket, no clock.

A client that takes nothing holds its own slot and nothing else: a few references, whoever stalls and for however long.
Records are made when they are taken, once for all clients that want the same form.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from streamer.errors import TransportError
from streamer.gateway.encoding import Form
from streamer.gateway.records import encode_end, encode_health, encode_hello
from streamer.gateway.variants import PLAIN, Variant
from streamer.types import MeshFrame, Topology


class Parcel:
    """A record as it goes onto a raw connection, and as one WebSocket message; both made once.

    Args:
        record: the record.
    """

    __slots__ = ("_message", "record")

    def __init__(self, record: bytes) -> None:
        """Keep the record."""
        self.record = record
        self._message: bytes | None = None

    @property
    def message(self) -> bytes:
        """The record as an unmasked, unfragmented binary WebSocket message (RFC 6455, 5.2)."""
        if self._message is None:
            size = len(self.record)
            if size < 126:
                head = bytes((0x82, size))
            elif size < 1 << 16:
                head = b"\x82\x7e" + size.to_bytes(2, "big")
            else:
                head = b"\x82\x7f" + size.to_bytes(8, "big")
            self._message = head + self.record
        return self._message


class Source(Protocol):
    """Something that can be had in every form."""

    def parcel(self, variant: Variant) -> Parcel:
        """Return the record in a form."""


class Shown:
    """A topology in every form that was asked for.

    Args:
        topology: the topology.
    """

    def __init__(self, topology: Topology) -> None:
        """Know no form yet."""
        self.topology = topology
        self._forms: dict[Variant, Form] = {}
        self._parcels: dict[Variant, Parcel] = {}

    def form(self, variant: Variant) -> Form:
        """Return the topology in a form."""
        if variant not in self._forms:
            self._forms[variant] = Form(self.topology, variant)
        return self._forms[variant]

    def parcel(self, variant: Variant) -> Parcel:
        """Return the record of the topology in a form."""
        if variant not in self._parcels:
            self._parcels[variant] = Parcel(self.form(variant).encode_topology())
        return self._parcels[variant]


class Edition:
    """One mesh in every form that was asked for.

    Args:
        shown: its topology.
        mesh: the mesh, checked by `streamer.gateway.encoding.require_sendable`.
        sequence: see `streamer.gateway.records.Header.sequence`.
    """

    def __init__(self, shown: Shown, mesh: MeshFrame, sequence: int) -> None:
        """Encode nothing yet."""
        self._shown, self._mesh, self._sequence = shown, mesh, sequence
        self._parcels: dict[Variant, Parcel] = {}

    def parcel(self, variant: Variant) -> Parcel:
        """Return the record of the mesh in a form."""
        parcel = self._parcels.get(variant)
        if parcel is None:
            parcel = Parcel(self._shown.form(variant).encode_frame(self._mesh, self._sequence))
            self._parcels[variant] = parcel
        return parcel


class Slot:
    """The records that wait for one client: at most one of each kind.

    Args:
        topology: the topology in use, if there is one.
        locked: whether only a hello is given out until `unlock`.
    """

    def __init__(self, topology: Source | None = None, *, locked: bool = False) -> None:
        """Put what comes first into the slot."""
        self.variant = PLAIN
        self.locked = locked
        self._hello: Parcel | None = Parcel(encode_hello(token=locked))
        self._topology = topology
        self._frame: Source | None = None
        self._health: Parcel | None = None
        self._end: Parcel | None = None
        self.finished = False
        """Whether the last record was taken."""
        self.sent = 0
        """Frames taken for sending."""
        self.skipped = 0
        """Frames that a newer one replaced, or whose topology went, before they were taken."""

    def announce(self, topology: Source) -> None:
        """Put a new topology in; a frame of the old one that still waits is skipped."""
        self._topology = topology
        self._skip()

    def offer(self, frame: Source) -> None:
        """Put a frame in, in place of one that still waits."""
        self._skip()
        self._frame = frame

    def tell(self, health: Parcel) -> None:
        """Put in how the stream does, in place of older news."""
        self._health = health

    def change(self, variant: Variant, topology: Source | None) -> None:
        """Answer a request: hello and topology again, all that follows in the new form."""
        self.variant = variant
        self.locked = False
        self._hello = Parcel(encode_hello(variant))
        self._topology = topology

    def finish(self, end: Parcel) -> None:
        """Let this be the last record, after what waits."""
        self._end = end

    def close(self, end: Parcel) -> None:
        """Let this be the next record and the last."""
        self._hello = self._topology = self._health = None
        self._skip()
        self._end = end

    def take(self) -> Parcel | None:
        """Return the record to send next, None if nothing waits."""
        parcel: Parcel | None = None
        if self._hello is not None:
            parcel, self._hello = self._hello, None
        elif self.locked:
            self._skip()
        elif self._topology is not None:
            parcel, self._topology = self._topology.parcel(self.variant), None
        elif self._health is not None:
            parcel, self._health = self._health, None
        elif self._frame is not None:
            parcel, self._frame = self._frame.parcel(self.variant), None
            self.sent += 1
        if parcel is None and self._end is not None:
            parcel, self._end = self._end, None
            self.finished = True
        return parcel

    def _skip(self) -> None:
        if self._frame is not None:
            self._frame = None
            self.skipped += 1


class Audience:
    """All clients, and what a new one is told first.

    Args:
        limit: clients at a time.
        token: whether clients have to say a secret before they get anything but a hello.
    """

    def __init__(self, limit: int, *, token: bool = False) -> None:
        """Begin with no client and no topology."""
        self._limit = limit
        self._token = token
        self._topology: Source | None = None
        self._slots: list[Slot] = []
        self._sent = self._skipped = 0
        self.joined = 0
        """Clients that were taken."""
        self.refused = 0
        """Clients that found the house full, or could not say the secret."""

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        """Iterate over the slots."""
        return iter(self._slots)

    def join(self) -> Slot:
        """Return the slot of a new client, hello and topology in it.

        Raises:
            TransportError: the house is full.
        """
        if len(self._slots) >= self._limit:
            self.refused += 1
            raise TransportError(f"{self._limit} clients are connected, which is serve.max_clients; raise it")
        slot = Slot(self._topology, locked=self._token)
        self._slots.append(slot)
        self.joined += 1
        return slot

    def leave(self, slot: Slot) -> None:
        """Forget a client."""
        self._slots.remove(slot)
        self._sent += slot.sent
        self._skipped += slot.skipped

    def change(self, slot: Slot, variant: Variant) -> None:
        """Answer a client's request."""
        slot.change(variant, self._topology)

    def announce(self, topology: Source) -> None:
        """Tell all clients, and later ones, of a new topology."""
        self._topology = topology
        for slot in self._slots:
            slot.announce(topology)

    def offer(self, frame: Source) -> None:
        """Offer a frame to all clients."""
        for slot in self._slots:
            slot.offer(frame)

    def tell(self, state: str, numbers: Mapping[str, float], message: str = "") -> None:
        """Tell all clients how the stream does, and each what it missed."""
        for slot in self._slots:
            known = {**numbers, "clients": len(self._slots), "skipped": slot.skipped}
            slot.tell(Parcel(encode_health(state, known, message)))

    def finish(self, reason: str) -> None:
        """Let all clients go."""
        for slot in self._slots:
            slot.finish(Parcel(encode_end(reason)))

    def counters(self) -> dict[str, int]:
        """Return what was done, over all clients of the past and the present."""
        return {
            "clients.now": len(self._slots),
            "clients.joined": self.joined,
            "clients.refused": self.refused,
            "frames.sent": self._sent + sum(slot.sent for slot in list(self._slots)),
            "frames.skipped": self._skipped + sum(slot.skipped for slot in list(self._slots)),
        }

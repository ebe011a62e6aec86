"""What each client still has to be sent: hello and topology always, of frames the newest only. No socket, no clock.

A client that takes nothing holds its own slot and nothing else: two references, whoever stalls and for however long.
"""

from collections.abc import Iterator

from streamer.errors import TransportError


class Slot:
    """The records that wait for one client: at most one of each kind.

    Args:
        hello: its first record.
        topology: the topology in use, if there is one.
    """

    def __init__(self, hello: bytes, topology: bytes | None = None) -> None:
        """Put what comes first into the slot."""
        self._hello: bytes | None = hello
        self._topology = topology
        self._frame: bytes | None = None
        self._end: bytes | None = None
        self.finished = False
        """Whether the last record was taken."""
        self.sent = 0
        """Frames taken for sending."""
        self.skipped = 0
        """Frames that a newer one replaced, or whose topology went, before they were taken."""

    def announce(self, topology: bytes) -> None:
        """Put a new topology in; a frame of the old one that still waits is skipped."""
        self._topology = topology
        self._skip()

    def offer(self, frame: bytes) -> None:
        """Put a frame in, in place of one that still waits."""
        self._skip()
        self._frame = frame

    def finish(self, end: bytes) -> None:
        """Let this be the last record, after what waits."""
        self._end = end

    def take(self) -> bytes | None:
        """Return the record to send next, None if nothing waits."""
        if self._hello is not None:
            record, self._hello = self._hello, None
            return record
        if self._topology is not None:
            record, self._topology = self._topology, None
            return record
        if self._frame is not None:
            record, self._frame = self._frame, None
            self.sent += 1
            return record
        if self._end is not None:
            record, self._end = self._end, None
            self.finished = True
            return record
        return None

    def _skip(self) -> None:
        if self._frame is not None:
            self._frame = None
            self.skipped += 1


class Audience:
    """All clients, and what a new one is told first.

    Args:
        hello: the first record of every client.
        limit: clients at a time.
    """

    def __init__(self, hello: bytes, limit: int) -> None:
        """Begin with no client and no topology."""
        self._hello = hello
        self._limit = limit
        self._topology: bytes | None = None
        self._slots: list[Slot] = []
        self._sent = self._skipped = 0
        self.joined = 0
        """Clients that were taken."""
        self.refused = 0
        """Clients that found the house full."""

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
        slot = Slot(self._hello, self._topology)
        self._slots.append(slot)
        self.joined += 1
        return slot

    def leave(self, slot: Slot) -> None:
        """Forget a client."""
        self._slots.remove(slot)
        self._sent += slot.sent
        self._skipped += slot.skipped

    def announce(self, topology: bytes) -> None:
        """Tell all clients, and later ones, of a new topology."""
        self._topology = topology
        for slot in self._slots:
            slot.announce(topology)

    def offer(self, frame: bytes) -> None:
        """Offer a frame to all clients."""
        for slot in self._slots:
            slot.offer(frame)

    def finish(self, end: bytes) -> None:
        """Let all clients go."""
        for slot in self._slots:
            slot.finish(end)

    def counters(self) -> dict[str, int]:
        """Return what was done, over all clients of the past and the present."""
        return {
            "clients.now": len(self._slots),
            "clients.joined": self.joined,
            "clients.refused": self.refused,
            "frames.sent": self._sent + sum(slot.sent for slot in self._slots),
            "frames.skipped": self._skipped + sum(slot.skipped for slot in self._slots),
        }

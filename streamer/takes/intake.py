"""What waits between the bus and the disk: a bounded queue, the names of what did not fit, a pre-roll."""

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping

from streamer.takes.chronicle import Loss, Name, name_of
from streamer.takes.tables import UNKNOWN
from streamer.types import Frame
from streamer.wire import Message

MESSAGE_BYTES = 2048
"""What a message costs in memory besides its picture."""

MAX_GAP = 100_000
"""Lost frames beyond this are counted and not named: the numbering itself has jumped."""

Item = tuple[str, Message, int]
"""Channel, message, log time in ns."""


def weight(message: Message) -> int:
    """Bytes that a waiting message is counted with."""
    return MESSAGE_BYTES + (message.data.nbytes if isinstance(message, Frame) else 0)


class Intake:
    """Messages that wait for the disk, bounded in bytes; never blocks the side that puts."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty.

        Args:
            limit_bytes: what may wait.
        """
        self._limit = limit_bytes
        self._items: deque[Item] = deque()
        self._ready = threading.Condition()
        self.closed = False
        """Whether nothing more is let in."""
        self.waiting_bytes = 0
        """What waits now."""

    def put(self, item: Item) -> bool:
        """Add a message; returns False if there is no room for it."""
        size = weight(item[1])
        with self._ready:
            if self.closed or self.waiting_bytes + size > self._limit:
                return False
            self._items.append(item)
            self.waiting_bytes += size
            self._ready.notify()
        return True

    def get(self, timeout_s: float) -> Item | None:
        """Take the oldest message, None if none came within the time."""
        with self._ready:
            if not self._items and not self.closed:
                self._ready.wait(timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self.waiting_bytes -= weight(item[1])
            return item

    def close(self) -> None:
        """Let nothing more in; what waits can still be taken."""
        with self._ready:
            self.closed = True
            self._ready.notify_all()

    @property
    def done(self) -> bool:
        """Whether it is closed and empty."""
        with self._ready:
            return self.closed and not self._items


class Losses:
    """What could not be taken, by name. Fed by the receiving thread; the writing thread takes the names from it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._counts: Counter[str] = Counter()
        self._names: deque[Loss] = deque()
        self._last: dict[str, tuple[int, int]] = {}

    def lose(self, topic: str, message: Message, reason: str) -> None:
        """Enter a message that was received and found no room."""
        self._add(Loss(name_of(topic, message), reason))

    def count(self, topic: str, reason: str, number: int) -> None:
        """Enter messages that nobody knows the name of."""
        self._add(Loss(Name(topic), reason, number))

    def follow(self, frame: Frame) -> None:
        """Notice a gap in what a node published; a number that falls back means that the node was started again.

        Lost frames are named by the numbers that their node gave them, and by frame ids where these advance alike.
        """
        topic = f"frame/{frame.camera}"
        sequence, frame_id = self._last.get(topic, (frame.sequence - 1, 0))
        self._last[topic] = (frame.sequence, frame.frame_id)
        gap = frame.sequence - sequence
        if gap > MAX_GAP:
            self.count(topic, "lost-on-bus", gap - 1)
            return
        alike = frame.frame_id - frame_id == gap
        for step in range(1, gap):
            self._add(Loss(Name(topic, frame_id + step if alike else UNKNOWN, sequence + step), "lost-on-bus"))

    def take(self) -> Iterator[Loss]:
        """Yield what was entered since the last time."""
        while self._names:
            yield self._names.popleft()

    @property
    def total(self) -> Mapping[str, int]:
        """Reason to number, all topics together."""
        return dict(self._counts)

    def _add(self, loss: Loss) -> None:
        self._counts[loss.reason] += loss.number
        self._names.append(loss)


class PreRoll:
    """The messages of the last moments, bounded in time and bytes. Pure: time comes with the messages."""

    def __init__(self, seconds: float, limit_bytes: int) -> None:
        """Begin empty.

        Args:
            seconds: how long a message is kept.
            limit_bytes: what all of them may weigh; the oldest go first.
        """
        self._span_ns, self._limit = round(seconds * 1e9), limit_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0

    def add(self, item: Item) -> None:
        """Remember a message and forget what is too old."""
        if self._span_ns <= 0:
            return
        self._items.append(item)
        self._bytes += weight(item[1])
        while self._items and (self._bytes > self._limit or item[2] - self._items[0][2] > self._span_ns):
            self._bytes -= weight(self._items.popleft()[1])

    def items(self) -> list[Item]:
        """Return what is remembered, oldest first."""
        return list(self._items)

    @property
    def seconds(self) -> float:
        """Time between the oldest and the newest message, s."""
        return (self._items[-1][2] - self._items[0][2]) / 1e9 if self._items else 0.0

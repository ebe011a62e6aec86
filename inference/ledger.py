"""Where every published frame went. Pure but for a lock: three threads write into it.

A frame is published once, with the next `sequence` of its camera. Here it ends in exactly one place: in `used`, or
under one reason in `unused`. So at the end of a run: published = used + all unused, whatever happened on the way.

    before-join         published before the first frame that came
    lost-on-bus         a gap in the sequence: dropped by the bus
    overwritten         a gap, since its slot in shared memory was written again before it was read
    before-calibration  came before any calibration did
    no-slot             its camera is not among those that the model looks through
    superseded          its set was still waiting for the network when a newer one came
    failed              its set could not be reconstructed
    after-stop          came, or was waiting, when inference was told to stop
    late, skew, ...     the reasons of `streamer.assembler`
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from streamer.types import FrameSet


class Ledger:
    """Counts frames. Safe to use from several threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._next: dict[str, int] = {}
        self._published: dict[str, int] = {}
        self._lives: dict[str, int] = {}
        self._unannounced = 0
        self._overwritten = 0
        self._explained = 0
        self._used: Counter[str] = Counter()
        self._unused: Counter[str] = Counter()

    def overwritten(self, count: int) -> None:
        """Note how many frames the subscriber has refused so far as overwritten: they explain gaps."""
        with self._lock:
            self._overwritten = count

    def arrived(self, camera: str, sequence: int) -> None:
        """Note a frame that came, and by it those that did not.

        Args:
            camera: its camera.
            sequence: its number among the frames published for this camera.
        """
        with self._lock:
            expected = self._next.get(camera)
            if expected is None:
                self._gap(sequence, otherwise="before-join")
            else:
                if sequence < expected:
                    expected = self._begin_anew(camera)
                self._gap(sequence - expected)
            self._next[camera] = sequence + 1

    def announced(self, counters: Mapping[str, int]) -> None:
        """Note what a node says it has published: needed when it starts again and at the end, frames may be on the way.

        Args:
            counters: of the node's Health: `published.<camera>` and, to tell its lives apart, `life`.
        """
        life = counters.get("life")
        with self._lock:
            for name, count in counters.items():
                if name.startswith("published."):
                    camera = name.removeprefix("published.")
                    other = life is not None and self._lives.get(camera, life) != life
                    if other or count < self._published.get(camera, 0):
                        self._begin_anew(camera)
                    self._published[camera] = count
                    if life is not None:
                        self._lives[camera] = life

    def use(self, frame_set: FrameSet, views: Iterable[str]) -> None:
        """Note that a mesh was made of a set.

        Args:
            frame_set: the set; what it repeats under the policy `freeze` was counted before.
            views: cameras whose pictures the network saw.
        """
        seen = set(views)
        with self._lock:
            for camera in frame_set.members:
                if camera not in frame_set.frozen:
                    if camera in seen:
                        self._used[camera] += 1
                    else:
                        self._unused["no-slot"] += 1

    def waste(self, frame_set: FrameSet, reason: str) -> None:
        """Note that no mesh was made of a set."""
        with self._lock:
            self._unused[reason] += sum(camera not in frame_set.frozen for camera in frame_set.members)

    def refuse(self, reason: str) -> None:
        """Note a frame that never got into a set."""
        with self._lock:
            self._unused[reason] += 1

    def add(self, unused: Mapping[str, int]) -> None:
        """Take over the counts of an assembler that is not used any more."""
        with self._lock:
            self._unused.update(unused)

    def close(self) -> None:
        """Close the account once nothing more comes: what a node announced and what never came was lost at the end."""
        with self._lock:
            for camera, published in self._published.items():
                if camera not in self._next:
                    self._unused["before-join"] += published
                else:
                    self._gap(published - self._next[camera])
                self._next[camera] = max(published, self._next.get(camera, 0))

    def counters(self, pending: Mapping[str, int]) -> dict[str, int]:
        """Return `used.<camera>`, `unused.<reason>` and, where there were such, `unannounced`.

        Those are frames that came of a node which was cut off before it could say that it had published them.

        Args:
            pending: counts of the assembler in use.
        """
        with self._lock:
            unused = self._unused + Counter(pending)
            told = {"unannounced": self._unannounced} if self._unannounced else {}
            return (
                told
                | {f"used.{camera}": count for camera, count in sorted(self._used.items())}
                | {f"unused.{reason}": count for reason, count in sorted(unused.items())}
            )

    def _begin_anew(self, camera: str) -> int:
        """The node was started again and counts from 0: what it had announced before and never came is lost."""
        published = self._published.get(camera, 0)
        self._lives.pop(camera, None)
        if camera in self._next:
            self._gap(published - self._next[camera])
            self._unannounced += max(0, self._next[camera] - published)
        else:
            self._unused["before-join"] += published
        self._next[camera] = self._published[camera] = 0
        return 0

    def _gap(self, missing: int, otherwise: str = "lost-on-bus") -> None:
        if missing > 0:
            explained = min(missing, self._overwritten - self._explained)
            self._explained += explained
            self._unused["overwritten"] += explained
            self._unused[otherwise] += missing - explained

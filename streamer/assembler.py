"""Frames become frame sets. Pure: time is an argument, so every rule about lateness is tested on a fake clock.

A frame's key is its rig frame id, or its exposure time for cameras that run free; frames whose keys lie within the
tolerance of each other (zero for ids) belong to one set. A set is released as soon as no camera can add to it any more:

- a camera is there, or has delivered something later (the frames of a camera arrive in order),
- or it is stalled: it has brought nothing useful for `stall_ms`, and no set waits for it until it speaks again,
- at the latest `deadline_ms` after the first member arrived.

Sets leave in the order of their keys. Each frame ends in exactly one set or under one reason in `unused`:

    late            its set was released, or dropped, before it came
    duplicate       the camera already has a frame with this key
    skew            exposed further than the tolerance from the others of its id
    too-few         its set had fewer than `min_cameras` members
    set-dropped     policy `drop`: another camera was missing (also `stop`, before that camera was ever heard)
    stopped         policy `stop` has ended the assembly
    unknown-camera  not a camera of this rig

Reasons for an absent camera: `missing` (it delivered the next picture without a gap), `dropped-by-camera` (its counter
has a gap), `lost-on-bus` (its sequence has one), `before-join`, `late`, `stalled`, `skew`, `ended` (the stream ended).

All exposure times must be of one clock. If the clocks of some hosts are wrong, their sets never meet those of the
others: the later clock wins, and the frames of the others are counted as `late`.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from streamer.config import SyncConfig
from streamer.errors import ConfigError, TransportError
from streamer.frame_sets import CameraState, ClosedSet, PendingSet, Rules, close_set
from streamer.types import Frame, FrameSet

POLICIES = ("omit", "freeze", "drop", "stop")
MAX_PENDING = 256
"""Sets that may wait at once; beyond it the oldest is released before its deadline."""
RESTART_FRAMES = 3
"""Frames in a row by which one camera shows that the rig restarted with an earlier clock; the first are lost."""
_NEVER = 2**63


class Assembler:
    """Matches the frames of several cameras.

    Args:
        cameras: ids in rig order.
        config: tolerance, deadline and policies.

    Raises:
        ConfigError: `per_camera` names an unknown camera or policy, or `min_cameras` can never be reached.
    """

    def __init__(self, cameras: Sequence[str], config: SyncConfig) -> None:
        """Start with nothing pending."""
        for camera, policy in config.per_camera.items():
            if camera not in cameras or policy not in POLICIES:
                raise ConfigError(
                    f"sync.per_camera.{camera} = {policy!r}: cameras are {', '.join(cameras)}; "
                    f"policies are {', '.join(POLICIES)}"
                )
        if config.min_cameras > len(cameras):
            raise ConfigError(
                f"sync.min_cameras = {config.min_cameras}, and the rig has {len(cameras)} cameras: no set would "
                f"ever be used; set it to {len(cameras)} or less"
            )
        self._cameras = {c: CameraState(c, config.per_camera.get(c, config.on_missing)) for c in cameras}
        self._by_time = config.match == "time"
        self._deadline_ns = round(config.deadline_ms * 1e6)
        self._stall_ns = round(config.stall_ms * 1e6)
        self._rules = Rules(config.min_cameras, config.tolerance_us * 1000, self._stall_ns, self._by_time)
        self._tolerance = self._rules.spread_ns if self._by_time else 0
        self._pending: list[PendingSet] = []
        self._closed: deque[ClosedSet] = deque(maxlen=32)
        self._watermark: int | None = None
        self._last_id: int | None = None
        self._now_ns = -_NEVER
        self._started = False
        self._stall_check_ns = _NEVER
        self._failure: TransportError | None = None
        self._unused: Counter[str] = Counter()
        self._sets: Counter[str] = Counter(assembled=0, complete=0, partial=0, dropped=0)

    @property
    def unused(self) -> Mapping[str, int]:
        """Frames that are in no set, by reason."""
        return dict(self._unused)

    @property
    def sets(self) -> Mapping[str, int]:
        """Sets so far: `assembled` = `complete` + `partial`, and `dropped`."""
        return dict(self._sets)

    @property
    def next_deadline_ns(self) -> int | None:
        """When `poll` should be called if nothing arrives before; None while nothing waits."""
        if not self._pending:
            return None
        return min(min(s.first_ns for s in self._pending) + self._deadline_ns, self._stall_check_ns)

    def push(self, frame: Frame, now_ns: int) -> list[FrameSet]:
        """Take a frame that arrived now.

        Args:
            frame: of any camera; its pixels are not looked at.
            now_ns: any clock that does not go back, the same in all calls.

        Returns:
            The sets that are due, in order of their keys; most often none or one.

        Raises:
            TransportError: policy `stop`: a camera was missing. (Sets that were complete before are returned first.)
        """
        self._advance(now_ns)
        camera = self._cameras.get(frame.camera)
        released = self._expire()
        if self._failure is not None:
            self._unused["stopped"] += 1
        elif camera is None:
            self._unused["unknown-camera"] += 1
        else:
            released += self._take(camera, frame)
        return self._or_fail(released)

    def poll(self, now_ns: int) -> list[FrameSet]:
        """Return the sets that are due by time alone.

        Raises:
            TransportError: see `push`.
        """
        self._advance(now_ns)
        return self._or_fail(self._expire())

    def flush(self, now_ns: int) -> list[FrameSet]:
        """Release everything: the stream has ended. Raises nothing; what policy `stop` refuses is counted `stopped`."""
        self._advance(now_ns)
        for pending in self._pending:
            pending.reasons.update(dict.fromkeys(pending.waiting, "ended"))
        return self._release(list(self._pending))

    def _advance(self, now_ns: int) -> None:
        self._now_ns = max(self._now_ns, now_ns)
        if not self._started:
            self._started = True
            self._revive()

    def _revive(self) -> None:
        """Give every camera the time to begin: at the start, and when the whole rig was silent."""
        self._stall_check_ns = self._now_ns + self._stall_ns
        for camera in self._cameras.values():
            camera.heard_ns = camera.arrived_ns = self._now_ns
            camera.stalled = False

    def _or_fail(self, released: list[FrameSet]) -> list[FrameSet]:
        if self._failure is not None and not released:
            raise self._failure
        return released

    def _expire(self) -> list[FrameSet]:
        """Mark cameras that fell silent; release what is due."""
        if self._now_ns >= self._stall_check_ns:
            live = []
            for camera in self._cameras.values():
                if not camera.stalled and self._now_ns - camera.heard_ns >= self._stall_ns:
                    camera.stalled = True
                    for pending in self._pending:
                        pending.settle(camera.id)
                elif not camera.stalled:
                    live.append(camera.heard_ns)
            self._stall_check_ns = min(live) + self._stall_ns if live else _NEVER
        return self._release_due()

    def _take(self, camera: CameraState, frame: Frame) -> list[FrameSet]:
        key = frame.exposure_time_ns if self._by_time else frame.frame_id
        released: list[FrameSet] = []
        camera.arrived_ns = self._now_ns
        if camera.stalled and all(c.stalled for c in self._cameras.values()):
            self._revive()
        if self._has_restarted(camera, frame, key):
            released = self._begin_anew()
            if self._failure is not None:
                self._unused["stopped"] += 1
                return released
        home = self._home(camera, key)
        if isinstance(home, str):
            self._unused[home] += 1
            if home == "late" and self._could_have_waited(key):
                self._heard(camera)
            camera.sequence, camera.counter = frame.sequence, frame.counter
            return released
        self._heard(camera)
        home.members[camera.id] = frame
        home.reasons.pop(camera.id, None)
        home.settle(camera.id)
        if not home.low <= key <= home.high:
            home.low, home.high = min(home.low, key), max(home.high, key)
            self._pending.sort(key=lambda pending: pending.low)
        gap = camera.gap(frame)
        for pending in self._pending:
            if pending.low + self._tolerance >= key:
                break
            if camera.id not in pending.members:
                pending.reasons[camera.id] = pending.reasons.get(camera.id, gap)
                pending.settle(camera.id)
        camera.newest, camera.sequence, camera.counter = key, frame.sequence, frame.counter
        if len(self._pending) > MAX_PENDING:
            released += self._release(self._pending[:1])
        return released + self._release_due()

    def _home(self, camera: CameraState, key: int) -> PendingSet | str:
        """Return the set a frame belongs to, made if need be, or the reason why there is none."""
        if key == camera.newest:
            return "duplicate"
        best: PendingSet | None = None
        for pending in self._pending:
            if not self._fits(pending, key):
                continue
            if camera.id in pending.members:
                if not self._by_time or pending.members[camera.id].exposure_time_ns == key:
                    return "duplicate"
            elif best is None or abs(2 * key - pending.low - pending.high) < abs(2 * key - best.low - best.high):
                best = pending
        if best is not None:
            return best
        if self._is_late(camera, key):
            return "late"
        waiting = {
            c.id
            for c in self._cameras.values()
            if c is camera or (not c.stalled and (c.newest is None or c.newest < key + self._tolerance))
        }
        best = PendingSet(key, self._now_ns, waiting)
        best.reasons.update({c: "missing" for c in self._cameras if c not in waiting and not self._cameras[c].stalled})
        self._pending.append(best)
        self._pending.sort(key=lambda pending: pending.low)
        return best

    def _heard(self, camera: CameraState) -> None:
        camera.heard_ns = self._now_ns
        if camera.stalled:
            camera.stalled = False
            self._stall_check_ns = min(self._stall_check_ns, self._now_ns + self._stall_ns)

    def _fits(self, pending: PendingSet | ClosedSet, key: int) -> bool:
        return max(pending.high, key) - min(pending.low, key) <= self._tolerance

    def _is_late(self, camera: CameraState, key: int) -> bool:
        """Whether the set that lacks this frame has been closed."""
        if self._watermark is not None and key <= self._watermark:
            return True
        # By time, a dropped set leaves its place free, and a camera that was in a set may begin the next one.
        return any(
            self._fits(past, key) and (not self._by_time or (past.used and camera.id not in past.cameras))
            for past in self._closed
        )

    def _could_have_waited(self, key: int) -> bool:
        """Whether a late frame came within the deadline of its set, which had left because its camera was stalled."""
        past = next((past for past in reversed(self._closed) if self._fits(past, key)), None)
        return past is not None and self._now_ns - past.first_ns <= self._deadline_ns

    def _has_restarted(self, camera: CameraState, frame: Frame, key: int) -> bool:
        """Whether this frame shows that the rig began anew with an earlier clock: a playback that loops, for instance.

        Several frames in a row must be behind both in key and in sequence; a single one is a stray repeat.
        """
        behind = self._watermark is not None and key <= self._watermark and frame.sequence < camera.peak
        camera.behind = camera.behind + 1 if behind else 0
        camera.peak = max(camera.peak, frame.sequence)
        return camera.behind >= RESTART_FRAMES

    def _begin_anew(self) -> list[FrameSet]:
        """The rig restarted with an earlier clock: what is pending ends, and old keys mean nothing any more."""
        released = self._release(list(self._pending))
        self._closed.clear()
        self._watermark = self._last_id = None
        for camera in self._cameras.values():
            camera.newest = None
            camera.peak = camera.behind = 0
        return released

    def _release_due(self) -> list[FrameSet]:
        """Release the sets that wait for nobody or have waited long enough, and what must leave before them."""
        ready = [not p.waiting or self._now_ns - p.first_ns >= self._deadline_ns for p in self._pending]
        if not any(ready):
            return []
        # A set too small to be used is only dropped: one camera with a wrong clock must not hurry the others.
        enough = [i for i, p in enumerate(self._pending) if ready[i] and len(p.members) >= self._rules.min_cameras]
        last = enough[-1] if enough else -1
        return self._release([p for i, p in enumerate(self._pending) if i <= last or ready[i]])

    def _release(self, leaving: Sequence[PendingSet]) -> list[FrameSet]:
        released = []
        for pending in leaving:
            self._pending.remove(pending)
            closing = close_set(pending, self._cameras, self._rules, self._now_ns, self._last_id)
            used = closing.frame_set is not None
            members = frozenset(pending.members)
            self._closed.append(ClosedSet(pending.low, pending.high, pending.first_ns, members, used))
            self._unused.update(closing.unused)
            if closing.failure is not None:
                self._failure = closing.failure
                self._unused["stopped"] += sum(len(p.members) for p in self._pending)
                self._sets["dropped"] += 1 + len(self._pending)
                self._pending.clear()
                break
            frame_set = closing.frame_set
            if frame_set is None:
                self._sets["dropped"] += 1
                continue
            self._sets["assembled"] += 1
            self._sets["complete" if frame_set.complete else "partial"] += 1
            self._last_id = frame_set.frame_id
            self._watermark = pending.low
            released.append(frame_set)
        return released

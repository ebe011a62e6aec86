"""A set of frames while it waits, and what becomes of it when it closes: skew, policies, reasons. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamer.errors import TransportError
from streamer.types import Frame, FrameSet


class CameraState:
    """What the assembler knows of one camera.

    Args:
        identity: id of the camera.
        policy: what its absence does to a set: `omit`, `freeze`, `drop` or `stop`.
    """

    __slots__ = (
        "arrived_ns",
        "behind",
        "counter",
        "heard_ns",
        "id",
        "newest",
        "peak",
        "policy",
        "sequence",
        "shown",
        "stalled",
    )

    def __init__(self, identity: str, policy: str) -> None:
        """Start as never heard."""
        self.id = identity
        self.policy = policy
        self.newest: int | None = None
        """Key of the last frame that was taken."""
        self.sequence: int | None = None
        """Of the last frame that arrived; None until one did."""
        self.counter = 0
        self.peak = 0
        """Highest sequence so far."""
        self.behind = 0
        """Frames in a row that lay behind in key and in sequence."""
        self.arrived_ns = 0
        self.heard_ns = 0
        """Last arrival that was, or by waiting longer could have been, of use."""
        self.stalled = False
        self.shown: Frame | None = None
        """Last frame that was part of a set, kept for `freeze` only."""

    def gap(self, frame: Frame) -> str:
        """Return why this camera has nothing between the last frame and this one."""
        if self.sequence is None:
            return "before-join"
        if frame.sequence - self.sequence > 1:
            return "lost-on-bus"
        return "dropped-by-camera" if frame.counter - self.counter > 1 else "missing"


class PendingSet:
    """A set that waits for members.

    Args:
        key: of its first member: frame id or exposure time.
        now_ns: arrival of the first member.
        waiting: ids of the cameras that may still add to it.
    """

    __slots__ = ("blocker", "first_ns", "high", "low", "members", "reasons", "waiting")

    def __init__(self, key: int, now_ns: int, waiting: set[str]) -> None:
        """Start without members."""
        self.low = self.high = key
        self.first_ns = now_ns
        self.members: dict[str, Frame] = {}
        self.waiting = waiting
        self.reasons: dict[str, str] = {}
        self.blocker = ""
        """The camera on which the set waited last."""

    def settle(self, camera: str) -> None:
        """Wait for this camera no longer."""
        if camera in self.waiting:
            self.waiting.discard(camera)
            self.blocker = camera


@dataclass(frozen=True, slots=True)
class ClosedSet:
    """What is remembered of a set that has left, to tell late frames."""

    low: int
    """Smallest key of its members."""
    high: int
    """Largest key of its members."""
    first_ns: int
    """Arrival of its first member."""
    cameras: frozenset[str]
    """Its members."""
    used: bool
    """Whether it was released, not dropped."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How sets close."""

    min_cameras: int
    """Sets with fewer members of their own are dropped."""
    spread_ns: int
    """Largest spread of exposure times."""
    stall_ns: int
    """Silence after which a camera is stalled."""
    by_time: bool
    """Whether sets are matched by exposure time: then their ids are made to increase."""


@dataclass(slots=True)
class Closing:
    """What became of a set."""

    frame_set: FrameSet | None = None
    """The set, None if it was dropped."""
    unused: Counter[str] = field(default_factory=Counter)
    """Its frames that are in no set, by reason."""
    failure: TransportError | None = None
    """Why the assembly must stop."""


def close_set(
    pending: PendingSet, cameras: Mapping[str, CameraState], rules: Rules, now_ns: int, last_id: int | None
) -> Closing:
    """Decide what becomes of a set.

    Args:
        pending: the set; its members end in the result.
        cameras: all cameras in rig order; `shown` of those that freeze is brought up to date.
        rules: limits.
        now_ns: time of the release.
        last_id: frame id of the set before, None for the first.
    """
    closing = Closing()
    own = _within_spread([pending.members[c] for c in cameras if c in pending.members], rules.spread_ns)
    members = {frame.camera: frame for frame in own}
    if len(own) < len(pending.members):
        closing.unused["skew"] = len(pending.members) - len(own)
    absent = {
        c: "skew" if c in pending.members else pending.reasons.get(c) or _silence(state, rules, now_ns)
        for c, state in cameras.items()
        if c not in members
    }
    waited_ns = now_ns - pending.first_ns
    closing.failure = _failure(absent, cameras, pending.low, waited_ns)
    if closing.failure is not None:
        refused = "stopped"
    elif len(own) < rules.min_cameras:
        refused = "too-few"
    elif any(cameras[c].policy in ("drop", "stop") for c in absent):
        refused = "set-dropped"
    else:
        refused = ""
    if refused:
        closing.unused[refused] += len(own)
        return closing
    frozen = {c: shown for c in absent if (shown := cameras[c].shown) is not None}
    for frame in own:
        if cameras[frame.camera].policy == "freeze":
            cameras[frame.camera].shown = frame
    middle = sorted(own, key=lambda frame: frame.exposure_time_ns)[len(own) // 2]
    frame_id = middle.frame_id
    if rules.by_time and last_id is not None:
        frame_id = max(frame_id, last_id + 1)
    times = [frame.exposure_time_ns for frame in own]
    everyone = members | frozen
    closing.frame_set = FrameSet(
        frame_id=frame_id,
        members={c: everyone[c] for c in cameras if c in everyone},
        absent={c: reason for c, reason in absent.items() if c not in frozen},
        skew_ns=max(times) - min(times),
        waited_for=min(pending.waiting, key=lambda c: cameras[c].heard_ns) if pending.waiting else pending.blocker,
        waited_ns=waited_ns,
        frozen=frozenset(frozen),
    )
    return closing


def _silence(camera: CameraState, rules: Rules, now_ns: int) -> str:
    return "stalled" if now_ns - camera.arrived_ns >= rules.stall_ns else "late"


def _failure(
    absent: Mapping[str, str], cameras: Mapping[str, CameraState], key: int, waited_ns: int
) -> TransportError | None:
    for camera, reason in absent.items():
        state = cameras[camera]
        # A camera that has not been heard yet has until it counts as stalled to begin; the end of a stream is no fault.
        begins = state.sequence is None and not state.stalled
        if state.policy == "stop" and not begins and reason not in ("before-join", "ended"):
            return TransportError(
                f"camera '{camera}' is missing ({reason}) from frame set {key} after {waited_ns / 1e6:.0f} ms, and its "
                "policy is stop; look after the camera, or set sync.on_missing to omit, freeze or drop"
            )
    return None


def _within_spread(frames: Sequence[Frame], spread_ns: int) -> list[Frame]:
    """Return the largest group of frames whose exposure times lie within the spread, in the order given."""
    times = sorted(frame.exposure_time_ns for frame in frames)
    if times[-1] - times[0] <= spread_ns:
        return list(frames)
    best = start = count = 0
    for end, time in enumerate(times):
        while time - times[start] > spread_ns:
            start += 1
        if end - start + 1 > count:
            best, count = start, end - start + 1
    return [frame for frame in frames if times[best] <= frame.exposure_time_ns <= times[best + count - 1]]

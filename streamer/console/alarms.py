"""What is wrong, why, and what to do about it. Pure: a function of the state."""

from collections.abc import Iterator
from statistics import median

from streamer.console.state import Alarm, CameraView, ConsoleState, ProcessView

QUIET_S = 3.0
"""Heartbeats come every second."""
SLOW = 0.8
"""A camera below this part of the median rate of all is slow."""
HOT_C = 75.0
"""Industrial cameras switch themselves off between 80 and 90 degrees."""
RESTART_TOLD_S = 60.0
"""How long a process that failed is told of after it was started again."""
FULL_MIN, LOW_MIN = 2.0, 10.0
SUPERSEDED = 0.5
"""Share of frames that a newer set overtook, above which the engine is too slow for the cameras."""
PARTIAL = 0.1
HANGS_S = 3.0
"""Sets of so many seconds of which no mesh comes: an engine that has hung still sends heartbeats."""
STILL_S, BEGIN_S = 3.0, 15.0
"""No picture of any camera for so long is told: of cameras that have sent some, and of those that have yet to begin."""
START_TOLD_S = 60.0
"""A process that failed and is not ready so long after it was started again is told of."""
MUTE_S = 5.0
"""A recorder that runs and has not answered for so long is told of."""
JUMP_S = 0.5

REASONS = {
    "lost-on-bus": ("the bus lost frames", "the consumer is too slow or the line is bad; lower rig.fps"),
    "overwritten": ("frames were overwritten before inference read them", "raise bus.ring_slots"),
    "failed": ("sets could not be reconstructed", "see the log of infer"),
    "skew": ("frames lay outside sync.tolerance_us", "run: mien sync check"),
}


def find(state: ConsoleState, *, jump_s: float = 0.0) -> tuple[Alarm, ...]:
    """Return the alarms of a moment, the worst first.

    Args:
        state: without its alarms.
        jump_s: by how much the clock of this machine has jumped of late, s.
    """
    found = [*_processes(state), *_cameras(state.cameras), *_flow(state), *_take(state)]
    if abs(jump_s) > JUMP_S:
        cause = f"the clock of this machine jumped by {jump_s:+.1f} s"
        found.append(Alarm("warning", "clock", cause, "let chrony or ptp4l slew it; a take has a jump here"))
    if failed := state.fits.get("failed"):
        found.append(Alarm("warning", "fits", f"{failed} jobs failed", "run: mien fit list, then mien fit retry JOB"))
    return tuple(sorted(found, key=lambda each: each.level))


def _processes(state: ConsoleState) -> Iterator[Alarm]:
    for each in state.processes:
        if each.state == "pause":
            again = f"it is started again in {each.retry_in_s:.0f} s; if it keeps failing, see the log of {each.name}"
            yield Alarm("alarm", each.name, each.why.removesuffix(": nothing") or "it failed", again)
        elif each.state == "starting" and each.restarts and each.up_s > START_TOLD_S:
            cause = f"not ready {each.up_s:.0f} s after it was started again"
            cause += f": {each.message}" if each.message else ""
            yield Alarm("alarm", each.name, cause, f"see the log of {each.name}; ctrl+r starts it once more")
        elif each.state == "ready" and each.age_s is not None and each.age_s > QUIET_S:
            cause = f"no sign of life for {each.age_s:.0f} s"
            yield Alarm("alarm", each.name, cause, "wait: it is killed and started again after live.silence_s")
        elif each.state == "elsewhere" and each.age_s is not None and each.age_s > QUIET_S:
            cause = f"not heard for {each.age_s:.0f} s"
            yield Alarm("alarm", each.name, cause, "look at that machine and the line to it")
        elif each.why and each.restarts and each.pid is not None and each.up_s < RESTART_TOLD_S:
            cause = f"{each.why.removesuffix(': nothing')}; it was started again {each.up_s:.0f} s ago"
            yield Alarm("warning", each.name, cause, f"nothing now; if it comes back, see the log of {each.name}")
        elif each.message:
            level = "warning" if each.health in ("starting", "running") else "alarm"
            yield Alarm("alarm" if level == "alarm" else "warning", each.name, each.message, _remedy(each))


def _remedy(process: ProcessView) -> str:
    if "calibration" in process.message:
        return "see that mien node runs and has cameras"
    return f"see the log of {process.name}"


def _cameras(cameras: tuple[CameraView, ...]) -> Iterator[Alarm]:
    rates = [each.fps for each in cameras if each.fps]
    usual = median(rates) if rates else 0.0
    if cameras and all(map(_still, cameras)):
        remedy = "check their trigger, power and network, and see the log of node; they join again by themselves"
        yield Alarm("alarm", "cameras", "no camera sends pictures", remedy)
    for each in cameras:
        if usual and each.fps == 0:
            remedy = "check its cable and power; it joins again by itself"
            yield Alarm("alarm", each.name, "no pictures", remedy)
        elif each.fps and each.fps < SLOW * usual:
            cause = f"{each.fps:.1f} pictures per second, the others {usual:.1f}"
            yield Alarm("warning", each.name, cause, "check its exposure time, trigger and bandwidth")
        if lost := sum(each.lost_lately.values()):
            reason = max(each.lost_lately, key=lambda why: each.lost_lately[why])
            remedy = "this host is too busy: fewer cameras per host, or rig.fps lower"
            if reason == "dropped-by-camera":
                remedy = "its link lost them: check cable, packet size and bandwidth"
            yield Alarm("warning", each.name, f"{lost} pictures lost in 10 s, most {reason}", remedy)
        if each.temperature_c is not None and each.temperature_c > HOT_C:
            yield Alarm("warning", each.name, f"{each.temperature_c:.0f} degrees", "give it air before it switches off")


def _still(camera: CameraView) -> bool:
    limit_s = STILL_S if camera.published else BEGIN_S
    return camera.fps == 0 and camera.still_s is not None and camera.still_s > limit_s


def _flow(state: ConsoleState) -> Iterator[Alarm]:
    flow = state.flow
    lately = flow.unused_lately
    for reason, (cause, remedy) in REASONS.items():
        if count := lately.get(reason):
            yield Alarm("warning", "infer", f"{cause}: {count} in 10 s", remedy)
    taken = sum(flow.sets_lately.get(kind, 0) for kind in ("complete", "partial"))
    views = flow.views or 1.0
    usual = median([each.fps for each in state.cameras if each.fps] or [0.0])
    if taken > max(10.0, HANGS_S * usual) and not flow.meshes_lately and not lately.get("failed"):
        remedy = "choose infer and press ctrl+r to start it again; see its log for why"
        yield Alarm("alarm", "infer", f"{taken} sets came and no mesh was made of them: the engine hangs", remedy)
    elif taken and lately.get("superseded", 0) > SUPERSEDED * taken * views:
        cause = "the engine leaves out more than half of the sets: it is slower than the cameras"
        yield Alarm("warning", "infer", cause, "lower rig.fps, or use a smaller model")
    if taken >= 10 and (partial := flow.sets_lately.get("partial", 0)) > PARTIAL * taken:
        why = ", ".join(sorted(set(lately) & {"late", "missing"})) or "cameras are missing"
        yield Alarm("warning", "infer", f"{partial} of {taken} sets lack cameras ({why})", "raise sync.deadline_ms")


def _take(state: ConsoleState) -> Iterator[Alarm]:
    take = state.take
    ready = any(each.name == "record" and each.state == "ready" and each.up_s > MUTE_S for each in state.processes)
    if ready and take.silent_s is not None and take.silent_s > MUTE_S:
        cause = f"it runs and has not answered for {take.silent_s:.0f} s: its keys do nothing"
        yield Alarm("alarm", "record", cause, "see the log of record; ctrl+r closes its take and starts it again")
    if take.alarm:
        yield Alarm("alarm", "record", take.alarm, "the take is closed; free space, then record again")
    if take.lost:
        lost = ", ".join(f"{count} {reason}" for reason, count in take.lost.items())
        yield Alarm("alarm", "record", f"the take lacks {lost}", "a faster disk, or record.queue_mb higher")
    if take.minutes_left is not None and take.minutes_left < LOW_MIN:
        cause = f"the disk is full in {take.minutes_left:.1f} minutes of recording"
        level = "alarm" if take.minutes_left < FULL_MIN else "warning"
        yield Alarm("alarm" if level == "alarm" else "warning", "disk", cause, "free space, or set record.directory")

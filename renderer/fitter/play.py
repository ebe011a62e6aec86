"""A fitted take on the bus: pictures of the field in place of a camera node's, so that every viewer shows them."""

import dataclasses
import threading
import time
from collections.abc import Iterator

from renderer.fitter.by_hand import frames_by_hand
from renderer.fitter.film import frames_of
from renderer.fitter.finished import Finished
from renderer.fitter.render import View, render_views
from streamer.config import BusConfig
from streamer.errors import FitError
from streamer.processes import HealthBeat, Vitals
from streamer.transport import Publisher, endpoint_for, ring_slots_for
from streamer.types import Calibration, Camera, Frame

CLOCK = "field"
STATE_PERIOD_S = 1.0


def cameras_to_play(finished: Finished, names: tuple[str, ...]) -> tuple[Camera, ...]:
    """Return the rig's cameras of these ids or serials; without any, those that were held out, else the first.

    Raises:
        FitError: the take has no such camera.
    """
    rig = finished.fit.footage.recorded
    known = {name: camera for camera in rig for name in (camera.id, camera.serial)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise FitError(f"the take has no camera '{unknown[0]}'; it has {', '.join(camera.id for camera in rig)}")
    if names:
        return tuple(known[name] for name in names)
    trained = {camera.id for camera in finished.fit.footage.cameras}
    return tuple(camera for camera in rig if camera.id not in trained) or rig[:1]


def play(
    finished: Finished,
    bus: BusConfig,
    *,
    stop: threading.Event,
    cameras: tuple[str, ...] = (),
    frames: tuple[int | None, int | None] = (None, None),
    fps: float = 0.0,
    loop: bool = True,
    lead_s: float = 1.0,
    by_hand: int | None = None,
) -> int:
    """Render and publish on the node's port: calibration, topology, pictures, and the take's meshes with them.

    A picture is published when it is rendered; identities go on counting from round to round. Channels and messages
    are those of a camera node (docs/network.md), frames by the clock `field`.

    Args:
        finished: the fit.
        bus: the node's port and keys.
        stop: ends it.
        cameras: ids or serials; see `cameras_to_play`.
        frames: first and one after the last of a round.
        fps: instants a second at most; 0: as fast as they are rendered.
        loop: begin again at the end.
        lead_s: states are published this long before the first picture, so that everybody is listening.
        by_hand: an open file descriptor that says which frame is wanted (`renderer.fitter.by_hand`) in place of rounds.

    Returns:
        Number of pictures published.

    Raises:
        FitError: no such camera or frames.
        TransportError: the port is in use, or keys are missing.
    """
    chosen, steps = cameras_to_play(finished, cameras), frames_of(finished.fit, frames)
    order = _rounds(len(steps), loop=loop) if by_hand is None else frames_by_hand(by_hand, len(steps))
    sent, count = 0, 0
    endpoint, slots = endpoint_for(bus, "node"), ring_slots_for(bus)
    with (
        Publisher(endpoint, ring_slots=slots, keys_dir=bus.keys_dir) as publisher,
        HealthBeat(publisher, "field", lambda: Vitals("running", {"published": sent})),
    ):
        end = time.monotonic() + lead_s
        told = _tell_state(publisher, finished, chosen)
        while time.monotonic() < end and not stop.wait(0.05):
            told = _tell_state(publisher, finished, chosen)
        for index in order:
            if stop.is_set():
                break
            begin = time.monotonic()
            if begin - told > STATE_PERIOD_S:
                told = _tell_state(publisher, finished, chosen)
            if index is None:
                continue
            sent += _send(publisher, finished, chosen, steps[index], count)
            count += 1
            if fps > 0:
                stop.wait(max(0.0, begin + 1 / fps - time.monotonic()))
    return sent


def _rounds(frames: int, *, loop: bool) -> Iterator[int]:
    yield from range(frames)
    while loop:
        yield from range(frames)


def _tell_state(publisher: Publisher, finished: Finished, cameras: tuple[Camera, ...]) -> float:
    """Publish what newcomers need; return when, by the monotonic clock."""
    publisher.send("calibration", Calibration(cameras))
    topology = finished.fit.footage.topology
    if topology is not None:
        publisher.send("topology", topology)
    return time.monotonic()


def _send(publisher: Publisher, finished: Finished, cameras: tuple[Camera, ...], step: int, count: int) -> int:
    """Publish one instant; return the number of its pictures."""
    for camera, view in zip(cameras, render_views(finished.fit, cameras, step), strict=True):
        publisher.send("frame", _picture(view, camera, count))
    mesh = finished.fit.footage.meshes.get(step)
    if mesh is not None:
        publisher.send("mesh", dataclasses.replace(mesh, frame_id=count, exposure_time_ns=_time_ns(count)))
    return len(cameras)


def _time_ns(count: int) -> int:
    return (count + 1) * 40_000_000


def _picture(view: View, camera: Camera, count: int) -> Frame:
    now_ns, size = time.time_ns(), (camera.width, camera.height)
    return Frame(camera.id, count, count, count, _time_ns(count), CLOCK, now_ns, now_ns, *size, "rgb8", view.rgb)

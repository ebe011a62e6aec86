"""Take -> bus: what was recorded is published again in its own time, with its own identities."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from streamer.config import BusConfig
from streamer.errors import TakeError
from streamer.processes import HealthBeat, Vitals
from streamer.takes.reader import Take, open_take
from streamer.transport import Publisher, endpoint_for, ring_slots_for
from streamer.types import Frame, MeshFrame
from streamer.wire import Message

STATE_PERIOD_S = 1.0
LOOK_S = 0.05
"""Seconds between looks whether the listeners are there."""


class Shift:
    """Moves the identities of a repeated round behind those of the round before, so that nothing comes twice.

    The first round is unchanged.
    """

    def __init__(self, take: Take) -> None:
        """Measure the take.

        Raises:
            TakeError: it holds no frames.
        """
        tables = [take.keys(f"frame/{camera}") for camera in take.cameras]
        if not tables:
            raise TakeError(f"{take.path} holds no frames to replay")
        ids = [int(value) for table in tables for value in (table[:, 0].min(), table[:, 0].max())]
        times = [int(value) for table in tables for value in (table[:, 1].min(), table[:, 1].max())]
        steps = max(max(ids) - min(ids), 1)
        period_ns = (max(times) - min(times)) // steps
        self.frame_ids = max(ids) - min(ids) + 1
        """By how much ids move per round."""
        self.times_ns = self.frame_ids * max(period_ns, 1)
        """By how much times move per round, ns: as many periods."""
        self.numbers = {camera: len(table) for camera, table in zip(take.cameras, tables, strict=True)}
        """Camera to how much its counters move per round at least."""
        self._spans: dict[str, int] = {}

    def apply(self, message: Message, turn: int) -> Message:
        """Return the message as it is in round `turn`, from 0."""
        if isinstance(message, Frame):
            camera = message.camera
            if turn == 0:
                self._spans[camera] = max(self._spans.get(camera, 0), message.sequence + 1, message.counter + 1)
                return message
            span = turn * self._spans.get(camera, self.numbers[camera])
            return replace(
                message,
                frame_id=message.frame_id + turn * self.frame_ids,
                exposure_time_ns=message.exposure_time_ns + turn * self.times_ns,
                counter=message.counter + span,
                sequence=message.sequence + span,
            )
        if isinstance(message, MeshFrame) and turn:
            return replace(
                message,
                frame_id=message.frame_id + turn * self.frame_ids,
                exposure_time_ns=message.exposure_time_ns + turn * self.times_ns,
            )
        return message


def run_replay(
    path: Path,
    bus: BusConfig,
    *,
    speed: float,
    loop: bool,
    stop: threading.Event,
    meshes: bool = False,
    lead_s: float = 1.0,
    listening: threading.Event | None = None,
) -> dict[str, int]:
    """Publish a take on the node's port: calibration, topology, truth and frames, and its meshes if wanted.

    Frames keep frame id, counter, sequence, exposure time and clock; only the publish time is new. When looping,
    later rounds go on counting where the first ended.

    Args:
        path: the take.
        bus: the node's port and keys.
        speed: 1: as recorded; 2: twice as fast; 0: as fast as it goes.
        loop: begin again at the end.
        stop: ends the replay.
        meshes: also publish the recorded meshes.
        lead_s: states are published this long before the first frame, so that everybody is listening.
        listening: ends the lead when set, for callers who know that everybody is.

    Returns:
        Channel to number of messages published.

    Raises:
        TakeError: the take cannot be read, or holds no frames.
        TransportError: the port is in use, or keys are missing.
    """
    sent: dict[str, int] = {}
    counts: dict[str, int] = {}
    with open_take(path) as take:
        shift = Shift(take)
        states: list[tuple[str, Message]] = [("calibration", take.calibration)]
        states += [("topology", topology) for topology in take.topologies.values()]
        channels = ["frame", "truth", *(["mesh"] if meshes else [])]
        endpoint, slots = endpoint_for(bus, "node"), ring_slots_for(bus)
        with (
            Publisher(endpoint, ring_slots=slots, keys_dir=bus.keys_dir) as publisher,
            HealthBeat(
                publisher, "replay", lambda: Vitals("running", {f"published.{k}": n for k, n in counts.copy().items()})
            ),
        ):
            clock = _StateClock(publisher, states)
            _wait(lead_s, clock, stop, listening)
            turn = 0
            while not stop.is_set() and (turn == 0 or loop):
                for channel, recorded in _paced(take, channels, speed, clock, stop):
                    message = shift.apply(recorded, turn)
                    if isinstance(message, Frame):
                        message = replace(message, publish_time_ns=time.time_ns())
                        counts[message.camera] = counts.get(message.camera, 0) + 1
                    publisher.send(channel, message)
                    sent[channel] = sent.get(channel, 0) + 1
                turn += 1
    return sent


class _StateClock:
    """Repeats the states each second."""

    def __init__(self, publisher: Publisher, states: list[tuple[str, Message]]) -> None:
        self._publisher, self._states = publisher, states
        self._due_s = 0.0

    def tick(self) -> float:
        """Publish the states if it is time; return seconds until the next time."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            for channel, message in self._states:
                self._publisher.send(channel, message)
            self._due_s = now_s + STATE_PERIOD_S
        return self._due_s - now_s


def _wait(seconds: float, clock: _StateClock, stop: threading.Event, over: threading.Event | None = None) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0 and not stop.is_set() and not (over and over.is_set()):
        stop.wait(min(left_s, clock.tick(), LOOK_S if over else math.inf))


def _paced(
    take: Take, channels: list[str], speed: float, clock: _StateClock, stop: threading.Event
) -> Iterator[tuple[str, Message]]:
    """Yield the messages of a round when they are due."""
    begin_s, first_ns = time.monotonic(), -1
    for channel, log_time_ns, message in take.messages(channels):
        first_ns = log_time_ns if first_ns < 0 else first_ns
        if speed > 0:
            due_s = begin_s + (log_time_ns - first_ns) * 1e-9 / speed
            _wait(due_s - time.monotonic(), clock, stop)
        if stop.is_set():
            return
        clock.tick()
        yield channel, message

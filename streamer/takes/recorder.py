"""Bus -> takes: every recorded channel of every process, and a ledger of whatever could not be taken."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from streamer.audio.recorder import AudioInput
from streamer.channels import CHANNELS
from streamer.config import BusConfig, RecordConfig, SyncConfig
from streamer.control import ControlServer, control_endpoint
from streamer.errors import TakeError
from streamer.processes import HealthBeat
from streamer.takes.osc import OscServer
from streamer.takes.session import Session
from streamer.transport import Publisher, Subscriber, endpoint_for, infer_endpoint, node_endpoints

DEPTH = 512
"""Messages per publisher that may wait in the socket while this process is held up: a second of sixteen cameras."""
POLL_S = 0.1
CHECK_S = 1.0
DRAIN_S = 2.0


def run_record(
    record: RecordConfig,
    bus: BusConfig,
    sync: SyncConfig,
    *,
    stop: threading.Event,
    seconds: float | None = None,
    path: Path | None = None,
    config_text: str = "",
    on_closed: Callable[[Path], None] = lambda path: None,
) -> Path:
    """Record one take until told to stop, by `stop` or by a command.

    The take begins with the first calibration message; what arrives before waits in memory and is recorded too. What
    cannot be taken is counted by topic and reason in the take's ledger: `lost-on-bus` (gaps in a node's numbering),
    `queue-full` (the disk was too slow), `disk-full`, `not-written` (received when the disk had failed); and under
    `refused` what arrived unsound (frames among it are in `lost-on-bus` of their camera as well).

    Args:
        record: where and how.
        bus: whom to listen to, and the ports for health and commands.
        sync: how frames of this take become sets; kept in the take.
        stop: ends the recording; what has arrived by then is written.
        seconds: length, counted from the calibration message; None: until `stop`.
        path: folder of the take; None: the next free one of show and slate.
        config_text: the effective configuration as TOML, kept in the take.
        on_closed: called with the folder of the take when it is closed, in a thread of its own.

    Returns:
        The folder of the closed take.

    Raises:
        TakeError: no calibration came, the folder exists, the disk is too full to begin, or it filled up: then the
            take is closed and whole up to there.
        TransportError: a port is in use, or keys are missing.
        ConfigError: show or slate cannot be folder names.
    """
    with ExitStack() as stack:
        session = Session(record, sync, config_text, audio=_open_audio(record, stack), on_closed=on_closed)
        path = session.begin(path)
        _listen(session, record, bus, stop=stop, seconds=seconds, stay=False)
    if session.failure is not None:
        raise session.failure
    if session.empty:
        raise TakeError(
            f"nothing was recorded: no calibration came from {', '.join(node_endpoints(bus))}; start mien node"
        )
    return path


def run_armed(
    record: RecordConfig,
    bus: BusConfig,
    sync: SyncConfig,
    *,
    stop: threading.Event,
    start: bool = False,
    config_text: str = "",
    on_closed: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Wait for commands and record what they ask for, take after take, until told to stop.

    A disk that fills up or breaks ends its take, raises an alarm in the health and the status, and nothing else.

    Args:
        record: where and how; `preroll_s` of what came before a start is recorded too.
        bus: whom to listen to, and the ports for health and commands.
        sync: how frames become sets; kept in the takes.
        stop: ends it; a take that is on is closed.
        start: begin the first take at once.
        config_text: the effective configuration as TOML, kept in the takes.
        on_closed: called with the folder of each take when it is closed, in a thread of its own.

    Returns:
        The folders of the closed takes.

    Raises:
        TakeError: with `start`: the disk is too full to begin.
        TransportError: a port is in use, or keys are missing.
        ConfigError: show or slate cannot be folder names.
    """
    with ExitStack() as stack:
        session = Session(record, sync, config_text, audio=_open_audio(record, stack), on_closed=on_closed)
        if start:
            session.begin(None)
        _listen(session, record, bus, stop=stop, seconds=None, stay=True)
        return session.closed


def _open_audio(record: RecordConfig, stack: ExitStack) -> AudioInput | None:
    if not record.audio:
        return None
    audio = AudioInput(record.audio, record.audio_rate_hz, record.audio_channels, record.preroll_s)
    stack.callback(audio.close)
    return audio


def _listen(
    session: Session, record: RecordConfig, bus: BusConfig, *, stop: threading.Event, seconds: float | None, stay: bool
) -> None:
    others = (endpoint_for(bus, "record"), endpoint_for(bus, "serve"), endpoint_for(bus, "demo"))  # health alone
    sources = [*node_endpoints(bus), infer_endpoint(bus), *others]
    channels = [channel.name for channel in CHANNELS.values() if channel.recorded]
    with ExitStack() as stack:
        publisher = stack.enter_context(Publisher(endpoint_for(bus, "record"), keys_dir=bus.keys_dir))
        subscriber = stack.enter_context(Subscriber(sources, channels, keys_dir=bus.keys_dir, depth=DEPTH))
        stack.enter_context(HealthBeat(publisher, "record", session.vitals))
        stack.callback(session.close)
        if bus.control_port:
            stack.enter_context(ControlServer(control_endpoint(bus), session.command, keys_dir=bus.keys_dir))
        if record.osc_port:
            stack.enter_context(OscServer(record.osc_port, session.command))
        _receive(session, subscriber, stop, seconds, stay)


def _receive(
    session: Session, subscriber: Subscriber, stop: threading.Event, seconds: float | None, stay: bool
) -> None:
    """Receive until it is time to stop."""
    end_s: float | None = None
    check_s = time.monotonic() + CHECK_S
    while not stop.is_set():
        received = subscriber.receive(POLL_S)
        if received is not None:
            session.put(*received)
        now_s = time.monotonic()
        if seconds is not None and end_s is None and session.opened:
            end_s = now_s + seconds
        if end_s is not None and now_s >= end_s:
            break
        if now_s >= check_s or session.broken:
            check_s = now_s + CHECK_S
            session.refused = dict(subscriber.rejected)
            session.check()
        if not stay and not session.recording:
            return
    drain_s = time.monotonic() + DRAIN_S
    while time.monotonic() < drain_s and (waiting := subscriber.drain()):
        for channel, message in waiting:
            session.put(channel, message)
    session.refused = dict(subscriber.rejected)

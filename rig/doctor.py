"""Checks before a shoot that need the cameras: do they deliver, by whose clock, and can this configuration last?"""

import os
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rig.config import RigConfig
from rig.driver import CameraDriver, CameraStatus, RawFrame, StatusSource, StreamEnded
from rig.drivers import make_driver
from rig.pictures import prepare
from rig.sync.sources import host_clock
from rig.uncalibrated import NOMINAL
from streamer.config import BusConfig, RecordConfig
from streamer.doctor import Check
from streamer.errors import MienError
from streamer.transport import Publisher, Subscriber
from streamer.types import Calibration, Camera, Frame

LOOK_S = 2.0
"""How long the cameras are looked through."""
FIRST_S = 10.0
"""Longest wait for the first picture."""
DISK_S, BLOCK_MB, MOST_MB = 2.0, 16, 1024
"""How long the disk is written to, in which pieces, and how much at most."""
BUS_MB = 256
"""What is sent to measure the bus."""
ENOUGH = 0.7
"""Part of a measured limit that a configuration may use; the rest is for everything else on the machine."""
ADDRESS = re.compile(r"tcp://\[?([^\]]+)\]?:(\d+)")
NET = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the cameras."""

    calibration: Calibration
    """The cameras."""
    trigger: str
    """Mode that they were armed with."""
    seconds: float
    """From the first picture to the last."""
    counts: Mapping[str, int]
    """Camera id to pictures."""
    status: Mapping[str, CameraStatus]
    """What real cameras told."""
    sample: RawFrame | None
    """One picture."""


def examine_rig(
    rig: RigConfig, bus: BusConfig, record: RecordConfig, *, driver: CameraDriver | None = None
) -> list[Check]:
    """Run the checks; takes some seconds, and needs the cameras for itself.

    Args:
        rig: the cameras and what they publish.
        bus: where to.
        record: where takes go.
        driver: the device, not open; None: the one that `rig` names.
    """
    checks: list[Check] = []
    look: Look | None = None
    try:
        look = look_through(rig, driver)
        checks += [_cameras(rig, look), _trigger(look), _camera_clocks(look)]
    except MienError as error:
        checks.append(Check("cameras", "fail", str(error), "mien cameras list shows what the driver finds"))
    bus_mb_per_s = measure_bus(bus)
    disk_mb_per_s = measure_disk(record)
    checks += [_host_clock(bus), *_network(bus, bus_mb_per_s)]
    if look is not None and look.sample is not None:
        checks += sustain(rig, look.calibration, look.sample, bus_mb_per_s=bus_mb_per_s, disk_mb_per_s=disk_mb_per_s)
    return checks


def look_through(rig: RigConfig, driver: CameraDriver | None = None) -> Look:
    """Open the cameras and take pictures for two seconds.

    Raises:
        MienError: the device is absent or cannot do what is configured.
    """
    device, trigger = make_driver(rig) if driver is None else (driver, driver.triggers[0])
    device.open()
    try:
        calibration = device.calibration
        device.arm(trigger)
        counts: Counter[str] = Counter()
        sample, first_s, last_s = None, 0.0, 0.0
        end_s = time.monotonic() + FIRST_S
        while (now_s := time.monotonic()) < end_s:
            try:
                raw = device.next_frame(0.1)
            except StreamEnded:
                break
            if raw is not None:
                if sample is None:
                    first_s, end_s = now_s, now_s + LOOK_S
                sample, last_s = raw, now_s
                counts[raw.camera] += 1
        status = dict(device.status) if isinstance(device, StatusSource) else {}
        return Look(calibration, trigger, last_s - first_s, counts, status, sample)
    finally:
        device.close()


def _cameras(rig: RigConfig, look: Look) -> Check:
    ids = look.calibration.ids
    sizes = ", ".join(sorted({f"{camera.width}x{camera.height}" for camera in look.calibration.cameras}))
    firmware = ", ".join(sorted({each.firmware for each in look.status.values() if each.firmware}))
    found = f"{len(ids)} of driver {rig.driver}, {sizes}" + (f", firmware {firmware}" if firmware else "")
    silent = [camera for camera in ids if not look.counts.get(camera)]
    if silent:
        remedy = "look at cables, power and trigger; mien cameras preview shows the others"
        return Check("cameras", "fail", f"{found}; silent: {', '.join(silent)}", remedy)
    slowest = min(ids, key=lambda camera: look.counts[camera])
    rate = (look.counts[slowest] - 1) / look.seconds if look.seconds > 0 else 0.0
    found += f"; {rate:.1f} fps of {rig.fps:g} asked for (slowest: {slowest})"
    if rig.driver == "playback":
        return Check("cameras", "ok", found)
    if rate < 0.9 * rig.fps:
        remedy = "a shorter exposure, fewer cameras per link or host, or a lower rig.fps"
        if rig.driver == "simulated":
            remedy = "it renders on this processor: fewer or smaller rig.simulated cameras, or a lower rig.fps"
        return Check("cameras", "warn", found, remedy)
    if look.calibration.source == NOMINAL:
        return Check("cameras", "warn", f"{found}; not calibrated", "run mien calibrate, then set rig.calibration")
    return Check("cameras", "ok", found)


def _trigger(look: Look) -> Check:
    if look.trigger == "free-run" and len(look.calibration.ids) > 1:
        remedy = (
            "wire a trigger and set rig.trigger = 'hardware', or sync.match = 'time'; mien sync check tells the skew"
        )
        return Check("trigger", "warn", "free-run: each camera exposes when it likes", remedy)
    return Check("trigger", "ok", look.trigger)


def _camera_clocks(look: Look) -> Check:
    states = {camera: each.clock for camera, each in look.status.items() if each.clock is not None}
    if not states:
        return Check("camera clocks", "ok", "the stamps of this driver need none")
    told = "; ".join(
        f"{camera}: {state.source}{'' if state.locked else ' not locked'}, {state.drift_ppm:+.1f} ppm, "
        f"{state.residual_us:.0f} us"
        for camera, state in states.items()
    )
    if all(state.locked for state in states.values()):
        return Check("camera clocks", "ok", told)
    return Check(
        "camera clocks", "warn", told, "look at the PTP grandmaster and rig.ptp_utc_offset_s, or set rig.clocks"
    )


def _host_clock(bus: BusConfig) -> Check:
    disciplined, error_us = host_clock()
    if disciplined:
        return Check("host clock", "ok", f"disciplined, the kernel estimates {error_us:.0f} us of error")
    if not bus.nodes:
        return Check("host clock", "ok", "not disciplined; with one camera host nothing depends on it")
    return Check(
        "host clock", "warn", "neither NTP nor PTP disciplines it", "run chrony or ptp4l and phc2sys on all hosts"
    )


def _network(bus: BusConfig, bus_mb_per_s: float) -> list[Check]:
    host = "127.0.0.1" if bus.host == "localhost" else bus.host.strip("[]")
    name = interface_of(host)
    mtu, speed = _read(name, "mtu"), _read(name, "speed")
    link = f", link {speed} Mbit/s" if speed.isdigit() else ""
    found = f"{host} on {name or 'no interface'}, MTU {mtu or '?'}{link}; {bus_mb_per_s:.0f} MB/s through ZeroMQ here"
    checks = [Check("network", "ok", found)]
    if name and name != "lo" and mtu.isdigit() and int(mtu) < 9000:
        remedy = f"jumbo frames halve the interrupts of GigE cameras: ip link set {name} mtu 9000, and at the switch"
        checks = [Check("network", "warn", found, remedy)]
    for endpoint in bus.nodes:
        checks.append(_reach(endpoint))
    return checks


def _reach(endpoint: str) -> Check:
    match = ADDRESS.fullmatch(endpoint)
    if match is None:
        return Check("node", "fail", f"{endpoint} is no address", "correct bus.nodes: tcp://HOST:PORT")
    begin_s = time.monotonic()
    try:
        with socket.create_connection((match[1], int(match[2])), timeout=3.0):
            took_ms = 1000 * (time.monotonic() - begin_s)
    except OSError as error:
        remedy = "start mien node there; open the port in its firewall"
        return Check("node", "fail", f"{endpoint} cannot be reached ({error.strerror or error})", remedy)
    return Check("node", "ok", f"{endpoint} answers within {took_ms:.1f} ms")


def interface_of(host: str) -> str:
    """Return the interface by which this host reaches an address of its own; empty if it has none."""
    if host.startswith("127.") or host == "::1":
        return "lo"
    # The routing table in the kernel's own words; no packet is sent.
    try:
        import fcntl
        import struct

        for _, name in socket.if_nameindex():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    answer = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
                except OSError:
                    continue  # an interface without an address
                if socket.inet_ntoa(answer[20:24]) == host:
                    return name
    except ImportError:
        return ""
    return ""


def _read(interface: str, name: str) -> str:
    file = NET / interface / name
    try:
        return file.read_text("ascii").strip() if interface else ""
    except OSError:  # a virtual interface has no speed
        return ""


def measure_bus(bus: BusConfig) -> float:
    """Return what one publisher and one subscriber move over TCP in this process, MB/s."""
    picture = np.zeros(1 << 20, np.uint8)
    frame = Frame("probe", 0, 0, 0, 0, "host", 0, 0, 1024, 1024, "mono8", picture.reshape(1024, 1024))
    with (
        Publisher("tcp://127.0.0.1:0", depth=8) as publisher,
        Subscriber([publisher.endpoint], ["frame"], depth=8) as subscriber,
    ):
        deadline = time.monotonic() + 5.0
        while subscriber.receive(0.02) is None and time.monotonic() < deadline:
            publisher.send("frame", frame)
        while subscriber.receive(0.05) is not None:
            pass
        begin_s, moved = time.monotonic(), 0
        while moved < BUS_MB and time.monotonic() - begin_s < 3.0:
            publisher.send("frame", frame)
            moved += subscriber.receive(0.5) is not None
        return moved * picture.nbytes / 1e6 / (time.monotonic() - begin_s)


def measure_disk(record: RecordConfig) -> float:
    """Return what the disk of takes sustains, MB/s: written and synchronised in pieces; 0 if it cannot be."""
    folder = Path(record.directory).absolute()
    while not folder.is_dir():
        folder = folder.parent
    block = os.urandom(BLOCK_MB << 20)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".mien-doctor-") as file:
            begin_s, written = time.monotonic(), 0
            while (took_s := time.monotonic() - begin_s) < DISK_S and written < MOST_MB << 20:
                file.write(block)
                file.flush()
                os.fdatasync(file.fileno())
                written += len(block)
            return written / 1e6 / max(time.monotonic() - begin_s, took_s)
    except OSError:
        return 0.0


def sustain(
    rig: RigConfig, calibration: Calibration, sample: RawFrame, *, bus_mb_per_s: float, disk_mb_per_s: float,
    cores: int | None = None, now_s: Callable[[], float] = time.process_time,
) -> list[Check]:  # fmt: skip
    """Compare what the configuration asks for with what was measured.

    Args:
        rig: rate, size and encoding of what is published.
        calibration: the cameras.
        sample: a picture of one of them: its size on the bus and the time to make it stand for all.
        bus_mb_per_s: what the bus moves.
        disk_mb_per_s: what the disk takes.
        cores: processors; None: of this machine.
        now_s: CPU time, s.
    """
    camera: Camera = calibration[sample.camera]
    begin_s = now_s()
    turns = 4
    for _ in range(turns):
        picture = prepare(sample, camera, rig)
    each_s = (now_s() - begin_s) / turns
    pixels = sum(each.width * each.height for each in calibration.cameras) / (camera.width * camera.height)
    rate = rig.fps * pixels
    need_mb = rate * picture.data.nbytes / 1e6
    raw_mb = rate * sample.pixels.nbytes / 1e6
    available = cores or os.cpu_count() or 1
    kind = f"{picture.width}x{picture.height} {picture.encoding}"
    remedy = "rig.publish = 'proxy', a lower rig.fps or rig.jpeg_quality, or another camera host"
    checks = [
        _compare("sustain: bus", f"{kind} of all cameras", need_mb, bus_mb_per_s, "MB/s", remedy),
        _compare(
            "sustain: disk", "a take of what is published", need_mb, disk_mb_per_s, "MB/s", "a faster disk; " + remedy
        ),
        _compare("sustain: encoding", f"{1000 * each_s:.1f} ms a picture", each_s * rate, available, "cores", remedy),
    ]
    if rig.publish == "proxy":
        text = "full pictures as they are (mien node --record)"
        checks.append(
            _compare("sustain: full", text, raw_mb, disk_mb_per_s, "MB/s", "a faster disk on the camera host")
        )
    return checks


def _compare(name: str, what: str, need: float, have: float, unit: str, remedy: str) -> Check:
    digits = 2 if unit == "cores" else 1
    found = f"{what}: {need:.{digits}f} of {have:.{digits}f} {unit}"
    if need > have:
        return Check(name, "fail", f"{found}: cannot be sustained", remedy)
    if need > ENOUGH * have:
        return Check(name, "warn", f"{found}: no room for bursts", remedy)
    return Check(name, "ok", found)

"""`[rig]`: which cameras there are and what they publish."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamer.config import limits


@dataclass(frozen=True, slots=True)
class FaultConfig:
    """`[rig.simulated.faults]`: what goes wrong on purpose. All off by default."""

    drop_probability: float = field(default=0.0, metadata=limits(0, 1))
    """Chance that a camera loses a picture (its counter still advances)."""
    drift_ppm: float = field(default=0.0, metadata=limits(-1000, 1000))
    """Rate error of the first camera's clock."""
    skew_us: int = field(default=0, metadata=limits(0, 1_000_000))
    """Exposure of the last camera is later by this much."""
    skew_hidden: bool = False
    """The stamps of that camera do not tell of it: only its pictures do."""
    latency_ms: float = field(default=0.0, metadata=limits(0, 10_000))
    """Delay between exposure and delivery, uniform in 0..2 times this."""
    stall_camera: int = field(default=-1, metadata=limits(-1, 255))
    """Index of a camera that stops delivering; -1: none."""
    stall_after_s: float = field(default=5.0, metadata=limits(0, 1e6))
    """When it stops, counted from the start."""
    stall_for_s: float = field(default=2.0, metadata=limits(0, 1e6))
    """How long it is silent."""
    stall_unplugged: bool = False
    """It is silent since it was unplugged: it counts its pictures from 0 when it is back."""


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """`[rig.simulated]`: the simulated rig."""

    cameras: int = field(default=8, metadata=limits(1, 64))
    """Number of cameras on the ring."""
    width: int = field(default=480, metadata=limits(32, 8192))
    """Picture width, px. `live` looks at 320x240: larger pictures cost the demo cores and bring it nothing."""
    height: int = field(default=360, metadata=limits(32, 8192))
    """Picture height, px."""
    seed: int = field(default=7, metadata=limits(0, 2**31))
    """Chooses the person, the look, the rig and the performance."""
    noise: float = field(default=1.0, metadata=limits(0, 10))
    """Sensor noise, 1 is that of a good machine-vision camera indoors."""
    lamp: bool = False
    """A lamp before the rig swells, as a target for `mien sync check`."""
    board: str = ""
    """BOARD.toml: the cameras see this board, waved, in place of the head, as in a calibration; empty: the head."""
    faults: FaultConfig = field(default_factory=FaultConfig)
    """What goes wrong on purpose."""


@dataclass(frozen=True, slots=True)
class PlaybackConfig:
    """`[rig.playback]`: a take, or videos with a calibration, as cameras."""

    source: str = ""
    """Folder of a take, or of videos named after the cameras (`<camera id>.mp4`)."""
    calibration: str = ""
    """Calibration TOML; only for videos."""
    loop: bool = False
    """Begin again at the end."""
    speed: float = field(default=1.0, metadata=limits(0, 1000))
    """1: as recorded; 0: as fast as it goes."""


@dataclass(frozen=True, slots=True)
class OpencvConfig:
    """`[rig.opencv]`: UVC webcams and capture cards (V4L2)."""

    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera id to its name in /dev/v4l/by-id or by-path, never an index; empty: all in by-id, as cam_0, cam_1, ..."""
    width_px: int = field(default=1280, metadata=limits(16, 16384))
    """Picture width asked for."""
    height_px: int = field(default=720, metadata=limits(16, 16384))
    """Picture height asked for."""
    format: Literal["mjpeg", "yuyv", "grey"] = "mjpeg"
    """What the camera delivers; mjpeg passes to the bus unchanged where JPEG is published."""


@dataclass(frozen=True, slots=True)
class GenicamConfig:
    """`[rig.genicam]`: machine-vision cameras by the GenTL producer of their maker."""

    producers: tuple[str, ...] = ()
    """GenTL producers (*.cti); empty: all in the folders of GENICAM_GENTL64_PATH."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera id to serial number; empty: all that are found, by serial number, as cam_0, cam_1, ..."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Features set when a camera is opened, in this order, e.g. { ExposureTime = "4000", Gain = "0" }."""
    trigger_line: str = "Line0"
    """`TriggerSource` for hardware triggers."""


@dataclass(frozen=True, slots=True)
class RtspConfig:
    """`[rig.rtsp]`: network cameras and files as if they were cameras."""

    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera id to rtsp:// address or file. Takes keep the configuration: put no password into the address."""
    options: Mapping[str, str] = field(default_factory=lambda: {"rtsp_transport": "tcp"})
    """Options of FFmpeg's demuxer."""


@dataclass(frozen=True, slots=True)
class RigConfig:
    """`[rig]`: the cameras of this host."""

    driver: Literal["simulated", "playback", "opencv", "genicam", "rtsp"] = "simulated"
    """Where pictures come from."""
    fps: float = field(default=30.0, metadata=limits(0.1, 1000))
    """Trigger rate asked for, frames per second."""
    trigger: Literal["auto", "clock", "free-run", "software", "hardware", "recorded"] = "auto"
    """How exposures are started; `auto`: the first mode that the driver can do."""
    calibration: str = ""
    """Calibration TOML of real cameras, matched by serial number; empty: nominal until they are calibrated."""
    clocks: Mapping[str, str] = field(default_factory=dict)
    """Camera id to where its time comes from: ptp, pulses, ntp or arrival; others take the best that they have."""
    ptp_utc_offset_s: int = field(default=0, metadata=limits(-100, 100))
    """What the PTP grandmaster is ahead of UTC: 37 if it keeps TAI."""
    skew_alarm_us: int = field(default=2000, metadata=limits(0, 1_000_000))
    """Health is degraded while a camera's stamps differ by more from the others of a pulse; 0: never."""
    publish: Literal["full", "proxy"] = "full"
    """`full` pictures, or area-averaged ones smaller by `proxy_factor`."""
    proxy_factor: int = field(default=4, metadata=limits(2, 16))
    """Width and height of proxies are divided by this."""
    encoding: Literal["jpeg", "raw"] = "jpeg"
    """How pictures travel and are recorded. Inference and takes see the same bytes."""
    jpeg_quality: int = field(default=92, metadata=limits(1, 100))
    """Quality of JPEG pictures."""
    simulated: SimulatedConfig = field(default_factory=SimulatedConfig)
    """The simulated rig."""
    opencv: OpencvConfig = field(default_factory=OpencvConfig)
    """Webcams and capture cards."""
    genicam: GenicamConfig = field(default_factory=GenicamConfig)
    """Machine-vision cameras."""
    rtsp: RtspConfig = field(default_factory=RtspConfig)
    """Network cameras."""
    playback: PlaybackConfig = field(default_factory=PlaybackConfig)
    """Takes and videos as cameras."""

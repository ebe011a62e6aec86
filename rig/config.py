"""`[rig]`: which cameras there are and what they publish."""

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


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """`[rig.simulated]`: the simulated rig."""

    cameras: int = field(default=8, metadata=limits(1, 64))
    """Number of cameras on the ring."""
    width: int = field(default=640, metadata=limits(32, 8192))
    """Picture width, px."""
    height: int = field(default=480, metadata=limits(32, 8192))
    """Picture height, px."""
    seed: int = field(default=7, metadata=limits(0, 2**31))
    """Chooses the person, the look, the rig and the performance."""
    noise: float = field(default=1.0, metadata=limits(0, 10))
    """Sensor noise, 1 is that of a good machine-vision camera indoors."""
    lamp: bool = False
    """A lamp before the rig swells, as a target for `mien sync check`."""
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
class RigConfig:
    """`[rig]`: the cameras of this host."""

    driver: Literal["simulated", "playback"] = "simulated"
    """Where pictures come from."""
    fps: float = field(default=30.0, metadata=limits(0.1, 1000))
    """Trigger rate asked for, frames per second."""
    trigger: Literal["auto", "clock", "free-run", "software", "hardware", "recorded"] = "auto"
    """How exposures are started; `auto`: the first mode that the driver can do."""
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
    playback: PlaybackConfig = field(default_factory=PlaybackConfig)
    """Takes and videos as cameras."""

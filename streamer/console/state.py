"""What an operator sees at one moment. Pure: made of heartbeats, the recorder's status and times, by `compose.py`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["alarm", "warning"]


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process: what the supervisor and what it says itself."""

    name: str
    """Its name."""
    state: str
    """As `streamer.restarts.ProcessState`, or `elsewhere` for one on another machine."""
    health: str = ""
    """State of its latest heartbeat."""
    message: str = ""
    """Its own line, empty if all is well."""
    age_s: float | None = None
    """Since its latest heartbeat, s; None: it sends none, or none came."""
    pid: int | None = None
    """Its id."""
    up_s: float = 0.0
    """Since its latest start, s."""
    restarts: int = 0
    """How often it failed."""
    retry_in_s: float = 0.0
    """Until it is started again, s."""
    why: str = ""
    """What ended its last life."""
    cpu_percent: float | None = None
    """Of one core."""
    rss_mb: float | None = None
    """Resident memory, MB."""


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera."""

    name: str
    """Camera id."""
    fps: float | None = None
    """Pictures per second that were published."""
    skew_us: float | None = None
    """Its exposure beside the median of its set, us."""
    temperature_c: float | None = None
    """Degrees Celsius, None if it does not tell."""
    clock: str = ""
    """`locked`, `free`, or empty if it has no clock of its own; with drift in ppm."""
    published: int = 0
    """Pictures since the node began."""
    still_s: float | None = None
    """Since that number last changed, or was first heard, s; None: not known."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Reason to pictures lost since the node began."""
    lost_lately: Mapping[str, int] = field(default_factory=dict)
    """The same over the last ten seconds."""


@dataclass(frozen=True, slots=True)
class FlowView:
    """Sets and meshes."""

    sets: Mapping[str, int] = field(default_factory=dict)
    """`assembled`, `complete`, `partial`, `dropped` since inference began."""
    sets_lately: Mapping[str, int] = field(default_factory=dict)
    """The same over the last ten seconds."""
    meshes: int = 0
    """Since inference began."""
    meshes_lately: int = 0
    """Over the last ten seconds."""
    meshes_per_s: float | None = None
    """Rate."""
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    """Exposure to publication: `p50`, `p95`, `p99`."""
    network_ms: Mapping[str, float] = field(default_factory=dict)
    """In the network: `p50`, `p95`."""
    skew_us: float | None = None
    """95th percentile of the spread of exposures inside a set, us."""
    views: float | None = None
    """Pictures per mesh, median."""
    load: float | None = None
    """Share of the time in which the engine works: rate times median time in the network; above 1: sets overlap."""
    used: int = 0
    """Frames that a mesh was made of."""
    unused: Mapping[str, int] = field(default_factory=dict)
    """Reason to frames not used, since inference began."""
    unused_lately: Mapping[str, int] = field(default_factory=dict)
    """The same over the last ten seconds."""


@dataclass(frozen=True, slots=True)
class TakeView:
    """The recorder."""

    state: str = "absent"
    """`absent`, `armed`, `recording`, `closing`."""
    silent_s: float | None = None
    """Since it last answered, or was first asked, s; None: it answers, or there is none to ask."""
    take: str = ""
    """Folder of the take that is being recorded."""
    last: str = ""
    """Folder of the last take."""
    show: str = ""
    """Show of the next take."""
    slate: str = ""
    """Slate of the next take."""
    number: int = 0
    """Number of the next take."""
    notes: str = ""
    """Notes of the next take."""
    seconds: float = 0.0
    """Length so far, s."""
    messages: int = 0
    """Recorded so far."""
    markers: int = 0
    """Set so far."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """Reason to messages that the take lacks."""
    timecode: str = ""
    """Now, if the take has one."""
    alarm: str = ""
    """Why the last take ended by itself."""
    disk_free_gb: float | None = None
    """Free space, GB."""
    disk_mb_per_s: float | None = None
    """What the take grows by, MB/s; between takes that of the last one."""
    minutes_left: float | None = None
    """Until the disk is as full as `record.min_free_gb` allows, at that rate."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that the operator has to know."""

    level: Level
    """`alarm`: something does not work; `warning`: it works less well."""
    what: str
    """Whom or what it is about: a process, a camera, the disk."""
    cause: str
    """What is the case."""
    remedy: str
    """What to do."""


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """Everything at one moment."""

    time_ns: int
    """CLOCK_REALTIME, ns."""
    up_s: float
    """Since the run began, s."""
    ready: bool = False
    """Whether all processes are."""
    processes: tuple[ProcessView, ...] = ()
    """In the order of their start."""
    cameras: tuple[CameraView, ...] = ()
    """By name."""
    flow: FlowView = FlowView()
    """Sets and meshes."""
    take: TakeView = TakeView()
    """The recorder."""
    fits: Mapping[str, int] = field(default_factory=dict)
    """State to number of jobs in the fit queue."""
    alarms: tuple[Alarm, ...] = ()
    """What is wrong, the worst first."""
    events: tuple[str, ...] = ()
    """What happened to processes, one line each, the latest last."""


def as_json(state: ConsoleState) -> dict[str, Any]:
    """Return the state as JSON-able values; key names are those of the fields."""
    return asdict(state)

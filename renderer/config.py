"""`[view]`: the live viewer, and `[fitter]`: radiance fields of takes."""

from dataclasses import dataclass, field
from typing import Literal

from streamer.config import limits


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """`[view]`: size and rate of the picture."""

    width: int = field(default=1280, metadata=limits(160, 7680))
    """Width of the picture, px."""
    height: int = field(default=720, metadata=limits(120, 4320))
    """Height of the picture, px."""
    max_fps: float = field(default=60.0, metadata=limits(1, 240))
    """The viewer draws at most this often, and only when something changed."""
    cameras: int = field(default=4, metadata=limits(0, 64))
    """Camera pictures shown beside the head, the mesh drawn over each."""
    web_port: int = field(default=8080, metadata=limits(1, 65535))
    """Port of the browser view."""
    captures: str = "out/captures"
    """Folder of the screenshots and videos that are asked for with keys."""


@dataclass(frozen=True, slots=True)
class FitterConfig:
    """`[fitter]`: the queue of fits, which is worked on after the shoot."""

    queue: str = "fits/queue.sqlite"
    """File of the queue."""
    runs: str = "fits"
    """Folder of the runs; job 7 works in `job_0007`."""
    preset: Literal["auto", "ci", "preview", "gpu-24", "gpu-48"] = "auto"
    """Recipe of jobs that name none; `auto`: the largest that the worker's memory allows."""
    auto: bool = False
    """A take that `mien record` closes is queued by itself."""
    cluster: Literal["none", "ray"] = "none"
    """Who places the work of `mien fit work`: `none`, this process does it; `ray`, a Ray cluster does."""
    ray_address: str = "auto"
    """Of the cluster's head, `host:6379`; `auto`: the one that runs on this machine."""
    hold_out: tuple[str, ...] = ()
    """Cameras that no fit is trained on, so that it can be measured; those without pictures are held out anyway."""
    checkpoint_every_s: float = field(default=120.0, metadata=limits(1, 86_400))
    """Time between checkpoints: a killed worker loses at most this much work."""
    threads: int = field(default=0, metadata=limits(0, 256))
    """Threads of a fit on a CPU; 0: all cores."""

"""`[view]`: the live viewer."""

from dataclasses import dataclass, field

from streamer.config import limits


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """`[view]`: size and rate of the picture."""

    width: int = field(default=1280, metadata=limits(160, 7680))
    """Width of the picture, px."""
    height: int = field(default=720, metadata=limits(120, 4320))
    """Height of the picture, px."""
    max_fps: float = field(default=30.0, metadata=limits(1, 240))
    """The viewer draws at most this often."""
    cameras: int = field(default=4, metadata=limits(0, 64))
    """Camera pictures shown beside the head, the mesh drawn over each."""
    web_port: int = field(default=8080, metadata=limits(1, 65535))
    """Port of the browser view."""

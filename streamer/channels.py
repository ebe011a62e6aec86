"""The bus, as one table. Publishers, subscribers, the recorder and the tests all read it; no port stands elsewhere."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["node", "infer", "record", "demo", "serve"]
Delivery = Literal["latest", "every", "state"]

PORTS: dict[Role, int] = {"node": 5700, "infer": 5710, "record": 5720, "demo": 5730, "serve": 5740}
"""Default TCP port of each publishing process; `[bus]` in config.toml moves them."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of message."""

    name: str
    """Topic on the wire and in a take."""
    message: str
    """Name of the type in `streamer.types`."""
    publishers: tuple[Role, ...]
    """Processes that publish it."""
    delivery: Delivery
    """What live consumers want: `latest` may skip, `every` may not, `state` is repeated each second."""
    recorded: bool
    """Whether a take holds it."""


CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("frame", "Frame", ("node",), "latest", recorded=True),
        Channel("calibration", "Calibration", ("node",), "state", recorded=True),
        Channel("truth", "MeshFrame", ("node",), "latest", recorded=True),
        Channel("mesh", "MeshFrame", ("infer",), "latest", recorded=True),
        Channel("topology", "Topology", ("node", "infer"), "state", recorded=True),
        Channel("health", "Health", ("node", "infer", "record", "demo", "serve"), "every", recorded=True),
    )
}

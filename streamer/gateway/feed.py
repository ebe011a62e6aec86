"""Messages of the bus to records for the clients, and the count of what could not be sent. No socket, no clock."""

from collections import Counter
from collections.abc import Sequence

from streamer.errors import WireError
from streamer.gateway.encoding import encode_frame, encode_topology
from streamer.types import MeshFrame, Topology
from streamer.wire import Message

REMEMBERED = 8
"""Topologies kept: a rig has one or two (the model's, the truth's)."""


class Feed:
    """Keeps the topologies that the bus told of and encodes the newest mesh of each batch."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._topologies: dict[str, Topology] = {}
        self._announced = ""
        self._counts: Counter[str] = Counter()
        self.last_refusal = ""
        """Why the last mesh was refused, for people; empty if none was."""

    def push(self, messages: Sequence[Message]) -> tuple[bytes | None, bytes | None]:
        """Take what waited on the bus, oldest first.

        Returns:
            A topology record if clients need a new one, and the record of the newest mesh if it can be sent.
        """
        newest: MeshFrame | None = None
        for message in messages:
            if isinstance(message, Topology):
                self._remember(message)
            elif isinstance(message, MeshFrame):
                self._counts["meshes.received"] += 1
                self._counts["meshes.superseded"] += newest is not None
                newest = message
        return (None, None) if newest is None else self._encode(newest)

    def counters(self) -> dict[str, int]:
        """Return the meshes received, those never encoded because a newer one waited beside them, and those refused."""
        names = ("received", "superseded", "without-topology", "refused")
        return {f"meshes.{name}": self._counts[f"meshes.{name}"] for name in names}

    def _remember(self, topology: Topology) -> None:
        if topology.id in self._topologies:
            return
        self._topologies[topology.id] = topology
        if len(self._topologies) > REMEMBERED:
            oldest = next(name for name in self._topologies if name != self._announced)
            del self._topologies[oldest]

    def _encode(self, mesh: MeshFrame) -> tuple[bytes | None, bytes | None]:
        topology = self._topologies.get(mesh.topology_id)
        if topology is None:
            self._counts["meshes.without-topology"] += 1
            return None, None
        try:
            frame = encode_frame(mesh, self._counts["meshes.received"] - 1, topology)
            announcement = None if mesh.topology_id == self._announced else encode_topology(topology)
        except WireError as error:
            self._counts["meshes.refused"] += 1
            self.last_refusal = str(error)
            return None, None
        self._announced = mesh.topology_id
        return announcement, frame

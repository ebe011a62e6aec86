"""Messages of the bus to what clients get, and the count of what could not be sent. No socket, no clock."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from streamer.errors import WireError
from streamer.gateway.clients import Edition, Shown
from streamer.gateway.encoding import require_sendable
from streamer.types import MeshFrame, Topology
from streamer.wire import Message

log = logging.getLogger(__name__)

REMEMBERED = 8
"""Topologies kept: a rig has one or two (the model's, the truth's)."""


class Feed:
    """Keeps the topologies that the bus told of and picks the newest mesh of each batch."""

    def __init__(self, calm: Callable[[MeshFrame], MeshFrame] | None = None) -> None:
        """Know nothing yet.

        Args:
            calm: filters each mesh that is shown, in order; None: they are shown as they come.
        """
        self._calm = calm
        self._shown: dict[str, Shown] = {}
        self._announced = ""
        self._counts: Counter[str] = Counter()
        self.last_refusal = ""
        """Why the last mesh was refused, for people; empty if none was."""
        self.newest: tuple[MeshFrame, Topology] | None = None
        """The mesh of the last `push` that returned one, and its topology."""

    def push(self, messages: Sequence[Message]) -> tuple[Shown | None, Edition | None]:
        """Take what waited on the bus, oldest first.

        Returns:
            A topology if clients need a new one, and the newest mesh if it can be sent.
        """
        newest: MeshFrame | None = None
        for message in messages:
            if isinstance(message, Topology):
                self._remember(message)
            elif isinstance(message, MeshFrame):
                self._counts["meshes.received"] += 1
                self._counts["meshes.superseded"] += newest is not None
                newest = message
        return (None, None) if newest is None else self._show(newest)

    def counters(self) -> dict[str, int]:
        """Return the meshes received, those never offered because a newer one waited beside them, and those refused."""
        names = ("received", "superseded", "without-topology", "refused")
        return {f"meshes.{name}": self._counts[f"meshes.{name}"] for name in names}

    def _remember(self, topology: Topology) -> None:
        if topology.id in self._shown:
            return
        self._shown[topology.id] = Shown(topology)
        if len(self._shown) > REMEMBERED:
            oldest = next(name for name in self._shown if name != self._announced)
            del self._shown[oldest]

    def _show(self, mesh: MeshFrame) -> tuple[Shown | None, Edition | None]:
        shown = self._shown.get(mesh.topology_id)
        if shown is None:
            self._counts["meshes.without-topology"] += 1
            return None, None
        try:
            require_sendable(mesh, shown.topology)
        except WireError as error:
            self._counts["meshes.refused"] += 1
            if self.last_refusal != str(error):
                log.warning("%s", error)
            self.last_refusal = str(error)
            return None, None
        if self._calm is not None:
            mesh = self._calm(mesh)
        announcement = None if mesh.topology_id == self._announced else shown
        self._announced, self.newest = mesh.topology_id, (mesh, shown.topology)
        return announcement, Edition(shown, mesh, self._counts["meshes.received"] - 1)

"""A second layer of meshes beside the first: another model, the truth, or an earlier take."""

from pathlib import Path

from streamer.errors import TakeError
from streamer.takes import Take, open_take
from streamer.types import MeshFrame, Topology


class Layer:
    """Meshes of a take that stand beside those that are shown.

    Where frame ids are shared (a layer, a truth, a take made by `mien reprocess`) meshes belong together by id.
    Otherwise both begin together, and the layer begins again at its end.

    Args:
        take: where they are; closed by `close`.
        channel: `mesh` or `truth`.
        name: for people.

    Raises:
        TakeError: it holds no mesh on that channel.
    """

    def __init__(self, take: Take, channel: str, name: str) -> None:
        """Look at ids and times."""
        self._take = take
        self.name = name
        self._meshes = take.meshes(channel)
        if not len(self._meshes):
            take.close()
            raise TakeError(f"{take.path} holds no mesh on channel '{channel}'; choose another for --against")
        self._ids = frozenset(int(frame_id) for frame_id in self._meshes.frame_ids)
        self._first_ns = int(self._meshes.times_ns[0])
        self._length_ns = max(int(self._meshes.times_ns[-1]) - self._first_ns, 1)
        self._began_ns: int | None = None
        self._shared = False

    def beside(self, mesh: MeshFrame) -> tuple[MeshFrame, Topology] | None:
        """Return the mesh that belongs beside another one; None where this layer has none."""
        if mesh.frame_id in self._ids:
            self._shared = True
            found = self._meshes.at_frame(mesh.frame_id)
        elif self._shared:
            return None
        else:
            self._began_ns = mesh.exposure_time_ns if self._began_ns is None else self._began_ns
            ahead = (mesh.exposure_time_ns - self._began_ns) % self._length_ns
            found = self._meshes.at_time(self._first_ns + ahead)
        topology = None if found is None else self._take.topologies.get(found.topology_id)
        return None if found is None or topology is None else (found, topology)

    def close(self) -> None:
        """Close the take."""
        self._take.close()


def open_layer(what: str, take: Path | None) -> Layer:
    """Open what `--against` names.

    Args:
        what: `truth`, the name of a layer, both of the take that is shown; or the folder of another take.
        take: folder of the take that is shown; None: the bus.

    Raises:
        TakeError: there is no such thing, or it holds no mesh.
    """
    if take is not None and what == "truth":
        return Layer(open_take(take), "truth", "truth")
    if take is not None and not Path(what).exists():
        with open_take(take) as opened:
            layer = opened.layer(what)
        return Layer(layer, "mesh", what)
    return Layer(open_take(what), "mesh", Path(what).resolve().name)

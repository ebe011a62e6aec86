"""Messages as a take holds them: wire parts, but that the vertices of meshes are encoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from streamer.errors import WireError
from streamer.takes.framing import Buffer
from streamer.takes.mesh_codec import Base, FindBase, FindTopology, MeshEncoder, decode_vertices, is_base, read_base
from streamer.types import Frame, MeshFrame, Topology
from streamer.wire import Message, decode

VERTICES = 2
"""Number of the part that holds the vertices of a mesh: the first array of its header."""
LOSSLESS_CHANNELS = frozenset({"truth"})
"""Kept bit by bit whatever is asked for: what others are measured by."""
TIMED = frozenset({"frame", "mesh", "truth"})
"""Channels whose messages have a rig frame id and an exposure time."""
BASES_KEPT = 12
"""More than a key and its anchors."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Topic:
    """What MCAP calls a channel."""

    name: str
    """`frame/<camera>`, `mesh`, ..."""
    schema: str
    """`mien.<Type>`."""


def topic_of(channel: str, message: Message) -> Topic:
    """Return where a message goes in the files: frames have one topic per camera."""
    name = f"{channel}/{message.camera}" if isinstance(message, Frame) else channel
    return Topic(name, f"mien.{type(message).__name__}")


def channel_of(parts: Sequence[Buffer]) -> str:
    """Return the channel that the first part names."""
    return bytes(parts[0][:-1]).decode("ascii", "replace")


def found(item: Found | None, what: str) -> Found:
    """Return the item.

    Raises:
        WireError: it is None: what a mesh needs to be read is lost.
    """
    if item is None:
        raise WireError(f"a mesh cannot be read without the {what}, which is lost")
    return item


class Packer:
    """Encodes the meshes of a take in the order in which they are written.

    Args:
        lossless: keep the bits of every float; the truth is kept so in any case.
    """

    def __init__(self, *, lossless: bool) -> None:
        """Begin a file."""
        self._lossless = lossless
        self._encoders: dict[str, MeshEncoder] = {}
        self._topologies: dict[str, Topology] = {}

    def begin_file(self) -> None:
        """Let nothing that follows refer to anything before: each file can be read alone."""
        self._encoders.clear()

    def pack(
        self, channel: str, message: Message, parts: Sequence[Buffer], log_time_ns: int
    ) -> tuple[Sequence[Buffer], bool]:
        """Return the parts to store, and whether vertices among them are encoded."""
        if isinstance(message, Topology):
            self._topologies[message.id] = message
        if not isinstance(message, MeshFrame):
            return parts, False
        encoder = self._encoders.get(channel)
        if encoder is None:
            encoder = self._encoders[channel] = MeshEncoder(lossless=self._lossless or channel in LOSSLESS_CHANNELS)
        topology = self._topologies.get(message.topology_id)
        encoded = encoder.encode(message.vertices, message.topology_id, topology, log_time_ns)
        return [*parts[:VERTICES], encoded, *parts[VERTICES + 1 :]], True


def unpack(parts: Sequence[Buffer], find_topology: FindTopology, find_base: FindBase) -> tuple[str, Message]:
    """Decode a message whose vertices are encoded.

    Args:
        parts: as stored.
        find_topology: topology id to topology.
        find_base: log time and checksum to the mesh that this one refers to.

    Raises:
        WireError: not sound, or what it refers to is not there.
    """
    if len(parts) <= VERTICES:
        raise WireError("a stored mesh has no vertices")
    vertices = decode_vertices(parts[VERTICES], find_topology, find_base)
    raw = vertices.reshape(-1).view(np.uint8).data
    return decode([*_views(parts[:VERTICES]), raw, *_views(parts[VERTICES + 1 :])])


def _views(parts: Sequence[Buffer]) -> list[memoryview]:
    return [memoryview(part) for part in parts]


class Unpacker:
    """Decodes the messages of one file in their order, remembering what meshes refer to."""

    def __init__(self) -> None:
        """Begin a file."""
        self._topologies: dict[str, Topology] = {}
        self._bases: dict[tuple[int, int], Base] = {}

    def decode(self, parts: Sequence[Buffer], packed: bool, log_time_ns: int) -> tuple[str, Message]:
        """Return channel and message.

        Args:
            parts: as stored.
            packed: whether vertices among them are encoded.
            log_time_ns: of the message.

        Raises:
            WireError: not sound, or the mesh that it refers to was not among those before.
        """
        if not packed:
            channel, message = decode(_views(parts))
            if isinstance(message, Topology):
                self._topologies[message.id] = message
            return channel, message
        if len(parts) > VERTICES and is_base(parts[VERTICES]):
            base = read_base(parts[VERTICES], log_time_ns, self._base)
            self._bases[log_time_ns, base.checksum] = base
            while len(self._bases) > BASES_KEPT:
                del self._bases[next(iter(self._bases))]
        return unpack(parts, self._topology, self._base)

    def _topology(self, topology_id: str) -> Topology:
        return found(self._topologies.get(topology_id), f"topology {topology_id}")

    def _base(self, log_time_ns: int, checksum: int) -> Base:
        return found(self._bases.get((log_time_ns, checksum)), f"mesh logged at {log_time_ns} ns")

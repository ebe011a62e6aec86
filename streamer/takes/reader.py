"""Take -> messages, frame sets, meshes. Nothing is read before it is asked for; every message is checked then."""

import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamer.audio.wav import Sound, read_sound
from streamer.calibration import calibration_from_text
from streamer.channels import CHANNELS
from streamer.config import SyncConfig
from streamer.errors import CalibrationError, TakeError, WireError
from streamer.takes import sets as match
from streamer.takes.index import TakeFile
from streamer.takes.layout import CALIBRATION, CONFIG, LAYERS, TAKE_JSON, TakeInfo, read_info, read_text
from streamer.takes.ledger import Ledger
from streamer.takes.mesh_codec import Base, read_base
from streamer.takes.sequences import MeshSequence, SetSequence
from streamer.takes.stored import BASES_KEPT, VERTICES, channel_of, found, unpack
from streamer.takes.table import ENTRY, Entries, in_log_order
from streamer.takes.tables import TOPICS, Columns, decode_table
from streamer.types import Calibration, Frame, FrameSet, Topology
from streamer.wire import Message, decode

FRAME = "frame/"


class Take:
    """A closed take, open for reading. Reading may happen from several threads.

    Files close when the object is no longer referred to, or at `close`.
    """

    def __init__(self, path: Path) -> None:
        """Open a take; see `open_take`."""
        self.path = path
        """The folder."""
        self.info: TakeInfo = read_info(path)
        """The content of take.json."""
        if self.info.state == "recording":
            raise TakeError(
                f"{path} was not closed: its recorder still runs, or was killed; if killed, run: mien recover {path}"
            )
        try:
            self.calibration: Calibration = calibration_from_text(read_text(path, CALIBRATION, self.info))
            """The cameras as they were."""
        except CalibrationError as error:
            raise TakeError(f"{path / CALIBRATION}: {error}") from error
        self.config_text: str = read_text(path, CONFIG, self.info)
        """The effective configuration as it was, TOML."""
        self._files = [TakeFile(path / info.name, info) for info in self.info.files]
        self._bases: dict[tuple[int, int, int], Base] = {}
        self._bases_lock = threading.Lock()

    @property
    def topics(self) -> Mapping[str, Entries]:
        """Topic (`frame/<camera>`, `mesh`, ...) to the entries of its messages, in log order."""
        return self._entries[0]

    @property
    def tables(self) -> Mapping[str, Entries]:
        """The same of the tables of its ledger."""
        return self._entries[1]

    @cached_property
    def ledger(self) -> Ledger:
        """What the recorder wrote down: sets, timing, losses, events, as columns."""
        return Ledger(self)

    @cached_property
    def _entries(self) -> tuple[Mapping[str, Entries], Mapping[str, Entries]]:
        found: dict[str, list[Entries]] = {}
        for number, file in enumerate(self._files):
            for topic, entries in file.index(number).items():
                found.setdefault(topic, []).append(entries)
        every = {topic: in_log_order(parts) for topic, parts in sorted(found.items())}
        tables = {topic: every.pop(topic) for topic in TOPICS if topic in every}
        return every, tables

    @property
    def cameras(self) -> tuple[str, ...]:
        """Ids of the cameras that have frames here, in rig order."""
        named = [topic.removeprefix(FRAME) for topic in self.topics if topic.startswith(FRAME)]
        ids = self.calibration.ids
        return (*(i for i in ids if i in named), *(n for n in named if n not in ids))

    @property
    def frame_count(self) -> int:
        """Number of frames of all cameras."""
        return sum(len(entries) for topic, entries in self.topics.items() if topic.startswith(FRAME))

    @cached_property
    def _span_ns(self) -> tuple[int, int]:
        timed = [name for name in self.topics if name.startswith(FRAME) or name in ("mesh", "truth")]
        times = [self.keys(name)[:, 1] for name in timed]
        if not sum(map(len, times)):
            raise TakeError(f"{self.path} holds neither frames nor meshes")
        return int(min(column.min() for column in times)), int(max(column.max() for column in times))

    @property
    def first_ns(self) -> int:
        """Earliest exposure time, ns.

        Raises:
            TakeError: there are neither frames nor meshes.
        """
        return self._span_ns[0]

    @property
    def last_ns(self) -> int:
        """Latest exposure time, ns; raises as `first_ns`."""
        return self._span_ns[1]

    def time_of_frame(self, frame_id: int, *, latest: bool = False) -> int:
        """Return the earliest (or latest) exposure time with a rig frame id, ns.

        Raises:
            TakeError: there is no such frame id.
        """
        timed = [name for name in self.topics if name.startswith(FRAME) or name in ("mesh", "truth")]
        times = [keys[keys[:, 0] == frame_id, 1] for keys in map(self.keys, timed)]
        found = np.concatenate([np.empty(0, np.int64), *times])
        if not len(found):
            raise TakeError(f"{self.path} has no frame id {frame_id}")
        return int(found.max() if latest else found.min())

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers: the same moments through other models, or mattes and depth of an import."""
        folder = self.path / LAYERS
        return tuple(sorted(p.name for p in folder.glob("*") if (p / TAKE_JSON).exists() and p.name[0] != "."))

    def layer(self, name: str) -> "Take":
        """Open a layer. It is a take of its own, with its own calibration, configuration and topologies.

        Raises:
            TakeError: no such layer, or it cannot be read.
        """
        if name not in self.layers:
            raise TakeError(f"{self.path} has no layer {name!r}; it has {', '.join(self.layers) or 'none'}")
        return Take(self.path / LAYERS / name)

    @property
    def sound(self) -> Sound | None:
        """The sound that was recorded with the pictures, None if there is none.

        Raises:
            TakeError: it is damaged.
        """
        return read_sound(self.path)

    @cached_property
    def sets(self) -> SetSequence:
        """The frame sets, as the take itself matches: by index, time or timecode, read when asked for."""
        return SetSequence(self, self.table())

    @property
    def mesh_count(self) -> int:
        """Number of meshes on channel `mesh`."""
        return len(self.topics.get("mesh", ()))

    @cached_property
    def topologies(self) -> Mapping[str, Topology]:
        """Topology id to topology.

        Raises:
            TakeError: one is damaged.
        """
        messages = (message for _, _, message in self.messages(["topology"]))
        return {message.id: message for message in messages if isinstance(message, Topology)}

    def read(self, entry: np.void) -> Message:
        """Read the message of one entry of `topics`.

        Raises:
            TakeError: it is damaged.
        """
        return self._read(entry)[1]

    def messages(self, channels: Iterable[str]) -> Iterator[tuple[str, int, Message]]:
        """Yield channel, log time in ns, and message, in log order.

        Args:
            channels: names of `streamer.channels`; `frame` stands for all cameras.

        Raises:
            TakeError: no such channel, or a message is damaged.
        """
        wanted = set(channels)
        if unknown := sorted(wanted - CHANNELS.keys()):
            raise TakeError(f"no channel {unknown[0]!r}; a take may hold {', '.join(CHANNELS)}")
        parts = [entries for topic, entries in self.topics.items() if topic.split("/", 1)[0] in wanted]
        for entry in in_log_order(parts):
            channel, message = self._read(entry)
            yield channel, int(entry["log_time"]), message

    def frames(self, camera: str | None = None) -> Iterator[Frame]:
        """Yield the frames of one camera, or of all, in log order.

        Raises:
            TakeError: no such camera, or a frame is damaged.
        """
        if camera is None:
            yield from (message for _, _, message in self.messages(["frame"]) if isinstance(message, Frame))
            return
        entries = self.topics.get(FRAME + camera)
        if entries is None:
            raise TakeError(
                f"{self.path} has no frames of camera {camera!r}; it has {', '.join(self.cameras) or 'none'}"
            )
        for row in range(len(entries)):
            yield self.frame(camera, row)

    def frame(self, camera: str, row: int) -> Frame:
        """Read the frame of a camera by its number in log order.

        Raises:
            TakeError: it is damaged.
            IndexError: there are not so many.
        """
        message = self.read(self.topics[FRAME + camera][row])
        if not isinstance(message, Frame) or message.camera != camera:
            raise TakeError(f"{self.path}: a message of camera '{camera}' is none; run: mien verify {self.path}")
        return message

    def keys(self, topic: str) -> NDArray[np.int64]:
        """Return (M, 2) frame ids and exposure times in ns of a topic, in log order, without reading its messages."""
        entries = self.topics.get(topic, np.empty(0, ENTRY))
        return np.stack([entries["frame_id"], entries["time"]], 1)

    def table(self) -> dict[str, NDArray[np.int64]]:
        """Return the keys of each calibrated camera: what frame sets are found from."""
        return {camera: self.keys(FRAME + camera) for camera in self.cameras if camera in self.calibration.ids}

    def read_table(self, entry: np.void) -> Columns:
        """Read the table of one entry of `tables`.

        Raises:
            TakeError: it is damaged.
        """
        file, offset = self._files[int(entry["file"])], int(entry["offset"])
        try:
            return decode_table(file.parts(offset, int(entry["size"]))[0])[1]
        except WireError as error:
            raise file.damaged(f"{file.path} at byte {offset}: {error}") from error

    def frame_sets(self, sync: SyncConfig | None = None) -> Iterator[FrameSet]:
        """Yield the frame sets, found from ids and times alone; `waited_ns` is 0.

        Args:
            sync: matching and policies; if None as the take says, and every set counts.

        Raises:
            TakeError: a frame is damaged, or a camera with policy `stop` is missing.
        """
        config = sync or self.sync
        yield from match.frame_sets(self.table(), self.calibration.ids, config, self.frame)

    def count_sets(self) -> int:
        """Number of frame sets, as the take itself matches; no picture is read."""
        return len(match.match_frames(self.table(), self.sync))

    @property
    def sync(self) -> SyncConfig:
        """How this take says its frames become sets."""
        return match.default_sync(self.info.match, self.info.tolerance_us)

    def meshes(self, channel: str = "mesh") -> MeshSequence:
        """Return the meshes of a channel (`mesh`, `truth`), ordered by frame id, read when asked for.

        Raises:
            TakeError: the channel carries no meshes.
        """
        if channel not in CHANNELS or CHANNELS[channel].message != "MeshFrame":
            names = [name for name, known in CHANNELS.items() if known.message == "MeshFrame"]
            raise TakeError(f"channel {channel!r} carries no meshes; channels that do: {', '.join(names)}")
        return MeshSequence(self, self.topics.get(channel, np.empty(0, ENTRY)), self.keys(channel))

    def close(self) -> None:
        """Close the files. Closing twice is allowed."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        """Return the take."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()

    def _read(self, entry: np.void) -> tuple[str, Message]:
        file, offset = self._files[int(entry["file"])], int(entry["offset"])
        parts, packed = file.parts(offset, int(entry["size"]))
        try:
            if not packed:
                return decode(parts)
            finder = partial(self._base, int(entry["file"]), channel_of(parts))
            return unpack(parts, self._topology, finder)
        except WireError as error:
            raise file.damaged(f"{file.path} at byte {offset}: {error}") from error

    def _topology(self, topology_id: str) -> Topology:
        return found(self.topologies.get(topology_id), f"topology {topology_id}")

    def _base(self, number: int, channel: str, log_time_ns: int, checksum: int) -> Base:
        """Return the mesh of a file that another refers to; those of the last groups are kept."""
        place = (number, log_time_ns, checksum)
        base = self._bases.get(place)
        if base is None:
            base = found(self._find_base(number, channel, log_time_ns, checksum), f"mesh logged at {log_time_ns} ns")
            with self._bases_lock:
                self._bases[place] = base
                while len(self._bases) > BASES_KEPT:
                    del self._bases[next(iter(self._bases))]
        return base

    def _find_base(self, number: int, channel: str, log_time_ns: int, checksum: int) -> Base | None:
        entries = self.topics.get(channel, np.empty(0, ENTRY))
        first, last = (int(np.searchsorted(entries["log_time"], log_time_ns, side)) for side in ("left", "right"))
        for entry in entries[first:last][entries[first:last]["file"] == number]:
            parts, packed = self._files[number].parts(int(entry["offset"]), int(entry["size"]))
            if packed and zlib.crc32(parts[VERTICES]) == checksum:
                return read_base(parts[VERTICES], log_time_ns, partial(self._base, number, channel))
        return None


def open_take(path: Path | str) -> Take:
    """Open a closed take.

    Args:
        path: its folder.

    Raises:
        TakeError: not a take, not closed, of another schema, or a file is missing, cut or damaged. The message says
            which and what to do.
    """
    return Take(Path(path))

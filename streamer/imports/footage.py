"""Videos as numbered pictures with times, and their way into a take. The only file of this room that opens videos."""

import heapq
import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from streamer.config import SyncConfig
from streamer.config_text import to_toml
from streamer.errors import TakeError
from streamer.imports.pictures import decode_pictures, read_planes
from streamer.pixels import encode_pixels, encode_plane
from streamer.takes.layout import LAYERS, LOCK
from streamer.takes.writer import TakeWriter
from streamer.types import U8, Calibration, Camera, Encoding, Frame

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a video file says of itself without decoding."""

    path: Path
    """The file."""
    width: int
    """Picture width, px."""
    height: int
    """Picture height, px."""
    times_ns: tuple[int, ...]
    """Presentation time of each picture that is really in the file, ns, rising."""
    promised: int
    """Number of pictures that its head announces, 0 if it does not."""
    rate: Fraction
    """Average frame rate, 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Footage:
    """The pictures of one camera, ready to be imported."""

    camera: str
    """Id of the camera."""
    path: Path
    """The video; or the folder of the picture files, for messages."""
    frame_ids: Sequence[int]
    """Rig frame id of each picture."""
    times_ns: Sequence[int]
    """Exposure time of each picture, ns, rising."""
    files: Sequence[Path] = ()
    """A picture file for each; empty: `path` is a video."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How imported pictures are kept, and what the take is called."""

    out: Path
    """Folder of the take; must not exist."""
    show: str = "import"
    """Show name."""
    slate: str = "footage"
    """Slate name."""
    take: int = 1
    """Take number."""
    encoding: Literal["jpeg", "raw"] = "jpeg"
    """Encoding of the pictures."""
    quality: int = 92
    """Quality of JPEG."""
    clock: str = "media"
    """Name of the clock of the time stamps."""


def find_video(folder: Path, stem: str) -> Path | None:
    """Return `<stem>.<mp4|mkv|...>` in a folder, None if there is none.

    Raises:
        TakeError: there is more than one.
    """
    found = [folder / f"{stem}{suffix}" for suffix in SUFFIXES if (folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise TakeError(
            f"{folder}: more than one video of '{stem}': {', '.join(path.name for path in found)}; keep one"
        )
    return found[0] if found else None


def probe_video(path: Path) -> Probe:
    """Read sizes and times of a video without decoding it.

    Raises:
        TakeError: not a video, cut so that it cannot be opened, or its pictures have no times.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise TakeError(f"{path}: holds no video stream; is it cut? copy it again")
            stream = container.streams.video[0]
            base = stream.time_base or Fraction(1, 1)
            stamps = [packet.pts for packet in container.demux(stream) if packet.size]
            if any(stamp is None for stamp in stamps):
                raise TakeError(f"{path}: has pictures without a time stamp; write it again as MP4 or MKV")
            times = tuple(sorted(round(stamp * base * 10**9) for stamp in stamps if stamp is not None))
            rate = Fraction(stream.average_rate or 0)
            return Probe(path, stream.width, stream.height, times, stream.frames, rate)
    except (av.FFmpegError, OSError) as error:
        raise TakeError(f"{path}: cannot be read as a video ({error}); is it cut? copy it again") from error


def check_size(probe: Probe, camera: Camera) -> None:
    """Compare the size of a video with its calibration.

    Raises:
        TakeError: they differ.
    """
    if (probe.width, probe.height) != (camera.width, camera.height):
        raise TakeError(
            f"{probe.path}: pictures are {probe.width}x{probe.height}, camera '{camera.id}' is calibrated for "
            f"{camera.width}x{camera.height}; give the video of this calibration"
        )


def check_length(probe: Probe, expected: int, says: str) -> None:
    """Compare the number of pictures in a video with what is expected.

    Args:
        probe: the video.
        expected: how many there should be.
        says: who says so.

    Raises:
        TakeError: they differ; the message names the video.
    """
    if len(probe.times_ns) != expected:
        how = "shorter" if len(probe.times_ns) < expected else "longer"
        raise TakeError(
            f"{probe.path}: is {how} than {says}: {len(probe.times_ns)} pictures, expected {expected}; copy the video "
            "again or give the times that belong to it"
        )


def write_footage(
    footage: Sequence[Footage],
    calibration: Calibration,
    sync: SyncConfig,
    storage: Storage,
    on_progress: Progress | None = None,
    layers: Mapping[str, Sequence[Footage]] | None = None,
) -> None:
    """Decode the videos or pictures and write a take; it appears whole or not at all.

    Args:
        footage: pictures of each camera, in rig order.
        calibration: all cameras of the rig; those without footage stay calibrated.
        sync: how its frames become sets.
        storage: where and how.
        on_progress: called after each picture with how many are done and how many there are.
        layers: name to mattes or depth maps of the cameras, kept bit by bit as PNG in layers of the take.

    Raises:
        TakeError: the folder exists, a video cannot be decoded or has another number of pictures than times, the disk
            is full.
    """
    out = storage.out
    if out.exists():
        raise TakeError(f"{out} exists already; give another --out or remove it")
    scratch = out.with_name(f".{out.name}.partial-{os.getpid()}")
    parts = {"": (footage, frames_of), **{name: (items, planes_of) for name, items in (layers or {}).items()}}
    total, done = sum(len(item.times_ns) for items, _ in parts.values() for item in items), 0
    try:
        for name, (items, read) in parts.items():
            with (
                TakeWriter(
                    scratch / LAYERS / name if name else scratch,
                    calibration=calibration,
                    config_text=to_toml({"sync": sync}),
                    show=storage.show,
                    slate=storage.slate,
                    take=storage.take,
                    sync=sync,
                ) as writer,
                ExitStack() as stack,
            ):
                streams = [stack.enter_context(closing(read(item, storage))) for item in items]
                for frame in heapq.merge(*streams, key=lambda frame: frame.exposure_time_ns):
                    writer.write("frame", frame, frame.exposure_time_ns)
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total)
        scratch.rename(out)
    finally:
        if scratch.exists():
            (scratch / LOCK).unlink(missing_ok=True)
            shutil.rmtree(scratch)


def frames_of(item: Footage, storage: Storage) -> Generator[Frame, None, None]:
    """Yield the pictures of a camera as frames, encoded as the storage says.

    Raises:
        TakeError: a picture cannot be decoded, or there are not as many as times.
    """
    number = -1
    with closing(decode_pictures(item.files) if item.files else decode_video(item.path)) as pictures:
        for number, pixels in enumerate(pictures):
            if number >= len(item.times_ns):
                break
            encoding, data = encode_pixels(pixels, storage.encoding, storage.quality)
            yield make_frame(item, storage.clock, number, pixels.shape[:2], encoding, data)
    _check_count(item, number + 1)


def planes_of(item: Footage, storage: Storage) -> Generator[Frame, None, None]:
    """Yield the mattes or depth maps of a camera as PNG: files as they are, of videos the first channel.

    Raises:
        TakeError: one cannot be decoded, or there are not as many as times.
    """
    number = -1
    with closing(read_planes(item.files) if item.files else _first_channel(item.path)) as planes:
        for number, (shape, data) in enumerate(planes):
            if number >= len(item.times_ns):
                break
            yield make_frame(item, storage.clock, number, shape, "png", data)
    _check_count(item, number + 1)


def _first_channel(path: Path) -> Generator[tuple[tuple[int, int], U8], None, None]:
    with closing(decode_video(path)) as pictures:
        for pixels in pictures:
            yield (pixels.shape[0], pixels.shape[1]), encode_plane(np.ascontiguousarray(pixels[:, :, 0]))


def make_frame(item: Footage, clock: str, number: int, shape: Sequence[int], encoding: Encoding, data: U8) -> Frame:
    """Return the k-th frame of a camera's footage."""
    return Frame(
        camera=item.camera,
        frame_id=item.frame_ids[number],
        counter=number,
        sequence=number,
        exposure_time_ns=item.times_ns[number],
        clock=clock,
        receive_time_ns=0,
        publish_time_ns=0,
        width=shape[1],
        height=shape[0],
        encoding=encoding,
        data=data,
    )


def _check_count(item: Footage, decoded: int) -> None:
    if decoded != len(item.times_ns):
        raise TakeError(
            f"{item.path}: {decoded} pictures could be decoded, {len(item.times_ns)} have times; the video "
            "is cut or damaged"
        )


def decode_video(path: Path) -> Generator[U8, None, None]:
    """Yield the pictures of a video as (H, W, 3) RGB, in the order of their times.

    Raises:
        TakeError: it cannot be decoded, or a picture is damaged.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, picture in enumerate(container.decode(stream)):
                if picture.is_corrupt:
                    raise TakeError(f"{path}: picture {number} is damaged; copy the video again")
                yield np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, OSError) as error:
        raise TakeError(f"{path}: cannot be decoded ({error}); copy the video again") from error

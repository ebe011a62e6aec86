"""The pictures of a take as a fit reads them: one flat array of bytes, any instant and any camera."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renderer.fitter.layers import U16, on_white, read_depths, read_mattes
from streamer.errors import MienError, TakeError
from streamer.geometry import scaled
from streamer.pixels import decode_pixels
from streamer.progress import Report
from streamer.takes.reader import Take
from streamer.types import F32, U8, Camera, MeshFrame, Topology

IN_MEMORY_BYTES = 4 << 30
"""More than this is kept in a file beside the run."""


@dataclass(frozen=True)
class Footage:
    """Synchronised pictures of several instants.

    Time steps count the chosen frames from 0. Pictures are (H, W, 3) RGB; those of camera c at step t begin at
    `begins[t, c]` in `bytes`, or are missing (-1).
    """

    recorded: tuple[Camera, ...]
    """All calibrated cameras, at the size of the recorded pictures."""
    cameras: tuple[Camera, ...]
    """Cameras that have pictures, at the size of these pictures."""
    held_out: tuple[Camera, ...]
    """Cameras whose pictures are not trained on, at the same reduction."""
    frame_ids: tuple[int, ...]
    """Rig frame id of each time step."""
    times_ns: tuple[int, ...]
    """Exposure time of each time step, ns."""
    bytes: U8
    """(B,) all pictures, one after the other."""
    begins: NDArray[np.int64]
    """(T, C) where pictures begin; -1: missing."""
    held_out_pictures: Mapping[tuple[int, str], U8]
    """Time step and camera id to a (H, W, 3) picture of a held-out camera, where the take has one."""
    meshes: Mapping[int, MeshFrame]
    """Time step to the registered mesh, where there is one."""
    topology: Topology | None
    """Of the meshes."""
    mattes: U8 | None = None
    """(B / 3,) alpha of every pixel, in the order of the pictures; None where no camera has any."""
    matted: NDArray[np.bool_] | None = None
    """(T, C) which pictures have a matte."""
    depths: U16 | None = None
    """(B / 3,) measured distance along the ray of every pixel, tenths of a millimetre, 0: unknown."""
    held_out_mattes: Mapping[tuple[int, str], U8] = field(default_factory=dict)
    """Time step and camera id to a (H, W) matte of a held-out camera."""

    @property
    def white(self) -> bool:
        """Whether every picture has a matte: all are then composed with white, as NeRSemble's are."""
        return self.matted is not None and bool(self.matted[self.begins >= 0].all())

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return len(self.frame_ids)

    def picture(self, step: int, camera: int) -> U8 | None:
        """Return a (H, W, 3) view, or None where it is missing."""
        begin, one = int(self.begins[step, camera]), self.cameras[camera]
        if begin < 0:
            return None
        return self.bytes[begin : begin + one.width * one.height * 3].reshape(one.height, one.width, 3)


def _chosen_ids(take: Take, frames: slice) -> tuple[list[int], dict[int, int]]:
    """Return the frame ids of all sets in order, those of `frames` only, and id to exposure time."""
    times: dict[int, int] = {}
    for camera in take.cameras:
        for frame_id, exposure_ns in take.keys(f"frame/{camera}")[:, :2]:
            times.setdefault(int(frame_id), int(exposure_ns))
    ids = sorted(times)[frames]
    if not times:
        raise TakeError(f"{take.path} holds no pictures to fit")
    if not ids:
        raise TakeError(f"{take.path} has {len(times)} frames; none of them is in {frames.start}:{frames.stop}")
    return ids, times


def read_footage(
    take: Take,
    *,
    frames: slice = slice(None),
    hold_out: Iterable[str] = (),
    width: int = 0,
    mesh_channel: str = "mesh",
    spill: Path | None = None,
    report: Report = lambda done, total: None,
) -> Footage:
    """Read the pictures of a take.

    Args:
        take: an open take.
        frames: which frames, by their order in the take.
        hold_out: ids or serials of cameras that are not trained on; those without pictures are held out anyway.
        width: pictures wider than this are reduced to it by area averaging, 0: as recorded.
        mesh_channel: where meshes are: `mesh`, or `truth` of a simulated take; truth stands in where there is no mesh.
        spill: folder for a file of more pictures than fit into memory; the file has no name and goes with its reader.
        report: progress.

    Raises:
        TakeError: no pictures, fewer than two cameras to train on, a hold-out that the take does not know, pictures
            that cannot be decoded or whose size does not go with the calibration.
    """
    ids, times = _chosen_ids(take, frames)
    step_of = {frame_id: step for step, frame_id in enumerate(ids)}
    named = _held_out(take, set(hold_out))
    whole = _as_recorded(take)
    at_size = {camera.id: sized(camera, width) for camera in whole}
    training = tuple(at_size[name] for name in take.cameras if name not in named)
    if len(training) < 2:
        raise TakeError(f"{take.path} has pictures of {len(training)} cameras to train on; a field needs two or more")
    sizes = [camera.width * camera.height * 3 for camera in training]
    total = sum(sizes) * len(ids)
    flat: U8 = _room(total, np.uint8, spill)
    begins = np.full((len(ids), len(training)), -1, np.int64)
    starts = np.cumsum([0, *sizes])
    column = {camera.id: index for index, camera in enumerate(training)}
    apart: dict[tuple[int, str], U8] = {}
    for done, (step, name, picture) in enumerate(_pictures(take, step_of, at_size)):
        if name in named:
            apart[step, name] = picture
        else:
            begin = int(step * starts[-1] + starts[column[name]])
            flat[begin : begin + picture.size] = picture.reshape(-1)
            begins[step, column[name]] = begin
        report(done + 1, len(ids) * len(take.cameras))
    if not flat.any():
        raise TakeError(f"all pictures of {take.path} are black or missing; was the lens cap on?")
    meshes, topology = _meshes(take, step_of, mesh_channel)
    held = tuple(at_size[camera.id] for camera in whole if camera.id not in column)
    instants = tuple(times[frame_id] for frame_id in ids)
    plain = Footage(whole, training, held, tuple(ids), instants, flat, begins, apart, meshes, topology)
    return _with_layers(plain, take, step_of, {**at_size}, spill)


def _with_layers(
    plain: Footage, take: Take, step_of: Mapping[int, int], at_size: Mapping[str, Camera], spill: Path | None
) -> Footage:
    """Add mattes and depth; where all pictures have mattes, compose them with white."""
    column = {camera.id: index for index, camera in enumerate(plain.cameras)}
    matted = np.zeros(plain.begins.shape, bool)
    mattes, apart = _room(len(plain.bytes) // 3, np.uint8, spill), {}
    for frame_id, name, matte in read_mattes(take, at_size):
        step = step_of.get(frame_id)
        if step is None:
            continue
        if name not in column:
            apart[step, name] = matte
        elif plain.begins[step, column[name]] >= 0:
            begin = int(plain.begins[step, column[name]]) // 3
            mattes[begin : begin + matte.size] = matte.reshape(-1)
            matted[step, column[name]] = True
    depths, known = _room(len(plain.bytes) // 3, np.uint16, spill), False
    for frame_id, name, distance in read_depths(take, at_size):
        step = step_of.get(frame_id)
        if step is not None and name in column and plain.begins[step, column[name]] >= 0:
            begin = int(plain.begins[step, column[name]]) // 3
            depths[begin : begin + distance.size] = distance.reshape(-1)
            known = True
    full = replace(plain, depths=depths if known else None, held_out_mattes=apart)
    if not matted.any():
        return full
    full = replace(full, mattes=mattes, matted=matted)
    return _whitened(full) if full.white else full


def _whitened(footage: Footage) -> Footage:
    """Compose all pictures with white, in place where they are trained on."""
    assert footage.mattes is not None  # noqa: S101 - only called where there are mattes
    for step, column in zip(*np.nonzero(footage.begins >= 0), strict=True):
        picture = footage.picture(int(step), int(column))
        begin = int(footage.begins[step, column]) // 3
        if picture is not None:
            picture[:] = on_white(picture, footage.mattes[begin : begin + picture.size // 3].reshape(picture.shape[:2]))
    apart = {
        key: on_white(picture, footage.held_out_mattes[key]) if key in footage.held_out_mattes else picture
        for key, picture in footage.held_out_pictures.items()
    }
    return replace(footage, held_out_pictures=apart)


def _room(count: int, kind: type[np.uint8 | np.uint16], spill: Path | None) -> NDArray[Any]:
    """Return zeros in memory, or in a nameless file beside the run where they are many.

    Raises:
        OSError: the disk has no room for the file: told now, for a page that cannot be written later ends the process.
    """
    size = count * np.dtype(kind).itemsize
    if spill is None or size <= IN_MEMORY_BYTES:
        return np.zeros(count, kind)
    with tempfile.TemporaryFile(dir=spill) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, kind, "r+", shape=(count,))


def _pictures(take: Take, step_of: Mapping[int, int], at_size: Mapping[str, Camera]) -> Iterator[tuple[int, str, U8]]:
    """Yield time step, camera id and picture of every frame that was chosen."""
    for name in take.cameras:
        for frame in take.frames(name):
            step = step_of.get(frame.frame_id)
            if step is not None:
                yield step, name, _resized(decode_pixels(frame), at_size[name], take.path)


def _as_recorded(take: Take) -> tuple[Camera, ...]:
    """Return all cameras at the size of their pictures; those without pictures are reduced as the others are."""
    firsts = {name: take.frame(name, 0) for name in take.cameras}
    if not firsts:
        raise TakeError(f"{take.path} holds no pictures to fit")
    some = next(iter(firsts.values()))
    whole = take.calibration[some.camera]
    found = []
    for camera in take.calibration.cameras:
        frame = firsts.get(camera.id)
        width = round(camera.width * some.width / whole.width) if frame is None else frame.width
        height = round(camera.height * some.height / whole.height) if frame is None else frame.height
        _check_shape(take.path, camera, width, height)
        found.append(scaled(camera, width, height))
    return tuple(found)


def _held_out(take: Take, wanted: set[str]) -> set[str]:
    known = {name: camera.id for camera in take.calibration.cameras for name in (camera.id, camera.serial)}
    unknown = sorted(wanted - known.keys())
    if unknown:
        raise TakeError(f"cannot hold out '{unknown[0]}': {take.path} has {', '.join(take.calibration.ids)}")
    return {known[name] for name in wanted}


def sized(camera: Camera, width: int) -> Camera:
    """Return the camera of a picture at most `width` px wide (0: any)."""
    if width <= 0 or camera.width <= width:
        return camera
    return scaled(camera, width, max(1, round(camera.height * width / camera.width)))


def _resized(picture: U8, camera: Camera, path: Path) -> U8:
    import cv2

    height, width = picture.shape[:2]
    _check_shape(path, camera, width, height)
    if (width, height) == (camera.width, camera.height):
        return picture
    reduced = cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.uint8)


def _check_shape(path: Path, camera: Camera, width: int, height: int) -> None:
    if abs(width * camera.height - height * camera.width) > max(width, height):
        raise TakeError(
            f"{path}: camera '{camera.id}' has pictures of {width}x{height}, not the shape of its calibration; "
            "import the take again with the calibration of these pictures"
        )


def _meshes(take: Take, step_of: Mapping[int, int], channel: str) -> tuple[dict[int, MeshFrame], Topology | None]:
    sequence: Sequence[MeshFrame] = take.meshes(channel)
    if not len(sequence) and channel == "mesh":
        sequence = take.meshes("truth")
    found = {step_of[mesh.frame_id]: mesh for mesh in sequence if mesh.frame_id in step_of}
    if not found:
        return {}, None
    for step, mesh in found.items():
        if not (np.isfinite(mesh.vertices).all() and np.isfinite(mesh.world_from_head).all()):
            raise TakeError(
                f"{take.path}: the mesh of frame {step} is not finite; leave it out (--frames) or add --no-prior"
            )
    names = {mesh.topology_id for mesh in found.values()}
    if len(names) > 1:
        raise MienError(f"{take.path} has meshes of {len(names)} topologies; fit a part of it with --frames")
    return found, take.topologies.get(names.pop())


def gather(
    footage: Footage, steps: NDArray[np.int64], cameras: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]
) -> F32:
    """Return the (r, 3) colours in 0..1 of pixels that are there.

    Args:
        footage: the pictures.
        steps: (r,) time steps.
        cameras: (r,) indices into `footage.cameras`.
        x: (r,) columns.
        y: (r,) rows.
    """
    widths = np.array([camera.width for camera in footage.cameras], np.int64)
    first = footage.begins[steps, cameras] + (y * widths[cameras] + x) * 3
    return np.asarray(footage.bytes[first[:, None] + np.arange(3)], np.float32) / np.float32(255)

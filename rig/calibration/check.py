"""`mien calibrate check` and `world`: pictures and meshes of a take or of the bus, to the camera that moved."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from rig.calibration.detection import as_grey
from rig.calibration.drift import Drift, find_drift
from rig.calibration.extrinsics import moved_cameras
from rig.calibration.harvest import Progress
from rig.calibration.patches import Tracks, find_tracks
from rig.calibration.world import head_world
from streamer.config import BusConfig
from streamer.errors import CalibrationError, TakeError
from streamer.geometry import inverse_rigid, scaled
from streamer.pixels import decode_pixels
from streamer.processes import Stop
from streamer.takes import Take, open_take
from streamer.transport import Subscriber, infer_endpoint, node_endpoints
from streamer.types import U8, Calibration, Frame, MeshFrame, Topology

KEPT_FRAMES = 64
MAX_WIDTH = 1600
"""Larger pictures are shrunk: the search is made for heads some hundreds of pixels high."""


def check_take(
    path: Path, sets: int, channel: str, calibration: Calibration | None, progress: Progress | None = None
) -> Drift:
    """Compare the views of a take with each other.

    Args:
        path: the take, with meshes.
        sets: frame sets looked at, evenly spread.
        channel: `mesh` or `truth`.
        calibration: what to judge; None: the take's.
        progress: told sets done and sets in all.

    Raises:
        TakeError: it cannot be read, or holds no meshes.
        CalibrationError: the head is not seen well enough to tell anything.
    """
    with open_take(path) as take:
        judged = take.calibration if calibration is None else calibration
        meshes = take.meshes(channel)
        if not len(meshes):
            raise TakeError(
                f"{path}: holds no meshes on channel '{channel}'; make them: mien reprocess {path} --out {path}_meshes"
            )
        chosen = sorted({int(k) for k in np.linspace(0, len(meshes) - 1, min(sets, len(meshes)))})
        wanted = {int(meshes.frame_ids[k]): k for k in chosen}
        rows = {
            camera: {int(f): row for row, f in enumerate(take.keys(f"frame/{camera}")[:, 0]) if int(f) in wanted}
            for camera in take.cameras
            if camera in judged.ids
        }
        tracks = []
        for done, (frame_id, k) in enumerate(wanted.items(), 1):
            mesh = meshes[k]
            pictures = {
                name: as_grey(decode_pixels(take.frame(name, own[frame_id])))
                for name, own in rows.items()
                if frame_id in own
            }
            tracks.append(_tracks(judged, pictures, mesh, _topology(take, mesh)))
            if progress is not None:
                progress(done, len(wanted))
    return find_drift(tracks, judged)


def check_live(
    bus: BusConfig,
    seconds: float,
    sets: int,
    calibration: Calibration | None,
    stop: Stop,
    progress: Progress | None = None,
) -> Drift:
    """Compare the views of the live rig with each other.

    Args:
        bus: where nodes and inference are.
        seconds: longest time.
        sets: frame sets looked at.
        calibration: what to judge; None: what the nodes say.
        stop: ends it early.
        progress: told sets done and sets in all.

    Raises:
        CalibrationError: no calibration, mesh or topology was heard, or the head is not seen well enough.
    """
    tracks: list[Tracks] = []
    judged = calibration
    for known, pictures, mesh, topology in _live_sets(bus, seconds, stop):
        judged = judged or known
        tracks.append(_tracks(judged, pictures, mesh, topology))
        if progress is not None:
            progress(len(tracks), sets)
        if len(tracks) >= sets:
            break
    if not tracks or judged is None:
        raise CalibrationError(
            f"no mesh with its pictures was heard in {seconds:g} s; are the node and `mien infer` running (mien live)?"
        )
    return find_drift(tracks, judged)


def _live_sets(
    bus: BusConfig, seconds: float, stop: Stop
) -> Iterator[tuple[Calibration, dict[str, U8], MeshFrame, Topology]]:
    """Yield calibration, grey pictures, mesh and topology of instants, as they come."""
    calibrations: dict[str, Calibration] = {}
    topologies: dict[str, Topology] = {}
    frames: dict[int, dict[str, Frame]] = {}
    deadline = time.monotonic() + seconds
    channels = ("frame", "calibration", "mesh", "topology")
    endpoints = [*node_endpoints(bus), infer_endpoint(bus)]
    with Subscriber(endpoints, channels, keys_dir=bus.keys_dir) as subscriber:
        while time.monotonic() < deadline and not stop.is_set():
            heard = subscriber.receive(min(0.5, max(deadline - time.monotonic(), 0.0)))
            if heard is None:
                continue
            message = heard[1]
            if isinstance(message, Calibration):
                calibrations["node"] = message
            elif isinstance(message, Topology):
                topologies[message.id] = message
            elif isinstance(message, Frame):
                frames.setdefault(message.frame_id, {})[message.camera] = message
                while len(frames) > KEPT_FRAMES:
                    del frames[min(frames)]
            elif isinstance(message, MeshFrame) and heard[0] == "mesh":
                own = frames.pop(message.frame_id, {})
                if len(own) >= 2 and calibrations and message.topology_id in topologies:
                    pictures = {name: as_grey(decode_pixels(frame)) for name, frame in own.items()}
                    yield calibrations["node"], pictures, message, topologies[message.topology_id]


def _tracks(judged: Calibration, pictures: dict[str, U8], mesh: MeshFrame, topology: Topology) -> Tracks:
    """Find the pieces of one instant; offsets in pixels of the calibrated pictures, whatever size these have."""
    cameras, factors = [], []
    for camera in judged.cameras:
        picture = pictures.get(camera.id)
        if picture is None:
            cameras.append(camera)
            factors.append(1.0)
            continue
        if picture.shape[1] > MAX_WIDTH:
            height = round(picture.shape[0] * MAX_WIDTH / picture.shape[1])
            picture = np.asarray(cv2.resize(picture, (MAX_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
            pictures[camera.id] = picture
        cameras.append(scaled(camera, picture.shape[1], picture.shape[0]))
        factors.append(camera.width / picture.shape[1])
    found = find_tracks(tuple(cameras), pictures, mesh.vertices, topology.triangles)
    factor = np.array(factors)[found.camera]
    return replace(
        found, offset=found.offset * factor[:, None], information=found.information / factor[:, None, None] ** 2
    )


def _topology(take: Take, mesh: MeshFrame) -> Topology:
    if mesh.topology_id not in take.topologies:
        raise TakeError(
            f"{take.path}: a mesh has topology {mesh.topology_id}, which is not in it; run: mien verify {take.path}"
        )
    return take.topologies[mesh.topology_id]


def world_by_head(calibration: Calibration, path: Path, channel: str = "mesh") -> Calibration:
    """Move the origin of a calibration to the head of a take that was made with it.

    Args:
        calibration: what to move.
        path: the take.
        channel: `mesh` or `truth`.

    Raises:
        TakeError: the take cannot be read.
        CalibrationError: it has no meshes, or other cameras.
    """
    with open_take(path) as take:
        for camera in calibration.cameras:
            if camera.id not in take.calibration.ids or not np.allclose(
                take.calibration[camera.id].camera_from_world, camera.camera_from_world, rtol=0, atol=1e-9
            ):
                raise CalibrationError(
                    f"{path}: its meshes stand in the world of another calibration (camera '{camera.id}'); give the "
                    "calibration.toml of the take"
                )
        poses = np.array([mesh.world_from_head for mesh in take.meshes(channel)], np.float64).reshape(-1, 4, 4)
    moved = moved_cameras(calibration, inverse_rigid(head_world(poses)))
    return replace(moved, source=f"{calibration.source}; origin at the head of {path.name}")

"""Where raw scans lie: beside takes, or in a plain folder of pictures, calibration and scans.

A plain folder:

    <dir>/calibration.toml (or .json)            cameras, as `mien import video` reads them
    <dir>/images/<camera>/<frame>.png|jpg
    <dir>/scans/<frame>.obj|ply|npy              mm, or m with --scan-unit m
    <dir>/registrations/<frame>.obj|ply          metres, if there are any

Scans beside takes: `<scans>/<take>/<frame id>.obj|ply|npy`, or without `<take>` if there is one take. Without scans the
true meshes of simulated takes serve as scans.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from inference.meshes import SurfaceMesh
from inference.tempeh.frames import MM
from inference.training.famos import first_of, read_registration, read_scan
from inference.training.scan_corpus import CameraView, ScanCorpus, ScanSet
from streamer.errors import TakeError
from streamer.imports.calibrations import read_calibration
from streamer.pixels import decode_pixels
from streamer.takes import open_take
from streamer.types import U8, Topology

PICTURES = (".png", ".jpg", ".jpeg")
SCANS = (".obj", ".ply", ".npy")

Found = TypeVar("Found")


def read_folder(folder: Path, topology: Topology, scan_unit: str = "mm") -> ScanCorpus:
    """Find the frames of a plain folder that have a scan.

    Raises:
        TakeError: no scans, or a frame without pictures.
        CalibrationError: no calibration, or one that cannot be read.
    """
    file = first_of([folder / "calibration.toml", folder / "calibration.json"])
    calibration = read_calibration(file or folder / "calibration.toml")
    scans = sorted(path for path in (folder / "scans").glob("*") if path.suffix in SCANS)
    if not scans:
        raise TakeError(f"{folder}: no scans/<frame>.obj, .ply or .npy")
    entries = []
    for scan in scans:
        views = []
        for camera in calibration.cameras:
            picture = first_of([folder / "images" / camera.id / f"{scan.stem}{ending}" for ending in PICTURES])
            if picture is not None:
                views.append(CameraView(camera, partial(_picture, picture), scan.stem))
        if not views:
            raise TakeError(f"{folder}: no images/<camera>/{scan.stem}.png or .jpg, but a scan of that frame")
        registered = first_of([folder / "registrations" / f"{scan.stem}{ending}" for ending in (".ply", ".obj")])
        entries.append(
            ScanSet(
                scan.stem,
                tuple(views),
                partial(read_scan, scan, scan_unit),
                None if registered is None else partial(read_registration, registered),
            )
        )
    return ScanCorpus(topology, tuple(entries))


def read_takes(
    folders: list[Path],
    scans: Path | None,
    scan_unit: str = "mm",
    *,
    registrations: Path | None = None,
    first_channel: str = "truth",
) -> ScanCorpus:
    """Find the frame sets of takes that have a scan beside them, or a true mesh.

    Args:
        folders: takes, or folders that hold takes.
        scans: see the module.
        scan_unit: of the scans.
        registrations: folder that `mien register` wrote; None: the meshes of the takes.
        first_channel: see `take_sets`.

    Raises:
        TakeError: no take, takes of several topologies, or no scan and no true mesh at all.
    """
    takes = sorted({file.parent for path in folders for file in Path(path).rglob("take.json")})
    if not takes:
        raise TakeError(f"no take under {', '.join(map(str, folders))}")
    topology: Topology | None = None
    entries: list[ScanSet] = []
    for folder in takes:
        where = None if scans is None else scans / folder.name if (scans / folder.name).is_dir() else scans
        for found, entry in take_sets(folder, where, scan_unit, first_channel):
            if topology is not None and found.id != topology.id:
                raise TakeError(f"{folder}: its topology differs from that of {takes[0]}; train on one at a time")
            topology = found
            entries.append(entry if registrations is None else _registered(entry, folder.name, registrations))
    if topology is None:
        raise TakeError(f"{takes[0]}: no frame set with a scan, nor with a true mesh; give --scans DIR")
    return ScanCorpus(topology, tuple(entries))


def _registered(entry: ScanSet, take: str, registrations: Path) -> ScanSet:
    """The instant with the registration that `mien register` made of it.

    Raises:
        TakeError: there is none.
    """
    folder = registrations / take if (registrations / take).is_dir() else registrations
    frame_id = int(entry.name.rpartition("/")[2])
    found = scan_of(folder, frame_id)
    if found is None:
        raise TakeError(f"{folder}: no registered mesh of frame {frame_id} of {take}; make it with: mien register")
    return replace(entry, registration=partial(read_registration, found))


def take_sets(
    folder: Path, scans: Path | None, unit: str = "mm", first_channel: str = "truth"
) -> Iterator[tuple[Topology, ScanSet]]:
    """The frame sets of one take that have a scan or a true mesh, with the take's topology.

    Args:
        folder: the take.
        scans: folder of the scans of this take; None: its meshes serve as scans.
        unit: of the scans.
        first_channel: the meshes that serve as registrations, `truth` or `mesh`; the other where there are none.

    Raises:
        TakeError: the take has no meshes at all, or cannot be read.
    """
    with open_take(folder) as take:
        channel = (
            first_channel if len(take.meshes(first_channel)) else {"truth": "mesh", "mesh": "truth"}[first_channel]
        )
        meshes = {mesh.frame_id: mesh for mesh in take.meshes(channel)}
        if not meshes:
            raise TakeError(f"{folder}: no meshes in it to start from; run: mien reprocess {folder} --out TAKE2")
        topology = take.topologies[next(iter(meshes.values())).topology_id]
        cameras = take.calibration
        for frame_set in take.frame_sets():
            frame_id, mesh = frame_set.frame_id, meshes.get(frame_set.frame_id)
            scan = None if scans is None else scan_of(scans, frame_id)
            if mesh is None or (scans is not None and scan is None):
                continue
            views = tuple(
                CameraView(
                    cameras[camera],
                    partial(decode_pixels, replace(frame, data=frame.data.copy())),
                    f"{folder.name} {frame_id}",
                )
                for camera, frame in frame_set.members.items()
            )
            vertices = (mesh.vertices * np.float32(MM)).astype(np.float32)
            known = partial(_same, vertices)
            truth = partial(_same, SurfaceMesh(vertices, topology.triangles))
            yield (
                topology,
                ScanSet(
                    f"{folder.name}/{frame_id}", views, truth if scan is None else partial(read_scan, scan, unit), known
                ),
            )


def scan_of(scans: Path, frame_id: int) -> Path | None:
    """The scan of a frame: `<frame id>` with or without leading zeros."""
    for path in sorted(scans.glob(f"*{frame_id}.*")):
        if path.suffix in SCANS and path.stem.isdigit() and int(path.stem) == frame_id:
            return path
    return None


def _picture(path: Path) -> U8:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise TakeError(f"{path}: not a readable picture")
    return np.asarray(picture, np.uint8)


def _same(value: Found) -> Found:
    return value

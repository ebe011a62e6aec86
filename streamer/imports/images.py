"""Picture files, one per frame, with a calibration -> take; among them the folders of FaMoS and TEMPEH."""

import glob
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamer.config import SyncConfig
from streamer.errors import CalibrationError, TakeError
from streamer.imports.footage import Footage, Progress, Storage, write_footage
from streamer.imports.pictures import SUFFIXES, natural, picture_size
from streamer.types import Calibration

Numbered = Mapping[str, Mapping[int, Path]]
"""Camera to frame id to picture file."""


def find_images(given: Sequence[str], calibration: Calibration) -> Numbered:
    """Resolve `--images`: a folder with a folder per camera, or NAME=GLOB for each camera.

    The k-th file of a camera, in order of name with numbers as numbers, is its picture k.

    Raises:
        TakeError: no such folder, or a camera without files.
        CalibrationError: a NAME that is not calibrated.
    """
    if len(given) == 1 and "=" not in given[0]:
        folder = Path(given[0])
        if not folder.is_dir():
            raise TakeError(f"{folder}: no such folder; give a folder of <camera>/*.png, or NAME=GLOB for each camera")
        patterns = {camera: str(Path(glob.escape(str(folder / camera))) / "*") for camera in calibration.ids}
        patterns = {camera: pattern for camera, pattern in patterns.items() if (folder / camera).is_dir()}
    else:
        patterns = {}
        for item in given:
            name, equals, pattern = item.partition("=")
            if not equals or not pattern or name in patterns:
                raise TakeError(f"--images {item}: expected NAME=GLOB, each name once")
            if name not in calibration.ids:
                raise CalibrationError(
                    f"--images {item}: no camera '{name}' in the calibration: {', '.join(calibration.ids)}"
                )
            patterns[name] = pattern
    found: dict[str, dict[int, Path]] = {}
    for camera in calibration.ids:
        if camera not in patterns:
            continue
        files = [Path(name) for name in glob.glob(patterns[camera], recursive=True)]
        files = sorted((file for file in files if file.suffix.lower() in SUFFIXES), key=natural)
        if not files:
            raise TakeError(f"{patterns[camera]}: no pictures ({', '.join(SUFFIXES)}) of camera '{camera}'")
        found[camera] = dict(enumerate(files))
    if not found:
        raise TakeError(f"{given[0]}: holds no folder named as a camera: {', '.join(calibration.ids)}")
    return found


def find_famos(folder: Path, subject: str, sequence: str, calibration: Calibration) -> Numbered:
    """Find the pictures of a sequence in the layout of FaMoS.

    `<folder>/<subject>/<sequence>/<frame>/<sequence>.<frame>.<camera>.<suffix>`; the frame id is the frame's number.

    Raises:
        TakeError: no such sequence, or no picture of a calibrated camera in it.
    """
    place = folder / subject / sequence
    if not place.is_dir():
        known = sorted(path.name for path in (folder / subject).glob("*") if path.is_dir())
        raise TakeError(f"{place}: no such folder; sequences of {subject}: {', '.join(known) or 'none'}")
    found: dict[str, dict[int, Path]] = {}
    for frame in sorted((path for path in place.iterdir() if path.name.isdigit()), key=natural):
        for camera in calibration.ids:
            for suffix in SUFFIXES:
                file = frame / f"{sequence}.{frame.name}.{camera}{suffix}"
                if file.is_file():
                    found.setdefault(camera, {})[int(frame.name)] = file
                    break
    if not found:
        raise TakeError(f"{place}: no picture of a calibrated camera ({', '.join(calibration.ids)})")
    return {camera: found[camera] for camera in calibration.ids if camera in found}


def import_images(
    images: Numbered, calibration: Calibration, storage: Storage, fps: Fraction, *, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Write a take of picture files.

    Args:
        images: camera to frame id to file; a camera may lack some.
        calibration: the cameras.
        storage: where and how.
        fps: frames per second: the picture with frame id k was exposed at k / fps on the clock of the media.
        on_progress: called after each picture with how many are done and how many there are.

    Returns:
        `take`, `frames`, `cameras` {id: frames}, `sets` {`assembled`, `complete`, `partial`}, `fps`, `seconds`.

    Raises:
        TakeError: a picture cannot be read or is of another size than its calibration; or `out` exists.
    """
    footage = []
    for camera, files in images.items():
        first = next(iter(files.values()))
        known = calibration[camera]
        if picture_size(first) != (known.width, known.height):
            width, height = picture_size(first)
            raise TakeError(
                f"{first}: {width}x{height}, camera '{camera}' is calibrated for {known.width}x{known.height}; "
                "give the pictures of this calibration"
            )
        times = [round(number * 10**9 / fps) for number in files]
        footage.append(Footage(camera, first.parent, list(files), times, list(files.values())))
    sync = SyncConfig(match="frame_id", tolerance_us=min(int(0.45e6 / fps), 1_000_000), min_cameras=1)
    write_footage(footage, calibration, sync, storage, on_progress)
    ids = sorted({number for files in images.values() for number in files})
    complete = sum(all(number in files for files in images.values()) for number in ids)
    return {
        "take": str(storage.out),
        "frames": sum(map(len, images.values())),
        "cameras": {camera: len(files) for camera, files in images.items()},
        "sets": {"assembled": len(ids), "complete": complete, "partial": len(ids) - complete},
        "fps": round(float(fps), 6),
        "seconds": round((ids[-1] - ids[0] + 1) / float(fps), 3),
    }

"""Looking at the cameras of a configuration: what `mien cameras list` and `preview` do."""

import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rig.config import RigConfig
from rig.driver import CameraDriver, RawFrame, StatusSource, StreamEnded
from rig.drivers import make_driver
from rig.pictures import as_rgb
from rig.uncalibrated import NOMINAL
from streamer.errors import DriverError
from streamer.types import U8

TILE_PX = 480
"""Width of a picture in the contact sheet."""


def list_cameras(rig: RigConfig) -> dict[str, Any]:
    """Open the configured driver and describe its cameras.

    Returns:
        `driver`, `fps`, `triggers`, and `cameras`: id, serial, width, height, firmware, and whether it is calibrated.

    Raises:
        DriverError: the device is absent.
    """
    driver, _ = make_driver(rig)
    driver.open()
    try:
        calibration = driver.calibration
        status = driver.status if isinstance(driver, StatusSource) else {}
        firmware = {camera: each.firmware for camera, each in status.items()}
        cameras = [
            {
                "id": camera.id,
                "serial": camera.serial,
                "width": camera.width,
                "height": camera.height,
                "firmware": firmware.get(camera.id, ""),
                "calibrated": calibration.source != NOMINAL,
            }
            for camera in calibration.cameras
        ]
        return {"driver": rig.driver, "fps": driver.fps, "triggers": list(driver.triggers), "cameras": cameras}
    finally:
        driver.close()


def preview_cameras(rig: RigConfig, out: Path, *, wait_s: float, driver: CameraDriver | None = None) -> dict[str, Any]:
    """Take one picture of each camera and write them as one contact sheet.

    Args:
        rig: names the driver.
        out: PNG to write; replaced only when the sheet is complete.
        wait_s: longest wait for the last camera.
        driver: the device, not open; None: the one that `rig` names.

    Returns:
        `out`, `cameras` seen, and `silent` ones.

    Raises:
        DriverError: the device is absent, or no camera delivered a picture.
    """
    device, trigger = make_driver(rig) if driver is None else (driver, driver.triggers[0])
    device.open()
    try:
        ids = device.calibration.ids
        device.arm(trigger)
        seen = _first_pictures(device, len(ids), wait_s)
    finally:
        device.close()
    if not seen:
        raise DriverError(f"no camera delivered a picture within {wait_s:g} s; look at cables, power and trigger")
    tiles = [_tile(seen[camera]) for camera in ids if camera in seen]
    _write_png(out, contact_sheet(tiles))
    return {"out": str(out), "cameras": [i for i in ids if i in seen], "silent": [i for i in ids if i not in seen]}


def contact_sheet(tiles: list[U8]) -> U8:
    """Arrange pictures in a grid that is about as wide as high.

    Args:
        tiles: (H_i, W_i, 3) RGB, at least one.

    Returns:
        (H, W, 3) RGB; cells as large as the largest tile, the rest black.
    """
    height, width = max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)
    columns = math.ceil(math.sqrt(len(tiles)))
    sheet = np.zeros((math.ceil(len(tiles) / columns) * height, columns * width, 3), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _first_pictures(driver: CameraDriver, count: int, wait_s: float) -> dict[str, RawFrame]:
    seen: dict[str, RawFrame] = {}
    deadline = time.monotonic() + wait_s
    while len(seen) < count and (remaining_s := deadline - time.monotonic()) > 0:
        try:
            frame = driver.next_frame(min(remaining_s, 0.5))
        except StreamEnded:
            break
        if frame is not None:
            seen.setdefault(frame.camera, frame)
    return seen


def _tile(frame: RawFrame) -> U8:
    rgb = as_rgb(frame)
    if frame.width > TILE_PX:
        size = (TILE_PX, round(frame.height * TILE_PX / frame.width))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    label = (8, rgb.shape[0] - 10)
    canvas = np.ascontiguousarray(rgb).copy()
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(canvas, frame.camera, label, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
    return canvas


def _write_png(out: Path, rgb: U8) -> None:
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    if not done:
        raise DriverError(f"{out}: the contact sheet of {rgb.shape[1]}x{rgb.shape[0]} could not be encoded")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        unfinished.write_bytes(data.tobytes())
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)

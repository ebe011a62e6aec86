"""`mien calibrate guide`: what to show next, on files or live."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rig.calibration.boards import Board, load_board
from rig.calibration.coverage import coverage, draw
from rig.calibration.detection import BoardFinder, Detection
from rig.calibration.files import Material, sources_of
from rig.calibration.harvest import Progress, harvest
from rig.cameras import contact_sheet
from streamer.config import BusConfig
from streamer.errors import CalibrationError
from streamer.pixels import decode_pixels
from streamer.processes import Stop
from streamer.transport import Subscriber, node_endpoints
from streamer.types import U8, Frame

EVERY_S = 0.5
"""A camera's picture is looked at this often: neighbouring ones show the same."""
SAME_SHARE = 0.03
"""A view whose corners moved less than this share of the picture's width adds nothing."""


class Guide:
    """Collects views of all cameras and tells what is lacking.

    Args:
        board: what is shown.
    """

    def __init__(self, board: Board) -> None:
        """Begin without views."""
        self._plane = board.points()[:, :2]
        self._views: dict[str, list[Detection]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def see(self, camera: str, size: tuple[int, int], found: Detection | None) -> bool:
        """Take a view into account; returns whether it adds something."""
        self._sizes[camera] = size
        own = self._views.setdefault(camera, [])
        if found is None or any(self._same(found, other, size[0]) for other in own):
            return False
        own.append(found)
        return True

    @staticmethod
    def _same(first: Detection, second: Detection, width: int) -> bool:
        _, a, b = np.intersect1d(first.ids, second.ids, return_indices=True)
        if 2 * len(a) < len(first.ids):
            return False
        way = np.linalg.norm(first.pixels[a] - second.pixels[b], axis=1)
        return bool(way.max() < SAME_SHARE * width)

    def state(self) -> dict[str, Any]:
        """Return per camera: `share`, `views`, `tilted`, `lacking`, `done`."""
        found = {}
        for name, own in self._views.items():
            seen = coverage([d.pixels for d in own], [self._plane[d.ids] for d in own], self._sizes[name])
            found[name] = {
                "share": seen.share,
                "views": seen.views,
                "tilted": seen.tilted,
                "lacking": seen.lacking(),
                "done": seen.done,
            }
        return found

    def line(self) -> str:
        """Return one line for the terminal: each camera's share, and what is the most urgent."""
        state = self.state()
        if not state:
            return "no picture yet"
        shares = "  ".join(f"{name} {one['share']:.0%}" for name, one in state.items())
        name, worst = min(state.items(), key=lambda item: (item[1]["done"], item[1]["share"]))
        return f"{shares}  |  " + ("all done" if worst["done"] else f"{name}: {', '.join(worst['lacking'][:2])}")

    @property
    def done(self) -> bool:
        """Whether no camera lacks anything."""
        return bool(self._views) and all(one["done"] for one in self.state().values())

    def picture(self, backgrounds: dict[str, U8] | None = None) -> U8:
        """Draw all cameras (H, W, 3) RGB, cells that lack corners in red."""
        tiles = []
        for name, own in self._views.items():
            size, pixels = self._sizes[name], [d.pixels for d in own]
            seen = coverage(pixels, [self._plane[d.ids] for d in own], size)
            tile = draw(seen, size, pixels, (backgrounds or {}).get(name))
            cv2.putText(tile, name, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
            tiles.append(tile)
        return contact_sheet(tiles)


def guide_files(material: Material, out: Path | None, progress: Progress | None = None) -> dict[str, Any]:
    """Tell what pictures that were taken lack.

    Raises:
        CalibrationError: see `harvest.harvest`.
        TakeError: a video or take cannot be read.
    """
    board = load_board(material.board)
    with ExitStack() as stack:
        found = harvest(sources_of(material, stack), board, max_sets=material.max_sets, progress=progress)
    guide = Guide(found.board)
    for name, own in found.views.items():
        for detection in own.values():
            guide.see(name, found.sizes[name], detection)
    if out is not None:
        write_png(out, guide.picture())
    return guide.state()


def guide_live(
    bus: BusConfig, board: Path, seconds: float, out: Path | None, stop: Stop, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Watch the cameras of the bus until nothing is lacking.

    Args:
        bus: where the nodes are.
        board: BOARD.toml.
        seconds: longest time.
        out: picture that is written again after each view that adds something; None: none.
        stop: ends it early.
        tell: gets a line whenever a view adds something.

    Raises:
        CalibrationError: no picture was heard.
    """
    known = load_board(board)
    finder, guide = BoardFinder(known), Guide(known)
    newest: dict[str, float] = {}
    backgrounds: dict[str, U8] = {}
    deadline = time.monotonic() + seconds
    with Subscriber(node_endpoints(bus), ("frame",), keys_dir=bus.keys_dir, depth=16) as subscriber:
        while time.monotonic() < deadline and not stop.is_set() and not guide.done:
            subscriber.receive(min(0.2, max(deadline - time.monotonic(), 0.0)))
            for _, message in subscriber.drain():
                now = time.monotonic()
                if not isinstance(message, Frame) or now - newest.get(message.camera, -EVERY_S) < EVERY_S:
                    continue
                newest[message.camera] = now
                backgrounds[message.camera] = decode_pixels(message)
                size = (message.width, message.height)
                if guide.see(message.camera, size, finder(backgrounds[message.camera])):
                    tell(guide.line())
                    if out is not None:
                        write_png(out, guide.picture(backgrounds))
    if not newest:
        raise CalibrationError(f"no picture was heard in {seconds:g} s; is `mien node` running?")
    if out is not None:
        write_png(out, guide.picture(backgrounds))
    return guide.state()


def write_png(out: Path, rgb: U8) -> None:
    """Write a picture (H, W, 3) RGB, so that a viewer sees the old one or the whole new one.

    Raises:
        CalibrationError: it cannot be written.
    """
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data.tobytes() if done else b"")
        unfinished.replace(out)
    except OSError as error:
        raise CalibrationError(f"{out}: cannot be written: {error}") from error

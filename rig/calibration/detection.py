"""Finding a board in a picture: corners to a fraction of a pixel, wrong corners out, blur measured."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rig.calibration.boards import Board
from streamer.errors import CalibrationError
from streamer.types import F64, U8

MIN_CORNERS = 6
"""Fewer tell nothing about a lens, and little about a pose."""
HOMOGRAPHY_PX = 4.0
HOMOGRAPHY_SHARE = 0.03
"""A corner this far from a plane's picture (share of the board's extent) is a wrong one: lenses bend less."""
WINDOW = 0.22
"""Half the window in which a corner is refined, in squares."""
OFF_PX = 0.6
"""A corner is never called wrong for less than this."""
SMALL_PX = 5.0
"""Squares smaller than this cannot be measured."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The corners of a board in one picture."""

    ids: NDArray[np.int32]
    """(M,) indices into `Board.points`, rising."""
    pixels: F64
    """(M, 2) their places, px, centres of pixels at integers."""
    blur_px: float
    """Width of the edges at the corners, px: about 1 to 2 in a sharp picture."""
    dropped: int = 0
    """Corners that were found and thrown away as wrong."""


class BoardFinder:
    """Finds one kind of board in pictures.

    Args:
        board: what to look for.
    """

    def __init__(self, board: Board) -> None:
        """Prepare the detector."""
        self.board = board
        self._charuco: cv2.aruco.CharucoDetector | None = None
        if board.kind == "charuco":
            parameters = cv2.aruco.DetectorParameters()
            parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
            corners = cv2.aruco.CharucoParameters()
            corners.tryRefineMarkers = True
            self._charuco = cv2.aruco.CharucoDetector(board.charuco(), corners, parameters)

    def __call__(self, picture: U8) -> Detection | None:
        """Find the board.

        Args:
            picture: (H, W) grey or (H, W, 3) RGB.

        Returns:
            Its corners, or None where fewer than 6 are found, or they lie on a line.
        """
        grey = as_grey(picture)
        if self.board.inverted:
            grey = np.asarray(255 - grey, np.uint8)
        found = self._find_charuco(grey) if self._charuco is not None else self._find_chessboard(grey)
        return None if found is None else _sound(self.board, grey, found)

    def _find_charuco(self, grey: U8) -> Detection | None:
        if self._charuco is None:
            return None
        corners, ids, _, _ = self._charuco.detectBoard(grey)
        if ids is None or corners is None or len(ids) < MIN_CORNERS:
            return None
        order = np.argsort(ids.ravel())
        pixels = np.asarray(corners, np.float64).reshape(-1, 2)[order]
        return Detection(ids.ravel()[order].astype(np.int32), pixels, 0.0)

    def _find_chessboard(self, grey: U8) -> Detection | None:
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
        size = self.board.grid
        found, corners = cv2.findChessboardCorners(grey, size, flags=flags)
        if not found:
            found, corners = cv2.findChessboardCornersSB(grey, size, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if not found or corners is None:
            return None
        pixels = np.asarray(corners, np.float64).reshape(-1, 2)
        if not self.board.turned_alike and _first_cell_is_bright(grey, pixels.reshape(size[1], size[0], 2)):
            pixels = pixels[::-1]
        return Detection(np.arange(len(pixels), dtype=np.int32), pixels.copy(), 0.0)


def as_grey(picture: U8) -> U8:
    """Return a picture (H, W) or (H, W, 3) RGB as grey."""
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(grey, np.uint8)


def _first_cell_is_bright(grey: U8, corners: F64) -> bool:
    """Compare all cells of the parity of the first one with the others: the half turn that a chessboard leaves open."""
    middles = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
    column, row = np.round(middles).astype(int).transpose(2, 0, 1)
    values = grey[np.clip(row, 0, grey.shape[0] - 1), np.clip(column, 0, grey.shape[1] - 1)].astype(float)
    parity = np.indices(values.shape).sum(0) % 2 == 0
    return bool(np.median(values[parity]) > np.median(values[~parity]))


def _sound(board: Board, grey: U8, found: Detection) -> Detection | None:
    """Refine, measure and throw out what no plane explains."""
    spacing = _spacing(board, found)
    if spacing < SMALL_PX:
        return None
    plane = board.points()[found.ids, :2]
    if _flat(plane):
        return None
    first = expected_places(plane, found.pixels)
    if first is None:
        return None
    # corners that were found far from where the others want them are looked for there
    off = np.linalg.norm(found.pixels - first, axis=1)
    lost = off > max(OFF_PX, 0.08 * spacing)
    start = replace(found, pixels=np.where(lost[:, None], first, found.pixels))
    pixels, stayed = _refine(board, grey, start, spacing)
    if stayed.sum() < MIN_CORNERS or _flat(plane[stayed]):
        return None
    then = expected_places(plane[stayed], pixels[stayed])
    if then is None:
        return None
    left = np.linalg.norm(pixels[stayed] - then, axis=1)
    limit = max(OFF_PX, 4 * 1.4826 * float(np.median(left)))
    keep = np.flatnonzero(stayed)[left < limit]
    if len(keep) < MIN_CORNERS or _flat(plane[keep]):
        return None
    blur = edge_width(grey, pixels[keep], int(np.clip(round(spacing * 0.25), 3, 11)))
    return replace(found, ids=found.ids[keep], pixels=pixels[keep], blur_px=blur, dropped=len(found.ids) - len(keep))


def expected_places(plane: F64, pixels: F64) -> F64 | None:
    """Return where corners should be if all lie on a plane seen through some lens: a homography and a smooth bend.

    Args:
        plane: (M, 2) on the board, metres.
        pixels: (M, 2) as found, some of them wrong.

    Returns:
        (M, 2) px; None where no plane fits.
    """
    extent = float(np.ptp(pixels, axis=0).max())
    limit = max(HOMOGRAPHY_PX, HOMOGRAPHY_SHARE * extent)
    homography, inliers = cv2.findHomography(plane, pixels, cv2.RANSAC, limit)
    if np.size(homography) != 9 or int(np.sum(inliers)) < MIN_CORNERS:
        return None
    flat = cv2.perspectiveTransform(plane[None], np.asarray(homography, np.float64))[0]
    flat = np.asarray(flat, np.float64)
    x, y = ((plane - plane.mean(0)) / np.ptp(plane)).T
    degree = 3 if len(plane) >= 30 else 2 if len(plane) >= 14 else 0
    terms = np.stack([x**i * y**j for i in range(degree + 1) for j in range(degree + 1 - i)], 1)
    off, weight = pixels - flat, np.ones(len(plane))
    bend = np.zeros_like(off)
    for _ in range(8):
        root = np.sqrt(weight)[:, None]
        bend = terms @ np.linalg.lstsq(terms * root, off * root, rcond=None)[0]
        left = np.linalg.norm(off - bend, axis=1)
        scale = max(3 * 1.4826 * float(np.median(left)), 0.1)
        weight = 1 / (1 + (left / scale) ** 2) ** 2
    return np.asarray(flat + bend, np.float64)


def _refine(board: Board, grey: U8, found: Detection, spacing: float) -> tuple[F64, NDArray[np.bool_]]:
    """Refine each corner in a window that fits its own squares: seen at a slant, some are much smaller than others.

    Returns:
        (M, 2) places, and (M,) whether the refinement stayed in its window, or ran to something else.
    """
    first, second = neighbours(board, found.ids)
    length = np.linalg.norm(found.pixels[first] - found.pixels[second], axis=1)
    local = np.full(len(found.ids), spacing)
    np.minimum.at(local, first, length)
    np.minimum.at(local, second, length)
    share = WINDOW
    if board.kind == "charuco":
        # the window must end before the markers, whose own corners would pull
        share = min(share, 0.45 * (1 - board.marker_mm / board.square_mm))
    windows = np.clip(np.floor(local * share), 2, 11).astype(int)
    pixels, stayed = found.pixels.copy(), np.ones(len(windows), bool)
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
    for window in np.unique(windows).tolist():
        group = np.flatnonzero(windows == window)
        start = found.pixels[group].astype(np.float32).reshape(-1, 1, 2)
        refined = cv2.cornerSubPix(grey, start.copy(), (window, window), (-1, -1), until)
        pixels[group] = np.asarray(refined, np.float64).reshape(-1, 2)
        stayed[group] = np.abs(pixels[group] - found.pixels[group]).max(1) <= window
    return pixels, stayed


def _flat(plane: F64) -> bool:
    """Whether points (M, 2) lie on a line."""
    return bool(np.linalg.svd(plane - plane.mean(0), compute_uv=False)[-1] < 1e-9 + 1e-3 * np.ptp(plane))


def _spacing(board: Board, found: Detection) -> float:
    """Return the median distance of neighbouring corners, px."""
    first, second = neighbours(board, found.ids)
    if not len(first):
        return 0.0
    return float(np.median(np.linalg.norm(found.pixels[first] - found.pixels[second], axis=1)))


def neighbours(board: Board, ids: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions in `ids` of the two ends of every edge of the grid that has both."""
    place = np.full(board.corner_count, -1)
    place[ids] = np.arange(len(ids))
    grid = place.reshape(board.grid[1], board.grid[0])
    first = np.concatenate([grid[:, :-1].ravel(), grid[:-1].ravel()])
    second = np.concatenate([grid[:, 1:].ravel(), grid[1:].ravel()])
    both = (first >= 0) & (second >= 0)
    return first[both], second[both]


def edge_width(grey: U8, pixels: F64, radius: int) -> float:
    """Measure blur: contrast around a corner over the steepest slope there, median over the corners, px.

    Args:
        grey: (H, W).
        pixels: (M, 2) corners.
        radius: half the window, px.
    """
    height, width = grey.shape
    widths = []
    for u, v in np.round(pixels).astype(int):
        patch = grey[max(v - radius, 0) : v + radius + 1, max(u - radius, 0) : u + radius + 1].astype(np.float32)
        if patch.shape[0] < 3 or patch.shape[1] < 3 or not (0 <= u < width and 0 <= v < height):
            continue
        low, high = np.percentile(patch, (5, 95))
        down, across = np.gradient(patch)
        slope = float(np.percentile(np.hypot(down, across), 98))
        widths.append((high - low) / max(slope, 1e-3))
    return float(np.median(widths)) if widths else 99.0


def explain_nothing_found(board: Board, pictures: list[U8], who: str) -> CalibrationError:
    """Say why a board was not found: try what people get wrong, and name what would have worked.

    Args:
        board: what was looked for.
        pictures: some pictures of the camera, grey or RGB.
        who: the camera, for the message.
    """
    if other := other_board(board, pictures):
        return CalibrationError(f"{who}: {other}; correct BOARD.toml")
    for picture in pictures:
        if BoardFinder(board)(np.ascontiguousarray(picture[:, ::-1])) is not None:
            return CalibrationError(f"{who}: the pictures are mirrored; switch mirroring off in the camera's settings")
    size = f"{board.columns}x{board.rows} {'inner corners' if board.kind == 'chessboard' else 'squares'}"
    return CalibrationError(
        f"{who}: no {board.kind} of {size} in any of {len(pictures)} pictures; compare BOARD.toml with the print "
        "(kind, columns, rows, dictionary, inverted), and look at the pictures"
    )


def other_board(board: Board, pictures: list[U8]) -> str:
    """Return what is in most pictures in place of the board, in words; empty if nothing that was tried."""
    for what, variant in _variants(board):
        finder = BoardFinder(variant)
        hits = sum(finder(picture) is not None for picture in pictures)
        if hits * 2 > len(pictures):
            return f"the board of the file does not fit the pictures, but {what} is in {hits} of {len(pictures)}"
    return ""


def _variants(board: Board) -> list[tuple[str, Board]]:
    """Boards that people mean when they write another one."""
    found = [(f"inverted = {str(not board.inverted).lower()}", replace(board, inverted=not board.inverted))]
    if board.kind == "charuco":
        found.append((f"legacy = {str(not board.legacy).lower()}", replace(board, legacy=not board.legacy)))
        turned = replace(board, columns=board.rows, rows=board.columns)
        found.append((f"columns = {turned.columns}, rows = {turned.rows}", turned))
        bits = ("4X4", "5X5", "6X6", "7X7")
        names = [f"DICT_{b}_1000" for b in bits] + ["DICT_ARUCO_ORIGINAL", "DICT_APRILTAG_36h11"]
        others = [name for name in names if name[:8] != board.dictionary[:8]]
        return found + [(f"dictionary = {name!r}", replace(board, dictionary=name)) for name in others]
    for dx, dy in ((-1, -1), (0, -1), (-1, 0), (1, 0), (0, 1), (1, 1)):
        if board.columns + dx >= 3 and board.rows + dy >= 3:
            other = replace(board, columns=board.columns + dx, rows=board.rows + dy)
            found.append((f"a chessboard of {other.columns}x{other.rows} inner corners", other))
    return found

"""What is wrong with a calibration, and where, in words and numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rig.calibration.compare import compare
from rig.calibration.coverage import coverage
from rig.calibration.extrinsics import Rig
from rig.calibration.harvest import Harvest
from rig.calibration.measures import distances, rms, triangulate
from rig.calibration.poses import matrix_of
from streamer.errors import CalibrationError
from streamer.geometry import rigid_from_points
from streamer.types import F64, Calibration

HIGH_PX, HIGH_FACTOR = 0.5, 2.0
UPSIDE_DOWN_DEG = 135.0
BENT_SHARE = 0.004
"""A board is bent if its corners leave their plane by this share of its size."""
STRETCH_SHARE = 0.004
STEP_PX, STEP_SIGMAS = 0.5, 8.0
TOGETHER_SETS = 2
"""Steps of several cameras this near one another have one cause."""
WORST = 5

Finding = dict[str, Any]


def diagnose(rig: Rig, found: Harvest, reference: Calibration | None = None, fresh: Rig | None = None) -> list[Finding]:
    """Say what is wrong.

    Args:
        rig: the calibration with the corners it is judged by.
        found: what was seen.
        reference: an earlier calibration to compare with, or None.
        fresh: a calibration made from these corners, where `rig` was not; None: `rig` was.

    Returns:
        Findings, the worst first: `severity` (problem, warning, note), `kind`, `camera` (or ""), `text`, and numbers.
    """
    findings = [
        *_errors(rig),
        *_moved_within(rig if fresh is None else fresh),
        *_board(rig if fresh is None else fresh),
        *_lens(rig),
        *_views(found),
        *_turned(rig),
    ]
    if reference is not None:
        findings += _since(rig if fresh is None else fresh, reference)
    order = {"problem": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda f: order[f["severity"]])


def _finding(severity: str, kind: str, camera: str, text: str, **numbers: Any) -> Finding:
    return {"severity": severity, "kind": kind, "camera": camera, "text": text, **numbers}


def _errors(rig: Rig) -> Iterator[Finding]:
    off = rig.errors_px()
    each = {n: rms(off[(rig.corners.camera == i) & rig.kept]) for i, n in enumerate(rig.names)}
    middle = float(np.nanmedian(list(each.values())))
    for index, (name, value) in enumerate(each.items()):
        mine = rig.corners.camera == index
        if not (mine & rig.kept).any():
            yield _finding("problem", "not-explained", name, f"{name}: the calibration explains none of its views")
        elif value > HIGH_PX and value > HIGH_FACTOR * middle:
            text = f"{name}: reprojection error {value:.2f} px, the others' median is {middle:.2f}"
            yield _finding("warning", "high-error", name, text, rms_px=value)
        wrong = float((mine & ~rig.kept).sum() / max(int(mine.sum()), 1))
        if wrong > 0.1:
            text = f"{name}: {wrong:.0%} of its corners were thrown out: blur, a moving board, or bad synchronisation"
            yield _finding("warning", "wrong-corners", name, text, share=wrong)


def worst_views(rig: Rig, found: Harvest) -> list[Finding]:
    """Return the views with the largest errors: camera, set, picture, rms_px."""
    off = rig.errors_px()
    views = []
    for index, name in enumerate(rig.names):
        for number in np.unique(rig.corners.set[rig.corners.camera == index]).tolist():
            mine = (rig.corners.camera == index) & (rig.corners.set == number)
            k = rig.numbers[number]
            views.append(
                {"camera": name, "set": k, "picture": found.labels.get((name, k), k), "rms_px": rms(off[mine])}
            )
    return sorted(views, key=lambda v: -v["rms_px"])[:WORST]


def _moved_within(rig: Rig) -> Iterator[Finding]:
    """Look for a step in the mean error of a camera's views over time.

    One camera that moves drags boards and cameras with it, so that others show a smaller step at the same time: of
    steps that belong together the largest is named.
    """
    off = rig.errors_px()
    steps = []
    for index, name in enumerate(rig.names):
        mine = (rig.corners.camera == index) & rig.kept
        sets = np.unique(rig.corners.set[mine])
        if len(sets) < 10:
            continue
        means = np.stack([off[mine & (rig.corners.set == k)].mean(0) for k in sets])
        where, step, sigmas = find_step(means)
        if step > STEP_PX and sigmas > STEP_SIGMAS:
            # where the camera sees nothing for a while, the step lies anywhere in the gap
            steps.append((step, sigmas, name, int(sets[where - 1]), int(sets[where])))
    named: list[tuple[int, int]] = []
    for step, sigmas, name, before, after in sorted(steps, reverse=True):
        if any(before <= last + TOGETHER_SETS and first - TOGETHER_SETS <= after for first, last in named):
            continue
        named.append((before, after))
        k = rig.numbers[after]
        text = f"{name}: moved within the session: its errors step by {step:.1f} px at set {k}; cut there"
        yield _finding("problem", "moved-within", name, text, step_px=step, sigmas=sigmas, set=k)


def find_step(series: F64) -> tuple[int, float, float]:
    """Find the largest step in a series.

    Args:
        series: (S, 2), S at least 6.

    Returns:
        Index of the first element after the step, its size, and the size in standard deviations of white noise.
    """
    best = (0, 0.0, 0.0)
    for cut in range(3, len(series) - 2):
        first, second = series[:cut], series[cut:]
        spread = np.sqrt(((first - first.mean(0)) ** 2).sum() + ((second - second.mean(0)) ** 2).sum())
        sigma = spread / np.sqrt(2 * len(series) - 4) * np.sqrt(1 / len(first) + 1 / len(second))
        size = float(np.linalg.norm(first.mean(0) - second.mean(0)))
        if size / max(sigma, 1e-9) > best[2]:
            best = cut, size, size / max(float(sigma), 1e-9)
    return best


def _board(rig: Rig) -> Iterator[Finding]:
    corners = rig.corners.where(rig.kept)
    points = rig.board.points()
    known = distances(corners, rig.calibration, points)
    along = [known.along == axis for axis in (0, 1)]
    if all(mask.sum() > 50 for mask in along):
        x, y = (float(np.median(known.measured_m[m] / known.true_m[m])) for m in along)
        if abs(x / y - 1) > STRETCH_SHARE:
            square = rig.board.square_mm
            text = (
                f"the board's squares measure {square * x:.2f} x {square * y:.2f} mm, not {square:g} x {square:g}: "
                "printed with another scale in one direction, or square_mm measured in one only"
            )
            yield _finding("problem", "stretched-board", "", text, ratio=x / y)
    bend, extent = _bend(rig, points)
    if np.isfinite(bend) and bend > BENT_SHARE * extent:
        text = (
            f"the board is not flat: its corners lie {1000 * bend:.1f} mm (rms) off their plane; glue it onto a plate"
        )
        yield _finding("warning", "bent-board", "", text, bend_mm=1000 * bend)


def _bend(rig: Rig, points: F64) -> tuple[float, float]:
    """Return how far the corners lie off a plane, as all sets agree, and the size of the board, metres."""
    space, sets, ids = triangulate(rig.corners.where(rig.kept), rig.calibration)
    total, count = np.zeros(len(points)), np.zeros(len(points))
    for k in np.unique(sets):
        mine = sets == k
        if mine.sum() < max(8, len(points) // 2):
            continue
        board_from_world = rigid_from_points(space[mine], points[ids[mine]])
        off = space[mine] @ board_from_world[2, :3] + board_from_world[2, 3]
        np.add.at(total, ids[mine], off)
        np.add.at(count, ids[mine], 1)
    enough = count >= 5
    if enough.sum() < 6:
        return float("nan"), 1.0
    # the mean over the sets: noise is gone from it, the shape of the board stays
    return float(np.sqrt(np.mean((total[enough] / count[enough]) ** 2))), float(np.ptp(points, axis=0).max())


def _lens(rig: Rig) -> Iterator[Finding]:
    for name, single in rig.singles.items():
        if single.evidence is not None and single.evidence.wanted:
            held = single.evidence.held_out_px
            wanted = single.evidence.wanted
            text = (
                f"{name}: a {wanted} lens model would be better: {held[wanted]:.2f} px at views held out, against "
                f"{held[single.lens]:.2f} with {single.lens}; Mien carries k1, k2, p1, p2, k3: trust the edges less"
            )
            yield _finding("warning", "lens", name, text, wanted=wanted)


def _views(found: Harvest) -> Iterator[Finding]:
    plane = found.board.points()[:, :2]
    for name, own in found.views.items():
        seen = coverage([d.pixels for d in own.values()], [plane[d.ids] for d in own.values()], found.sizes[name])
        if lacking := seen.lacking():
            text = (
                f"{name}: {seen.share:.0%} of its picture covered by {seen.views} views; lacking: {', '.join(lacking)}"
            )
            yield _finding("note", "coverage", name, text, share=seen.share, lacking=lacking)
        for reason, count in found.left_out.get(name, {}).items():
            if reason != "redundant" and count > 0.25 * found.looked[name]:
                yield _finding("warning", reason.replace(" ", "-"), name, f"{name}: {count} of its views were {reason}")


def _turned(rig: Rig) -> Iterator[Finding]:
    ups = np.stack([-c.camera_from_world[1, :3] for c in rig.calibration.cameras])
    middle = np.median(ups, axis=0)
    for camera, up in zip(rig.calibration.cameras, ups, strict=True):
        ahead = camera.camera_from_world[2, :3]
        level = middle - ahead * (middle @ ahead)
        if np.linalg.norm(level) < 0.3:
            continue
        angle = float(np.degrees(np.arccos(np.clip(up @ level / np.linalg.norm(level), -1, 1))))
        if angle > UPSIDE_DOWN_DEG:
            text = (
                f"{camera.id}: upside down beside the others (rolled by {angle:.0f} degrees), or its picture is turned"
            )
            yield _finding("note", "upside-down", camera.id, text, roll_deg=angle)


def _since(rig: Rig, reference: Calibration) -> Iterator[Finding]:
    common = [n for n in rig.names if n in reference.ids]
    if len(common) < 2:
        raise CalibrationError(
            f"the other calibration ({', '.join(reference.ids)}) shares {len(common)} camera(s) with this rig; two are "
            "needed"
        )
    changes, scale = compare(rig.calibration, reference)
    if np.isfinite(scale) and abs(scale - 1) > 0.01:
        likely = rig.board.square_mm / scale
        text = (
            f"distances between cameras are {scale:.3f} times those of {reference.source or 'the other calibration'}: "
            f"a square is likely {likely:.2f} mm, not {rig.board.square_mm:g} (or it was wrong then)"
        )
        yield _finding("problem", "board-size", "", text, scale=scale, square_mm=likely)
    for change in changes:
        if change.flipped:
            text = f"{change.camera}: its picture is turned by {abs(change.roll_deg):.0f} degrees since then: flipped"
            yield _finding("problem", "flipped", change.camera, text, roll_deg=change.roll_deg)
        elif change.moved:
            text = (
                f"{change.camera}: moved since then by {change.place_mm:.1f} mm and {change.turn_deg:.2f} degrees "
                f"({change.shift_px:.1f} px in the middle of the rig)"
            )
            yield _finding("problem", "moved", change.camera, text, place_mm=change.place_mm, turn_deg=change.turn_deg)


def board_places(rig: Rig) -> F64:
    """Return where the middle of the board was in each set (S, 3), metres, world."""
    middle = rig.board.points().mean(0)
    return np.stack([matrix_of(pose)[:3, :3] @ middle + pose[3:] for pose in rig.boards])

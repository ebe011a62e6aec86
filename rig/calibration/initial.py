"""A first guess of where all cameras stand: relative poses of pairs that see the board together, joined to a tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rig.calibration.bundle import Solution
from rig.calibration.detection import Detection
from rig.calibration.intrinsics import plane_poses
from rig.calibration.lens import image
from rig.calibration.poses import pose_of
from streamer.errors import CalibrationError
from streamer.geometry import inverse_rigid
from streamer.types import F64

Views = Mapping[str, Mapping[int, Detection]]
"""Camera to set to what was found."""
NEAR_DEG, NEAR_SHARE = 3.0, 0.05
"""Two guesses of a relative pose agree within this angle and this share of the distance to the board."""
CAP_PX = 30.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pose that a view allows."""

    pose: F64
    """(4, 4) camera from board."""
    view: Detection
    """The view, its corners numbered as this pose wants them."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Cameras, boards and the views as they are now numbered."""

    solution: Solution
    """In the frame of the first camera of the tree."""
    numbers: tuple[int, ...]
    """The set of each board pose."""
    views: dict[str, dict[int, Detection]]
    """Views numbered alike in all cameras."""
    root: str
    """The camera whose frame it is."""
    pairs: dict[tuple[str, str], int]
    """Cameras joined in the tree to the number of sets that agree on their relative pose."""


def candidates_of(points: F64, view: Detection, intrinsics: F64, turned_alike: bool) -> list[Candidate]:
    """Return the poses that a view allows; of a board that looks the same after a half turn, twice as many."""
    views = [view]
    if turned_alike:
        views.append(
            replace(view, ids=(len(points) - 1 - view.ids)[::-1].astype(np.int32), pixels=view.pixels[::-1].copy())
        )
    found = []
    for one in views:
        try:
            found += [Candidate(pose, one) for pose in plane_poses(points, one, intrinsics)]
        except CalibrationError:  # this view alone allows no pose: it is left out, others remain
            continue
    return found


def guess(points: F64, views: Views, intrinsics: Mapping[str, F64], *, turned_alike: bool) -> Guess:
    """Place all cameras.

    Args:
        points: (N, 3) corners of the board, metres.
        views: what was found.
        intrinsics: camera to (9,).
        turned_alike: whether the board looks the same after a half turn.

    Raises:
        CalibrationError: some cameras never see the board together with others; names the groups.
    """
    names = tuple(views)
    allowed = {
        name: {k: candidates_of(points, view, intrinsics[name], turned_alike) for k, view in own.items()}
        for name, own in views.items()
    }
    edges = {
        (a, b): edge
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if (edge := relative_pose(allowed[a], allowed[b])) is not None
    }
    root, tree = _tree(names, {pair: votes for pair, (_, votes) in edges.items()})
    placed = {root: np.eye(4)}
    for a, b in tree:
        known, new = (a, b) if a in placed else (b, a)
        a_from_b = edges[a, b][0]
        placed[new] = (inverse_rigid(a_from_b) if known == a else a_from_b) @ placed[known]
    numbers, boards, chosen = _place(points, allowed, placed, intrinsics)
    solution = Solution(
        np.stack([intrinsics[n] for n in names]), np.stack([pose_of(placed[n]) for n in names]), np.stack(boards)
    )
    return Guess(solution, numbers, chosen, root, {pair: edges[pair][1] for pair in tree})


def relative_pose(
    first: Mapping[int, Sequence[Candidate]], second: Mapping[int, Sequence[Candidate]]
) -> tuple[F64, int] | None:
    """Return the relative pose (4, 4) first from second that most sets agree on, and how many do; None: no set."""
    guesses, owner, reach = [], [], []
    for k in sorted(first.keys() & second.keys()):
        for a in first[k]:
            for b in second[k]:
                guesses.append(a.pose @ inverse_rigid(b.pose))
                owner.append(k)
                reach.append(float(np.linalg.norm(a.pose[:3, 3])))
    if not guesses:
        return None
    stack, who = np.stack(guesses), np.array(owner)
    some = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), 200)).astype(int))
    best, best_score = 0, (-1, 0.0)
    for index in some.tolist():
        cosine = (np.einsum("nij,ij->n", stack[:, :3, :3], stack[index, :3, :3]) - 1) / 2
        turn = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        shift = np.linalg.norm(stack[:, :3, 3] - stack[index, :3, 3], axis=1) / np.array(reach)
        near = (turn < NEAR_DEG) & (shift < NEAR_SHARE)
        score = (len(np.unique(who[near])), -float((turn[near] / NEAR_DEG + shift[near] / NEAR_SHARE).mean()))
        if score > best_score:
            best, best_score = index, score
    return stack[best], best_score[0]


def _tree(names: Sequence[str], votes: Mapping[tuple[str, str], int]) -> tuple[str, list[tuple[str, str]]]:
    """Return a root and the edges of a maximum spanning tree, each joining a new camera to those before."""
    strength = {n: sum(v for pair, v in votes.items() if n in pair) for n in names}
    root = max(names, key=lambda n: strength[n])
    joined, tree = {root}, []
    while len(joined) < len(names):
        crossing = [pair for pair in votes if (pair[0] in joined) != (pair[1] in joined)]
        if not crossing:
            apart = [n for n in names if n not in joined]
            raise CalibrationError(
                f"no set shows the board to camera {', '.join(sorted(joined))} and to camera {', '.join(apart)} at the "
                "same time; hold it where both groups see it, or check that the k-th pictures (or the times) belong "
                "together"
            )
        best = max(crossing, key=lambda pair: votes[pair])
        tree.append(best)
        joined.update(best)
    return root, tree


def place_boards(
    points: F64,
    views: Views,
    placed: Mapping[str, F64],
    intrinsics: Mapping[str, F64],
    *,
    turned_alike: bool,
) -> tuple[tuple[int, ...], list[F64], dict[str, dict[int, Detection]]]:
    """Place the boards of all sets before cameras that stand.

    Args:
        points: (N, 3) corners of the board, metres.
        views: what was found.
        placed: camera to camera_from_world (4, 4).
        intrinsics: camera to (9,).
        turned_alike: whether the board looks the same after a half turn.

    Returns:
        The sets, world from board (6,) of each, and the views numbered alike in all cameras.
    """
    allowed = {
        name: {k: candidates_of(points, view, intrinsics[name], turned_alike) for k, view in own.items()}
        for name, own in views.items()
    }
    return _place(points, allowed, placed, intrinsics)


def _place(
    points: F64,
    allowed: Mapping[str, Mapping[int, Sequence[Candidate]]],
    placed: Mapping[str, F64],
    intrinsics: Mapping[str, F64],
) -> tuple[tuple[int, ...], list[F64], dict[str, dict[int, Detection]]]:
    """Give each set the board pose, of all that any of its views allows, that all its views like best."""
    numbers: list[int] = []
    boards: list[F64] = []
    chosen: dict[str, dict[int, Detection]] = {name: {} for name in allowed}
    for k in sorted({k for own in allowed.values() for k in own}):
        seen = {name: own[k] for name, own in allowed.items() if own.get(k)}
        best: tuple[float, F64, dict[str, Detection]] | None = None
        for name, candidates in seen.items():
            for candidate in candidates:
                pose = inverse_rigid(placed[name]) @ candidate.pose
                total, views = 0.0, {}
                for other, options in seen.items():
                    distinct = {id(option.view): option.view for option in options}.values()
                    costs = [
                        (_cost(points, v, placed[other] @ pose, intrinsics[other]), i, v)
                        for i, v in enumerate(distinct)
                    ]
                    cost, _, views[other] = min(costs, key=lambda item: item[:2])
                    total += cost
                if best is None or total < best[0]:
                    best = total, pose, views
        if best is not None:
            numbers.append(k)
            boards.append(pose_of(best[1]))
            for name, view in best[2].items():
                chosen[name][k] = view
    return tuple(numbers), boards, chosen


def _cost(points: F64, view: Detection, camera_from_board: F64, intrinsics: F64) -> float:
    target = points[view.ids] @ camera_from_board[:3, :3].T + camera_from_board[:3, 3]
    if (target[:, 2] < 1e-3).any():
        return CAP_PX
    off = np.linalg.norm(image(target, intrinsics) - view.pixels, axis=1)
    return float(np.minimum(off, CAP_PX).mean())

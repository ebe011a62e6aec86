"""What close-ups are learned from: patches of a model's own heads on takes, and how far those heads are off there."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.engines import Graph
from inference.evaluation.evaluate import find_takes
from inference.model_store import ModelFiles
from inference.networks import compile_graphs, live_network
from inference.pictures import PictureMaker
from inference.reprocess import offline_sync
from inference.tempeh.close_ups import GRAPHS, MIRROR, CloseUp, close_ups_of
from inference.tempeh.frames import MM, views_of
from inference.tempeh.layout import template_mm
from streamer.errors import CalibrationError, TakeError
from streamer.takes import Take, open_take
from streamer.types import F32, U8, MeshFrame

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Seen:
    """Close-ups of one kind, of a model's heads and of the true ones. Mirrored ones are mirrored back."""

    patches: U8
    """(S, V, h, w, 3)."""
    figures: F32
    """(S, V, VIEW_FIGURES)."""
    present: F32
    """(S, V)."""
    near: F32
    """(S, R, 3) mm, as the model places the vertices, in the patch's frame."""
    true: F32
    """(S, R, 3) mm, as they are."""
    template: F32
    """(R, 3) mm, the vertices on the template."""
    share: F32
    """(R,) of `CloseUp.share`."""

    @property
    def sets(self) -> int:
        """Number of close-ups."""
        return len(self.near)

    def digest(self) -> str:
        """Equal for equal close-ups."""
        return hashlib.sha256(self.near.tobytes() + self.true.tobytes()).hexdigest()[:16]

    def mirrored(self) -> "Seen":
        """The same faces in a mirror; for the mouth, whose vertices must lie symmetric."""
        opposite = _opposite(self.template)
        return Seen(
            self.patches[:, :, :, ::-1],
            self.figures * np.array([1, -1, 1, 1], np.float32),
            self.present,
            (self.near * MIRROR)[:, opposite],
            (self.true * MIRROR)[:, opposite],
            self.template,
            self.share,
        )


def _opposite(points: F32) -> NDArray[np.intp]:
    apart = np.linalg.norm(points[:, None] * MIRROR - points, axis=2)
    return np.asarray(apart.argmin(1))


def joined(parts: Sequence[Seen]) -> Seen:
    """Put close-ups of one kind together."""
    fields = ("patches", "figures", "present", "near", "true")
    return Seen(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields},
        template=parts[0].template,
        share=parts[0].share,
    )


def look_closer(
    takes: Sequence[Path], model: ModelFiles, advance: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Seen]:
    """Run a model over takes with truth and draw its close-ups.

    Args:
        takes: takes, or folders of takes.
        model: the model, without close-ups of its own.
        advance: told takes done and takes in all.

    Raises:
        TakeError: no set of the takes has a truth of the model's topology.
        ModelError: the topology has no close-ups.
    """
    close_ups = close_ups_of(model.topology)
    graphs = {name: graph for name, graph in compile_graphs(model, "openvino", "f32", 0).items() if name not in GRAPHS}
    rows: dict[str, list[Seen]] = {name: [] for name in close_ups}
    paths = find_takes(takes)
    for number, path in enumerate(paths):
        with open_take(path) as take:
            for name, seen in _of_take(take, model, graphs, close_ups):
                rows[name].append(seen)
        advance(number + 1, len(paths))
    if not rows["mouth"]:
        raise TakeError(f"{takes[0]}: no set with a true mesh of model '{model.name}'s topology gave a head")
    return {name: joined(parts) for name, parts in rows.items()}


def _of_take(
    take: Take, model: ModelFiles, graphs: Mapping[str, Graph], close_ups: Mapping[str, tuple[CloseUp, ...]]
) -> Iterator[tuple[str, Seen]]:
    """Yield the close-ups of every set of a take with their graphs' names."""
    truths: dict[int, MeshFrame] = {
        mesh.frame_id: mesh for mesh in take.meshes("truth") if mesh.topology_id == model.topology.id
    }
    template = template_mm(model.topology)
    pictures_of = PictureMaker(
        take.calibration, width=model.width, height=model.height, max_views=model.max_views, workers=1
    )
    with closing(pictures_of) as maker:
        try:
            network = live_network(model, graphs, maker.cameras)
        except CalibrationError:
            return
        views = views_of(maker.cameras, np.eye(4))
        count = len(maker.cameras)
        for frame_set in take.frame_sets(offline_sync(take, 1)):
            truth = truths.get(frame_set.frame_id)
            if truth is None:
                continue
            pictures = maker(frame_set)
            found = network.run(pictures.values, pictures.mask).vertices.astype(np.float64) * MM
            for name, group in close_ups.items():
                for close_up in group:
                    place = close_up.place(template, found)
                    patches, figures = close_up.draw(place, pictures.values[:count], views)
                    yield (
                        name,
                        Seen(
                            patches=_slots(patches, model.max_views),
                            figures=_slots(figures, model.max_views),
                            present=_slots(np.asarray(pictures.mask[:count], np.float32), model.max_views),
                            near=close_up.local(place, found)[None],
                            true=close_up.local(place, truth.vertices.astype(np.float64) * MM)[None],
                            template=close_up.local(np.eye(4), template),
                            share=close_up.share,
                        ),
                    )


def _slots(rows: NDArray[Number], slots: int) -> NDArray[Number]:
    """(1, slots, ...) rows, with zeros for the slots without a camera."""
    out = np.zeros((1, slots, *rows.shape[1:]), rows.dtype)
    out[0, : len(rows)] = rows
    return out

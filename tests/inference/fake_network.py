"""A network in miniature: the head's shape tells the mean colour of the pictures that it was made from."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.engines import Graph
from inference.model_store import ModelFiles
from streamer.types import F32, U8, Camera


@dataclass(frozen=True, slots=True)
class Result:
    vertices: F32
    world_from_head: F32


class FakeNetwork:
    """Runs the graph of `makers.tiny_model`: vertices = template * (1 + mean red) + mean of the camera centres."""

    def __init__(self, model: ModelFiles, graphs: Mapping[str, Graph], cameras: Sequence[Camera]) -> None:
        self._template = model.constants["template"]
        self._graph = graphs["mean"]
        self._centre = np.mean([camera.centre_world for camera in cameras], 0).astype(np.float32)

    def run(self, pictures: U8, mask: F32) -> Result:
        values = pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        mean = self._graph.run({"pictures": values, "mask": mask.reshape(-1, 1, 1, 1)})["mean"]
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = self._centre
        return Result(self._template * (1 + mean[0]) + self._centre, pose)


class HeldNetwork(FakeNetwork):
    """Waits before every run until the test lets it go on."""

    def __init__(self, gate: threading.Semaphore, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self._gate = gate

    def run(self, pictures: U8, mask: F32) -> Result:
        if not self._gate.acquire(timeout=20):
            raise TimeoutError("the test did not let the network go on")
        return super().run(pictures, mask)

"""The published network in a rig: its graphs, its cameras, and what runs it. Torch only where it is asked for by name.

`openvino`: graphs for the large convolutions, compiled code for the rest (inference/tempeh/compiled/). `tensorrt`: all
of it on the GPU (inference/tempeh/gpu/). `torch`: the modules themselves, of any size, the reference. Graphs are
exported once and kept: inference/published_graphs.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from inference.devices import BufferSpec, Device, Space
from inference.engines import Graph, Precision, open_engine
from inference.manifest import PublishedEntry
from inference.model_store import ModelFiles
from inference.precision import plan_folder
from inference.published_graphs import GRAPHS, exported, prepared
from inference.schedule import PICTURES, Access, Stage
from inference.tempeh.compiled.network import PublishedCameras, PublishedNetwork, PublishedParts, PublishedResult
from inference.tempeh.frames import MM
from inference.topology_file import read_arrays
from streamer.errors import CalibrationError, EngineError, ModelError
from streamer.types import F32, U8, Camera

if TYPE_CHECKING:
    from inference.tempeh.gpu.network import CudaPublishedNetwork


class RunsPublished(Protocol):
    """What runs a published network for one rig."""

    def run(self, pictures: U8, mask: F32) -> PublishedResult:
        """Reconstruct one set from pictures (V, H, W, 3) and their mask (V,)."""

    def close(self) -> None:
        """End its threads."""


def published_entry(model: ModelFiles) -> PublishedEntry:
    """Sizes and quirks of a model.

    Raises:
        ModelError: it is no published one.
    """
    if model.manifest.published is None:
        raise ModelError(
            f"{model.folder}: '{model.name}' is a live model; this is for published networks, made by: "
            "mien model import-official"
        )
    return model.manifest.published


def published_parts(model: ModelFiles) -> PublishedParts:
    """What a published network is made of, without torch.

    Raises:
        ModelError: the model is no published one, or holds no weights of a stage.
    """
    entry = published_entry(model)
    if missing := [stage for stage in ("coarse", "refine") if stage not in model.weights]:
        raise ModelError(f"{model.folder}: holds no weights of the {' and '.join(missing)} stage; import or train it")
    arrays = {stage: read_arrays(path) for stage, path in model.weights.items()}
    return PublishedParts(
        entry.sizes,
        entry.quirks,
        arrays["coarse"],
        arrays["refine"],
        model.constants["template_mm"],
        model.topology.triangles,
    )


def compile_published(model: ModelFiles, engine: str, precision: Precision, threads: int) -> dict[str, Graph]:
    """Compile what an engine runs of a published network.

    Args:
        model: a published one.
        engine: `openvino`; for others there is nothing to compile before the rig is known.
        precision: `auto` is float32.
        threads: threads of a run.

    Raises:
        EngineError: the engine cannot run here, or not a published network; or not in this precision.
        MissingExtra: its package is not installed, or torch is not and graphs have to be exported.
    """
    if precision not in ("auto", "f32", *(("f16",) if engine == "tensorrt" else ())):
        raise EngineError(f"inference.precision = {precision!r}: {engine} runs published networks in f32; use 'f32'")
    runtime = open_engine(engine, threads=threads, cache_dir=plan_folder(engine))
    if engine != "openvino":
        return {}
    _, folder = prepared(str(model.folder))
    return {name: runtime.compile(folder / f"{name}.onnx", precision="f32") for name in GRAPHS}


def published_cameras(cameras: Sequence[Camera]) -> PublishedCameras:
    """Cameras of a rig as both stages take them; the coarse stage's pictures are halves.

    Args:
        cameras: two or more, of the refinement's pictures.

    Raises:
        CalibrationError: a lens that the published network does not know: it has k1 and k2 only.
    """
    K = np.array([camera.K for camera in cameras], np.float32)
    lens = np.array([camera.distortion for camera in cameras], np.float32)
    if lens[:, 2:].any():
        raise CalibrationError(
            "the published network knows radial distortion (k1, k2) only; calibrate without p1, p2, k3"
        )
    half = K.copy()
    half[:, :2] *= 0.5
    half[:, :2, 2] -= 0.25  # middles of pixels are at whole numbers in both
    pose = np.array([camera.camera_from_world[:3] for camera in cameras])
    pose[:, :, 3] *= MM
    two = np.ascontiguousarray(lens[:, :2])
    return PublishedCameras(half, two, K, two, pose.astype(np.float32))


class Straightener:
    """Takes out of pictures the distortion that published networks do not know, as their training does.

    Args:
        cameras: of the pictures.
    """

    def __init__(self, cameras: Sequence[Camera]) -> None:
        """Compute where each pixel of a bent picture comes from."""
        self._maps = {
            slot: cv2.initUndistortRectifyMap(c.K, c.distortion, np.eye(3), c.K, (c.width, c.height), cv2.CV_32FC1)
            for slot, c in enumerate(cameras)
            if c.distortion[2:].any()
        }
        self.cameras = tuple(
            replace(camera, distortion=np.zeros(5)) if slot in self._maps else camera
            for slot, camera in enumerate(cameras)
        )
        """Those of straightened pictures."""

    def __call__(self, pictures: U8, mask: F32) -> U8:
        """Return the pictures (V, H, W, 3), straight where `mask` says that there is one."""
        if not self._maps:
            return pictures
        out = pictures.copy()
        for slot, (x, y) in self._maps.items():
            if mask[slot]:
                cv2.remap(pictures[slot], x, y, cv2.INTER_LINEAR, dst=out[slot])
        return out


def after_straightening(stages: tuple[Stage, ...], straighten: Straightener) -> tuple[Stage, ...]:
    """Return stages of a network whose pictures are made straight first, on the stream of its first stage."""

    def make_straight(access: Access) -> None:
        pictures, mask = access[PICTURES]
        access[PICTURES] = (straighten(pictures, mask), mask)

    return (Stage("straighten", stages[0].stream, make_straight, (PICTURES,), (PICTURES,)), *stages)


class PublishedInRig:
    """The published network for the cameras of a calibration; `close` it.

    Args:
        runs: runs the network.
        straighten: makes its pictures of those that come.
    """

    def __init__(self, runs: RunsPublished, straighten: Straightener) -> None:
        """Keep both."""
        self._runs, self._straighten = runs, straighten

    def run(self, pictures: U8, mask: F32) -> PublishedResult:
        """Reconstruct one set; see `inference.reconstruct.Network`."""
        return self._runs.run(self._straighten(pictures, mask), mask)

    def close(self) -> None:
        """End the threads."""
        self._runs.close()


class StagedInRig(PublishedInRig):
    """As `PublishedInRig`, in stages that overlap with those of other sets.

    Args:
        runs: runs the network.
        straighten: makes its pictures of those that come.
    """

    def __init__(self, runs: PublishedNetwork, straighten: Straightener) -> None:
        """Keep both."""
        super().__init__(runs, straighten)
        self._staged = runs

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages; see `inference.reconstruct.StagedNetwork`."""
        return after_straightening(self._staged.stages(), self._straighten)


class DeviceInRig:
    """The published network for the cameras of a calibration on a GPU; see `inference.networks.OnDevice`.

    Args:
        runs: runs the network.
        straighten: makes its pictures of those that come.
    """

    def __init__(self, runs: "CudaPublishedNetwork", straighten: Straightener) -> None:
        """Keep both."""
        self._runs, self._straighten = runs, straighten
        self.device: Device = runs.device
        """Of the graphs."""
        self.buffers: Mapping[str, BufferSpec] = runs.buffers
        """What every slot holds."""
        self.spaces: Mapping[str, Space] = runs.spaces
        """Where each stream's work runs."""

    def run(self, pictures: U8, mask: F32) -> PublishedResult:
        """Refuse: on a device there are stages only.

        Raises:
            EngineError: always.
        """
        raise EngineError("a published network runs on a GPU in a Pipeline only")

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages; see `inference.networks.StagedNetwork`."""
        return after_straightening(self._runs.stages(), self._straighten)


def published_network(
    model: ModelFiles,
    graphs: Mapping[str, Graph],
    cameras: Sequence[Camera],
    engine: str,
    precision: Precision,
    threads: int,
) -> "PublishedInRig | DeviceInRig":
    """Make a published network for a rig.

    Args:
        model: a published one.
        graphs: of `compile_published`.
        cameras: of the pictures, by slot.
        engine: what runs it.
        precision: of the refinement's nets on a GPU; `auto` is float32.
        threads: threads of the compiled code, or of torch.

    Raises:
        CalibrationError: fewer than two cameras.
        EngineError: the engine cannot run a network of these sizes.
        ModelError: the weights do not fit.
    """
    if len(cameras) < 2:
        raise CalibrationError(f"{len(cameras)} camera: the published network needs two views or more")
    straighten = Straightener(cameras)
    placed = published_cameras(straighten.cameras)
    if engine == "openvino":
        return StagedInRig(PublishedNetwork(published_parts(model), graphs, placed, threads), straighten)
    if engine == "tensorrt":
        from inference.tempeh.gpu.run import open_cuda_network

        folder = exported(model, "f16" if precision == "f16" else "f32", len(cameras))
        return DeviceInRig(open_cuda_network(model, folder, placed), straighten)
    from inference.tempeh.published.run import TorchPublished

    return PublishedInRig(TorchPublished(model, placed, threads), straighten)

"""The published network's compiled path against torch: every kernel, and both stages end to end."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.bench_published import bench_published
from inference.engines import Graph, open_engine
from inference.manifest import Provenance
from inference.model_store import save_model
from inference.schedule import PICTURES, run_in_order
from inference.tempeh.compiled import convolution
from inference.tempeh.compiled.attention import attend
from inference.tempeh.compiled.depth import visibility as compiled_visibility
from inference.tempeh.compiled.fourier import ELEMENT, PRODUCTS, ROWS, seven, transformed_seven
from inference.tempeh.compiled.lines import PLAIN, RELU, SUM_SKIP
from inference.tempeh.compiled.local_net import BLOCK, LocalNet
from inference.tempeh.compiled.network import PublishedCameras, PublishedNetwork, PublishedParts
from inference.tempeh.compiled.sampling import coarse_volume, local_volumes
from inference.tempeh.export import export_graphs
from inference.tempeh.published.export import cpu_graphs
from inference.tempeh.published.seeded import round_head
from inference.tempeh.published.sizes import FULL
from inference.tempeh.published.store import published_parts
from inference.tempeh.published.visibility import visibility
from inference.tempeh.published.volumes import fused_volume
from inference.tempeh.published.weights import initial_coarse, initial_refine, stir
from streamer.errors import CalibrationError, ConfigError, EngineError
from streamer.types import Topology
from tests.inference.published_makers import bumpy_head, rig, tensors

NARROW = replace(
    FULL, vertices=72, trunk_channels=(8, 12, 16, 24), trunk_blocks=(1, 1, 1, 1), grid=8, step_mm=100.0,
    localiser_channels=8, localiser_hidden=16, coarse_levels=(32, 64), coarse_back=(64, 48),
)  # fmt: skip
"""The release's refinement net behind narrow 2D nets and a small coarse volume."""
VIEWS, WIDTH, HEIGHT = 4, 128, 96


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def first(volumes: np.ndarray) -> Tensor:
    """(B, D, D, D, C) as torch has it, float64."""
    return torch.from_numpy(volumes).permute(0, 4, 1, 2, 3).double()


def exact(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).double()


@pytest.mark.parametrize(("size", "inputs", "outputs"), [(8, 16, 32), (8, 32, 32), (4, 32, 64), (2, 64, 128)])
@pytest.mark.parametrize("end", [RELU, SUM_SKIP])
def test_fast_convolutions_are_convolutions(size: int, inputs: int, outputs: int, end: int) -> None:
    x, bias = random(32, size, size, size, inputs), random(outputs, seed=1)
    weight = random(outputs, inputs, 3, 3, 3, seed=2) * (27 * inputs) ** -0.5
    before, after = (random(32, size, size, size, outputs, seed=k) for k in (3, 4))
    function, products, rows = (convolution.toeplitz, 27, 32) if size == 2 else (convolution.winograd, 216, 16)
    out = np.full_like(before, np.nan)
    scratch = [np.zeros(products * (rows * n + convolution.PAD), np.float32) for n in (inputs, outputs)]
    work = np.zeros(products * max(inputs, outputs), np.float32)
    function(x, convolution.transformed(weight, size), bias, before, after, out, end, *scratch, work)
    expected = functional.conv3d(first(x), exact(weight), exact(bias), padding=1)
    added, more = (first(before), first(after)) if end == SUM_SKIP else (0.0, 0.0)
    expected = functional.relu(expected + added) + more
    # F(4, 3) multiplies rounding by some 100 in three dimensions (transforms by 4 and 5, back by 8); values are near 1
    assert (first(out) - expected).abs().max() < 200 * np.finfo(np.float32).eps * 27


def test_the_transform_of_twelve_is_a_convolution_of_seven() -> None:
    x, bias, before = random(ROWS, 8, 8, 8, 16), random(16, seed=1), random(ROWS, 8, 8, 8, 16, seed=3)
    weight = random(16, 16, 7, 7, 7, seed=2) * (343 * 16) ** -0.5
    out = np.full_like(before, np.nan)
    spread = np.zeros(2 * PRODUCTS * (ROWS * ELEMENT + convolution.PAD), np.float32)
    seven(x, transformed_seven(weight), bias, before, out, spread, np.zeros(1120 * ELEMENT, np.float32))
    expected = functional.conv3d(first(x), exact(weight), exact(bias), padding=3)
    assert (first(out) - functional.relu(expected + first(before))).abs().max() < 1e-5


def test_small_layers() -> None:
    x, weight, bias = random(16, 32), random(32, 48, seed=1), random(48, seed=2)
    out = np.empty((16, 48), np.float32)
    convolution.pointwise(x, weight, bias, out, PLAIN, np.empty(8 * 48, np.float32))
    np.testing.assert_allclose(out, x @ weight + bias, atol=1e-4)
    volume = random(2, 4, 4, 4, 16)
    half = np.empty((2, 2, 2, 2, 16), np.float32)
    convolution.halve(volume, half)
    assert torch.equal(first(half), functional.max_pool3d(first(volume), 2))
    up = nn.ConvTranspose3d(16, 32, 2, 2).double()
    kernel = np.ascontiguousarray(up.weight.detach().permute(0, 2, 3, 4, 1).reshape(16, -1).float().numpy())
    skip, wide = random(2, 4, 4, 4, 32, seed=5), np.empty((2, 4, 4, 4, 32), np.float32)
    rising = up.bias.detach().float().numpy()
    convolution.enlarge(half, kernel, rising, skip, wide, np.empty(64 * 32, np.float32))
    expected = functional.relu(up(first(half))) + first(skip)
    assert (first(wide) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("sharpness", [0.1, 3.0])
def test_attention_is_softmax_and_mean(sharpness: float) -> None:
    queries, keys, values = random(21, 48) * sharpness, random(48, 2080, seed=1), random(2080, 3, seed=2) * 100
    got = attend(queries, keys, values)
    logits = torch.from_numpy(queries).double() @ torch.from_numpy(keys).double()
    expected = torch.softmax(logits, -1) @ torch.from_numpy(values).double()
    # a logit of 20 sharpness carries an error of some 1e-6 of it, which the values' extent of 300 turns into mm
    np.testing.assert_allclose(got, expected.numpy(), atol=0.002 * max(1, sharpness))


@pytest.mark.parametrize("quirks", [True, False])
def test_sampling_fuses_as_torch_does(quirks: bool) -> None:
    template, triangles = bumpy_head(64)
    sizes = replace(NARROW, vertices=64)
    stage = initial_refine(sizes, template, triangles, seed=0, quirks=quirks).eval()
    arrays = rig(VIEWS, (WIDTH, HEIGHT))
    compact = random(VIEWS, 8, HEIGHT // 2, WIDTH // 2)
    full = functional.interpolate(torch.from_numpy(compact), size=(HEIGHT, WIDTH), mode="nearest")[None]
    vertices = torch.from_numpy(template)[None] * 1.6  # part of it leaves the pictures
    seen = np.random.default_rng(1).integers(0, 2, (VIEWS, 64))
    with torch.inference_mode():
        normals = stage.normals(vertices)
        points = stage.local_grids(vertices).points
        sees = torch.from_numpy(seen)[None].float()
        fused = stage.volumes(full, tensors(arrays), points, normals, sees, stage.embedding)[0, :, :16]
        world = stage.grid * 60.0
        whole = fused_volume(full, tensors(arrays), world[None], quirks=quirks)[0].T.numpy()
    maps = np.ascontiguousarray(compact.transpose(0, 2, 3, 1))
    K, poses = np.ascontiguousarray(arrays["K"][:, :2]), arrays["camera_from_world"]
    grid = np.ascontiguousarray(np.einsum("vij,pj->vip", poses[:, :, :3], stage.grid.numpy()), np.float32)
    factor = np.asarray(seen * 0.5 + 0.5 if quirks else seen, np.float32)
    out = np.empty((64, 512, 16), np.float32)
    common = (maps, (WIDTH, HEIGHT), K, arrays["distortion"], poses)
    scratch = (np.empty((3, 512), np.float32), np.empty((4, 512), np.float32), np.empty(512, np.float32))
    local_volumes(*common, grid, vertices[0].numpy(), normals[0].numpy(), factor, quirks, out, *scratch)
    # positions in float32 differ by some 1e-4 px, maps by some 3 per px
    difference = np.abs(out - fused.reshape(64, 16, 512).permute(0, 2, 1).numpy())
    assert np.percentile(difference, 99.9) < 1e-3 and (difference > 0.05).mean() < 1e-4  # a point on the very edge
    volume = np.empty((512, 16), np.float32)
    coarse_volume(*common, world.numpy(), quirks, volume)
    difference = np.abs(volume - whole)
    assert np.percentile(difference, 99.5) < 1e-3


def test_the_compiled_depth_test_gives_the_same_bits() -> None:
    vertices, triangles = round_head(900)
    vertices += random(900, 3) * 4
    arrays = rig(VIEWS, (WIDTH, HEIGHT))
    expected = visibility(vertices, triangles, arrays["K"], arrays["camera_from_world"])
    assert 0.2 < expected.mean() < 0.8
    np.testing.assert_array_equal(
        compiled_visibility(vertices, triangles, arrays["K"], arrays["camera_from_world"]), expected
    )


class Both:
    """A network in torch and compiled, with its pictures."""

    def __init__(self, folder: Path) -> None:
        template, triangles = round_head(NARROW.vertices)
        self.coarse = initial_coarse(NARROW, seed=1, quirks=True)
        stir(self.coarse, seed=2, peak=30.0)
        self.refine = initial_refine(NARROW, template, triangles, seed=3, quirks=True)
        stir(self.refine, seed=4, peak=100.0)
        export_graphs(cpu_graphs(self.coarse, self.refine, (HEIGHT, WIDTH), 3), folder)
        engine = open_engine("openvino", threads=1)
        names = ("coarse_features", "localise", "coarse_net", "refine_features")
        self.graphs: Mapping[str, Graph] = {n: engine.compile(folder / f"{n}.onnx", precision="f32") for n in names}
        small, fine = rig(VIEWS, (WIDTH // 2, HEIGHT // 2)), rig(VIEWS, (WIDTH, HEIGHT))
        self.views = (tensors(small), tensors(fine))
        poses = fine["camera_from_world"]
        self.cameras = PublishedCameras(small["K"], small["distortion"], fine["K"], fine["distortion"], poses)
        states = [{k: v.numpy() for k, v in stage.state_dict().items()} for stage in (self.coarse, self.refine)]
        self.parts = PublishedParts(NARROW, True, *states, template, triangles)
        low = np.random.default_rng(5).integers(0, 256, (VIEWS, 3, HEIGHT // 8, WIDTH // 8)).astype(np.float32)
        smooth = functional.interpolate(torch.from_numpy(low), (HEIGHT, WIDTH), mode="bilinear")
        self.pictures = smooth.permute(0, 2, 3, 1).numpy().astype(np.uint8)

    def compiled(self, **changes: object) -> PublishedNetwork:
        return PublishedNetwork(replace(self.parts, **changes), self.graphs, self.cameras, 1)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("graphs"))


def test_both_stages_give_torchs_vertices(both: Both) -> None:
    network = both.compiled()
    slot = run_in_order(network.stages(), {PICTURES: (both.pictures, np.ones(VIEWS, np.float32))})
    got = slot.values["result"]
    small, fine = (torch.from_numpy(slot.values[name][0])[None] for name in ("coarse in", "fine in"))
    with torch.inference_mode():
        coarse = both.coarse(small, both.views[0]).vertices
        start = torch.from_numpy(got.coarse_mm)[None]
        expected = both.refine(fine, both.views[1], start, torch.from_numpy(got.seen)[None].float())
    assert np.linalg.norm(got.coarse_mm - coarse[0].numpy(), axis=1).max() < 0.05
    error = np.linalg.norm(got.vertices_mm - expected[0].numpy(), axis=1)
    assert error.max() < 0.05 and np.median(error) < 0.005
    moved = np.linalg.norm(got.vertices_mm - got.coarse_mm, axis=1)
    assert np.median(moved) > 0.5  # the refinement does something that could be wrong
    np.testing.assert_allclose(got.vertices * 1000, got.vertices_mm, atol=1e-4)
    network.close()


def test_a_missing_view_is_as_if_there_were_no_such_camera(both: Both) -> None:
    mask = np.ones(VIEWS, np.float32)
    mask[1] = 0
    pictures = both.pictures.copy()
    pictures[1] = 0
    network = both.compiled()
    with_hole = network.run(pictures, mask)
    keep = np.array([0, 2, 3])
    fewer = PublishedCameras(*(getattr(both.cameras, name)[keep] for name in PublishedCameras.__slots__))
    without = PublishedNetwork(both.parts, both.graphs, fewer, 1).run(pictures[keep], np.ones(3, np.float32))
    np.testing.assert_array_equal(with_hole.vertices, without.vertices)
    with pytest.raises(CalibrationError, match="1 views have a picture"):
        network.run(pictures, np.eye(VIEWS, dtype=np.float32)[0])
    network.close()


def test_the_bench_gives_the_figures_it_promises(both: Both, tmp_path: Path) -> None:
    export_graphs(cpu_graphs(both.coarse, both.refine, (300, 400), 2), tmp_path)
    topology = Topology(
        "round-head", both.parts.triangles, np.zeros((1, 2), np.float32), np.zeros_like(both.parts.triangles),
        both.parts.template_mm / np.float32(1000),
    )  # fmt: skip
    weights = {"coarse": both.parts.coarse, "refine": both.parts.refine}
    parts = published_parts("narrow", topology, NARROW, weights, Provenance("test"), quirks=True)
    model = save_model(tmp_path / "model", parts)
    result = bench_published(model, tmp_path, engine="openvino", threads=1, views=2, meshes=1)
    assert (result["model"], result["views"], result["precision"]) == ("narrow", 2, "f32")
    assert all(result[key] > 0 for key in ("cpu_s_per_mesh", "wall_s_per_mesh", "meshes_per_s", "overlap_gain"))
    assert set(result["latency_ms"]) == {"p50", "p95", "p99"} and result["peak_memory_mb"] > 0
    assert set(result["stages_ms"]) == {stage.name for stage in both.compiled().stages()}
    with pytest.raises(ConfigError, match="--views 1"):
        bench_published(model, tmp_path, engine="openvino", threads=1, views=1, meshes=1)


def test_what_the_compiled_path_cannot_do_is_said(both: Both) -> None:
    with pytest.raises(EngineError, match="sizes of the release only"):
        both.compiled(sizes=replace(NARROW, width=64))
    network = both.compiled()
    with pytest.raises(EngineError, match="it was exported for"):
        network.run(both.pictures[:, :48], np.ones(VIEWS, np.float32))
    network.close()


def test_two_threads_give_the_same_bits(both: Both) -> None:
    volumes = np.abs(random(3 * BLOCK, 8, 8, 8, 16))

    def fill(begin: int, end: int, out: np.ndarray) -> None:
        out[: end - begin] = volumes[begin:end]

    embedding = np.zeros((len(volumes), 3), np.float32)
    grid = both.refine.grid.numpy()
    nets = [LocalNet(both.parts.refine, NARROW, embedding, grid, threads) for threads in (1, 2)]
    one, two = (net.offsets(fill, len(volumes)) for net in nets)
    np.testing.assert_array_equal(one, two)
    for net in nets:
        net.close()

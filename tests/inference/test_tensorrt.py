"""TensorRT without a GPU: graphs compile with an NVIDIA compiler, bad ones do not; our calls exist in TensorRT 11."""

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from inference.model_export import HALVES
from inference.tempeh.export import export_graphs
from inference.tempeh.gpu.network import GRAPHS
from inference.tempeh.published.export import gpu_graphs
from inference.tensorrt.half import CONVOLUTIONAL, PRODUCTS, half
from inference.tensorrt.plan import CAPABILITIES, build_plan, import_rtx
from streamer.errors import EngineError, MissingExtra, ModelError
from tests.inference import trt_graphs
from tests.inference.genuine import in_genuine
from tests.inference.published_makers import hard_coarse, hard_refine

ROOT = Path(__file__).resolve().parents[2]
LIVE = sorted((ROOT / "inference/weights/live").glob("*.onnx"))
NETS = {"thumbs", "heat", "features", "keys", "eyes", "mouth"}
"""Live graphs of convolutions; the others hold coordinates or logits."""
REFUSED = (
    "float16 and float32",
    "data-dependent shape",
    "many of the largest",
    "scattered sum",
    "smooth reduction",
    "cut file",
)
RTX_ONLY = {"ComputeCapability", "num_compute_capabilities", "set_compute_capability"}
"""What only TensorRT-RTX has; reached with a capability only."""
KINDS = {"builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig"}
"""Names of variables in our code, and what they hold."""
OUTDATED = """
engine = builder.build_engine(network, config)
config.max_workspace_size = 1
config.set_flag(trt.BuilderFlag.FP16)
builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
"""
GENUINE = """
import json, sys
from pathlib import Path
import tensorrt_bindings as trt
sys.path.insert(0, sys.argv[1])
from inference.tensorrt.plan import build_plan
from streamer.errors import EngineError
try:
    build_plan(trt, Path(sys.argv[2]), capability=None)
    said = "a plan"
except EngineError as error:
    said = str(error)
def missing(chain):
    value = trt
    for name in chain:
        value = getattr(value, name, None)
        if value is None:
            return True
    return False
lists = json.loads(sys.argv[3])
print(json.dumps({"version": trt.__version__, "said": said, "missing": [[c for c in l if missing(c)] for l in lists]}))
"""


@pytest.fixture(scope="module")
def rtx() -> Any:
    try:
        return import_rtx()
    except MissingExtra as error:
        pytest.skip(f"{error}")


def halved(path: Path, folder: Path, capability: int) -> Path:
    """A live graph as a GPU of a capability gets it."""
    products = PRODUCTS if capability == 75 else frozenset()
    operators = products | (CONVOLUTIONAL if path.stem in NETS else frozenset())
    target = folder / f"{path.stem}-{capability}.onnx"
    onnx.save(half(onnx.load(str(path)), operators), str(target))
    return target


def test_there_are_graphs() -> None:
    assert {path.stem for path in LIVE} == {*NETS, "stage", "volume", "attend"}


@pytest.mark.parametrize("graph", LIVE, ids=lambda path: path.stem)
def test_live_graphs_compile(graph: Path, rtx: Any, tmp_path: Path) -> None:
    for capability in CAPABILITIES:
        assert len(build_plan(rtx, halved(graph, tmp_path, capability), capability=capability)) > 10_000


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes are constants of a graph, and meant to be
def test_published_graphs_compile(rtx: Any, tmp_path: Path) -> None:
    """The small size; benchmarks/tensorrt_graphs.py does the full one."""
    export_graphs(gpu_graphs(hard_coarse(), hard_refine(), 4, (96, 128)), tmp_path)
    paths = sorted(tmp_path.glob("*.onnx"))
    assert {path.stem for path in paths} == set(GRAPHS)
    for path in paths:
        for capability in (80, 120):
            assert len(build_plan(rtx, path, capability=capability)) > 5_000
        if path.stem in HALVES:
            onnx.save(half(onnx.load(str(path)), CONVOLUTIONAL), str(path))
            assert len(build_plan(rtx, path, capability=89)) > 5_000


@pytest.mark.parametrize("name", REFUSED)
def test_bad_graphs_are_refused(name: str, rtx: Any, tmp_path: Path) -> None:
    build_plan(rtx, trt_graphs.convolution(tmp_path / "good.onnx"), capability=89)
    with pytest.raises(EngineError, match=r"cannot (parse|compile) it: .+"):
        build_plan(rtx, trt_graphs.refused(tmp_path)[name], capability=89)


def test_turing_takes_float16_only(rtx: Any, tmp_path: Path) -> None:
    path = trt_graphs.convolution(tmp_path / "volume.onnx", 3)
    build_plan(rtx, path, capability=80)
    with pytest.raises(EngineError, match="FP32 3D convolution is not supported"):
        build_plan(rtx, path, capability=75)
    onnx.save(half(onnx.load(str(path)), CONVOLUTIONAL), str(path))
    build_plan(rtx, path, capability=75)


def test_what_cannot_be_compiled_for(rtx: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"90.*75, 80"):
        build_plan(rtx, trt_graphs.convolution(tmp_path / "a.onnx"), capability=90)
    with pytest.raises(ModelError, match="no such graph"):
        build_plan(rtx, tmp_path / "b.onnx", capability=89)


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Number of values of each element type that convolutions and products take."""
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    types |= {weight.name: weight.data_type for weight in model.graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    found = [types[name] for node in model.graph.node if node.op_type in {"Conv", "MatMul"} for name in node.input]
    return {TensorProto.DataType.Name(kind): found.count(kind) for kind in set(found)}


def test_half_precision_is_what_it_says(tmp_path: Path) -> None:
    model = onnx.load(str(trt_graphs.convolution(tmp_path / "volume.onnx", 3)))
    small = half(model, CONVOLUTIONAL)
    assert kinds(small) == {"FLOAT16": 2} and kinds(model) == {"FLOAT": 2} == kinds(half(model, frozenset()))
    x = {"x": np.random.default_rng(1).normal(size=(1, 4, 6, 6, 6)).astype(np.float32)}
    (exact,), (got,) = (ReferenceEvaluator(m).run(None, x) for m in (model, small))
    assert got.dtype == np.float32 and np.array_equal(
        ReferenceEvaluator(half(model, frozenset())).run(None, x)[0], exact
    )
    # 11 bits in inputs, kernel, sum and result, values up to 5; the reference sums 108 products in float16 too
    assert 0 < np.abs(got - exact).max() < 5 * 2**-11 * 12


def test_products_in_half_keep_the_softmax_in_float32() -> None:
    model = onnx.load(str(ROOT / "inference/weights/live/attend.onnx"))
    small = half(model, PRODUCTS)
    assert set(kinds(small)) == {"FLOAT16"}
    softmax = [node for node in small.graph.node if node.op_type in {"Softmax", "Pow", "Div"}]
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(small).graph.value_info}
    assert softmax and all(types[node.output[0]] == TensorProto.FLOAT for node in softmax)


def used(text: str) -> list[list[str]]:
    """Chains of names that a source takes from TensorRT: members of the module, and of what it makes."""
    chains: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and names and node.id in {"trt", *KINDS}:
            chains.add(tuple(names) if node.id == "trt" else (KINDS[node.id], names[0]))
    return [list(chain) for chain in sorted(chains) if not RTX_ONLY & set(chain)]


def test_our_calls_exist_in_tensorrt_11(tmp_path: Path) -> None:
    """Against NVIDIA's own bindings, loaded with libraries that do nothing; calls that were removed are noticed."""
    ours = [chain for path in (ROOT / "inference/tensorrt").glob("*.py") for chain in used(path.read_text("utf-8"))]
    graph = trt_graphs.convolution(tmp_path / "graph.onnx")
    found = in_genuine(GENUINE, tmp_path, str(graph), json.dumps([ours, used(OUTDATED)]))
    assert found["version"].startswith("11.4.") and "needs an NVIDIA driver" in found["said"]
    assert ["Builder", "build_serialized_network"] in ours and ["OnnxParser", "parse"] in ours
    assert found["missing"] == [
        [],
        [
            ["Builder", "build_engine"],
            ["BuilderFlag", "FP16"],
            ["IBuilderConfig", "max_workspace_size"],
            ["NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"],
        ],
    ]

"""Official checkpoints: imported whole and exactly, or refused with everything that is wrong in one line."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.meshes import read_mesh
from inference.model_store import load_model
from inference.published import published_entry
from inference.tempeh.published.checkpoint import official_checkpoint
from inference.tempeh.published.sizes import SMALL
from inference.tempeh.published.store import Imported, import_official, load_coarse, load_refine
from streamer.errors import MeshError, ModelError
from tests.inference.makers import tiny_model
from tests.inference.published_makers import bumpy_head, hard_coarse, hard_refine


def write_obj(path: Path, vertices: np.ndarray, triangles: np.ndarray) -> Path:
    """Metres, OBJ counts from 1; normals and a comment, as exporters write them."""
    lines = ["# made by hand", *(f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices), "vn 0 0 1"]
    path.write_text("\n".join(lines + [f"f {a + 1}//1 {b + 1}//1 {c + 1}//1" for a, b, c in triangles]) + "\n")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints as the release saves them, and a template."""
    folder = tmp_path_factory.mktemp("official")
    for name, stage in (("coarse", hard_coarse()), ("refine", hard_refine())):
        state: dict[str, Any] = dict(official_checkpoint(stage.state_dict(), name))
        state["optimizer_model"] = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"group_id": "base"}]}
        torch.save(state, folder / f"{name}.pth")
    template, triangles = bumpy_head()
    write_obj(folder / "template.obj", template / 1000, triangles)
    return {
        name: folder / file
        for name, file in (("coarse", "coarse.pth"), ("refine", "refine.pth"), ("template", "template.obj"))
    }


def bring(files: dict[str, Path], out: Path, **changed: Path) -> Imported:
    given = files | changed
    return import_official(given["coarse"], given["refine"], given["template"], out, sizes=SMALL)


def test_official_weights_arrive_bit_by_bit(files: dict[str, Path], tmp_path: Path) -> None:
    done = bring(files, tmp_path / "model")
    assert done.consumed == {"coarse": len(hard_coarse().state_dict()), "refine": len(hard_refine().state_dict())}
    assert set(done.explained) == {"coarse: optimizer_model", "refine: optimizer_model"}
    model = load_model(tmp_path / "model")
    assert model.id == done.model.id
    entry = published_entry(model)
    assert entry.quirks and entry.sizes == SMALL
    for found, made in ((load_coarse(model), hard_coarse()), (load_refine(model), hard_refine())):
        assert not found.training
        for name, value in made.state_dict().items():
            assert torch.equal(found.state_dict()[name], value), name
        for name, value in made.named_buffers():
            assert torch.allclose(dict(found.named_buffers())[name], value, rtol=1e-6), name
    template, triangles = bumpy_head()
    np.testing.assert_allclose(model.constants["template_mm"], template, rtol=1e-6)
    np.testing.assert_array_equal(model.topology.triangles, triangles)
    with pytest.raises(ModelError, match="exists already"):
        bring(files, tmp_path / "model")


def test_everything_that_is_wrong_is_in_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(files["coarse"], weights_only=True)["model"]
    gone = "sparse_point_net.global_net.encoder_decoder.mid_res.res_branch.3.bias"
    bent = "feature_net.model.resnet34_32s.layer2.0.conv1.weight"
    spoiled = "sparse_point_net.grid_refiner.mapping.2.bias"
    turned, cast = "feature_net.model.skip1.bias", "feature_net.model.skip2.bias"
    del state[gone]
    state["sparse_point_net.extra.weight"] = torch.zeros(2)
    state[bent] = state[bent][:, :1]
    state[spoiled][4] = float("nan")
    state[cast] = state[cast].half()
    variance = next(key for key in state if key.endswith("running_var"))
    state[variance][0] = -1.0
    state[turned] = "not a tensor"
    with pytest.raises(ModelError) as caught:
        torch.save({"model": state}, tmp_path / "bad.pth")
        bring(files, tmp_path / "model", coarse=tmp_path / "bad.pth")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "2 missing: ",
        gone,
        turned,
        "1 extra: sparse_point_net.extra.weight",
        f"{bent} is (12, 1, 3, 3), expected (12, 8, 3, 3)",
        f"{cast} is torch.float16, expected torch.float32",
        "2 not finite: ",
        spoiled,
        f"{variance} (a negative variance)",
    ):
        assert part in message, part
    assert not (tmp_path / "model").exists()


def test_exchanged_checkpoints_are_recognised(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"of the other stage \(refine\).* missing: "):
        bring(files, tmp_path / "model", coarse=files["refine"], refine=files["coarse"])


class Harmful:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_format", [False, True])
def test_code_in_a_checkpoint_is_refused_and_never_run(
    files: dict[str, Path], tmp_path: Path, old_format: bool
) -> None:
    torch.save(
        {"model": Harmful(tmp_path / "harm")}, tmp_path / "bad.pth", _use_new_zipfile_serialization=not old_format
    )
    with pytest.raises(ModelError, match="nothing in it is ever run"):
        bring(files, tmp_path / "model", coarse=tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


def test_files_that_are_no_checkpoints(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.pth: not a checkpoint of plain tensors"):
        bring(files, tmp_path / "model", refine=tmp_path / "text.pth")
    with pytest.raises(ModelError, match=r"gone\.pth: cannot be read"):
        bring(files, tmp_path / "model", refine=tmp_path / "gone.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(ModelError, match="holds a Tensor, not a state dict"):
        bring(files, tmp_path / "model", refine=tmp_path / "tensor.pth")


def test_templates_that_do_not_fit(files: dict[str, Path], tmp_path: Path) -> None:
    vertices, triangles = bumpy_head()
    cases = {
        "count": (write_obj(tmp_path / "few.obj", vertices[:56] / 1000, triangles[:20]), "56 vertices, the network"),
        "millimetres": (write_obj(tmp_path / "mm.obj", vertices, triangles), "in millimetres; metres are expected"),
        "cloud": (write_obj(tmp_path / "cloud.obj", vertices / 1000, triangles[:0]), "has no triangles"),
    }
    for path, message in cases.values():
        with pytest.raises(MeshError, match=re.escape(message)):
            bring(files, tmp_path / "model", template=path)
    assert not (tmp_path / "model").exists()


def test_weights_that_do_not_fit_their_manifest(files: dict[str, Path], tmp_path: Path) -> None:
    folder = bring(files, tmp_path / "model").model.folder
    manifest = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text(manifest.replace("front = 4", "front = 6"))
    with pytest.raises(ModelError, match="does not fit the sizes"):
        load_coarse(load_model(folder))
    with pytest.raises(ModelError, match="is a live model"):
        load_coarse(tiny_model(tmp_path / "live"))


def test_meshes_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    vertices = "v 0 0 0\nv 1 0 0 0.5 0.5 0.5\nv 1 1 0\nv 0 1 0\n"
    (tmp_path / "a.obj").write_text(vertices + "vt 0 0\nf 1/1 2/1 3/1 4/1\nf -4 -2 -1\n")
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 2, 3]]
    header = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    (tmp_path / "b.ply").write_text(
        header + "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
        "0 0 0\n1 0 0\n1 1 0\n1 0 0\n3 3 2 0\n"
    )
    mesh = read_mesh(tmp_path / "b.ply")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]]  # equal vertices are not joined
    assert mesh.triangles.tolist() == [[3, 2, 0]]
    (tmp_path / "c.ply").write_text(header + "end_header\n0 0 0\n1 0 0\n1 1 0\n1 0 0\n")
    assert read_mesh(tmp_path / "c.ply").triangles.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.stl", "solid", "read from .obj and .ply"),
        ("a.obj", "v 0 0 0\nv 1 0\nf 1 2 3\n", "line 2: 'v 1 0' is no OBJ"),
        ("a.obj", "v 0 0 nan\nf 1 1 1\n", "1 vertices are not finite"),
        ("a.obj", "v 0 0 0\nf 1 1 7\n", "names vertex 6 of 1"),
        ("a.obj", "# nothing\n", "holds no vertex"),
        ("a.ply", "ply\nrubbish", "not a readable PLY"),
    ],
)
def test_damaged_meshes_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MeshError, match=re.escape(message)):
        read_mesh(tmp_path / name)

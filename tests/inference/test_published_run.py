"""`mien model run`: what it says is what the specification says, and nonsense is named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mien
from inference.manifest import Provenance
from inference.meshes import SurfaceMesh
from inference.model_store import ModelFiles, save_model
from inference.tempeh.published.inputs import read_inputs
from inference.tempeh.published.run import run_published
from inference.tempeh.published.sizes import SMALL
from inference.tempeh.published.store import mesh_topology, published_parts
from inference.tempeh.published.visibility import visibility
from streamer.errors import CalibrationError, MienError, ModelError
from tests.inference import published_oracle as oracle
from tests.inference.makers import tiny_model
from tests.inference.published_makers import (
    bumpy_head,
    hard_coarse,
    hard_refine,
    noise_pictures,
    official_state,
    rig,
)

VIEWS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A small published model with hard weights, its quirks on."""
    template, triangles = bumpy_head()
    topology = mesh_topology(SurfaceMesh(template / np.float32(1000), triangles))
    stages = {"coarse": hard_coarse(), "refine": hard_refine()}
    weights = {name: {k: v.numpy() for k, v in stage.state_dict().items()} for name, stage in stages.items()}
    parts = published_parts("small", topology, SMALL, weights, Provenance(), quirks=True)
    return save_model(tmp_path_factory.mktemp("published") / "small", parts)


def raw_inputs() -> dict[str, np.ndarray]:
    """What IN.npz holds."""
    coarse, refine = rig(VIEWS, (66, 50)), rig(VIEWS, (132, 100))
    return {
        "images_coarse": noise_pictures(VIEWS, 50, 66).numpy(),
        "images_refine": noise_pictures(VIEWS, 100, 132, seed=8).numpy(),
        "K_coarse": coarse["K"],
        "K_refine": refine["K"],
        "distortion_coarse": coarse["distortion"],
        "distortion_refine": refine["distortion"] * 4,
        "camera_from_world": coarse["camera_from_world"],
    }


def run(model: ModelFiles, folder: Path, arrays: dict[str, np.ndarray], *options: str) -> dict[str, np.ndarray]:
    """Run the verb in this process and read what it wrote."""
    np.savez(folder / "in.npz", **arrays)
    command = ["model", "run", str(model.folder), "--inputs", str(folder / "in.npz"), "--out", str(folder / "out.npz")]
    assert mien.main([*command, *options]) == 0
    with np.load(folder / "out.npz") as out:
        return dict(out)


def test_both_stages_agree_with_the_specification(
    model: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = raw_inputs()
    out = run(model, tmp_path, arrays | {"note": np.zeros(1)}, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["stages"] == ["coarse", "refine"] and told["ignored"] == ["note"] and told["views"] == VIEWS
    double = {key: torch.from_numpy(value).double() for key, value in arrays.items()}
    views = (double["K_coarse"], double["distortion_coarse"], double["camera_from_world"])
    vertices, scale, rotation, shift = oracle.coarse(
        official_state(hard_coarse(), torch.float64),
        double["images_coarse"],
        views,
        blocks=SMALL.trunk_blocks,
        grid=SMALL.grid,
        step=SMALL.step_mm,
        centre=SMALL.centre_mm,
        levels=len(SMALL.coarse_levels),
        largest=SMALL.localiser_scale,
    )
    np.testing.assert_allclose(out["coarse_vertices"], vertices, atol=0.02)
    np.testing.assert_allclose(out["localiser_scale"], scale, atol=2e-5)
    np.testing.assert_allclose(out["localiser_rotation"], rotation, atol=2e-5)
    np.testing.assert_allclose(out["localiser_translation_mm"], shift, atol=5e-3)
    template, triangles = bumpy_head()
    coarse = torch.from_numpy(out["coarse_vertices"]).double()
    np.testing.assert_allclose(out["normals"], oracle.normals(coarse, torch.from_numpy(triangles)), atol=2e-4)
    seen = visibility(out["coarse_vertices"], triangles, arrays["K_refine"], arrays["camera_from_world"])
    assert (out["visibility"] == seen).mean() > 0.99  # the hand-over in metres may turn a vertex at the very edge
    expected = oracle.refine(
        official_state(hard_refine(), torch.float64),
        double["images_refine"],
        (double["K_refine"], double["distortion_refine"], double["camera_from_world"]),
        coarse,
        torch.from_numpy(out["visibility"]).long(),
        torch.from_numpy(template).double(),
        torch.from_numpy(triangles),
        blocks=SMALL.trunk_blocks,
        grid=SMALL.local_grid,
        step=SMALL.local_step_mm,
        levels=len(SMALL.local_levels),
    )
    np.testing.assert_allclose(out["vertices"], expected, atol=2e-3)
    assert {key: value.shape for key, value in out.items()} == {
        "coarse_vertices": (64, 3),
        "vertices": (64, 3),
        "visibility": (VIEWS, 64),
        "normals": (64, 3),
        "localiser_scale": (3,),
        "localiser_rotation": (3, 3),
        "localiser_translation_mm": (3,),
    }


def test_the_refinement_runs_alone_from_given_vertices_and_visibility(model: ModelFiles, tmp_path: Path) -> None:
    arrays = raw_inputs()
    template, _ = bumpy_head()
    given = {key: value for key, value in arrays.items() if "coarse" not in key}
    given["coarse_vertices"] = template + np.array([2.0, -50.0, 1.0], np.float32)
    given["visibility"] = np.random.default_rng(0).integers(0, 2, (VIEWS, 64))
    out = run(model, tmp_path, given)
    np.testing.assert_array_equal(out["coarse_vertices"], given["coarse_vertices"])
    np.testing.assert_array_equal(out["visibility"], given["visibility"])
    assert np.isnan(out["localiser_scale"]).all() and np.isfinite(out["vertices"]).all()
    assert 0.1 < np.linalg.norm(out["vertices"] - out["coarse_vertices"], axis=1).max() < 8 * 3**0.5
    again = run(model, tmp_path, given | {"visibility": 1 - given["visibility"]})
    assert not np.array_equal(again["vertices"], out["vertices"])


def broken(**changes: object) -> dict[str, np.ndarray]:
    arrays = raw_inputs()
    for key, change in changes.items():
        arrays[key] = change(arrays[key]) if callable(change) else np.asarray(change)
        if arrays[key] is None:
            del arrays[key]
    return arrays


def away(cameras: np.ndarray) -> np.ndarray:
    """The third camera turned round."""
    turned = cameras.copy()
    turned[2] = np.diag([-1.0, 1, -1]) @ turned[2]
    return turned


CASES: list[tuple[dict[str, np.ndarray], type[MienError], str]] = [
    ({"images_refine": np.zeros(1)}, ModelError, "lacks K_refine, distortion_refine, camera_from_world, images_coarse"),
    ({key: value[:1] for key, value in raw_inputs().items()}, CalibrationError, "1 view; a head cannot be"),
    (broken(K_coarse=lambda a: a[:3]), ModelError, "K_coarse is (3, 3, 3) float32; expected (4, 3, 3) float32"),
    (broken(images_coarse=lambda a: (a * 60 + 128).astype(np.uint8)), ModelError, "(4, 3, 50, 66) uint8; expected"),
    (broken(images_refine=lambda a: a * 60 + 128), ModelError, "normalised ones are expected"),
    (
        broken(images_refine=lambda a: np.where(np.arange(VIEWS)[:, None, None, None] == 1, np.float32(-2), a)),
        ModelError,
        "images_refine of view 1 are of one value",
    ),
    (broken(distortion_refine=lambda a: a * np.nan), ModelError, "distortion_refine holds values that are not finite"),
    (broken(camera_from_world=lambda a: a * [1, 1, 1, 0.001]), CalibrationError, "seems to be in metres"),
    (broken(camera_from_world=lambda a: a * [2, 1, 1, 1]), CalibrationError, "of view 0, 1, 2, 3 is no rigid"),
    (broken(camera_from_world=away), CalibrationError, "view 2 of 4 sees nothing of the capture volume"),
    (broken(visibility=np.full((VIEWS, 64), 2)), ModelError, "expected (4, 64) of 0 and 1"),
    (broken(coarse_vertices=np.zeros((63, 3), np.float32)), ModelError, "(63, 3) float32; expected (64, 3)"),
    (broken(K_refine=lambda a: a * 0), CalibrationError, "K_refine of view 0, 1, 2, 3 is singular"),
]


@pytest.mark.parametrize(("arrays", "kind", "message"), CASES, ids=[case[2][:30] for case in CASES])
def test_nonsense_is_named(
    model: ModelFiles, tmp_path: Path, arrays: dict[str, np.ndarray], kind: type[MienError], message: str
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(kind, match=re.escape(message)):
        run_published(model, read_inputs(tmp_path / "in.npz", 64), lambda *_: None)


def test_only_published_models_run(model: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = tiny_model(tmp_path / "live").folder
    np.savez(tmp_path / "in.npz", **raw_inputs())
    command = ["model", "run", str(live), "--inputs", str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.npz")]
    assert mien.main(command) == 1
    assert "is a live model" in capsys.readouterr().err
    assert mien.main([*command[:-1], str(tmp_path / "out.txt")]) == 1
    assert "choose a name that ends so" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()

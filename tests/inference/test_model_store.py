"""Models on disk: what is saved comes back, and whatever was changed since is refused by name."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference import model_store
from inference.manifest import Manifest, Provenance, manifest_to_text, parse_manifest
from inference.model_store import GraphFile, load_model, save_model
from inference.topology_file import load_topology, read_arrays, save_topology
from streamer.errors import ModelError
from streamer.types import Topology
from tests.inference.makers import octahedron, tiny_model


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    saved = tiny_model(tmp_path / "models" / "tiny")
    loaded = load_model(tmp_path / "models" / "tiny")
    assert loaded.id == saved.id and loaded.manifest == saved.manifest
    assert (loaded.name, loaded.width, loaded.height, loaded.max_views) == ("tiny", 16, 12, 8)
    assert loaded.topology.id == octahedron().id and loaded.topology.units == ("jawOpen", "mouthClose")
    assert loaded.provenance == Provenance("mien train takes --seed 7", 7, "0123abc", 12, {"face_median_mm": 1.5})
    assert loaded.graphs == {"mean": GraphFile(tmp_path / "models" / "tiny" / "mean.onnx", "geometry")}
    np.testing.assert_array_equal(loaded.constants["template"], octahedron().template)
    assert not loaded.constants["template"].flags.writeable
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == ["tiny"]  # no working folder left


def test_shipped_models_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "WEIGHTS", tmp_path)
    assert model_store.shipped_models() == []
    tiny_model(tmp_path / "live")
    assert model_store.shipped_models() == ["live"]
    assert load_model("live").folder == tmp_path / "live"
    with pytest.raises(ModelError, match=r"'dead'.*there are: live"):
        load_model("dead")


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny").folder
    for part in ("mean.onnx", "topology.npz", "constants.npz"):
        content = (folder / part).read_bytes()
        (folder / part).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ModelError, match=rf"{re.escape(part)}: sha256 is .* says"):
            load_model(folder)
        (folder / part).unlink()
        with pytest.raises(ModelError, match=rf"{re.escape(part)}: cannot be read: No such file"):
            load_model(folder)
        (folder / part).write_bytes(content)
    load_model(folder)


def test_weights_that_do_not_fit_the_topology_name_both_counts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"do not fit the topology: constant 'template' is for 5 vertices, .* has 6"):
        tiny_model(tmp_path / "tiny", constants={"template": np.zeros((5, 3), np.float32)})
    assert not (tmp_path / "tiny").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertex_axes": {}}, "nothing ties the weights to the topology"),
        ({"vertex_axes": {"decoder": 0}}, "names 'decoder', which constants.npz does not hold"),
        ({"vertex_axes": {"template": 2}}, r"template = 2, but its shape is \(6, 3\)"),
        ({"constants": {"template": np.full((6, 3), np.nan, np.float32)}}, "not finite"),
        ({"max_views": 0}, "max_views = 0 is out of range"),
        ({"provenance": Provenance(measured={"loss": float("nan")})}, "loss = nan is not finite"),
        ({"graphs": {"mean": GraphFile(Path("/nowhere/mean.onnx"), "net")}}, "cannot be written: .*mean.onnx"),
    ],
)
def test_parts_that_do_not_belong_together_are_never_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        tiny_model(tmp_path / "tiny", **changes)
    assert not (tmp_path / "tiny").exists() and not list(tmp_path.glob(".*"))


def test_saving_over_a_model_needs_leave_and_a_failure_keeps_the_old_one(tmp_path: Path) -> None:
    old = tiny_model(tmp_path / "tiny")
    parts = model_store.ModelParts("new", 16, 12, 8, old.topology, old.constants, {"template": 0}, {}, Provenance())
    with pytest.raises(ModelError, match="exists already"):
        save_model(old.folder, parts)
    with pytest.raises(ModelError, match="nothing ties"):
        save_model(old.folder, replace(parts, vertex_axes={}), overwrite=True)
    assert load_model(old.folder).name == "tiny"
    assert save_model(old.folder, parts, overwrite=True).name == "new"


def _manifest(edit: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.toml").write_text(edit((folder / "model.toml").read_text()))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("schema = 1", "schema = 2"), "schema = 2, this Mien reads 1"),
        (lambda text: text.replace("width = 16", "widht = 16"), "widht: unknown key; did you mean 'width'"),
        (lambda text: text.replace("width = 16", "width = '16'"), "expected int, got str"),
        (lambda text: text.replace("max_views = 8\n", ""), "'max_views' is missing"),
        (lambda text: text.replace('"mean.onnx"', '"../mean.onnx"'), r"graphs\.mean\.file = '\.\./mean\.onnx'"),
        (lambda text: text.replace('"geometry"', '"f16"'), "precision = 'f16' is not allowed"),
        (lambda text: text[:40], "not valid TOML|is missing"),
        (lambda text: re.sub(r'sha256 = "[0-9a-f]{64}"', 'sha256 = "abc"', text, count=1), "64 hexadecimal digits"),
    ],
)
def test_a_manifest_that_was_edited_wrongly_is_refused(
    tmp_path: Path, edit: Callable[[str], str], message: str
) -> None:
    folder = tiny_model(tmp_path / "tiny").folder
    _manifest(edit)(folder)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"), min_size=1), st.integers(0, 2**60))
def test_any_text_survives_the_manifest(command: str, name: str, seed: int) -> None:
    base = "a" * 64
    text = manifest_to_text(
        Manifest(
            name=name, width=16, height=12, max_views=2, provenance=Provenance(command, seed, measured={command: 0.25})
        )
    )
    text = text.replace('file = ""\nsha256 = ""', f'file = "x.npz"\nsha256 = "{base}"')
    text = text.replace("vertex_axes = {  }", "vertex_axes = { t = 0 }")
    parsed = parse_manifest(text, "here")
    assert (parsed.name, parsed.provenance) == (name, Provenance(command, seed, measured={command: 0.25}))


def test_a_topology_comes_back_with_its_id(tmp_path: Path) -> None:
    save_topology(octahedron(), tmp_path / "t.npz")
    save_topology(octahedron(), tmp_path / "again.npz")
    assert load_topology(tmp_path / "t.npz").id == octahedron().id
    assert (tmp_path / "t.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    empty = Topology("bare", np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((4, 3)))
    save_topology(empty, tmp_path / "bare.npz")
    assert load_topology(tmp_path / "bare.npz").id == empty.id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_an_npz_cut_or_changed_anywhere_never_escapes_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    save_topology(octahedron(), tmp_path / "t.npz")
    content = bytearray((tmp_path / "t.npz").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "cut.npz").write_bytes(content)
    try:
        assert load_topology(tmp_path / "cut.npz").vertex_count == 6
    except ModelError as error:
        assert "cut.npz" in str(error) or "octahedron" in str(error) or "topology" in str(error)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, template=np.array([{"code": "object"}], object))
    (tmp_path / "evil.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match=r"evil\.npz: not a readable npz"):
        read_arrays(tmp_path / "evil.npz")
    with pytest.raises(ModelError, match="holds no 'name'"):
        np.savez(tmp_path / "part.npz", template=np.zeros((6, 3)))
        load_topology(tmp_path / "part.npz")

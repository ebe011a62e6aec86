"""The Unity package's decoder under Mono, against golden files and garbage; its connection: test_clients.py."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.plugins.golden import FOLDER, TARGETS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins/unity"
ENGINE_FREE = ["Records.cs", "Json.cs", "MienClient.cs"]
MUTATIONS = 3000

needs_mono = pytest.mark.skipif(
    not (shutil.which("mcs") and shutil.which("mono")),
    reason="no Mono: run requirements/consumers.sh .venv/bin/python",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unity") / "dump.exe"
    sources = [*(PACKAGE / "Runtime" / name for name in ENGINE_FREE), ROOT / "tests/plugins/unity_dump.cs"]
    command = ["mcs", "-langversion:7", "-warn:4", "-warnaserror", f"-out:{made}", *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def run(program: Path, what: str, number: int, *names: str) -> str:
    files = [str(FOLDER / name) for name in names]
    command = ["mono", str(program), what, str(number), *files]
    done = subprocess.run(command, capture_output=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8")


def sections(told: str) -> list[list[str]]:
    return [part.splitlines()[1:] for part in re.split(r"^(?=# )", told, flags=re.MULTILINE)[1:]]


@needs_mono
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_golden_streams_are_read_bit_by_bit(program: Path, step: int) -> None:
    names = ["head", *TARGETS]
    told = sections(run(program, "dump", step, *(f"{name}.bin" for name in names)))
    for name, lines in zip(names, told, strict=True):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name


@needs_mono
def test_every_fault_is_named_and_said(program: Path) -> None:
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    told = sections(run(program, "dump", 1, *(f"faults/{name}.bin" for name, _, _ in table)))
    for (name, fault, whole), lines in zip(table, told, strict=True):
        assert lines[-2] == f"error {fault}" and len(lines) == int(whole) + 2, name
        assert len(lines[-1]) > len("said ") + 20, name


@needs_mono
def test_truncations_and_mutations_raise_nothing_but_their_own(program: Path) -> None:
    seeds = ["head.bin", "unity.bin", "stream.bin", *(f"faults/{path.name}" for path in (FOLDER / "faults").iterdir())]
    cuts, mutations, read = (int(number) for number in re.findall(r"\d+", run(program, "fuzz", MUTATIONS, *seeds)))
    assert cuts > 1000 and mutations == MUTATIONS and read > mutations / 4


@needs_mono
def test_frames_make_no_garbage(program: Path) -> None:
    """200,000 frames: had each left even 24 bytes, 4.8 MB, Mono's nursery of 4 MB would have been collected."""
    assert run(program, "garbage", 0, "stream.bin") == "collections 0\n"


def test_engine_free_means_engine_free_and_the_package_has_mien_version() -> None:
    for name in ENGINE_FREE:
        assert "using UnityEngine" not in (PACKAGE / "Runtime" / name).read_text()
    package = json.loads((PACKAGE / "package.json").read_text())
    assert package["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert all((PACKAGE / sample["path"]).is_dir() for sample in package["samples"])
    assert json.loads((PACKAGE / "Runtime/Mien.Live.asmdef").read_text())["name"] == "Mien.Live"


def test_every_asset_has_an_identity_and_the_sample_scene_uses_the_script() -> None:
    """Unity ignores files of an installed package that have no .meta; the scene names its script by the guid there."""
    folders = ("Samples~", "LiveHead")  # hidden from Unity by the ~
    assets = [path for path in PACKAGE.rglob("*") if path.suffix != ".meta" and path.name not in folders]
    guids = {path: re.findall(r"^guid: ([0-9a-f]{32})$", Path(f"{path}.meta").read_text(), re.M) for path in assets}
    assert all(len(found) == 1 for found in guids.values())
    assert len({found[0] for found in guids.values()}) == len(assets)
    scene = (PACKAGE / "Samples~/LiveHead/LiveHead.unity").read_text()
    assert re.findall(r"m_Script: .*guid: (\w+)", scene) == guids[PACKAGE / "Samples~/LiveHead/LiveHeadSample.cs"]
    made, used = set(re.findall(r"^--- !u!\d+ &(\d+)", scene, re.M)), set(re.findall(r"fileID: (\d+)\}", scene))
    assert used - {"0"} <= made, "what the scene refers to is in it"

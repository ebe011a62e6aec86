"""The Unreal plugin's decoder, compiled with all warnings and sanitizers, against golden files, cuts and garbage."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.plugins.golden import FOLDER, TARGETS

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins/unreal/MienLive"
HEADERS = PLUGIN / "Source/MienLive/Public"
DECODER = ("MienJson.h", "MienRecords.h")
MACROS = ["-Dcheck(expr)=@", "-Dverify(expr)=@", "-Densure(expr)=@", "-DTEXT(text)=@", "-DPI=@", "-DUI=@"]
"""Names that are macros in Unreal: whoever uses them does not compile there."""
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", *MACROS]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_SANITIZE_VECTOR=1"]
MUTATIONS = 4000

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++: the C++ decoder cannot be compiled")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unreal") / "dump"
    source = ROOT / "tests/plugins/unreal_dump.cpp"
    command = ["g++", *STRICT, *SANITIZED, f"-I{HEADERS}", source, "-o", made]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    return made


def run(program: Path, what: str, number: int, *names: str) -> str:
    files = [str(FOLDER / name) for name in names]
    done = subprocess.run([program, what, str(number), *files], capture_output=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8")


def sections(told: str) -> list[list[str]]:
    return [part.splitlines()[1:] for part in re.split(r"^(?=# )", told, flags=re.MULTILINE)[1:]]


@needs_compiler
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_golden_streams_are_read_bit_by_bit(program: Path, step: int) -> None:
    names = ["head", *TARGETS]
    told = sections(run(program, "dump", step, *(f"{name}.bin" for name in names)))
    for name, lines in zip(names, told, strict=True):
        assert lines == (FOLDER / f"{name}.txt").read_text("utf-8").splitlines(), name


@needs_compiler
def test_every_fault_is_named_and_said(program: Path) -> None:
    table = [line.split() for line in (FOLDER / "faults.txt").read_text().splitlines()]
    told = sections(run(program, "dump", 1, *(f"faults/{name}.bin" for name, _, _ in table)))
    for (name, fault, whole), lines in zip(table, told, strict=True):
        assert lines[-2] == f"error {fault}" and len(lines) == int(whole) + 2, name
        assert len(lines[-1]) > len("said ") + 20, name
    newer = told[[name for name, _, _ in table].index("newer")][-1]
    assert "use the plugin that came with your Mien" in newer


@needs_compiler
def test_truncations_and_mutations_are_survived(program: Path) -> None:
    """Address and undefined-behaviour sanitizers end the program at the first read outside a record."""
    seeds = ["head.bin", "unreal.bin", "stream.bin", *(f"faults/{path.name}" for path in (FOLDER / "faults").iterdir())]
    told = run(program, "fuzz", MUTATIONS, *seeds)
    cuts, mutations, read = (int(number) for number in re.findall(r"\d+", told))
    assert cuts > 1000 and mutations == MUTATIONS and read > mutations / 4, told


TEXTS = [
    "{}", " { } ", '{"a":1}', '{"a":-1.5e+10}', '{"a":[1,"b",[],{"c":null}]}', '{"a":"\\u00e9\\ud83d\\ude00\\n"}',
    '{"a":"é"}', '{"a":true,"a":false}', "[]", "1", '"a"', "", "{", '{"a"}', '{"a":}', '{"a":1,}', "{,}",
    '{"a":01x}', '{"a":1.}', '{"a":.5}', '{"a":1e}', '{"a":+1}', '{"a":tru}', '{"a":nul}', '{"a":"\\x"}',
    '{"a":"\\u12"}', '{"a":"\t"}', '{"a":[1,]}', '{"a":[1 2]}', "{a:1}", "{'a':1}", '{"a":1}}', '{"a":1} x',
    '{"a":{"b":[}}', '{"a":"b', '{"a"="b"}', '{"a":[1}', "{1:2}", '{"a":--1}',
]  # fmt: skip


@needs_compiler
def test_json_is_read_as_strictly_as_python_reads_it(program: Path, tmp_path: Path) -> None:
    def strict(text: str) -> bool:
        try:
            return isinstance(json.loads(text), dict)
        except ValueError:
            return False

    (tmp_path / "texts").write_text("\n".join(TEXTS) + "\n")
    told = run(program, "json", 0, str(tmp_path / "texts")).split()
    assert [bool(int(word)) for word in told] == [strict(text) for text in TEXTS]


@pytest.mark.skipif(
    not shutil.which("clang++"), reason="no clang++ with libFuzzer: run requirements/consumers.sh as root on Debian"
)
def test_libfuzzer_finds_nothing_in_a_short_search(tmp_path: Path) -> None:
    """A few seconds from the golden files on; plugins/unreal/README.md has the command for longer ones."""
    target, found = tmp_path / "fuzz", tmp_path / "found"
    found.mkdir()
    command = ["clang++", "-std=c++17", "-O1", "-DLIBFUZZER", "-fsanitize=fuzzer,address,undefined"]
    source = ROOT / "tests/plugins/unreal_dump.cpp"
    subprocess.run(
        [*command, "-fno-sanitize-recover=all", f"-I{HEADERS}", source, "-o", target], check=True, timeout=120
    )
    # Its limit of resident memory reads `ru_maxrss`, which Linux hands down from the forked pytest: 2 GB and more.
    limits = ["-rss_limit_mb=0", "-malloc_limit_mb=64", "-timeout=60"]
    searched = subprocess.run(
        [target, "-runs=20000", "-seed=7", *limits, f"-artifact_prefix={tmp_path}/", found, FOLDER],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert searched.returncode == 0, searched.stderr[-2000:]
    assert "Done 20000 runs" in searched.stderr


@needs_compiler
def test_the_guard_sees_a_planted_read_outside(tmp_path: Path) -> None:
    """Without its length check the decoder fails under the sanitizers: they do watch."""
    for name in DECODER:
        text = (HEADERS / name).read_text()
        planted = text.replace("if (!good || count > left_)", "if (!good)")
        (tmp_path / name).write_text(planted)
        assert name == "MienJson.h" or planted != text
    source = ROOT / "tests/plugins/unreal_dump.cpp"
    command = ["g++", "-std=c++17", "-fsanitize=address", f"-I{tmp_path}", source, "-o", tmp_path / "dump"]
    subprocess.run(command, check=True, timeout=55)
    quick = os.environ | {"ASAN_OPTIONS": "symbolize=0:max_allocation_size_mb=256"}
    done = subprocess.run(
        [tmp_path / "dump", "fuzz", "0", FOLDER / "faults/topology_short.bin"],
        capture_output=True,
        timeout=55,
        check=False,
        env=quick,
    )
    assert done.returncode != 0 and b"buffer-overflow" in done.stderr, done.stderr


def test_the_decoder_is_engine_free_and_the_plugin_has_mien_version() -> None:
    for name in DECODER:
        text = (HEADERS / name).read_text()
        included = set(re.findall(r'#include [<"]([^>"]+)[>"]', text))
        assert included <= {"cmath", "cstddef", "cstdint", "cstring", "string", "vector", "MienJson.h"}
        assert not re.search(r"\b(throw|try|catch|new|delete)\b", re.sub(r"//.*", "", text))
    assert sum(len((HEADERS / name).read_text().splitlines()) for name in DECODER) < 400, "small enough to be read"
    about = json.loads((PLUGIN / "MienLive.uplugin").read_text())
    mien = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert about["VersionName"] == mien["version"]
    module = about["Modules"][0]["Name"]
    assert (PLUGIN / f"Source/{module}/{module}.Build.cs").is_file()

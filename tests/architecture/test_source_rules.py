"""The source keeps the rules of rules.py, and each rule is shown to catch what it is there for."""

import ast
import importlib.util
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(p for room in ("streamer", "rig", "inference", "renderer") for p in (ROOT / room).rglob("*.py"))


def _load_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture_rules", Path(__file__).with_name("rules.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architecture_rules"] = module
    spec.loader.exec_module(module)
    return module


rules = _load_rules()


def complaints(rule: str, path: str, text: str) -> list[str]:
    return list(getattr(rules, rule)(PurePosixPath(path), text, ast.parse(text)))


@pytest.mark.parametrize("rule", [rule.__name__ for rule in rules.RULES])
def test_source_keeps_the_rule(rule: str) -> None:
    found = [
        complaint
        for path in [*SOURCES, ROOT / "mien.py"]
        for complaint in complaints(rule, path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


PLANTED = [
    ("sizes", "rig/a.py", "x = 1\n" * 351),
    ("sizes", "rig/a.py", "def f():\n" + "    x = 1\n" * 60),
    ("pure_core", "streamer/wire.py", "import zmq"),
    ("pure_core", "streamer/types.py", "import msgpack"),
    ("pure_core", "streamer/assembler.py", "def f():\n    from time import monotonic"),
    ("light_cli", "rig/cli.py", "import numpy"),
    ("light_cli", "rig/cli.py", "try:\n    from rig.node import run_node\nfinally:\n    pass"),
    ("no_pickle", "inference/a.py", "import pickle"),
    ("no_pickle", "inference/a.py", "torch.load(path)"),
    ("no_pickle", "inference/a.py", "torch.load(path, weights_only=False)"),
    ("no_pickle", "inference/a.py", "np.load(path, allow_pickle=True)"),
    ("no_pickle", "streamer/a.py", "self.socket.recv_pyobj()"),
    ("quiet", "rig/a.py", "def f():\n    print(1)"),
    ("no_swallowing", "rig/a.py", "try:\n    f()\nexcept:\n    pass"),
    ("no_swallowing", "rig/a.py", "try:\n    f()\nexcept Exception as e:\n    log(e)"),
]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED, ids=[f"{r}-{k}" for k, (r, _, _) in enumerate(PLANTED)])
def test_rule_catches_a_planted_violation(rule: str, path: str, text: str) -> None:
    assert len(complaints(rule, path, text)) >= 1


HARMLESS = [
    ("light_cli", "inference/training/cli.py", "import torch"),
    ("no_swallowing", "rig/a.py", "try:\n    f()\nexcept Exception as e:\n    log.exception('x')\n    return None, e"),
    ("pure_core", "streamer/transport.py", "import zmq"),
    ("pure_core", "streamer/wire.py", "import msgpack\nimport struct\nimport numpy"),
    ("light_cli", "rig/cli.py", "def handler(args):\n    from rig.node import run_node"),
    ("light_cli", "rig/cli.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
    ("no_pickle", "inference/a.py", "torch.load(path, weights_only=True)"),
    ("quiet", "rig/cli.py", "print(1)"),
    ("no_swallowing", "rig/a.py", "try:\n    f()\nexcept BaseException:\n    close()\n    raise"),
]


@pytest.mark.parametrize(("rule", "path", "text"), HARMLESS, ids=[f"{r}-{k}" for k, (r, _, _) in enumerate(HARMLESS)])
def test_rule_lets_pass_what_is_right(rule: str, path: str, text: str) -> None:
    assert complaints(rule, path, text) == []

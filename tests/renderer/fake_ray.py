"""What the driver uses of Ray, in this process: runs end when a test says so, resources are what it says."""

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import pytest


class RayError(Exception):
    """A node is lost."""


class FakeRay(types.ModuleType):
    """One cluster; `ends` holds how runs end, in order: a result, or an error. An absent end: it runs on."""

    def __init__(self, resources: Mapping[str, float]) -> None:
        super().__init__("ray")
        self.resources, self.ends, self.begun = dict(resources), [], []  # type: ignore[var-annotated]
        self.desk: Any = None
        self.exceptions = types.SimpleNamespace(RayError=RayError)

    def init(self, **_: Any) -> None:
        """Joined."""

    def get_runtime_context(self) -> Any:
        return types.SimpleNamespace(get_node_id=lambda: "here")

    def cluster_resources(self) -> Mapping[str, float]:
        return dict(self.resources)

    available_resources = cluster_resources

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        return lambda what: types.SimpleNamespace(remote=lambda *arguments: self._begin(what, arguments))

    def _begin(self, what: Any, arguments: tuple[Any, ...]) -> Any:
        if isinstance(what, type):
            self.desk = what()
            calls = [name for name in dir(what) if not name.startswith("_")]
            return types.SimpleNamespace(**{name: _Call(getattr(self.desk, name)) for name in calls})
        self.begun.append(arguments[0])
        return object() if not self.ends else _Run(self.ends.pop(0))

    def get(self, reference: Any) -> Any:
        if isinstance(reference, _Run):
            if isinstance(reference.end, Exception):
                raise reference.end
            return reference.end
        return reference

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return [one for one in references if isinstance(one, _Run)], []


class _Run:
    def __init__(self, end: Any) -> None:
        self.end = end


class _Call:
    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


def install(patch: pytest.MonkeyPatch, resources: Mapping[str, float]) -> FakeRay:
    """Stand in for Ray until the end of the test."""
    ray = FakeRay(resources)
    scheduling = types.ModuleType("ray.util.scheduling_strategies")
    scheduling.NodeAffinitySchedulingStrategy = lambda *_, **__: None  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "ray", ray)
    patch.setitem(sys.modules, "ray.util", types.ModuleType("ray.util"))
    patch.setitem(sys.modules, "ray.util.scheduling_strategies", scheduling)
    return ray

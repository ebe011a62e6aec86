"""The GPU that is not there has no name that NVIDIA's own packages lack, and is as strict as it should be."""

import inspect
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.inference.fake_gpu.driver import make_bindings, make_driver
from tests.inference.fake_gpu.machine import Fault, Machine
from tests.inference.fake_gpu.trt import make_tensorrt
from tests.inference.genuine import in_genuine

COMPARE = r"""
import json, re, sys
import tensorrt_bindings as trt
wrong = []
for chain, names in json.loads(sys.argv[2]):
    value = trt
    for name in chain.split("."):
        value = getattr(value, name, None)
    if value is None:
        wrong.append(chain + " does not exist")
        continue
    text = value.__doc__ or ""
    known = set(re.findall(r"(\w+): ", " ".join(re.findall(r"\w+\((.*)\) -> ", text))))
    wrong += [f"{chain} has no argument {name}: {text[:200]}" for name in names if name not in known]
print(json.dumps({"version": trt.__version__, "wrong": wrong}))
"""


def members(module: ModuleType) -> list[tuple[str, list[str]]]:
    """Everything public of a fake package, as dotted names, with the names of arguments."""
    found: list[tuple[str, list[str]]] = []
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(value, SimpleNamespace):
            found += [(f"{name}.{member}", []) for member in vars(value)]
        elif inspect.isclass(value):
            for member, held in vars(value).items():
                if member.startswith("_") and member != "__init__":
                    continue
                arguments = list(inspect.signature(held).parameters)[1:] if inspect.isfunction(held) else []
                made = value.__name__ in ("Builder", "OnnxParser", "Runtime")  # the others are made by TensorRT
                if member != "__init__" or made:
                    found.append((f"{name}.{member}", arguments))
        elif inspect.isfunction(value):
            found.append((name, list(inspect.signature(value).parameters)))
    return found


def test_nothing_of_the_fake_tensorrt_is_made_up(tmp_path: Path) -> None:
    """What Mien calls runs on the fake, so what is in the fake and in NVIDIA's bindings is what Mien may call."""
    ours = [
        (name, arguments) for name, arguments in members(make_tensorrt(Machine())) if name != "INetworkDefinition.model"
    ]
    assert len(ours) > 35 and ("IExecutionContext.set_device_memory", ["memory", "size"]) in ours
    planted = [("ICudaEngine.num_bindings", []), ("IExecutionContext.execute_async_v3", ["stream"])]
    found = in_genuine(COMPARE, tmp_path, json.dumps([*ours, *planted]))
    assert found["version"].startswith("11.4.")
    assert [line.partition(":")[0] for line in found["wrong"]] == [
        "ICudaEngine.num_bindings does not exist",
        "IExecutionContext.execute_async_v3 has no argument stream",
    ]


def test_nothing_of_the_fake_bindings_is_made_up() -> None:
    try:
        from cuda.bindings import driver
    except ImportError:
        pytest.skip("cuda-bindings is not installed; requirements/consumers.sh installs it")
    fake = make_bindings(Machine())
    for name, arguments in members(fake):
        if "." in name:
            kind, member = name.split(".")
            assert int(getattr(getattr(driver, kind), member)) == getattr(getattr(fake, kind), member)
        else:
            assert list(inspect.signature(getattr(driver, name)).parameters) == arguments
    assert int(driver.CUresult.CUDA_SUCCESS) == 0


@pytest.fixture
def machine() -> Machine:
    return Machine()


def parts(machine: Machine) -> tuple[Any, Any, Any]:
    """Driver, stream and an allocation of 64 bytes, in a context that stays current."""
    driver = make_driver(machine, None)
    driver.Device(0).retain_primary_context().push()
    return driver, driver.Stream(1), driver.mem_alloc(64)


def test_nothing_is_done_before_it_is_waited_for(machine: Machine) -> None:
    driver, stream, there = parts(machine)
    host, back = (driver.pagelocked_zeros((16,), "float32") for _ in range(2))
    host[:] = 1
    driver.memcpy_htod_async(there, host, stream)
    driver.memcpy_dtoh_async(back, there, stream)
    host[:] = 2  # too early: the copy has not begun
    assert (back == 0).all()
    stream.synchronize()
    assert (back == 2).all()


def test_a_stream_waits_for_what_was_recorded_before_the_call(machine: Machine) -> None:
    driver, one, there = parts(machine)
    two, event, host, back = driver.Stream(1), driver.Event(2), *(driver.pagelocked_zeros(16, "f4") for _ in range(2))
    host[:] = 1
    driver.memcpy_htod_async(there, host, one)
    event.record(one)
    two.wait_for_event(event)
    driver.memcpy_dtoh_async(back, there, two)
    two.synchronize()
    assert (back == 1).all()


@pytest.mark.parametrize("misuse", ["pageable", "no context", "freed", "too long", "beside", "captured wait", "grid"])
def test_what_cuda_forbids_is_a_fault(misuse: str, machine: Machine) -> None:
    driver, stream, there = parts(machine)
    pinned = driver.pagelocked_zeros(16, "f4")
    graphs = make_bindings(machine)
    if misuse == "beside":
        np.ctypeslib.as_array(machine.blocks[int(there)].array)[:8] = 0
        there.free()
    elif misuse == "too long":  # what a device notices while it works
        driver.memcpy_htod_async(there, driver.pagelocked_zeros(17, "f4"), stream)
        stream.synchronize()
    else:
        with pytest.raises(Fault):
            if misuse == "pageable":
                driver.memcpy_htod_async(there, np.zeros(16, "f4"), stream)
            elif misuse == "no context":
                driver.Context.pop()
                driver.memcpy_htod_async(there, pinned, stream)
            elif misuse == "freed":
                there.free()
                driver.memcpy_htod_async(there, pinned, stream)
            elif misuse == "captured wait":
                graphs.cuStreamBeginCapture(stream.handle, 1)
                stream.synchronize()
            else:
                source = 'extern "C" __global__ void thing(const float *a, int n) {}'
                machine.capability = (8, 9)
                module = driver.module_from_buffer(f"cubin sm_89\n{source}".encode())
                module.get_function("thing").prepare("Pi").prepared_async_call((1, 0, 1), (8, 1, 1), stream, 1, 2)
    assert machine.faults

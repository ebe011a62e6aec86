"""One contract for every device: order in a stream, order between streams, buffers with two sides, a clean end."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.devices import DEVICES, BufferSpec, Device, open_device
from streamer.errors import EngineError, MissingExtra
from tests.inference.fake_gpu.install import Libraries, install
from tests.inference.fake_gpu.machine import Machine

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


@pytest.fixture(params=[*sorted(DEVICES), "cuda fake early", "cuda fake late", "cuda fake random"])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    name, *fake = str(request.param).split()
    machine = Machine()
    if fake:
        machine = Machine(when=fake[1])  # type: ignore[arg-type]
        install(machine, Libraries(tmp_path), tmp_path, monkeypatch)
    try:
        one = open_device(name)
    except (MissingExtra, EngineError) as error:
        pytest.skip(f"{name}: {error}")
    yield one
    one.close()
    machine.check_fences()
    assert machine.faults == [] and machine.stack == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]


def test_a_stream_keeps_order_and_streams_wait_for_events(device: Device) -> None:
    first, second, reached = device.stream("first", "host"), device.stream("second", "host"), device.event()
    go, seen = threading.Event(), []
    first.enqueue(lambda: seen.append(go.wait(PATIENCE_S)))
    first.enqueue(lambda: seen.append("a"))
    first.record(reached)
    second.wait(reached)
    second.enqueue(lambda: seen.append("b"))
    done = device.event()
    second.record(done)
    go.set()
    done.synchronize()
    assert seen == [True, "a", "b"]


def test_an_event_means_its_latest_record_before_the_call(device: Device) -> None:
    one, two, event = device.stream("one", "host"), device.stream("two", "host"), device.event()
    event.synchronize()  # never recorded: nothing to wait for
    one.record(event)
    two.wait(event)
    go, seen = threading.Event(), []
    one.enqueue(lambda: seen.append(go.wait(PATIENCE_S)))
    one.record(event)
    passed = threading.Event()
    two.enqueue(passed.set)
    assert passed.wait(PATIENCE_S)  # the wait was for the first record; the second is still to come
    go.set()
    event.synchronize()
    assert seen == [True]


def test_copies_go_both_ways_in_the_stream(device: Device) -> None:
    buffer, stream, done = device.buffer(BufferSpec((3, 2), "uint8")), device.stream("copy", "device"), device.event()
    assert buffer.host.shape == (3, 2) and buffer.host.dtype == np.uint8 and not buffer.host.any()

    def there_and_back() -> None:
        buffer.host[:] = 7
        stream.upload(buffer)
        stream.download(buffer)

    stream.enqueue(there_and_back)
    stream.record(done)
    done.synchronize()
    assert (buffer.host == 7).all()


def test_stamps_are_in_order(device: Device) -> None:
    stream, done = device.stream("clock", "device"), device.event()
    stamps = []
    for _ in range(3):
        stream.enqueue(lambda: stamps.append(stream.stamp()))
    stream.record(done)
    done.synchronize()
    times = [stamp() for stamp in stamps]
    assert times == sorted(times)


def test_replayed_work_runs_every_time(device: Device) -> None:
    buffer, stream, done = device.buffer(BufferSpec((2,))), device.stream("replay", "device"), device.event()
    for number in range(4):

        def set_up(value: int = number) -> None:
            buffer.host[:] = value

        stream.enqueue(set_up)
        stream.enqueue(lambda: stream.replay("up", lambda: stream.upload(buffer)))
        stream.enqueue(lambda: stream.replay("down", lambda: stream.download(buffer)))
        stream.record(done)
        done.synchronize()
        assert (buffer.host == number).all()


def test_no_memory_is_an_error_of_one_line(device: Device) -> None:
    with pytest.raises(EngineError, match="memory for a buffer"):
        device.buffer(BufferSpec((2**50,)))


def test_a_device_that_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"'tpu'.*cpu, cuda"):
        open_device("tpu")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingExtra, match="'pycuda' is not installed; run: pip install"):
        open_device("cuda")


def test_opening_the_cpu_loads_no_cuda() -> None:
    code = (
        "import sys; from inference.devices import open_device; open_device('cpu').close()\n"
        "print('pycuda' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False"]

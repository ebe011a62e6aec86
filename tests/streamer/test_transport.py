"""Real sockets: publish, subscribe, rings, keys, and what is refused."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from streamer import keys, ring
from streamer.channels import CHANNELS
from streamer.config import BusConfig
from streamer.errors import TransportError, WireError
from streamer.ring import DIRECTORY
from streamer.transport import (
    Publisher,
    Subscriber,
    endpoint_for,
    infer_endpoint,
    node_endpoints,
    ring_slots_for,
)
from streamer.types import Frame, Health, MeshFrame
from streamer.wire import encode, topic

LOCAL = "tcp://127.0.0.1:0"
HELLO = Health("test", 0, "running")


def frame(sequence: int, camera: str = "cam_0", size: int = 64) -> Frame:
    pixels = np.full((size, size, 3), sequence % 251, np.uint8)
    return Frame(camera, sequence, sequence, sequence, sequence, "host", 0, 0, size, size, "rgb8", pixels)


def join(publisher: Publisher, *subscribers: Subscriber) -> None:
    """Publish until every subscriber hears, then empty them: a subscription takes a moment to arrive."""
    waiting = list(subscribers)
    deadline = time.monotonic() + 20
    while waiting and time.monotonic() < deadline:
        publisher.send("health", HELLO)
        waiting = [subscriber for subscriber in waiting if subscriber.receive(0.01) is None]
    assert not waiting, "the subscription never arrived"
    publisher.send("health", replace(HELLO, state="joined"))
    for subscriber in subscribers:
        while (received := subscriber.receive(10)) is not None and received[1].state != "joined":  # type: ignore[union-attr]
            pass


def collect(subscriber: Subscriber, count: int) -> list[Any]:
    messages = []
    while len(messages) < count and (received := subscriber.receive(10)) is not None:
        messages.append(received[1])
    return messages


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def keys_dir(tmp_path: Path) -> str:
    folder = tmp_path / "keys"
    keys.create_keys(folder)
    return str(folder)


@pytest.mark.parametrize("ring_slots", [0, 8])
@pytest.mark.parametrize("encrypted", [False, True])
def test_frames_arrive_whole_and_in_order(stack: ExitStack, keys_dir: str, ring_slots: int, encrypted: bool) -> None:
    folder = keys_dir if encrypted else ""
    publisher = stack.enter_context(Publisher(LOCAL, ring_slots=ring_slots, keys_dir=folder))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["frame", "health"], keys_dir=folder))
    join(publisher, subscriber)
    sent = [frame(n, f"cam_{n % 2}", 200) for n in range(8)]
    trackers = [publisher.send("frame", one) for one in sent]
    received = collect(subscriber, len(sent))
    for one, back in zip(sent, received, strict=True):
        assert (back.camera, back.sequence) == (one.camera, one.sequence)
        np.testing.assert_array_equal(back.data, one.data)
        assert not back.data.flags.writeable
    for tracker in trackers:
        tracker.wait(10)
    assert len(list(DIRECTORY.glob(f"{ring.PREFIX}*-{ring._TOKEN}-*"))) == (2 if ring_slots else 0)
    assert subscriber.rejected == {}
    stack.close()
    assert not list(DIRECTORY.glob(f"{ring.PREFIX}*-{ring._TOKEN}-*"))
    np.testing.assert_array_equal(received[3].data, sent[3].data)


def test_a_ring_grows_with_its_pictures_and_old_descriptors_stay_good(stack: ExitStack) -> None:
    publisher = stack.enter_context(Publisher(LOCAL, ring_slots=4))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["frame", "health"]))
    join(publisher, subscriber)
    sizes = [40, 80, 80, 16]
    for sequence, size in enumerate(sizes):
        publisher.send("frame", frame(sequence, size=size))
    assert [one.width for one in collect(subscriber, 4)] == sizes
    assert subscriber.rejected == {}


def test_overwritten_pictures_are_counted_not_delivered(stack: ExitStack) -> None:
    publisher = stack.enter_context(Publisher(LOCAL, ring_slots=2))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["frame", "health"]))
    join(publisher, subscriber)
    for sequence in range(6):
        publisher.send("frame", frame(sequence))
    publisher.send("health", HELLO)
    received = collect(subscriber, 3)
    assert [getattr(one, "sequence", "health") for one in received] == [4, 5, "health"]
    assert subscriber.rejected == {"overwritten": 4}
    assert "bus.ring_slots" in subscriber.last_rejection


def test_a_segment_that_is_gone_is_counted_with_the_reason(stack: ExitStack) -> None:
    publisher = stack.enter_context(Publisher(LOCAL, ring_slots=2))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["frame", "health"]))
    join(publisher, subscriber)
    publisher.send("frame", frame(0))
    for path in DIRECTORY.glob(f"{ring.PREFIX}*-{ring._TOKEN}-*"):
        path.unlink()
    publisher.send("health", HELLO)
    assert collect(subscriber, 1) == [HELLO]
    assert subscriber.rejected == {"segment": 1}
    assert "another host" in subscriber.last_rejection


def test_a_wrong_frame_takes_no_slot(stack: ExitStack) -> None:
    publisher = stack.enter_context(Publisher(LOCAL, ring_slots=2))
    with pytest.raises(WireError, match="cam_0"):
        publisher.send("frame", replace(frame(0), width=5))
    assert not list(DIRECTORY.glob(f"{ring.PREFIX}*-{ring._TOKEN}-*"))


def test_one_subscriber_hears_all_publishers_and_only_its_channels(stack: ExitStack) -> None:
    publishers = [stack.enter_context(Publisher(LOCAL)) for _ in range(3)]
    endpoints = [publisher.endpoint for publisher in publishers]
    both = stack.enter_context(Subscriber(endpoints, ["frame", "health"]))
    only = stack.enter_context(Subscriber(endpoints, ["health"]))
    for publisher in publishers:
        join(publisher, both, only)
    for index, publisher in enumerate(publishers):
        publisher.send("frame", frame(index))
        publisher.send("health", replace(HELLO, process=f"p{index}"))
    assert {one.process for one in collect(only, 3)} == {"p0", "p1", "p2"}
    assert {one.sequence for one in collect(both, 6) if isinstance(one, Frame)} == {0, 1, 2}


def test_no_topic_is_the_prefix_of_another() -> None:
    topics = [topic(channel) for channel in CHANNELS]
    longer = [channel.encode() + b"_more\0" for channel in CHANNELS]
    assert not [(a, b) for a in topics for b in (*topics, *longer) if a is not b and b.startswith(a)]


def test_drain_takes_all_that_waits_and_returns_at_once(stack: ExitStack) -> None:
    publisher = stack.enter_context(Publisher(LOCAL))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["mesh", "health"]))
    join(publisher, subscriber)
    assert subscriber.drain() == []
    vertices = np.zeros((5023, 3), np.float32)
    for index in range(20):
        publisher.send("mesh", MeshFrame(index, 0, 0, "t", vertices, np.eye(4, dtype=np.float32)))
    publisher.send("health", HELLO)
    drained: list[Any] = []
    deadline = time.monotonic() + 10
    while (not drained or drained[-1] != HELLO) and time.monotonic() < deadline:
        drained += [message for _, message in subscriber.drain()]
    assert [one.frame_id for one in drained[:-1]] == list(range(20))


def test_a_slow_subscriber_loses_messages_and_can_count_them(stack: ExitStack) -> None:
    publisher = stack.enter_context(Publisher(LOCAL, depth=4))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["frame", "health"], depth=4))
    join(publisher, subscriber)
    total = 400
    for sequence in range(total):
        publisher.send("frame", frame(sequence, size=256))
    received: list[int] = []
    deadline = time.monotonic() + 20
    while (total - 1 not in received) and time.monotonic() < deadline:
        publisher.send("frame", frame(total, size=256))
        received += [one.sequence for _, one in subscriber.drain() if isinstance(one, Frame)]
        if total in received:
            break
    kept = [sequence for sequence in received if sequence < total]
    assert kept == sorted(set(kept))
    assert 0 < len(kept) < total, "the high-water mark must have dropped some"


def test_receive_waits_no_longer_than_it_is_told(stack: ExitStack) -> None:
    subscriber = stack.enter_context(Subscriber(["tcp://127.0.0.1:9"], ["frame"]))
    began = time.monotonic()
    assert subscriber.receive(0.2) is None
    assert 0.15 < time.monotonic() - began < 5


def test_strangers_on_the_port_are_counted_as_invalid(stack: ExitStack) -> None:
    context = stack.enter_context(zmq.Context())
    stranger = stack.enter_context(context.socket(zmq.PUB))
    port = stranger.bind_to_random_port("tcp://127.0.0.1")
    subscriber = stack.enter_context(Subscriber([f"tcp://127.0.0.1:{port}"], ["health"]))
    parts = [bytes(part) for part in encode("health", HELLO)]
    deadline = time.monotonic() + 10
    while not subscriber.rejected.get("invalid") and time.monotonic() < deadline:
        stranger.send_multipart([b"health\0", b"\x80\x04."])
        stranger.send_multipart([*parts, b"more"])
        stranger.send_multipart([b"health\0"])
        assert subscriber.receive(0.02) is None
    assert subscriber.rejected["invalid"] >= 1
    stranger.send_multipart(parts)
    assert collect(subscriber, 1) == [HELLO]


def test_port_in_use_names_the_port_and_the_remedy(stack: ExitStack) -> None:
    first = stack.enter_context(Publisher(LOCAL))
    port = first.endpoint.rpartition(":")[2]
    with pytest.raises(TransportError, match=rf"port {port} is in use.*_port=PORT"):
        Publisher(first.endpoint)
    first.close()
    stack.enter_context(Publisher(first.endpoint)).send("health", HELLO)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.0.2.7", "eth0", "[::]", "127.evil.example"])
def test_a_bind_beyond_loopback_without_keys_is_refused(host: str) -> None:
    with pytest.raises(TransportError, match=r"without keys.*bus\.keys_dir"):
        Publisher(f"tcp://{host}:0")


def test_with_keys_a_bind_beyond_loopback_works_but_not_with_rings(stack: ExitStack, keys_dir: str) -> None:
    with pytest.raises(TransportError, match=r"bus\.shared_memory=false"):
        Publisher("tcp://0.0.0.0:0", ring_slots=4, keys_dir=keys_dir)
    publisher = stack.enter_context(Publisher("tcp://0.0.0.0:0", keys_dir=keys_dir))
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["health"], keys_dir=keys_dir))
    join(publisher, subscriber)
    with pytest.raises(TransportError, match=r"cannot bind tcp://192\.0\.2\.7"):
        Publisher("tcp://192.0.2.7:0", keys_dir=keys_dir)


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:5700", "tcp://127.0.0.1", "tcp://127.0.0.1:70000", "ipc:///tmp/x"])
def test_malformed_addresses_are_named(endpoint: str) -> None:
    for make in (lambda: Publisher(endpoint), lambda: Subscriber([endpoint], ["frame"])):
        with pytest.raises(TransportError, match="tcp://HOST:PORT"):
            make()


def test_strangers_and_plain_subscribers_hear_nothing_of_an_encrypted_bus(
    stack: ExitStack, keys_dir: str, tmp_path: Path
) -> None:
    """A foreign client key, a wrong server key, and no key at all: none of them gets a byte, while ours does."""
    keys.create_keys(tmp_path / "foreign")
    foreign = tmp_path / "foreign"
    (foreign / "server.key").write_bytes(
        (Path(keys_dir) / "server.key").read_bytes()
    )  # knows the server, is not allowed
    keys.create_keys(tmp_path / "confused")
    confused = tmp_path / "confused"
    (confused / "client.key_secret").write_bytes((Path(keys_dir) / "client.key_secret").read_bytes())
    publisher = stack.enter_context(Publisher(LOCAL, keys_dir=keys_dir))
    outsiders = [
        stack.enter_context(Subscriber([publisher.endpoint], ["health"], keys_dir=folder))
        for folder in (str(foreign), str(confused), "")
    ]
    friend = stack.enter_context(Subscriber([publisher.endpoint], ["health"], keys_dir=keys_dir))
    join(publisher, friend)
    deadline = time.monotonic() + 0.6
    while time.monotonic() < deadline:
        publisher.send("health", HELLO)
        assert friend.receive(5) is not None
    assert [outsider.drain() for outsider in outsiders] == [[], [], []]
    assert [outsider.rejected for outsider in outsiders] == [{}, {}, {}]


def test_a_subscriber_with_keys_takes_nothing_from_a_plain_publisher(stack: ExitStack, keys_dir: str) -> None:
    publisher = stack.enter_context(Publisher(LOCAL))
    encrypted = stack.enter_context(Subscriber([publisher.endpoint], ["health"], keys_dir=keys_dir))
    plain = stack.enter_context(Subscriber([publisher.endpoint], ["health"]))
    join(publisher, plain)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        publisher.send("health", HELLO)
        assert plain.receive(5) is not None
    assert encrypted.drain() == []


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("harm", "complaint", "publishing"),
    [
        (_remove("server.key_secret"), "server.key_secret", True),
        (_remove("client.key_secret"), "client.key_secret", False),
        (_remove("server.key"), "server.key", False),
        (_remove("clients/client.key"), "holds no", True),
        (lambda folder: (folder / "server.key_secret").write_text("rubbish"), "server.key_secret", True),
        (lambda folder: (folder / "server.key_secret").chmod(0o644), "chmod 600", True),
        (lambda folder: (folder / "client.key_secret").chmod(0o640), "chmod 600", False),
        (lambda folder: (folder / "clients/client.key").write_text("rubbish"), "clients", True),
    ],
)
def test_keys_that_cannot_be_used_are_named(
    keys_dir: str, harm: Callable[[Path], object], complaint: str, publishing: bool
) -> None:
    harm(Path(keys_dir))
    with pytest.raises(TransportError, match=complaint):
        if publishing:
            Publisher(LOCAL, keys_dir=keys_dir)
        else:
            Subscriber([LOCAL], ["frame"], keys_dir=keys_dir)


def test_keys_are_not_overwritten(keys_dir: str) -> None:
    with pytest.raises(TransportError, match="already holds keys"):
        keys.create_keys(Path(keys_dir))


def test_a_closed_publisher_says_so() -> None:
    publisher = Publisher(LOCAL)
    publisher.close()
    publisher.close()
    with pytest.raises(TransportError, match="is closed"):
        publisher.send("health", HELLO)


def test_a_closing_publisher_delivers_what_was_sent(stack: ExitStack) -> None:
    publisher = Publisher(LOCAL)
    subscriber = stack.enter_context(Subscriber([publisher.endpoint], ["frame", "health"]))
    join(publisher, subscriber)
    for sequence in range(20):
        publisher.send("frame", frame(sequence, size=256))
    publisher.close()
    assert len(collect(subscriber, 20)) == 20


def test_addresses_come_from_the_configuration() -> None:
    bus = BusConfig()
    assert endpoint_for(bus, "infer") == "tcp://127.0.0.1:5710"
    assert node_endpoints(bus) == ["tcp://127.0.0.1:5700"]
    assert infer_endpoint(bus) == "tcp://127.0.0.1:5710"
    assert ring_slots_for(bus) == bus.ring_slots
    assert ring_slots_for(replace(bus, shared_memory=False)) == 0
    assert ring_slots_for(replace(bus, host="0.0.0.0")) == 0
    remote = replace(bus, nodes=("tcp://10.0.0.1:5700", "tcp://10.0.0.2:5700"), infer="tcp://10.0.0.3:5710")
    assert node_endpoints(remote) == ["tcp://10.0.0.1:5700", "tcp://10.0.0.2:5700"]
    assert infer_endpoint(remote) == "tcp://10.0.0.3:5710"

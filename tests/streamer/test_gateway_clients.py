"""Slots and feed without a socket: what a client gets whatever it misses, and what is never sent."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from streamer.errors import TransportError
from streamer.gateway.clients import Audience, Edition, Parcel, Shown, Slot
from streamer.gateway.decoding import decode_frame, decode_hello, decode_record, decode_topology
from streamer.gateway.feed import REMEMBERED, Feed
from streamer.gateway.records import Kind
from streamer.gateway.variants import PLAIN, Variant, for_target
from tests.streamer.gateway_makers import LEFT_EAR, NOSE, head, mesh

HEAD, OTHER = head(), head("other", segments=16)


class Told:
    """A record that is a word, whatever the form."""

    def __init__(self, word: str) -> None:
        self._parcel = Parcel(word.encode())

    def parcel(self, _: Variant) -> Parcel:
        return self._parcel


def taken(slot: Slot) -> list[str]:
    records = []
    while (parcel := slot.take()) is not None:
        records.append(words(parcel))
    return records


def words(parcel: Parcel) -> str:
    """The word of a `Told`, the kind of a record."""
    if not parcel.record.startswith(b"HCM1"):
        return parcel.record.decode()
    return Kind(decode_record(parcel.record).header.kind).name.lower()


@given(st.lists(st.sampled_from(["topology", "frame", "take", "take all"]), max_size=40))
def test_a_client_gets_the_newest_frame_and_always_its_topology_first(events: list[str]) -> None:
    """Frames are `t.n`: frame n of topology t."""
    slot, topology, number, got = Slot(Told("0")), 0, 0, []
    for event in events:
        if event == "topology":
            topology += 1
            slot.announce(Told(str(topology)))
        elif event == "frame":
            number += 1
            slot.offer(Told(f"{topology}.{number}"))
        else:
            first = slot.take() if event == "take" else None
            one = [words(first)] if first is not None else [] if event == "take" else taken(slot)
            got += one
            if event == "take all" and "." in got[-1]:
                assert got[-1] in (f"{topology}.{number}", next(g for g in reversed(got) if "." in g))
    got += taken(slot)
    assert got[0] == "hello" and got.count("hello") == 1
    known = ""
    for record in got[1:]:
        if "." in record:
            assert record.split(".")[0] == known, "a frame came without its topology"
        else:
            assert int(record) > int(known or -1)
            known = record
    numbers = [int(record.split(".")[1]) for record in got[1:] if "." in record]
    assert numbers == sorted(set(numbers))
    assert slot.sent == len(numbers) and slot.sent + slot.skipped == number
    assert known == str(topology)
    if events and events[-1] == "frame":
        assert numbers[-1] == number, "the newest is never skipped"


def test_a_client_that_takes_nothing_holds_two_records() -> None:
    audience = Audience(2)
    stalled, live = audience.join(), audience.join()
    audience.announce(Told("t"))
    got = []
    for number in range(1000):
        audience.offer(Told(str(number)))
        audience.tell("live", {})
        got += [word for word in taken(live) if word != "health"]
    assert got == ["hello", "t", *(str(number) for number in range(1000))]
    assert taken(stalled) == ["hello", "t", "health", "999"]
    assert (stalled.skipped, live.skipped) == (999, 0)


def test_the_end_comes_last_and_once() -> None:
    slot = Slot()
    slot.offer(Told("frame"))
    slot.finish(Parcel(b"end"))
    assert not slot.finished
    assert taken(slot) == ["hello", "frame", "end"] and slot.finished and slot.take() is None
    slot = Slot(Told("topology"))
    slot.close(Parcel(b"end"))
    assert taken(slot) == ["end"] and slot.finished


def test_a_full_house_refuses_and_a_place_is_given_on() -> None:
    audience = Audience(1)
    first = audience.join()
    audience.offer(Told("frame"))
    taken(first)
    with pytest.raises(TransportError, match=r"1 clients are connected, which is serve\.max_clients"):
        audience.join()
    audience.leave(first)
    second = audience.join()
    assert taken(second) == ["hello"], "a new client gets no old frame"
    counters = {"clients.now": 1, "clients.joined": 2, "clients.refused": 1, "frames.sent": 1, "frames.skipped": 0}
    assert audience.counters() == counters


def test_nothing_but_a_hello_goes_to_who_has_not_said_the_secret() -> None:
    audience = Audience(2, token=True)
    slot = audience.join()
    audience.announce(Told("topology"))
    audience.offer(Told("frame"))
    audience.tell("live", {})
    hello = slot.take()
    assert hello is not None and decode_hello(decode_record(hello.record))["token"] is True
    assert taken(slot) == [] and slot.sent == 0
    audience.change(slot, PLAIN)
    audience.offer(Told("next"))
    assert taken(slot) == ["hello", "topology", "health", "next"]


def test_a_request_is_answered_by_a_hello_and_the_topology_in_the_new_form() -> None:
    audience, shown = Audience(2), Shown(HEAD)
    slot, other = audience.join(), audience.join()
    audience.announce(shown)
    edition = Edition(shown, mesh(HEAD), 3)
    audience.offer(edition)
    taken(slot)
    audience.change(slot, for_target("unreal"))
    audience.offer(edition)
    hello, topology, frame = (slot.take() for _ in range(3))
    assert hello is not None and topology is not None and frame is not None
    assert decode_hello(decode_record(hello.record))["axes"] == ["z", "-x", "y"]
    positions = decode_frame(decode_record(frame.record)).positions
    assert positions[NOSE] == pytest.approx([13, 0, 0]) and positions[LEFT_EAR] == pytest.approx([0, -11, 0])
    assert taken(other) == ["hello", "topology", "frame"]
    assert edition.parcel(PLAIN) is edition.parcel(for_target("mien")), "encoded once"


@given(st.integers(0, 70_000))
def test_a_websocket_message_is_framed_as_the_library_does(size: int) -> None:
    data = bytes(size)
    assert Parcel(data).message == Frame(Opcode.BINARY, data).serialize(mask=False)


def test_the_feed_announces_on_change_only_and_encodes_the_newest() -> None:
    feed = Feed()
    topology, frame = feed.push([HEAD, mesh(HEAD, 0), mesh(HEAD, 1), mesh(HEAD, 2)])
    assert topology is not None and decode_topology(decode_record(topology.parcel(PLAIN).record)).id == HEAD.id
    assert frame is not None and decode_frame(decode_record(frame.parcel(PLAIN).record)).sequence == 2
    topology, frame = feed.push([HEAD, mesh(HEAD, 3)])
    assert topology is None and frame is not None
    topology, frame = feed.push([OTHER, mesh(OTHER, 4)])
    assert topology is not None and decode_topology(decode_record(topology.parcel(PLAIN).record)).name == "other"
    assert feed.push([HEAD, OTHER]) == (None, None), "nothing but news is sent"
    assert feed.counters() == {
        "meshes.received": 5, "meshes.superseded": 2, "meshes.without-topology": 0, "meshes.refused": 0
    }  # fmt: skip


def test_what_cannot_be_sent_is_counted_and_told() -> None:
    feed = Feed()
    assert feed.push([mesh(HEAD)]) == (None, None)
    assert feed.counters()["meshes.without-topology"] == 1
    short = replace(mesh(HEAD), vertices=HEAD.template[:-1])
    assert (
        feed.push([HEAD, short]) == (None, None)
        and "has 85 vertices, its topology 'lopsided' has 86" in feed.last_refusal
    )
    lost = replace(mesh(HEAD), vertices=np.full_like(HEAD.template, np.inf))
    assert feed.push([lost]) == (None, None) and "not finite" in feed.last_refusal
    assert feed.counters()["meshes.refused"] == 2
    topology, frame = feed.push([mesh(HEAD, 3)])
    assert topology is not None and frame is not None, "a refused mesh does not use up the announcement"


def test_the_feed_forgets_old_topologies_but_not_the_one_in_use() -> None:
    feed = Feed()
    feed.push([HEAD, mesh(HEAD)])
    feed.push([head(f"other {n}") for n in range(3 * REMEMBERED)])
    assert feed.push([mesh(HEAD, 1)])[1] is not None
    assert feed.push([mesh(head("other 0"))]) == (None, None)
    assert feed.push([mesh(head(f"other {3 * REMEMBERED - 1}"))])[1] is not None

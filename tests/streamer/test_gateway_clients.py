"""Slots and feed without a socket: what a client gets whatever it misses, and what is never sent."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import TransportError
from streamer.gateway.clients import Audience, Slot
from streamer.gateway.decoding import decode_frame, decode_record, decode_topology
from streamer.gateway.feed import REMEMBERED, Feed
from tests.streamer.gateway_makers import head, mesh

HEAD, OTHER = head(), head("other", segments=16)


def taken(slot: Slot) -> list[bytes]:
    records = []
    while (record := slot.take()) is not None:
        records.append(record)
    return records


@given(st.lists(st.sampled_from(["topology", "frame", "take", "take all"]), max_size=40))
def test_a_client_gets_the_newest_frame_and_always_its_topology_first(events: list[str]) -> None:
    """Frames are `t.n`: frame n of topology t."""
    slot, topology, number, got = Slot(b"hello", b"0"), 0, 0, []
    for event in events:
        if event == "topology":
            topology += 1
            slot.announce(str(topology).encode())
        elif event == "frame":
            number += 1
            slot.offer(f"{topology}.{number}".encode())
        else:
            one = [slot.take()] if event == "take" else taken(slot)
            got += [record.decode() for record in one if record is not None]
            if event == "take all" and "." in got[-1]:
                assert got[-1] in (f"{topology}.{number}", next(g for g in reversed(got) if "." in g))
    got += [record.decode() for record in taken(slot)]
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
    audience = Audience(b"hello", 2)
    stalled, live = audience.join(), audience.join()
    audience.announce(b"t")
    got = []
    for number in range(1000):
        audience.offer(str(number).encode())
        got += taken(live)
    assert got == [b"hello", b"t", *(str(number).encode() for number in range(1000))]
    assert taken(stalled) == [b"hello", b"t", b"999"]
    assert (stalled.skipped, live.skipped) == (999, 0)


def test_the_end_comes_last_and_once() -> None:
    slot = Slot(b"hello")
    slot.offer(b"frame")
    slot.finish(b"end")
    assert not slot.finished
    assert taken(slot) == [b"hello", b"frame", b"end"] and slot.finished and slot.take() is None


def test_a_full_house_refuses_and_a_place_is_given_on() -> None:
    audience = Audience(b"hello", 1)
    first = audience.join()
    audience.offer(b"frame")
    taken(first)
    with pytest.raises(TransportError, match=r"1 clients are connected, which is serve\.max_clients"):
        audience.join()
    audience.leave(first)
    second = audience.join()
    assert taken(second) == [b"hello"], "a new client gets no old frame"
    counters = {"clients.now": 1, "clients.joined": 2, "clients.refused": 1, "frames.sent": 1, "frames.skipped": 0}
    assert audience.counters() == counters


def test_the_feed_announces_on_change_only_and_encodes_the_newest() -> None:
    feed = Feed()
    topology, frame = feed.push([HEAD, mesh(HEAD, 0), mesh(HEAD, 1), mesh(HEAD, 2)])
    assert topology is not None and decode_topology(decode_record(topology)).id == HEAD.id
    assert frame is not None and decode_frame(decode_record(frame)).sequence == 2
    topology, frame = feed.push([HEAD, mesh(HEAD, 3)])
    assert topology is None and frame is not None
    topology, frame = feed.push([OTHER, mesh(OTHER, 4)])
    assert topology is not None and decode_topology(decode_record(topology)).name == "other"
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

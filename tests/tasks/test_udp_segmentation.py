"""Dividing datagrams into messages, and what the system makes of them."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.tasks import many_datagrams, udp_segmentation
from containerdns.tasks.many_datagrams import SLOTS, Areas, Layout
from containerdns.tasks.udp_segmentation import (
    MAX_MESSAGE,
    MAX_SEGMENT,
    MAX_SEGMENTS,
    SegmentedMessages,
    divide,
)

needs_it = pytest.mark.skipif(not udp_segmentation.works(), reason="needs Linux 4.18")

sizes_of_slots = st.lists(st.integers(0, MAX_SEGMENT + 100) | st.sampled_from((0, 60, 61)))


@given(sizes_of_slots)
def test_every_datagram_is_in_one_message_that_the_system_can_cut(sizes: list[int]) -> None:
    messages = divide(range(len(sizes)), sizes)
    found = [slot for slots in messages for slot in slots]
    assert sorted(found) == [slot for slot, size in enumerate(sizes) if size]
    for first, *others in messages:
        assert len(others) < MAX_SEGMENTS
        assert sum(sizes[slot] for slot in (first, *others)) <= MAX_MESSAGE
        assert not others or sizes[first] <= MAX_SEGMENT
        assert all(sizes[slot] == sizes[first] for slot in others[:-1])
        assert all(sizes[slot] <= sizes[first] for slot in others[-1:])


@pytest.mark.parametrize(
    ("sizes", "messages"),
    [
        ([], []),
        ([0, 0], []),
        ([60, 60, 60], [[0, 1, 2]]),
        ([60, 61, 0, 60], [[1, 0], [3]]),
        ([59, 60, 60, 59, 59, 58], [[1, 2, 0], [3, 4, 5]]),
        ([1233, 1233, 1232, 1232], [[0], [1], [2, 3]]),
        ([60] * 65, [list(range(64)), [64]]),
        ([1232] * 53, [list(range(52)), [52]]),
    ],
    ids=["none", "empty", "equal", "one shorter", "two runs", "too long", "too many", "too much"],
)
def test_equal_sizes_go_together_with_one_shorter(
    sizes: list[int], messages: list[list[int]]
) -> None:
    assert divide(range(len(sizes)), sizes) == messages


@needs_it
def test_message_arrives_as_datagrams_and_a_slot_alone_as_itself() -> None:
    areas = Areas(Layout(64, 64))
    segmented = SegmentedMessages(areas)
    texts = [bytes([65 + slot]) * (9 - slot // 5) for slot in range(20)]
    for slot, text in enumerate(texts):
        areas.outgoing[slot * 64 : slot * 64 + len(text)] = text
    sizes = [len(text) for text in texts]
    messages = [[7], *divide(range(5), sizes), *divide(range(8, 20), sizes), [6, 5]]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        theirs.bind(("127.0.0.1", 0))
        theirs.settimeout(10)
        ours.connect(theirs.getsockname())
        for _ in range(2):
            segmented.lay_out(messages, sizes)
            _, send = many_datagrams.calls()
            place = ours.fileno(), segmented.headers, 0, len(messages)
            assert many_datagrams.send_until_error(send, *place) == (len(messages), 0)
            segmented.clear()
            expected = [texts[slot] for slots in messages for slot in slots]
            assert [theirs.recv(64) for _ in expected] == expected


def test_heads_are_equal_again_after_sending() -> None:
    """Else replies to one peer would look like those to several."""
    areas = Areas(Layout(64, 0, 16, 16, 32))
    segmented = SegmentedMessages(areas)
    before = areas.heads[:]
    segmented.lay_out([[0, 1], [2, 3]], [9] * 4)
    assert areas.heads[:] != before
    segmented.clear()
    assert areas.heads[:] == before
    assert before == before[: len(before) // SLOTS] * SLOTS

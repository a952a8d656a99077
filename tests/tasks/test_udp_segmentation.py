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
    Division,
    SegmentedMessages,
    divide,
)

needs_it = pytest.mark.skipif(not udp_segmentation.works(), reason="needs Linux 4.18")

sizes_of_datagrams = st.lists(
    st.integers(1, MAX_SEGMENT + 100) | st.sampled_from((60, 61)), min_size=1
)


@given(sizes_of_datagrams)
def test_every_datagram_is_in_one_message_that_the_system_can_cut(sizes: list[int]) -> None:
    sizes.sort(reverse=True)
    counts = divide(sizes)
    assert sum(counts) == len(sizes)
    start = 0
    for count in counts:
        first, *others = sizes[start : start + count]
        assert count <= MAX_SEGMENTS
        assert first + sum(others) <= MAX_MESSAGE
        assert not others or first <= MAX_SEGMENT
        assert all(size == first for size in others[:-1])
        start += count


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        ([60], [1]),
        ([60, 60, 60], [3]),
        ([61, 60, 60], [2, 1]),
        ([60, 60, 59, 59, 59, 58], [3, 3]),
        ([1233, 1233, 1232, 1232], [1, 1, 2]),
        ([1233, 1233], [1, 1]),
        ([60] * 64, [64]),
        ([60] * 65, [64, 1]),
        ([1232] * 53, [52, 1]),
    ],
    ids=[
        *(
            "one",
            "equal",
            "one shorter",
            "two runs",
            "too long",
            "all too long",
            "as many as can be",
        ),
        *("too many", "too much"),
    ],
)
def test_equal_sizes_go_together_with_one_shorter(sizes: list[int], counts: list[int]) -> None:
    assert divide(sizes) == counts


@needs_it
def test_message_arrives_as_datagrams_and_a_slot_alone_as_itself() -> None:
    areas = Areas(Layout(64, 64))
    segmented = SegmentedMessages(areas)
    texts = [bytes([65 + slot]) * (9 - slot // 5) for slot in range(20)]
    for slot, text in enumerate(texts):
        areas.outgoing[slot * 64 : slot * 64 + len(text)] = text
    sizes = [len(text) for text in texts]
    division = Division([7, *range(5), *range(8, 20), 6, 5], [1, 5, 3, 5, 4, 2])
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        theirs.bind(("127.0.0.1", 0))
        theirs.settimeout(10)
        ours.connect(theirs.getsockname())
        for _ in range(2):
            segmented.lay_out(division, sizes)
            _, send = many_datagrams.calls()
            place = ours.fileno(), segmented.headers, 0, len(division.counts)
            assert many_datagrams.send_until_error(send, *place) == (len(division.counts), 0)
            segmented.clear()
            expected = [texts[slot] for slot in division.order]
            assert [theirs.recv(64) for _ in expected] == expected


def test_heads_are_equal_again_after_sending() -> None:
    """Else replies to one peer would look like those to several."""
    areas = Areas(Layout(64, 0, 16, 16, 32))
    segmented = SegmentedMessages(areas)
    before = areas.heads[:]
    segmented.lay_out(Division(range(4), [2, 2]), [9] * 4)
    assert areas.heads[:] != before
    segmented.clear()
    assert areas.heads[:] == before
    assert before == before[: len(before) // SLOTS] * SLOTS

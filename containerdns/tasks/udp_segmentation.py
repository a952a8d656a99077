"""UDP segmentation offload: many datagrams to one peer as one message of `sendmmsg`.

Since Linux 4.18 a control message with a size has the system cut a message into datagrams of that
size, of which the last one may be shorter.  It is routed, filtered and queued once: measured, 64
datagrams cost 0.7 µs each instead of 4.2 µs, and two of them 3.3 µs.

Older systems ignore the control message, or what looks like it, and would send one huge datagram:
never send it before `works` was asked.
"""

import errno
import logging
import socket
import struct
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from containerdns.tasks import many_datagrams
from containerdns.tasks.many_datagrams import HEAD_OCTETS, SLOTS, Areas, Call, Layout

log = logging.getLogger(__name__)

SOL_UDP: Final = 17  # linux/socket.h; Python has no names for these
UDP_SEGMENT: Final = 103  # linux/udp.h
MAX_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS, linux/udp.h; 128 since Linux 6.9
MAX_MESSAGE: Final = 65_000  # octets, below 65,507, the most that IPv4 can carry
MIN_DIVIDED: Final = 3  # datagrams; with fewer, preparing a message costs what it saves
MAX_SEGMENT: Final = 1232  # octets; every path of IPv6 carries that, and longer ones may fail

CONTROL: Final = struct.Struct("@QiiH6x")  # struct cmsghdr: length, level, type; then the size
PADDING: Final = 6  # octets of it that do not count
PART_OCTETS: Final = 16  # struct iovec
NO_SIZES: Final = array("H", bytes(2 * SLOTS))

# What such a message fails with where it cannot be cut: a device without checksums, or IPsec
# (EIO); a path whose packets are smaller than a segment (EINVAL, later EMSGSIZE).
REFUSALS: Final = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP})


@cache
def works() -> bool:
    """Return whether this system cuts messages into datagrams."""
    if not many_datagrams.works():
        return False
    is_known = _is_known()
    if not is_known or not _arrives_in_parts(many_datagrams.calls()[1]):
        reason = "self-test failed" if is_known else "needs Linux 4.18"
        log.info("UDP segmentation offload: %s; sending one datagram per message", reason)
        return False
    return True


def divide(slots: Iterable[int], sizes: Sequence[int]) -> list[list[int]]:
    """Divide datagrams to one peer into messages.

    Args:
        slots: Their slots.
        sizes: Their sizes by slot, in octets; 0 for an empty slot, which is left out.

    Returns:
        Slots of messages.  All but the last of each have the same size, and it is not longer.
    """
    messages: list[list[int]] = []
    size = room = 0
    for slot in sorted(slots, key=sizes.__getitem__, reverse=True):
        octets = sizes[slot]
        if not octets:
            break
        if room:
            messages[-1].append(slot)
            room = room - 1 if octets == size else 0
        else:
            messages.append([slot])
            size = octets
            room = min(MAX_SEGMENTS, MAX_MESSAGE // size) - 1 if size <= MAX_SEGMENT else 0
    return messages


class SegmentedMessages:
    """Messages to send that consist of one slot or more, in place of one message a slot.

    The control message with the size is in the head of a message's first slot, behind what else
    is there.  That size is 0 but while messages are sent, as equal heads are of the same peer.

    Attributes:
        headers: The address of the headers, `HEADER_OCTETS` each.
    """

    def __init__(self, areas: Areas) -> None:
        layout = areas.layout
        self._headers, self._parts = many_datagrams.headers_and_parts()
        self.headers = many_datagrams.address_of(self._headers)
        self._parts_at = many_datagrams.address_of(self._parts)
        self._header_words = memoryview(self._headers).cast("B").cast("Q")
        self._part_words = memoryview(self._parts).cast("B").cast("Q")
        self._name_octets = layout.name_octets
        self._control_octets = layout.control_octets + CONTROL.size
        heads = many_datagrams.address_of(areas.heads)
        self._names = _addresses(heads, HEAD_OCTETS) if layout.name_octets else [0] * SLOTS
        self._controls = _addresses(heads + layout.control_at, HEAD_OCTETS)
        self._octets = _addresses(
            many_datagrams.address_of(areas.outgoing),
            layout.outgoing_octets or layout.incoming_octets,
        )
        at = layout.control_at + layout.control_octets
        for head in range(0, SLOTS * HEAD_OCTETS, HEAD_OCTETS):
            CONTROL.pack_into(
                areas.heads, head + at, CONTROL.size - PADDING, SOL_UDP, UDP_SEGMENT, 0
            )
        size_at = at + CONTROL.size - PADDING - 2
        self._sizes = memoryview(areas.heads).cast("H")[size_at // 2 :: HEAD_OCTETS // 2]

    def lay_out(self, messages: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
        """Fill in the headers of messages, given as slots; then `clear` after sending."""
        order: list[int] = []
        words: list[int] = []
        for slots in messages:
            first, count = slots[0], len(slots)
            parts = self._parts_at + len(order) * PART_OCTETS
            words += (self._names[first], self._name_octets, parts, count)
            words += (self._controls[first], self._control_octets, 0, 0)
            order += slots
            if count > 1:
                self._sizes[first] = sizes[first]
        self._header_words[: len(words)] = array("Q", words)
        stop = 2 * len(order)
        self._part_words[0:stop:2] = array("Q", map(self._octets.__getitem__, order))
        self._part_words[1:stop:2] = array("Q", map(sizes.__getitem__, order))

    def clear(self) -> None:
        """Forget the sizes in the heads."""
        self._sizes[:] = NO_SIZES


def _addresses(start: int, octets: int) -> list[int]:
    return list(range(start, start + SLOTS * octets, octets))


def _is_known() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            opened.getsockopt(SOL_UDP, UDP_SEGMENT)
        except OSError:
            return False
    return True


def _arrives_in_parts(send: Call) -> bool:
    """Test it: a message of three parts must arrive as three datagrams."""
    parts = b"first", b"other", b"end"
    areas = Areas(Layout(64, 64))
    segmented = SegmentedMessages(areas)
    for slot, part in enumerate(parts):
        areas.outgoing[slot * 64 : slot * 64 + len(part)] = part
    segmented.lay_out([range(len(parts))], [len(part) for part in parts])
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        try:
            theirs.bind(("127.0.0.1", 0))
            theirs.settimeout(0.1)
            ours.connect(theirs.getsockname())
            is_sent = send(ours.fileno(), segmented.headers, 1, 0) == 1
            return bool(is_sent and all(theirs.recv(64) == part for part in parts))
        except OSError:
            return False

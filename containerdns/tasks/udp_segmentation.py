"""UDP segmentation offload: many datagrams to one peer as one message of `sendmmsg`.

Since Linux 4.18 a control message with a size has the system cut a message into datagrams of that
size, of which the last one may be shorter.  It is routed, filtered and queued once: measured, 64
datagrams cost 0.7 µs each instead of 4.2 µs, and two of them 3.3 µs.

Older systems ignore the control message, or what looks like it, and would send one huge datagram:
never send it before `works` was asked.
"""

import errno
import logging
import mmap
import socket
import struct
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Final, NamedTuple

from containerdns.tasks import many_datagrams
from containerdns.tasks.many_datagrams import (
    HEAD_OCTETS,
    HEADER_OCTETS,
    SLOTS,
    Areas,
    Call,
    Layout,
    Parts,
)

log = logging.getLogger(__name__)

SOL_UDP: Final = 17  # linux/socket.h; Python has no names for these
UDP_SEGMENT: Final = 103  # linux/udp.h
MAX_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS, linux/udp.h; 128 since Linux 6.9
MAX_MESSAGE: Final = 65_000  # octets, below 65,507, the most that IPv4 can carry
MIN_DIVIDED: Final = 4  # datagrams; with fewer, preparing a message costs what it saves
MIN_ALIKE: Final = 2  # of one size to one peer, on average; fewer cost what they save
MAX_SEGMENT: Final = 1232  # octets; every path of IPv6 carries that, and longer ones may fail

CONTROL: Final = struct.Struct("@QiiH6x")  # struct cmsghdr: length, level, type; then the size
HEADER: Final = struct.Struct("@QQ16xQQ16x")  # struct mmsghdr: name, control; the rest is 0
PADDING: Final = 6  # octets of it that do not count
PART_OCTETS: Final = 16  # struct iovec

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


class Division(NamedTuple):
    """Slots divided into messages.

    Attributes:
        order: The slots of the first message, then those of the second, and so on; a range begins
            with the first slot.
        counts: How many slots each message has.
    """

    order: Sequence[int]
    counts: list[int]

    def slots_of(self, number: int) -> Sequence[int]:
        """Return the slots of a message."""
        start = sum(self.counts[:number])
        return self.order[start : start + self.counts[number]]


def divide(sizes: Sequence[int]) -> list[int]:
    """Divide datagrams to one peer into messages.

    Args:
        sizes: Their sizes in octets, the largest first, none 0.

    Returns:
        How many datagrams, in that order, each message has.  All but the last one of a message
        have the same size, which is not exceeded by the last one.
    """
    size = sizes[0]
    if size == sizes[-1] and len(sizes) <= _room(size):
        return [len(sizes)]
    counts: list[int] = []
    count = room = 0
    for octets in sizes:
        if room:
            count += 1
            room = room - 1 if octets == size else 0
        else:
            if count:
                counts.append(count)
            size, count = octets, 1
            room = _room(size) - 1
    counts.append(count)
    return counts


def _room(size: int) -> int:
    """Return how many datagrams of a size a message can have."""
    if size <= MAX_MESSAGE // MAX_SEGMENTS:
        return MAX_SEGMENTS
    return MAX_MESSAGE // size if size <= MAX_SEGMENT else 1


class SegmentedMessages:
    """Messages to send that consist of one slot or more, in place of one message a slot.

    The control message with the size is in the head of a message's first slot, behind what else
    is there.  That size is 0 but while messages are sent, as equal heads are of the same peer.

    Attributes:
        headers: The address of the headers, `HEADER_OCTETS` each.
    """

    def __init__(self, areas: Areas) -> None:
        layout = areas.layout
        octets = layout.outgoing_octets or layout.incoming_octets
        self._octets = array("Q", _addresses(areas.outgoing, octets))
        heads = _addresses(areas.heads, HEAD_OCTETS)
        self._templates = [
            HEADER.pack(
                head if layout.name_octets else 0,
                layout.name_octets,
                head + layout.control_at,
                layout.control_octets + CONTROL.size,
            )
            for head in heads
        ]
        headers, parts = many_datagrams.headers_and_parts()
        self.headers = many_datagrams.address_of(headers)
        self._parts = _addresses(parts, PART_OCTETS)
        self._part_words = memoryview(parts).cast("B").cast("Q")
        self._header_octets = memoryview(headers).cast("B")
        words = self._header_octets.cast("Q")
        self._part_addresses, self._part_counts = words[2::8], words[3::8]
        self._firsts: list[int] = []
        at = layout.control_at + layout.control_octets
        for head in range(0, SLOTS * HEAD_OCTETS, HEAD_OCTETS):
            CONTROL.pack_into(
                areas.heads, head + at, CONTROL.size - PADDING, SOL_UDP, UDP_SEGMENT, 0
            )
        size_at = at + CONTROL.size - PADDING - 2
        self._sizes = memoryview(areas.heads).cast("H")[size_at // 2 :: HEAD_OCTETS // 2]

    def lay_out(self, division: Division, sizes: Sequence[int]) -> None:
        """Fill in the headers of messages; `clear` after sending.

        Args:
            division: The messages.
            sizes: The sizes by slot.
        """
        order, counts = division
        stop = 2 * len(order)
        if order.__class__ is range:  # from the first slot
            self._part_words[0:stop:2] = self._octets[: len(order)]
            self._part_words[1:stop:2] = array("Q", sizes[: len(order)])
        else:
            self._part_words[0:stop:2] = array("Q", map(self._octets.__getitem__, order))
            self._part_words[1:stop:2] = array("Q", map(sizes.__getitem__, order))
        starts = list(accumulate(counts[:-1], initial=0))
        firsts = list(map(order.__getitem__, starts))
        octets = len(counts) * HEADER_OCTETS
        self._header_octets[:octets] = b"".join(map(self._templates.__getitem__, firsts))
        self._part_addresses[: len(counts)] = array("Q", map(self._parts.__getitem__, starts))
        self._part_counts[: len(counts)] = array("Q", counts)
        for first, count in zip(firsts, counts, strict=True):
            if count > 1:
                self._sizes[first] = sizes[first]
        self._firsts = firsts

    def clear(self) -> None:
        """Forget the sizes in the heads."""
        for first in self._firsts:
            self._sizes[first] = 0


def _addresses(area: mmap.mmap | Parts, octets: int) -> list[int]:
    """Return where each slot of an area begins."""
    start = many_datagrams.address_of(area)
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
    segmented.lay_out(Division([0, 1, 2], [3]), [len(part) for part in parts])
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

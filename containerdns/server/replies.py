"""Sending the replies of a batch, with few messages.

Replies to one client that have the same length are one message, which the system cuts into
datagrams: see `tasks/udp_segmentation`.  A client that sends one query at a time gains nothing,
while a resolver or a gateway in front of us often has many queries in a batch.
"""

import errno
import logging
import mmap
import os
from array import array
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from containerdns.tasks import many_datagrams, udp_segmentation
from containerdns.tasks.many_datagrams import HEAD_OCTETS, SLOTS, Areas, send_until_error
from containerdns.tasks.udp_segmentation import (
    MIN_ALIKE,
    MIN_DIVIDED,
    REFUSALS,
    Division,
    SegmentedMessages,
    divide,
)

log = logging.getLogger(__name__)

PORT_AT: Final = 2  # in an address, struct sockaddr_in and sockaddr_in6
MAX_REFUSING: Final = 1000  # clients; then they are forgotten, and tried again

_HEADS: Final = [slice(at, at + HEAD_OCTETS) for at in range(0, SLOTS * HEAD_OCTETS, HEAD_OCTETS)]


class Replies:
    """Sends the replies in the slots of one socket's areas.

    Attributes:
        refusing: The clients, by the key part of a head, to whom no message can be cut: the path
            or the device does not allow it.  Theirs are sent one by one.
    """

    def __init__(self, descriptor: int, areas: Areas, key: slice) -> None:
        """Initialise without any.

        Args:
            descriptor: Of the socket.
            areas: Its areas.
            key: The part of a head that belongs to a client whatever port it uses.
        """
        self.refusing: set[bytes] = set()
        self._descriptor = descriptor
        self._areas = areas
        self._key = key
        self._ports = memoryview(areas.heads).cast("H")[PORT_AT // 2 :: HEAD_OCTETS // 2]
        self._send = many_datagrams.calls()[1]
        self._segmented = SegmentedMessages(areas) if udp_segmentation.works() else None

    def send(self, sizes: list[int]) -> None:
        """Send the replies of these sizes; those of 0 octets are none.

        A reply that cannot be sent is lost, as is what does not fit into the socket's buffer.
        """
        count = len(sizes)
        if count >= MIN_DIVIDED and self._segmented is not None and self._are_alike(sizes):
            division = to_messages(self._areas.heads, sizes, self._key, self.refusing)
            if len(division.counts) < len(division.order):
                self._send_messages(division, sizes, self._segmented)
                return
        self._areas.outgoing_lengths[:count] = array("Q", sizes)
        start = 0
        for _ in range(sizes.count(0)):  # empty slots divide them into runs
            stop = sizes.index(0, start)
            self._send_run(start, stop)
            start = stop + 1
        self._send_run(start, count)

    def _are_alike(self, sizes: list[int]) -> bool:
        """Return whether enough replies have the peer, by its port, and the size of another."""
        ports = self._ports[: len(sizes)].tolist()
        most = len(sizes) // MIN_ALIKE
        return len(set(ports)) <= most and len(set(zip(ports, sizes, strict=True))) <= most

    def _send_messages(
        self, division: Division, sizes: list[int], segmented: SegmentedMessages
    ) -> None:
        segmented.lay_out(division, sizes)
        start, stop = 0, len(division.counts)
        while start < stop:
            place = self._descriptor, segmented.headers, start, stop
            start, code = send_until_error(self._send, *place)
            if code == errno.EAGAIN:
                break
            if code:
                self._send_one_by_one(division.slots_of(start), sizes, code)
            start += 1
        segmented.clear()

    def _send_one_by_one(self, slots: Sequence[int], sizes: list[int], code: int) -> None:
        """Send what could not be sent as one message."""
        log.debug("sendmmsg of %d replies in one: %s", len(slots), os.strerror(code))
        for slot in slots:
            self._areas.outgoing_lengths[slot] = sizes[slot]
            self._send_run(slot, slot + 1)
        if code in REFUSALS and len(slots) > 1:
            if len(self.refusing) >= MAX_REFUSING:
                self.refusing.clear()
            at = slots[0] * HEAD_OCTETS
            self.refusing.add(self._areas.heads[at : at + HEAD_OCTETS][self._key])

    def _send_run(self, start: int, stop: int) -> None:
        """Send the replies in neighbouring slots, if possible with one system call."""
        while start < stop:
            start, code = send_until_error(
                self._send, self._descriptor, self._areas.sent, start, stop
            )
            if code:  # lost route or firewall
                log.debug("sendmmsg: %s", os.strerror(code))
            if code == errno.EAGAIN:  # the buffer is full; the clients retry
                return
            start += 1


def to_messages(
    heads: mmap.mmap | bytes, sizes: list[int], key: slice, refusing: AbstractSet[bytes]
) -> Division:
    """Divide the replies in slots into messages.

    Args:
        heads: The heads of all slots; equal ones are of the same peer.
        sizes: The size of each reply, from the first slot; 0 for none.
        key: The part of a head that belongs to a client, whatever port it uses.
        refusing: Clients each of whose replies is a message.
    """
    order = _longest_first(sizes)
    count, first = len(sizes), heads[:HEAD_OCTETS]
    if order and not refusing and heads[: count * HEAD_OCTETS] == first * count:
        return Division(order, divide(sorted(sizes, reverse=True)[: len(order)]))
    slots_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for slot in order:
        slots_of[heads[_HEADS[slot]]].append(slot)
    order, counts = [], []
    for head, slots in slots_of.items():
        order += slots
        if len(slots) == 1:
            counts.append(1)
        elif refusing and head[key] in refusing:
            counts += [1] * len(slots)
        else:
            counts += divide(list(map(sizes.__getitem__, slots)))
    return Division(order, counts)


def _longest_first(sizes: list[int]) -> Sequence[int]:
    """Return the slots that have a reply."""
    count = len(sizes)
    if sizes.count(sizes[0]) == count:
        return range(count if sizes[0] else 0)
    order = sorted(range(count), key=sizes.__getitem__, reverse=True)
    return order[: count - sizes.count(0)]

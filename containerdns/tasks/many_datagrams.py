"""Many datagrams per system call: Linux's `recvmmsg` and `sendmmsg`, and the memory they use.

That memory is laid out once, in slots:

    heads     addresses and control messages, where a socket needs them
    incoming  received messages
    outgoing  messages to send

A slot has one head, for what was received and for what is sent.  The areas are anonymous memory
maps, since slicing these returns `bytes`.
"""

import ctypes
import logging
import mmap
import os
import socket
import sys
from functools import cache
from typing import Any, Final, NamedTuple

log = logging.getLogger(__name__)

SLOTS: Final = 64  # more gained nothing, and delays other work
HEAD_OCTETS: Final = 128
HEADER_OCTETS: Final = 64  # struct mmsghdr on 64-bit Linux, as are the following


class _MessageHeader(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_octets", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_octets", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _ManyHeader(ctypes.Structure):
    _fields_ = (("message", _MessageHeader), ("octets", ctypes.c_uint32))


class _IOVector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("octets", ctypes.c_size_t))


Headers = ctypes.Array[_ManyHeader]
Parts = ctypes.Array[_IOVector]

_LENGTH_WORD: Final = _ManyHeader.octets.offset // 4

Call = Any  # a foreign function: file descriptor, headers, count, flags, [timeout] -> count


class Layout(NamedTuple):
    """What is in a slot, and how long it is.

    Attributes:
        incoming_octets: The maximum length of a received message; longer ones are truncated.
        outgoing_octets: The same of a message to send; 0 to send from where the message with the
            same slot was received.
        name_octets: The length of the other side's address; 0 for a connected socket.
        control_at: Where the control message begins in a head, a multiple of 8.
        control_octets: Its length, a multiple of 8; 0 for none.
    """

    incoming_octets: int
    outgoing_octets: int
    name_octets: int = 0
    control_at: int = 0
    control_octets: int = 0


class Areas:
    """The memory of both system calls.

    Attributes:
        layout: What is in a slot.
        heads: See above.
        incoming: See above.
        outgoing: See above.
        received: The address of the headers of received messages.
        sent: The address of the headers of messages to send, `HEADER_OCTETS` each.
        headers: The headers of received messages.
        fresh_headers: What they must be before each call.
        lengths: The length of each received message.
        outgoing_lengths: The length of each message to send.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.heads = mmap.mmap(-1, SLOTS * HEAD_OCTETS)
        self.incoming = mmap.mmap(-1, SLOTS * layout.incoming_octets)
        self.outgoing = self.incoming
        if layout.outgoing_octets:
            self.outgoing = mmap.mmap(-1, SLOTS * layout.outgoing_octets)
        self._headers_in, self._parts_in = headers_and_parts()
        self._headers_out, self._parts_out = headers_and_parts()
        self._lay_out(layout)
        self.received = ctypes.addressof(self._headers_in)
        self.sent = ctypes.addressof(self._headers_out)
        self.headers = memoryview(self._headers_in).cast("B")
        self.fresh_headers = bytes(self.headers)
        words = self.headers.cast("I")
        self.lengths = words[_LENGTH_WORD :: HEADER_OCTETS // 4]
        self.outgoing_lengths = memoryview(self._parts_out).cast("B").cast("Q")[1::2]

    def _lay_out(self, layout: Layout) -> None:
        heads, incoming, outgoing = map(address_of, (self.heads, self.incoming, self.outgoing))
        outgoing_octets = layout.outgoing_octets or layout.incoming_octets
        for slot in range(SLOTS):
            head = heads + slot * HEAD_OCTETS
            name = head if layout.name_octets else None
            control = head + layout.control_at if layout.control_octets else None
            self._parts_in[slot] = _IOVector(
                incoming + slot * layout.incoming_octets, layout.incoming_octets
            )
            self._parts_out[slot] = _IOVector(outgoing + slot * outgoing_octets, 0)
            for headers, parts in (
                (self._headers_in, self._parts_in),
                (self._headers_out, self._parts_out),
            ):
                headers[slot].message = _MessageHeader(
                    name,
                    layout.name_octets,
                    ctypes.addressof(parts[slot]),
                    1,
                    control,
                    layout.control_octets,
                    0,
                )


@cache
def works() -> bool:
    """Return whether this system has the calls, with the expected memory layout."""
    try:
        receive, send = calls()
    except (OSError, AttributeError) as error:
        log.info("falling back to one datagram per system call: %s", error)
        return False
    is_laid_out = (
        sys.platform == "linux"
        and sys.byteorder == "little"
        and ctypes.sizeof(_ManyHeader) == HEADER_OCTETS
        and _ManyHeader.octets.offset == 56
        and ctypes.sizeof(_IOVector) == 16
    )
    if not is_laid_out or not _echoes(receive, send):
        log.info("recvmmsg self-test failed; falling back to one datagram per system call")
        return False
    return True


def calls() -> tuple[Call, Call]:
    """Return `recvmmsg` and `sendmmsg`, which keep the GIL since they never block here.

    Raises:
        OSError: The system's library cannot be loaded.
        AttributeError: It does not have them.
    """
    library = ctypes.PyDLL(None, use_errno=True)
    receive, send = library.recvmmsg, library.sendmmsg
    common: list[Any] = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    receive.argtypes = [*common, ctypes.c_void_p]
    send.argtypes = common
    receive.restype = send.restype = ctypes.c_int
    return receive, send


def error() -> OSError:
    """Return why the last call failed."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def send_until_error(
    send: Call, descriptor: int, headers: int, start: int, stop: int
) -> tuple[int, int]:
    """Send messages until one fails.

    Args:
        send: `sendmmsg`.
        descriptor: Of the socket, which does not block.
        headers: The address of the first message's header, whatever `start` is.
        start: The number of the first message to send.
        stop: The number after the last one.

    Returns:
        The number of the message that failed, and its error; `stop` and 0 for none.
    """
    while start < stop:
        sent = send(descriptor, headers + start * HEADER_OCTETS, stop - start, 0)
        if sent < 0:
            return start, ctypes.get_errno()
        start += sent
    return stop, 0


def headers_and_parts() -> tuple[Headers, Parts]:
    """Return empty headers for as many messages as there are slots, and parts for them."""
    return (_ManyHeader * SLOTS)(), (_IOVector * SLOTS)()


def address_of(area: mmap.mmap | Headers | Parts) -> int:
    """Return where an area begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def _echoes(receive: Call, send: Call) -> bool:
    """Test the calls: a datagram from a connected socket must come back to it."""
    areas = Areas(Layout(64, 64))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        try:
            ours.bind(("127.0.0.1", 0))
            theirs.bind(("127.0.0.1", 0))
            ours.connect(theirs.getsockname())
            theirs.connect(ours.getsockname())
            theirs.settimeout(0.1)
            theirs.send(b"query")
            count = receive(ours.fileno(), areas.received, SLOTS, socket.MSG_DONTWAIT, None)
            if count != 1 or areas.lengths[0] != 5:
                return False
            areas.outgoing[:5] = areas.incoming[:5]
            areas.outgoing_lengths[0] = 5
            return bool(send(ours.fileno(), areas.sent, 1, 0) == 1 and theirs.recv(9) == b"query")
        except OSError:
            return False

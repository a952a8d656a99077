"""Responses of upstreams that can be passed on as they came.

Most answers are a few addresses, all of the name that was asked for.  In such a response nothing
is dropped, sorted or capped, and each owner is a pointer to the question: behind a client's own
question the same octets mean the same.  So they are checked in one pass, and neither decoded to
records for `scrub` nor encoded again.

Whatever is not certainly of that kind is left to `messages.parse_response` and `scrub`, with the
same result; the tests hold one to the other.
"""

import struct
from functools import lru_cache
from typing import NamedTuple

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Body, Edns, Response
from containerdns.core.protocol.query_variants import OPT_OCTETS
from containerdns.core.upstream.scrub import MAX_POSITIVE
from containerdns.errors import BadMessage

# Of a response: it then fits into any datagram, also with an OPT record of ours.
MAX_PLAIN_OCTETS = messages.PLAIN_OCTETS - OPT_OCTETS

_IS_PLAIN = messages.QR | messages.OPCODE | messages.TC | messages.RCODE  # QR, and none of them
_HEADER = struct.Struct("!HHHHHH")
_QUESTION = b"\xc0\x0c"  # a pointer to octet 12
_DATA_OCTETS = {b"\0\1\0\1": 4, b"\0\x1c\0\1": 16}  # by type and class: A and AAAA
_TTL_AT, _LENGTH_AT, _DATA_AT = 6, 10, 12  # in a record whose owner is a pointer
_PLAIN_OPT = b"\0\0\x29"  # the root, and the type


class PlainAnswer(NamedTuple):
    """A response that can be passed on as it came.

    Attributes:
        body: The records.
        count_octets: Their number, in two octets.
        ttl: Seconds, of all of them.
        flags: The header's second 16 bits.
        edns: The contents of its OPT record; None without one.
    """

    body: Body
    count_octets: bytes
    ttl: int
    flags: int
    edns: Edns | None

    @property
    def says_more(self) -> bool:
        """Whether an option has to be looked at, such as an extended error."""
        return self.edns is not None and any(
            code != messages.PADDING_OPTION for code, _ in self.edns.options
        )

    @property
    def is_authentic(self) -> bool:
        """The AD flag."""
        return bool(self.flags & messages.AD)


def parse(data: bytes, asked: bytes) -> Response:
    """Parse a response to a question, as `messages.parse_response` does.

    Returns:
        The response; with `body` if it can be passed on as it came.

    Raises:
        BadMessage: It is malformed, or a query.
    """
    plain = read(data, asked)
    if plain is None:
        return messages.parse_response(data, asked)
    octets, _, ends, _ = plain.body
    size = ends[0]
    answer = tuple(
        RR(asked[:-4], asked[-3], messages.IN, plain.ttl, octets[end - size + _DATA_AT : end])
        for end in ends
    )
    message_id = int.from_bytes(data[:2])
    noerror, edns, body = messages.NOERROR, plain.edns, plain.body
    return Response(message_id, plain.flags, noerror, asked, answer, (), (), edns, body)


def read(data: bytes, asked: bytes) -> PlainAnswer | None:
    """Check whether a response can be passed on as it came.

    Args:
        data: The message.
        asked: The question sent.

    Returns:
        None if that is not certain.
    """
    start = messages.HEADER_OCTETS + len(asked)
    octets = _DATA_OCTETS.get(asked[-4:])
    if octets is None or len(data) > MAX_PLAIN_OCTETS or data[12:start] != asked:
        return None
    _, flags, questions, count, authorities, additionals = _HEADER.unpack_from(data)
    if flags & _IS_PLAIN != messages.QR or questions != 1 or not count or authorities:
        return None
    size = _DATA_AT + octets
    end = start + count * size
    ttl = _common_ttl(data, start, end, _QUESTION + asked[-4:], octets)
    if not 0 <= ttl <= MAX_POSITIVE:
        return None
    edns = None
    if additionals or len(data) != end:
        edns = _read_opt(data[end:]) if additionals == 1 else None
        if edns is None:
            return None
    records = data[start:end]
    if count > 1 and len({records[at : at + size] for at in range(0, end - start, size)}) != count:
        return None  # a duplicate, which is dropped
    body = Body(records, (count, 0, 0), *_places(count, size))
    return PlainAnswer(body, data[6:8], ttl, flags, edns)


def _common_ttl(data: bytes, start: int, end: int, head: bytes, octets: int) -> int:
    """Return the TTL of all records; -1 if they differ, or one has not this form.

    Args:
        data: The message.
        start: Where the records begin.
        end: Where they should end.
        head: Each one's owner, type and class.
        octets: The length of each one's data.
    """
    ttl, length = data[start + _TTL_AT : start + _LENGTH_AT], octets.to_bytes(2)
    before_data = head + ttl + length
    for at in range(start, end, _DATA_AT + octets):
        if data[at : at + _DATA_AT] != before_data:
            return -1
    return int.from_bytes(ttl)


@lru_cache(maxsize=1024)  # of each server nearly always the same, or padded by 0 to 467 octets
def _read_opt(octets: bytes) -> Edns | None:
    """Parse what is left of a response; None if it is no OPT record, or one with an rcode."""
    if octets[:3] != _PLAIN_OPT:
        return None
    try:
        edns = messages.parse_opt(octets)
    except BadMessage:
        return None
    return None if edns.extended_rcode else edns


@lru_cache(maxsize=128)  # at most 31 records of two sizes
def _places(count: int, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ends of so many records of one size, and where their TTLs are."""
    ends = range(size, count * size + 1, size)
    return tuple(ends), tuple(end - size + _TTL_AT for end in ends)

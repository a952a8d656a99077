"""Responses of upstreams that can be passed on as they came.

Nearly all responses have one of two forms: records of the type asked for, possibly behind a chain
of CNAMEs; or a denial, whose only other record is an SOA.  In these nothing is dropped or sorted,
and each name is spelled out or ends in a pointer to another name: behind a client's own question
the same octets mean the same.  So they are checked in one pass, and neither decoded to records for
`scrub` nor encoded again.

Whatever does not certainly have such a form is left to `messages.parse_response` and `scrub`, with
the same result; the tests hold one to the other.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Body, Edns, Response
from containerdns.core.protocol.query_variants import OPT_OCTETS
from containerdns.core.upstream.scrub import MAX_CHAIN, MAX_NEGATIVE, MAX_POSITIVE
from containerdns.errors import BadMessage

# Of a response: it then fits into any datagram, also with an OPT record of ours.
MAX_PLAIN_OCTETS = messages.PLAIN_OCTETS - OPT_OCTETS

_IS_PLAIN = messages.QR | messages.OPCODE | messages.TC  # QR, and neither of the others
_HEADER = struct.Struct("!HHHHHH")
_POINTER = 0xC000
_MIN_POINTER = b"\xc0\x00"
_QUESTION = b"\xc0\x0c"  # a pointer to octet 12
# By type and class: A, AAAA, HTTPS and TXT.  The data of the last two may have any length, and has
# no compressed names.
_DATA_LENGTH = {
    b"\0\1\0\1": b"\0\4",
    b"\0\x1c\0\1": b"\0\x10",
    b"\0\x41\0\1": b"",
    b"\0\x10\0\1": b"",
}
_CNAME, _SOA = b"\0\5\0\1", b"\0\6\0\1"
_DATA_AT = 10  # in a record, behind its owner: type, class, TTL and length precede it
_TTL_LENGTH = struct.Struct("!IH")
_SOA_NUMBERS = 20  # octets after the names in SOA data; the last four are its minimum
_PLAIN_OPT = b"\0\0\x29"  # the root, and the type


class PlainAnswer(NamedTuple):
    """A response that can be passed on as it came.

    Attributes:
        body: The records.
        count_octets: The numbers of records in answer and authority, two octets each.
        ttl: Seconds, the lowest of all records.
        flags: The header's second 16 bits; the rcode is NOERROR or NXDOMAIN.
        edns: The contents of its OPT record; None without one.
        targets: Canonical names that its CNAMEs lead to, in order.
    """

    body: Body
    count_octets: bytes
    ttl: int
    flags: int
    edns: Edns | None
    targets: tuple[str, ...] = ()

    @property
    def says_more(self) -> bool:
        """Whether an option has to be looked at, such as an extended error."""
        return self.edns is not None and any(
            code != messages.PADDING_OPTION for code, _ in self.edns.options
        )

    @property
    def rcode(self) -> int:
        """NOERROR or NXDOMAIN."""
        return self.flags & messages.RCODE

    @property
    def is_authentic(self) -> bool:
        """The AD flag."""
        return bool(self.flags & messages.AD)

    @property
    def is_negative(self) -> bool:
        """Whether the type, or the name, does not exist."""
        return self.body.counts[1] > 0

    def records(self, asked: bytes) -> tuple[RR, ...]:
        """Return the records of the type asked for, as if the question's name owned them."""
        if self.is_negative:
            return ()
        octets, _, ends, ttl_offsets = self.body
        first = len(self.targets)
        owner, rtype, at = asked[:-4], asked[-3], ttl_offsets[first]
        ttl = int.from_bytes(octets[at : at + 4])
        places = zip(ttl_offsets[first:], ends[first:], strict=True)
        return tuple(
            [
                RR(owner, rtype, messages.IN, ttl, octets[at + _TTL_LENGTH.size : end])
                for at, end in places
            ]
        )

    def capped(self, ttl: int) -> "PlainAnswer":
        """Return the same without a higher TTL."""
        body = messages.with_ttls(self.body, 0, ttl)
        return self._replace(body=body, ttl=min(self.ttl, ttl))


class _NotPlainError(Exception):
    """A response does not have a form that can be passed on."""


def parse(data: bytes, asked: bytes) -> Response:
    """Parse a response to a question, as `messages.parse_response` does.

    Returns:
        The response; with `body` if it has only records of the type asked for, and can be passed
        on as it came.

    Raises:
        BadMessage: It is malformed, or a query.
    """
    plain = read(data, asked, messages.TCP_OCTETS)
    if plain is None or plain.targets or plain.is_negative:
        return messages.parse_response(data, asked)
    message_id, answer = int.from_bytes(data[:2]), plain.records(asked)
    noerror, edns, body = messages.NOERROR, plain.edns, plain.body
    return Response(message_id, plain.flags, noerror, asked, answer, (), (), edns, body)


def read(data: bytes, asked: bytes, most: int = MAX_PLAIN_OCTETS) -> PlainAnswer | None:
    """Check whether a response can be passed on as it came.

    Args:
        data: The message.
        asked: The question sent.
        most: The maximum size of the message in octets.

    Returns:
        None if that is not certain.
    """
    start, kind = messages.HEADER_OCTETS + len(asked), asked[-4:]
    if kind not in _DATA_LENGTH or len(data) > most or data[12:start] != asked:
        return None
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & _IS_PLAIN != messages.QR or questions != 1:
        return None
    records = _Records(data, start)
    try:
        if not (answers and data.startswith(_QUESTION + kind, start)):
            records.read_aliases(answers)
        count, rcode = answers - len(records.targets), flags & messages.RCODE
        if count and not authorities and rcode == messages.NOERROR:
            records.read_set(kind, count)
        elif not count and authorities == 1 and rcode in (messages.NOERROR, messages.NXDOMAIN):
            records.read_soa()
        else:
            return None
    except (_NotPlainError, IndexError, struct.error):
        return None
    edns = None
    if additionals or len(data) != records.at:
        edns = _read_opt(data[records.at :]) if additionals == 1 else None
        if edns is None:
            return None
    targets = tuple(map(_text_of, records.targets)) if records.targets else ()
    body = records.body((answers, authorities, 0))
    return PlainAnswer(body, data[6:10], records.ttl, flags, edns, targets)


# A name that was read: where its own labels are, rather than those of a name that it points to;
# where it begins; and its octets, in lower case.
_Name = tuple[list[int], int, bytes]


class _Records:
    """Reads the records of a response, from the first to the last.

    Its methods raise `_NotPlainError` where the form is another, and `IndexError` or `struct.error`
    where the response is cut.

    Attributes:
        at: Where the next record begins.
        ttl: The lowest TTL so far.
        targets: The names that CNAMEs lead to, in lower case.
    """

    __slots__ = (
        *("_data", "_ends", "_last", "_names", "_owner", "_start", "_ttl_offsets"),
        *("at", "targets", "ttl"),
    )

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = self.at = start
        self._ends: list[int] = []
        self._ttl_offsets: list[int] = []
        self._last = b""  # the name at the end of the chain, once that was looked at
        self._owner = _QUESTION  # the next record's, as written
        self.ttl = MAX_POSITIVE
        self.targets: Sequence[bytes] = ()

    def read_aliases(self, most: int) -> None:
        """Read CNAMEs, each of the name that the one before leads to, until another record."""
        self._names: list[_Name] = []
        self._last, _ = self._read_name(messages.HEADER_OCTETS)
        chain = [self._last]
        while len(chain) <= most:
            self._owner = self._read_owner(self.at)
            kind_at = self.at + len(self._owner)
            if not self._data.startswith(_CNAME, kind_at):
                break
            target, end = self._read_name(kind_at + _DATA_AT)
            if target in chain or len(chain) > MAX_CHAIN:
                raise _NotPlainError
            self._add(kind_at + len(_CNAME), end)
            chain.append(target)
            self._last = target
        self.targets = chain[1:]

    def read_set(self, kind: bytes, count: int) -> None:
        """Read records of the name at the end of the chain, with one TTL, and none twice.

        The owner of the first may be spelled out, and be what those of the others point to: BIND
        does so where the question is spelled in another way than the zone.

        Args:
            kind: Their type and class.
            count: Their number, at least 1.
        """
        data, start, at = self._data, self._start, self.at
        owner = self._owner
        ttl_at = at + len(owner) + len(kind)
        ttl = data[ttl_at : ttl_at + 4]
        same = kind + ttl + _DATA_LENGTH[kind]
        common, found = owner + same, []
        for number in range(count):
            if number == 1 and self._last and not data.startswith(common, at):
                owner = self._read_owner(at)
                common = owner + same
            if not data.startswith(common, at):
                raise _NotPlainError
            data_at = at + len(owner) + _DATA_AT
            end = data_at + int.from_bytes(data[data_at - 2 : data_at])
            self._ttl_offsets.append(data_at - _DATA_AT + len(kind) - start)
            self._ends.append(end - start)
            found.append(data[data_at:end])
            at = end
        if count > 1 and len(set(found)) < count:
            raise _NotPlainError  # duplicates are dropped
        self._lower(int.from_bytes(ttl))
        self.at = at

    def read_soa(self) -> None:
        """Read the SOA of a zone at or above a name of the chain, and cap its TTL.

        Its lower number is the TTL of a denial (RFC 2308 section 5).
        """
        data, above = self._data, self._names.copy()
        owner, at = self._read_name(self.at)
        ttl_at = at + len(_SOA)
        if data[at:ttl_at] != _SOA or not _is_above(owner, above):
            raise _NotPlainError
        _, mailbox_at = self._read_name(ttl_at + _TTL_LENGTH.size)
        _, numbers_at = self._read_name(mailbox_at)
        end = numbers_at + _SOA_NUMBERS
        numbers = data[ttl_at : ttl_at + 4], data[end - 4 : end]
        self._add(ttl_at, end)
        ttl = min(MAX_NEGATIVE, *map(int.from_bytes, numbers))
        self._lower(ttl)
        self._data = data[:ttl_at] + ttl.to_bytes(4) + data[ttl_at + 4 :]

    def body(self, counts: tuple[int, int, int]) -> Body:
        """Return what was read."""
        octets = self._data[self._start : self.at]
        return Body(octets, counts, tuple(self._ends), tuple(self._ttl_offsets))

    def _add(self, ttl_at: int, end: int) -> None:
        """Add a record with a name in its data.

        Args:
            ttl_at: Where its TTL is.
            end: Where its data must end.
        """
        ttl, length = _TTL_LENGTH.unpack_from(self._data, ttl_at)
        if end != ttl_at + _TTL_LENGTH.size + length:
            raise _NotPlainError
        self._lower(ttl)
        self._ttl_offsets.append(ttl_at - self._start)
        self._ends.append(end - self._start)
        self.at = end

    def _lower(self, ttl: int) -> None:
        """Lower the lowest TTL to that of a record."""
        if ttl > MAX_POSITIVE:
            raise _NotPlainError
        self.ttl = min(self.ttl, ttl)

    def _read_owner(self, at: int) -> bytes:
        """Return the octets of a record's owner, if it is the name at the end of the chain."""
        owner = self._data[at : at + 2]
        if owner >= _MIN_POINTER:
            name = self._name_at(owner)
        else:
            name, end = self._read_name(at)
            owner = self._data[at:end]
        if name != self._last:
            raise _NotPlainError
        return owner

    def _name_at(self, pointer: bytes) -> bytes:
        """Return the name that a pointer leads to if it was read; b"" if not."""
        place = int.from_bytes(pointer) - _POINTER
        for labels, start, name in reversed(self._names):  # nearly always to the latest
            if place in labels:
                return name[place - start :]
        return b""

    def _read_name(self, at: int) -> tuple[bytes, int]:
        """Read a name; return it in lower case, and the offset after it.

        A pointer must lead to a name that was read before, or to one above it.  So no octet is
        read twice, and no name has octets that are changed before a client gets them, such as
        those of a TTL.
        """
        data, start, labels = self._data, at, []
        while 0 < (length := data[at]) <= names.MAX_LABEL:
            labels.append(at)
            at += 1 + length
        rest, end = b"\0", at + 1
        if length:
            end = at + 2
            rest = self._name_at(data[at:end])
        name = data[start:at].lower() + rest
        if not rest or len(name) > names.MAX_NAME:
            raise _NotPlainError
        if labels:
            self._names.append((labels, start, name))
        return name, end


_text_of = lru_cache(maxsize=1024)(names.from_wire)  # the chain of an A is also that of an AAAA


def _is_above(apex: bytes, below: Sequence[_Name]) -> bool:
    """Return whether an apex is at or above one of some names."""
    return apex == b"\0" or any(
        name.endswith(apex) and start + len(name) - len(apex) in labels
        for labels, start, name in below
    )


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

"""DNS messages: parsing octets to values, and encoding values to octets.

The parser is strict and our own: every length, pointer and count is checked (RFC 1035 section 4,
RFC 6891, RFC 9619), and anything invalid is a `BadMessage`.  dnslib provides the mnemonics and
the presentation form of record data; no other module imports it.

The cost of parsing is linear in the length of any message.  The numbers of records, options
and pointers are limited, and each octet of a name is read only once per message, however many
pointers lead to it.

Wire names are uncompressed and spelled as they came, unless said otherwise.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import dnslib

from containerdns.core import names
from containerdns.errors import BadMessage

HEADER_OCTETS = 12
TYPE_AND_CLASS_OCTETS = 4  # of a question, behind its name
PAYLOAD_OCTETS = 1232  # avoids fragmentation on every path, DNS flag day 2020
PLAIN_OCTETS = 512  # without EDNS, RFC 1035 section 4.2.1
TCP_OCTETS = 65535
MAX_RECORDS = 512  # of a response of an upstream; BIND takes 100 of one type
MAX_ADDITIONAL = 4  # records behind a question: OPT, TSIG, SIG(0); Unbound takes one
MAX_OPTIONS = 64  # per OPT record; fewer than 30 are assigned
MAX_POINTERS = 127  # of one name: one for each label that it can have
MAX_LABELS = 4 * MAX_RECORDS  # spelled out in a message, where most names are pointers

QR = 0x8000
OPCODE = 0x7800
AA = 0x0400
TC = 0x0200
RD = 0x0100
RA = 0x0080
AD = 0x0020
CD = 0x0010
RCODE = 0x000F
DO = 0x8000  # in the flags of the OPT record, RFC 3225

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH = 0, 1, 2, 3, 4, 5, 9
BADVERS, BADCOOKIE = 16, 23

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41
DS, DNSKEY, HTTPS, TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, ANY = (
    43, 48, 65, 249, 250, 251, 252, 253, 254, 255,
)  # fmt: skip
IN, CH, ANY_CLASS = 1, 3, 255

# Only `containerdns healthcheck` asks for this name, TXT in class CH, so that its queries can be
# kept out of the history and the counts.
HEALTH_CHECK = "healthcheck.containerdns."

NSID_OPTION, COOKIE_OPTION, PADDING_OPTION, EDE_OPTION = 3, 10, 12, 15

_HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TYPE_CLASS = struct.Struct("!HH")
_POINTER = 0xC000
_POINTER_REACH = 0x3FFF

# Types whose data holds names that may be compressed (RFC 3597 section 4), with the
# octets before the names, the number of names, and the octets after them.
_NAMES_IN_DATA = {NS: (0, 1), CNAME: (0, 1), PTR: (0, 1), MX: (2, 1), SOA: (0, 2)}
# Further types whose names old servers compress; they are expanded for our clients and never
# compressed again (RFC 3597 section 4, and KX and DNAME).
NAPTR = 35
_NAMES_READ = {
    **_NAMES_IN_DATA,
    **dict.fromkeys((3, 4, 7, 8, 9, 23, 30, 39), (0, 1)),  # MD MF MB MG MR NSAP-PTR NXT DNAME
    **dict.fromkeys((14, 17), (0, 2)),  # MINFO RP
    **dict.fromkeys((18, 21, 36), (2, 1)),  # AFSDB RT KX
    24: (18, 1),  # SIG
    26: (2, 2),  # PX
    SRV: (6, 1),
}
_NAPTR_NUMBERS = 4  # octets before its three strings, RFC 3403 section 4.1
_NAPTR_STRINGS = 3


class RR(NamedTuple):
    """One resource record in wire terms.

    Attributes:
        owner: Wire name.
        rtype: The type's number.
        rclass: The class's number.
        ttl: Seconds.
        rdata: Without compression.
    """

    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


class Edns(NamedTuple):
    """The contents of an OPT record (RFC 6891 section 6.1).

    Attributes:
        payload_octets: As sent; below 512 it means 512.
        version: Only 0 is defined.
        dnssec_ok: The DO flag.
        options: Code and data, in the order sent.
        extended_rcode: The upper eight bits of a response's rcode.
    """

    payload_octets: int
    version: int
    dnssec_ok: bool
    options: tuple[tuple[int, bytes], ...] = ()
    extended_rcode: int = 0

    def option(self, code: int) -> bytes | None:
        """Return the data of the first option with this code."""
        return next((data for sent, data in self.options if sent == code), None)


class Query(NamedTuple):
    """A well-formed query.

    Attributes:
        id: The message's ID.
        flags: The header's second 16 bits, as received.
        question: The question as received, with the spelling of its name.
        name: The canonical name asked for; "" if there is no question.
        qtype: The type's number.
        qclass: The class's number.
        edns: The contents of its OPT record; None without one.
        tsig: The offset of its TSIG record; None without one.
        serial: The serial in the authority section, of an IXFR query.
    """

    id: int
    flags: int
    question: bytes
    name: str
    qtype: int
    qclass: int
    edns: Edns | None = None
    tsig: int | None = None
    serial: int | None = None

    @property
    def wants_recursion(self) -> bool:
        """The RD flag."""
        return bool(self.flags & RD)

    @property
    def datagram_octets(self) -> int:
        """The maximum size of a UDP response to this client."""
        if self.edns is None:
            return PLAIN_OCTETS
        return min(max(self.edns.payload_octets, PLAIN_OCTETS), PAYLOAD_OCTETS)


class Response(NamedTuple):
    """A parsed response of an upstream.

    Attributes:
        id: The message's ID.
        flags: The header's second 16 bits.
        rcode: With the extended bits of its OPT record.
        question: Wire name as received, with type and class; b"" if there is none.
        answer: Records, in order.
        authority: Records, in order.
        additional: Records, without OPT.
        edns: The contents of its OPT record; None without one.
        body: The same records as they came, if nothing about them has to be changed; see
            `core/upstream/plain_answers`.
    """

    id: int
    flags: int
    rcode: int
    question: bytes
    answer: tuple[RR, ...]
    authority: tuple[RR, ...]
    additional: tuple[RR, ...]
    edns: Edns | None = None
    body: "Body | None" = None


class Body(NamedTuple):
    """Three encoded sections, to follow a question that begins at octet 12.

    Owners are pointers into that question, so they have the client's spelling.

    Attributes:
        octets: The records.
        counts: The numbers of records in answer, authority and additional.
        ends: The offset of each record's end in `octets`.
        ttl_offsets: The offset of each record's TTL in `octets`.
    """

    octets: bytes
    counts: tuple[int, int, int]
    ends: tuple[int, ...]
    ttl_offsets: tuple[int, ...]


EMPTY_BODY = Body(b"", (0, 0, 0), (), ())


def parse_query(data: bytes) -> Query:
    """Parse a query of opcode 0.

    Raises:
        BadMessage: It is malformed by RFC 1035, RFC 6891 or RFC 9619.
    """
    if len(data) < HEADER_OCTETS:
        raise BadMessage("shorter than a header")
    message_id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if questions > 1 or answers:
        raise BadMessage("more than one question, or answers in a query")
    at, question, name, qtype, qclass = HEADER_OCTETS, b"", "", 0, 0
    if questions:
        wire, at = _read_plain_name(data, at)
        if at + 4 > len(data):
            raise BadMessage("truncated question")
        qtype, qclass = _TYPE_CLASS.unpack_from(data, at)
        at += 4
        question = data[HEADER_OCTETS:at]
        name = names.from_wire(wire)
    serial = None
    if authorities:
        if qtype != IXFR or authorities > 1:
            raise BadMessage("authority records in a query")
        record, at = _read_record(data, at, _KnownNames())
        if record.rtype != SOA or len(record.rdata) < 22:
            raise BadMessage("an IXFR query without its SOA")
        serial = int.from_bytes(record.rdata[-20:-16])
    if additionals > MAX_ADDITIONAL:
        raise BadMessage("too many additional records")
    edns = tsig = None
    if additionals:
        edns, tsig, at = _read_additional(data, at, additionals)
    if at != len(data):
        raise BadMessage("octets after the last record")
    if not questions and (edns is None or edns.option(COOKIE_OPTION) is None):
        raise BadMessage("no question")  # except with a cookie, RFC 7873 section 5.4
    return Query(message_id, flags, question, name, qtype, qclass, edns, tsig, serial)


def parse_opt(octets: bytes) -> Edns:
    """Parse a single OPT record.

    Raises:
        BadMessage: It is malformed, or followed by something.
    """
    record, end = _read_record(octets, 0, _KnownNames())
    if record.rtype != OPT or end != len(octets):
        raise BadMessage("not an OPT record, or octets after it")
    return _edns_of(record)


def parse_response(data: bytes, asked: bytes = b"") -> Response:
    """Parse a response of an upstream.

    Args:
        data: The message.
        asked: The question sent, which is well-formed; the same one is not parsed again.

    Raises:
        BadMessage: It is malformed, or a query.
    """
    if len(data) < HEADER_OCTETS:
        raise BadMessage("shorter than a header")
    message_id, flags, questions, *counts = _HEADER.unpack_from(data)
    if not flags & QR or flags & OPCODE:
        raise BadMessage("not a response to a query")
    if questions > 1:
        raise BadMessage("more than one question")
    if sum(counts) > MAX_RECORDS:
        raise BadMessage("too many records")
    at = HEADER_OCTETS
    question = b""
    known = _KnownNames()
    if questions and asked and data.startswith(asked, at):
        question = asked
        known[at] = asked[:-4]
        at += len(asked)
    elif questions:
        wire, at = _read_name(data, at, known)
        question = wire + data[at : at + 4]
        at += 4
    sections: list[tuple[RR, ...]] = []
    edns: Edns | None = None
    for count in counts:
        records = []
        for _ in range(count):
            record, at = _read_record(data, at, known)
            if record.rtype != OPT:
                records.append(record)
            elif edns is None and record.owner == b"\0":
                edns = _edns_of(record)
            else:
                raise BadMessage("two OPT records, or one with an owner")
        sections.append(tuple(records))
    rcode = flags & 0xF | (edns.extended_rcode << 4 if edns else 0)
    answer, authority, additional = sections
    return Response(message_id, flags, rcode, question, answer, authority, additional, edns)


def encode(
    question_name: bytes,
    answer: Sequence[RR] = (),
    authority: Sequence[RR] = (),
    additional: Sequence[RR] = (),
) -> Body:
    """Encode three sections that follow a question, with compression (RFC 1035 section 4.1.4).

    Args:
        question_name: The wire name of the question, in any spelling.
        answer: Records.
        authority: Records.
        additional: Records, without OPT.
    """
    start = HEADER_OCTETS + len(question_name) + 4
    known: dict[bytes, int] = {}
    _remember_suffixes(question_name.lower(), HEADER_OCTETS, known)
    octets = bytearray()
    ends: list[int] = []
    ttl_offsets: list[int] = []
    for section in (answer, authority, additional):
        for record in section:
            _write_name(record.owner, octets, start, known)
            ttl_offsets.append(len(octets) + 4)
            octets += _FIXED.pack(record.rtype, record.rclass, record.ttl, 0)
            at = len(octets)
            _write_data(record, octets, start, known)
            octets[at - 2 : at] = (len(octets) - at).to_bytes(2)
            ends.append(len(octets))
    counts = (len(answer), len(authority), len(additional))
    return Body(bytes(octets), counts, tuple(ends), tuple(ttl_offsets))


def encode_addresses(rtype: int, ttl: int, addresses: Sequence[bytes]) -> Body:
    """Encode an answer of addresses of the question's name, as `encode` would.

    Args:
        rtype: A or AAAA; the question's name is not the root.
        ttl: Seconds, of each.
        addresses: Their octets, at least one.
    """
    before = (_POINTER | HEADER_OCTETS).to_bytes(2)
    before += _FIXED.pack(rtype, IN, ttl, len(addresses[0]))
    count, octets = len(addresses), len(before) + len(addresses[0])
    ends = tuple(range(octets, count * octets + 1, octets))
    ttl_offsets = tuple(range(6, count * octets, octets))  # behind pointer, type and class
    return Body(before + before.join(addresses), (count, 0, 0), ends, ttl_offsets)


def with_ttls(body: Body, age: int, ceiling: int | None = None) -> Body:
    """Return a body with every TTL reduced by an age, and capped.

    Args:
        body: As it was when the age was 0.
        age: Seconds.
        ceiling: The maximum TTL; None for no limit.
    """
    octets = bytearray(body.octets)
    for at in body.ttl_offsets:
        ttl = max(int.from_bytes(octets[at : at + 4]) - age, 0)
        octets[at : at + 4] = (ttl if ceiling is None else min(ttl, ceiling)).to_bytes(4)
    return Body(bytes(octets), body.counts, body.ends, body.ttl_offsets)


def decode(question_name: bytes, body: Body) -> tuple[tuple[RR, ...], ...]:
    """Return the three sections of a body."""
    data = bytes(HEADER_OCTETS) + question_name + bytes(4) + body.octets
    at = HEADER_OCTETS + len(question_name) + 4
    sections = []
    known = _KnownNames()
    for count in body.counts:
        records = []
        for _ in range(count):
            record, at = _read_record(data, at, known)
            records.append(record)
        sections.append(tuple(records))
    return tuple(sections)


def has_letters(octets: bytes) -> bool:
    """Return whether folding case would change octets, or could have made them."""
    return octets.lower() != octets.upper()


def assemble(query: Query, flags: int, body: Body, limit: int, opt: bytes = b"") -> bytes:
    """Encode a response; what does not fit is cut at a record (RFC 2181 section 9).

    Args:
        query: The query, whose ID, opcode, RD and question are copied.
        flags: AA, RA, AD, CD, TC as wanted, and the lower four bits of the rcode.
        body: The sections.
        limit: The maximum size in octets.
        opt: Our OPT record.
    """
    octets, counts = body.octets, body.counts
    room = limit - HEADER_OCTETS - len(query.question) - len(opt)
    if len(octets) > room:
        octets, counts, is_truncated = _cut(body, room)
        flags |= TC if is_truncated else 0
    header = _HEADER.pack(
        query.id,
        QR | query.flags & (OPCODE | RD) | flags,
        1 if query.question else 0,
        counts[0],
        counts[1],
        counts[2] + (1 if opt else 0),
    )
    return b"".join((header, query.question, octets, opt))


def query(message_id: int, flags: int, question: bytes, opt: bytes = b"") -> bytes:
    """Encode a query of opcode 0, for an upstream.

    Args:
        message_id: 0 to 65535.
        flags: RD, AD, CD as wanted.
        question: Wire name, spelled as to be sent, with type and class.
        opt: Our OPT record; b"" for none.
    """
    return _HEADER.pack(message_id, flags, 1, 0, 0, 1 if opt else 0) + question + opt


def opt_record(
    dnssec_ok: bool = False, rcode: int = 0, options: Iterable[tuple[int, bytes]] = ()
) -> bytes:
    """Encode our OPT record (RFC 6891 section 6.1.2)."""
    data = b"".join(code.to_bytes(2) + len(value).to_bytes(2) + value for code, value in options)
    flags = (rcode >> 4) << 24 | (DO if dnssec_ok else 0)
    return b"\0" + _FIXED.pack(OPT, PAYLOAD_OCTETS, flags, len(data)) + data


def refusal(data: bytes, rcode: int, edns: Edns | None = None) -> bytes | None:
    """Return a response of only a header to a message that cannot be parsed, or None.

    Args:
        data: The message; a response, or a message shorter than a header, is not answered.
        rcode: FORMERR or NOTIMP.
        edns: The message's OPT record, if it could be parsed; the response then has one too
            (RFC 6891 section 6.1.1).
    """
    if len(data) < HEADER_OCTETS or data[2] & 0x80:
        return None
    flags = QR | int.from_bytes(data[2:4]) & (OPCODE | RD) | rcode
    opt = opt_record(edns.dnssec_ok) if edns is not None else b""
    return data[:2] + flags.to_bytes(2) + bytes(6) + bool(opt).to_bytes(2) + opt


def type_text(rtype: int) -> str:
    """Return the type's mnemonic, or "TYPE" and its number (RFC 3597 section 5)."""
    return _TYPE_TEXTS.get(rtype) or f"TYPE{rtype}"


def type_number(text: str) -> int | None:
    """Return the number of a type given as a mnemonic or as "TYPE65"; None if invalid."""
    upper = text.upper()
    if upper in _TYPE_NUMBERS:
        return _TYPE_NUMBERS[upper]
    digits = upper.removeprefix("TYPE")
    if digits != upper and digits.isascii() and digits.isdigit() and int(digits) <= 0xFFFF:
        return int(digits)
    return None


def has_mnemonic(rtype: int) -> bool:
    """Return whether a type has a mnemonic."""
    return rtype in _TYPE_TEXTS


def rcode_text(rcode: int) -> str:
    """Return the rcode's mnemonic."""
    return _RCODE_TEXTS.get(rcode) or f"RCODE{rcode}"


def data_text(rtype: int, rdata: bytes) -> str:
    """Return record data in presentation form; of unknown types, by RFC 3597 section 5."""
    if rtype in _NAMES_IN_DATA and rtype not in (MX, SOA):
        return names.from_wire(rdata)
    generic = f"\\# {len(rdata)} {rdata.hex()}".rstrip()
    reader = dnslib.RDMAP.get(type_text(rtype))
    if reader is None:
        return generic
    try:
        return str(reader.parse(dnslib.DNSBuffer(rdata), len(rdata)))
    except (dnslib.DNSError, dnslib.BufferError, ValueError, KeyError, IndexError, struct.error):
        return generic


_TYPE_TEXTS: dict[int, str] = {**dnslib.QTYPE.forward}
_TYPE_NUMBERS: dict[str, int] = {text: number for number, text in _TYPE_TEXTS.items()}
_RCODE_TEXTS = {**dnslib.RCODE.forward, BADVERS: "BADVERS", BADCOOKIE: "BADCOOKIE"}


def _read_plain_name(data: bytes, at: int) -> tuple[bytes, int]:
    """Parse a name without compression, such as that of a question.

    Returns:
        The wire name, and the offset after it.
    """
    start = at
    size = len(data)
    while True:
        if at >= size:
            raise BadMessage("truncated name")
        length = data[at]
        if length > names.MAX_LABEL:
            raise BadMessage("a pointer or a reserved label in the question")
        at += 1 + length
        if not length:
            break
    if at - start > names.MAX_NAME:
        raise BadMessage("a name longer than 255 octets")
    return data[start:at], at


def is_plain_name(wire: bytes) -> bool:
    """Return whether octets are one name without compression."""
    try:
        return _read_plain_name(wire, 0)[1] == len(wire)
    except BadMessage:
        return False


class _KnownNames(dict[int, bytes]):
    """The wire names parsed in a message, by offset.

    Attributes:
        labels: Number of labels and pointers parsed, as many long names take milliseconds.
    """

    __slots__ = ("labels",)

    def __init__(self) -> None:
        super().__init__()
        self.labels = 0

    def add(self, places: list[tuple[int, int]], whole: bytes) -> None:
        """Add a name and its suffixes, by their offsets in the message and in the name."""
        self.labels += len(places)
        if self.labels > MAX_LABELS:
            raise BadMessage(f"more than {MAX_LABELS} labels")
        if places and places[-1][0] <= _POINTER_REACH:  # pointers do not reach further
            for place, offset in places:
                self[place] = whole[offset:]


def _read_name(data: bytes, at: int, known: _KnownNames) -> tuple[bytes, int]:
    """Parse a name that may be compressed; each pointer must point further back.

    Args:
        data: The message.
        at: The offset of the name.
        known: The wire names parsed before in this message, by offset.  New ones are added, so
            that no octet of a name is parsed twice, and a message full of pointers costs no
            more than its length.

    Returns:
        The wire name, and the offset after it.
    """
    wire = bytearray()
    places: list[tuple[int, int]] = []  # in the message, and in `wire`
    rest = b"\0"
    end = pointers = 0
    lowest = at
    size = len(data)
    while True:
        if at >= size:
            raise BadMessage("truncated name")
        length = data[at]
        if length >= 0xC0:
            end = end or at + 2
            target = _read_pointer(data, at)
            pointers += 1
            if target >= lowest or pointers > MAX_POINTERS:
                raise BadMessage("a pointer that does not go back, or too many of them")
            if (suffix := known.get(target)) is not None:
                rest = suffix
                break
            places.append((at, len(wire)))
            at = lowest = target
            continue
        if length > names.MAX_LABEL:
            raise BadMessage("a reserved label type")
        if not length:
            break
        if at + 1 + length > size:
            raise BadMessage("truncated label")
        places.append((at, len(wire)))
        wire += data[at : at + 1 + length]
        at += 1 + length
        if len(wire) >= names.MAX_NAME:
            raise BadMessage("a name longer than 255 octets")
    whole = bytes(wire) + rest
    if len(whole) > names.MAX_NAME:
        raise BadMessage("a name longer than 255 octets")
    known.add(places, whole)
    return whole, end or at + 1


def _read_pointer(data: bytes, at: int) -> int:
    """Return the offset that a pointer points to (RFC 1035 section 4.1.4)."""
    if at + 2 > len(data):
        raise BadMessage("truncated pointer")
    return int.from_bytes(data[at : at + 2]) & _POINTER_REACH


def _read_record(data: bytes, at: int, known: _KnownNames) -> tuple[RR, int]:
    """Parse one record, with its data decompressed; return it and the offset after it."""
    owner, at = _read_owner(data, at, known)
    if at + _FIXED.size > len(data):
        raise BadMessage("truncated record")
    rtype, rclass, ttl, length = _FIXED.unpack_from(data, at)
    at += _FIXED.size
    end = at + length
    if end > len(data):
        raise BadMessage("truncated record data")
    shape = _NAMES_READ.get(rtype) if rtype != NAPTR else _naptr_shape(data, at, end)
    rdata = data[at:end] if shape is None else _read_data(data, at, end, shape, known)
    return RR(owner, rtype, rclass, ttl, rdata), end


def _read_owner(data: bytes, at: int, known: _KnownNames) -> tuple[bytes, int]:
    """Parse the owner of a record, usually a pointer to the question."""
    if data[at : at + 1] >= b"\xc0":
        target = _read_pointer(data, at)
        if target < at and (whole := known.get(target)) is not None:
            return whole, at + 2
    return _read_name(data, at, known)


def _naptr_shape(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Find the name after the three strings of NAPTR data."""
    place = at + _NAPTR_NUMBERS
    for _ in range(_NAPTR_STRINGS):
        if place >= end:
            raise BadMessage("truncated string in a NAPTR record")
        place += 1 + data[place]
    return place - at, 1


def _read_data(data: bytes, at: int, end: int, shape: tuple[int, int], known: _KnownNames) -> bytes:
    """Parse record data that contains names, and decompress them."""
    before, count = shape
    parts = [data[at : at + before]]
    at += before
    for _ in range(count):
        wire, at = _read_name(data, at, known)
        parts.append(wire)
    if at > end:
        raise BadMessage("a name exceeds its record")
    parts.append(data[at:end])
    return b"".join(parts)


def _read_additional(data: bytes, at: int, count: int) -> tuple[Edns | None, int | None, int]:
    """Parse the additional section of a query: OPT, TSIG, and records that are ignored."""
    edns: Edns | None = None
    tsig: int | None = None
    known = _KnownNames()
    for _ in range(count):
        if tsig is not None:
            raise BadMessage("a record after TSIG")  # RFC 8945 section 5.1
        start = at
        record, at = _read_record(data, at, known)
        if record.rtype == TSIG:
            tsig = start
        elif record.rtype == OPT:
            if edns is not None or record.owner != b"\0":
                raise BadMessage("two OPT records, or one with an owner")
            edns = _edns_of(record)
    return edns, tsig, at


def _edns_of(record: RR) -> Edns:
    """Interpret an OPT record (RFC 6891 section 6.1.2)."""
    options: list[tuple[int, bytes]] = []
    data, at = record.rdata, 0
    while at < len(data):
        if at + 4 > len(data) or len(options) == MAX_OPTIONS:
            raise BadMessage("truncated EDNS option, or too many")
        code, length = _TYPE_CLASS.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise BadMessage("truncated data of an EDNS option")
        options.append((code, data[at : at + length]))
        at += length
    return Edns(
        record.rclass,
        record.ttl >> 16 & 0xFF,
        bool(record.ttl & DO),
        tuple(options),
        record.ttl >> 24,
    )


def _remember_suffixes(wire: bytes, at: int, known: dict[bytes, int]) -> None:
    """Record the offset of each suffix of a name, except for the root."""
    offset = 0
    while wire[offset] and at + offset <= _POINTER_REACH:
        known.setdefault(wire[offset:], at + offset)
        offset += 1 + wire[offset]


def _write_name(wire: bytes, octets: bytearray, start: int, known: dict[bytes, int]) -> None:
    """Append a name, compressed against the names before it."""
    lower = wire.lower()
    offset = 0
    while wire[offset]:
        pointer = known.get(lower[offset:])
        if pointer is not None:
            octets += (_POINTER | pointer).to_bytes(2)
            return
        at = start + len(octets)
        if at <= _POINTER_REACH:
            known[lower[offset:]] = at
        length = 1 + wire[offset]
        octets += wire[offset : offset + length]
        offset += length
    octets.append(0)


def _write_data(record: RR, octets: bytearray, start: int, known: dict[bytes, int]) -> None:
    """Append the data of a record, with names compressed where that is allowed."""
    shape = _NAMES_IN_DATA.get(record.rtype)
    if shape is None:
        octets += record.rdata
        return
    before, count = shape
    octets += record.rdata[:before]
    at = before
    for _ in range(count):
        wire, at = _read_plain_name(record.rdata, at)
        _write_name(wire, octets, start, known)
    octets += record.rdata[at:]


def _cut(body: Body, room: int) -> tuple[bytes, tuple[int, int, int], bool]:
    """Keep the whole records that fit; losing only additional ones is not a truncation."""
    kept = sum(1 for end in body.ends if end <= room)
    answers = min(kept, body.counts[0])
    authorities = min(kept - answers, body.counts[1])
    additionals = kept - answers - authorities
    is_truncated = kept < body.counts[0] + body.counts[1]
    octets = body.octets[: body.ends[kept - 1]] if kept else b""
    return octets, (answers, authorities, additionals), is_truncated

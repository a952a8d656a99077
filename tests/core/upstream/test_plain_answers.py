"""Responses that are passed on as they came say the same as decoded, filtered and encoded."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import (
    AAAA,
    CNAME,
    HTTPS,
    IN,
    MX,
    RR,
    SOA,
    TXT,
    A,
    Response,
)
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.questions import Question
from containerdns.core.upstream.scrub import (
    MAX_CHAIN,
    MAX_NEGATIVE,
    MAX_POSITIVE,
    Scrubbed,
    Trust,
    is_private,
    is_referral,
    scrub,
)
from containerdns.errors import BadMessage

POINTER = b"\xc0\x0c"  # to the question
SOA_NUMBERS = bytes(16) + (30).to_bytes(4)
DATA = {
    A: bytes([192, 0, 2, 1]),
    AAAA: b"\x20\1\x0d\xb8" + bytes(11) + b"\1",
    TXT: b"\1x",
    CNAME: POINTER,
    HTTPS: b"\0\1\0\0\1\0\3\2h2\0\4\0\4\xc0\0\2\1",
    SOA: b"\2ns\xc0\x10\4root\xc0\x10" + SOA_NUMBERS,
    MX: b"\0\1" + POINTER,
}
EDE = messages.opt_record(options=((messages.EDE_OPTION, b"\0\3stale"),))
PRIVATE = bytes([10, 0, 0, 1])
TRUSTS = [
    Trust(lambda name: names.is_below(name, "docker."), max_negative_ttl, drops_private=drops)
    for drops in (False, True)
    for max_negative_ttl in (MAX_NEGATIVE, 5)
]


@dataclass(frozen=True)
class Sent:
    """A response as sent, and the question it is for."""

    data: bytes
    asked: bytes

    @property
    def questions(self) -> list[Question]:
        """The question with and without DO."""
        name, qtype = names.from_wire(self.asked[:-4]), int.from_bytes(self.asked[-4:-2])
        return [Question(name, qtype, do, False, None) for do in (False, True)]


def asking(name: str = "www.example.", qtype: int = A) -> bytes:
    return names.to_wire(name) + qtype.to_bytes(2) + b"\0\1"


def record(
    rtype: int = A, data: bytes | None = None, *, owner: bytes = POINTER, ttl: int = 300
) -> bytes:
    data = DATA[rtype] if data is None else data
    return b"".join(
        (owner, rtype.to_bytes(2), b"\0\1", ttl.to_bytes(4), len(data).to_bytes(2), data)
    )


def sent(
    *answer: bytes,
    asked: bytes = asking(),
    authority: tuple[bytes, ...] = (),
    additional: tuple[bytes, ...] = (messages.opt_record(),),
    flags: int = messages.QR | messages.RD | messages.RA,
    after: bytes = b"",
) -> Sent:
    counts = (1, len(answer), len(authority), len(additional))
    header = b"".join(number.to_bytes(2) for number in (0x2B2B, flags, *counts))
    return Sent(b"".join((header, asked, *answer, *authority, *additional, after)), asked)


def meaning(record: RR) -> RR:
    """A record without what a name's spelling may differ in."""
    owner, rdata = record.owner.lower(), record.rdata
    if record.rtype == CNAME:
        rdata = rdata.lower()
    if record.rtype == SOA:
        rdata = rdata[: -len(SOA_NUMBERS)].lower() + rdata[-len(SOA_NUMBERS) :]
    return record._replace(owner=owner, rdata=rdata)


def without_case(response: Response) -> Response:
    """A response without octets that are passed on, and with owners in lower case."""
    answer = tuple(each._replace(owner=each.owner.lower()) for each in response.answer)
    return response._replace(answer=answer, body=None)


def decoded(scrubbed: Scrubbed, asked: bytes) -> Scrubbed:
    """Replace the octets by what they mean behind another spelling, now and after some time."""
    body = scrubbed.body
    aged = messages.with_ttls(body, 7, 200)
    sections = [
        [tuple(map(meaning, section)) for section in messages.decode(asked[:-4].swapcase(), each)]
        for each in (body, aged)
    ]
    assert not body.ends or body.ends[-1] == len(body.octets)
    return scrubbed._replace(body=(sections, body.counts, len(body.ends)))  # type: ignore[arg-type]


def passed_on(plain: PlainAnswer, trust: Trust) -> Scrubbed:
    """What is passed on: see `Forwarder.accept_plain`."""
    if plain.is_negative and trust.max_negative_ttl < MAX_NEGATIVE:
        plain = plain.capped(trust.max_negative_ttl)
    body, ttl, is_negative = plain.body, plain.ttl, plain.is_negative
    return Scrubbed(plain.rcode, body, ttl, is_negative, targets=plain.targets)


def check(case: Sent) -> PlainAnswer | None:
    """Compare both ways for a message; return what can be passed on, if it can."""
    plain = plain_answers.read(case.data, case.asked)
    if plain is None:
        return None
    whole = messages.parse_response(case.data, case.asked)
    assert without_case(plain_answers.parse(case.data, case.asked)) == without_case(whole)
    assert (plain.flags, plain.edns, plain.rcode) == (whole.flags, whole.edns, whole.rcode)
    assert plain.count_octets == b"".join(count.to_bytes(2) for count in plain.body.counts[:2])
    assert not is_referral(whole)
    for question in case.questions:
        for trust in TRUSTS:
            scrubbed = scrub(whole, question, trust)
            if any(map(trust.is_ours, plain.targets)):
                assert trust.is_ours(scrubbed.targets[-1])
            elif trust.drops_private and any(map(is_private, plain.records(case.asked))):
                assert scrubbed.lost_private
            else:
                passed = passed_on(plain, trust)
                assert decoded(passed, case.asked) == decoded(scrubbed, case.asked)
    return plain


PLAIN = {
    "one address": sent(record()),
    "several addresses": sent(record(), record(data=b"\1\2\3\4"), record(data=PRIVATE)),
    "IPv6": sent(record(AAAA), asked=asking(qtype=AAAA)),
    "a mixed spelling": sent(record(), asked=b"\3wWw\7eXAmple\0\0\1\0\1"),
    "the root": sent(record(), asked=b"\0\0\1\0\1"),
    "no OPT record": sent(record(), additional=()),
    "an extended error": sent(record(), additional=(EDE,)),
    "the longest TTL": sent(record(ttl=MAX_POSITIVE)),
    "TTL 0": sent(record(ttl=0)),
    "data proved": sent(record(), flags=messages.QR | messages.AD),
    "HTTPS": sent(record(HTTPS), asked=asking(qtype=HTTPS)),
    "texts of two lengths": sent(record(TXT), record(TXT, b"\2xy"), asked=asking(qtype=TXT)),
}


@pytest.mark.parametrize("case", PLAIN.values(), ids=PLAIN)
def test_records_of_the_question_are_passed_on(case: Sent) -> None:
    plain = check(case)
    assert plain is not None
    assert plain.body.octets in case.data
    assert plain_answers.parse(case.data, case.asked).body == plain.body


SPELLED = b"\3Www\7Example\0"  # as in the zone, which BIND repeats
IN_ZONE_CASE = {
    "the owner": sent(record(owner=SPELLED)),
    "the owner once": sent(
        record(owner=SPELLED),
        record(data=b"\1\2\3\4", owner=b"\xc0\x1d"),
        record(data=PRIVATE, owner=b"\xc0\x1d"),
    ),
    "the owner each time": sent(
        *(record(data=bytes([1, 2, 3, n]), owner=SPELLED) for n in range(3))
    ),
    "a CNAME": sent(record(CNAME, b"\3cdn\xc0\x21", owner=SPELLED), record(owner=b"\3CDN\xc0\x21")),
    "no such type": sent(authority=(record(SOA, owner=SPELLED[4:]),)),
}


@pytest.mark.parametrize("case", IN_ZONE_CASE.values(), ids=IN_ZONE_CASE)
def test_names_may_be_spelled_as_in_the_zone(case: Sent) -> None:
    """BIND compresses a name only to one in the same case, and our questions are in any."""
    assert check(case) is not None


DENIED = messages.QR | messages.RD | messages.RA | messages.NXDOMAIN
CDN = record(CNAME, b"\3cdn\3net\0", ttl=90)
FIRST, SECOND = b"\xc0\x29", b"\xc0\x3e"  # pointers to the data of CDN, and of a CNAME after it
EDGE = record(CNAME, b"\1e\xc0\x29", owner=FIRST, ttl=20)
CHAINS = {
    "one CNAME": sent(CDN, record(owner=FIRST)),
    "two": sent(CDN, EDGE, record(owner=SECOND), record(data=PRIVATE, owner=SECOND)),
    "to the name above": sent(record(CNAME, b"\xc0\x10"), record(owner=b"\xc0\x10")),
    "to the name above, whose pointer is repeated": sent(
        record(CNAME, b"\xc0\x10"),
        record(CNAME, b"\1x\xc0\x10", owner=b"\xc0\x10"),
        record(owner=b"\xc0\x37"),
    ),
    "to a name of ours": sent(record(CNAME, b"\3web\6Docker\0"), record(owner=FIRST)),
    "to the root": sent(
        record(CNAME, b"\0"), asked=asking(), flags=DENIED, authority=(record(SOA),)
    ),
    "HTTPS": sent(CDN, record(HTTPS, owner=FIRST), asked=asking(qtype=HTTPS)),
    "no such type": sent(
        CDN, authority=(record(SOA, b"\2ns\xc0\x29\0" + SOA_NUMBERS, owner=FIRST),)
    ),
    "no such name": sent(CDN, authority=(record(SOA, owner=b"\xc0\x2d"),), flags=DENIED),
    "a denial that lives longer than its CNAME": sent(CDN, EDGE, authority=(record(SOA),)),
}


@pytest.mark.parametrize("case", CHAINS.values(), ids=CHAINS)
def test_chains_are_passed_on(case: Sent) -> None:
    plain = check(case)
    assert plain is not None
    assert plain.targets


DENIALS = {
    "no such type": sent(authority=(record(SOA),), asked=asking(qtype=AAAA)),
    "no HTTPS": sent(authority=(record(SOA, owner=b"\xc0\x10"),), asked=asking(qtype=HTTPS)),
    "no such name": sent(authority=(record(SOA),), flags=DENIED),
    "of the root": sent(
        authority=(record(SOA, bytes(2) + SOA_NUMBERS, owner=b"\0"),), flags=DENIED
    ),
    "of a zone spelled out": sent(authority=(record(SOA, owner=b"\7exAmple\0"),), flags=DENIED),
    "a short TTL": sent(authority=(record(SOA, ttl=3),)),
    "a short minimum": sent(authority=(record(SOA, bytes(22), ttl=90),)),
    "a minimum of 136 years": sent(authority=(record(SOA, bytes(2) + b"\xff" * 20, ttl=9000),)),
    "a denial that is proved": sent(authority=(record(SOA),), flags=DENIED | messages.AD),
    "no OPT record": sent(authority=(record(SOA),), additional=()),
}


@pytest.mark.parametrize("case", DENIALS.values(), ids=DENIALS)
def test_denials_are_passed_on(case: Sent) -> None:
    plain = check(case)
    assert plain is not None
    assert plain.is_negative
    assert plain.ttl <= MAX_NEGATIVE


@pytest.mark.parametrize(
    "case", [*PLAIN.values(), *CHAINS.values(), *DENIALS.values()], ids=[*PLAIN, *CHAINS, *DENIALS]
)
def test_no_part_of_a_response_is_passed_on(case: Sent) -> None:
    """Cut at any octet, which a datagram that is too long can be."""
    for end in range(len(case.data)):
        assert plain_answers.read(case.data[:end], case.asked) is None


def long_chain(count: int) -> Sent:
    """CNAMEs from the question to "b.", "c." and so on, then an address."""
    owners, data = [POINTER], []
    at = messages.HEADER_OCTETS + len(asking())
    for number in range(count):
        data.append(record(CNAME, bytes([1, 98 + number, 0]), owner=owners[-1]))
        owners.append((0xC000 | at + 12).to_bytes(2))
        at += len(data[-1])
    return sent(*data, record(owner=owners[-1]))


def test_a_chain_ends_where_it_ends_for_a_resolver() -> None:
    assert check(long_chain(MAX_CHAIN)) is not None
    assert check(long_chain(MAX_CHAIN + 1)) is None


OTHERS = {
    "a TTL to be capped": sent(record(ttl=MAX_POSITIVE + 1)),
    "a TTL that means 0": sent(record(ttl=0x80000001)),
    "two TTLs": sent(record(), record(data=PRIVATE, ttl=1)),
    "a duplicate": sent(record(), record()),
    "another type": sent(record(TXT)),
    "a type among them": sent(record(), record(TXT)),
    "an address of another length": sent(record(data=b"\1\2\3")),
    "owners spelled out in three ways": sent(
        *(record(data=bytes([1, 2, 3, n]), owner=SPELLED[:n] + b"\7eXample\0") for n in (4, 2, 3))
    ),
    "an owner above the question": sent(record(owner=b"\xc0\x10")),
    "authority": sent(record(), authority=(record(TXT),)),
    "an SOA beside an answer": sent(record(), authority=(record(SOA),)),
    "a CNAME alone": sent(CDN),
    "a loop": sent(CDN, record(CNAME, owner=FIRST), record(owner=FIRST)),
    "a loop of one": sent(record(CNAME), record()),
    "a CNAME after the address": sent(record(owner=b"\xc0\x39"), CDN),
    "CNAMEs in another order": sent(record(CNAME, owner=b"\xc0\x37"), CDN, record(owner=FIRST)),
    "a CNAME of another name": sent(
        record(CNAME, b"\1x\0", owner=b"\xc0\x10"), record(owner=FIRST)
    ),
    "an address before the chain's end": sent(CDN, EDGE, record(owner=FIRST)),
    "an address of nobody": sent(CDN, record(owner=b"\xc0\x10")),
    "addresses of two names": sent(CDN, record(owner=FIRST), record()),
    "a CNAME in the authority": sent(authority=(CDN,)),
    "an address in the authority": sent(authority=(record(),)),
    "more CNAMEs than answers": sent(CDN, authority=(EDGE,), additional=(record(owner=SECOND),)),
    "a CNAME that lives too long": sent(
        record(CNAME, b"\1x\0", ttl=MAX_POSITIVE + 1), record(owner=FIRST)
    ),
    "a CNAME of class CH": sent(CDN[:5] + b"\3" + CDN[6:], record(owner=FIRST)),
    "octets after a target": sent(record(CNAME, b"\1x\0\0"), record(owner=FIRST)),
    "a target that is cut": sent(record(CNAME, b"\1x"), record(owner=FIRST)),
    "a pointer to the header": sent(record(CNAME, b"\1x\xc0\x04"), record(owner=FIRST)),
    "a pointer to a TTL": sent(record(CNAME, b"\1x\xc0\x23", ttl=0), record(owner=FIRST)),
    "a pointer to itself": sent(record(CNAME, b"\1x\xc0\x29"), record(owner=FIRST)),
    "a pointer ahead": sent(record(CNAME, b"\1x\xc0\x39"), record(owner=FIRST)),
    "a pointer into a label": sent(record(CNAME, b"\1x\xc0\x0d"), record(owner=FIRST)),
    "a label of 64 octets": sent(record(CNAME, b"\x40" + b"x" * 64 + b"\0"), record(owner=FIRST)),
    "a name of 256 octets": sent(
        record(CNAME, b"".join(b"\x3e" + bytes([98 + n]) * 62 for n in range(4)) + b"\2xy\0"),
        record(owner=FIRST),
    ),
    "an SOA within a label": sent(
        asked=b"\x0bwww\7example\0" + asking()[-4:],
        authority=(record(SOA, bytes(2) + SOA_NUMBERS, owner=b"\7example\0"),),
    ),
    "an SOA of a sibling": sent(authority=(record(SOA, owner=b"\3net\0"),)),
    "an SOA of a name below": sent(authority=(record(SOA, owner=b"\1x\xc0\x0c"),)),
    "an SOA that lives too long": sent(authority=(record(SOA, ttl=MAX_POSITIVE + 1),)),
    "an SOA with octets too many": sent(authority=(record(SOA, DATA[SOA] + b"\0"),)),
    "an SOA with octets too few": sent(authority=(record(SOA, DATA[SOA][:-1]),)),
    "an SOA of class CH": sent(authority=(record(SOA)[:5] + b"\3" + record(SOA)[6:],)),
    "two SOAs": sent(authority=(record(SOA), record(SOA, owner=b"\xc0\x10"))),
    "a denial without an SOA": sent(flags=DENIED),
    "a referral": sent(authority=(record(messages.NS, b"\2ns\xc0\x10"),)),
    "an address beside NXDOMAIN": sent(CDN, record(owner=FIRST), flags=DENIED),
    "SERVFAIL with an SOA": sent(authority=(record(SOA),), flags=messages.QR | messages.SERVFAIL),
    "a type with names in its data": sent(record(MX), asked=asking(qtype=MX)),
    "no such type of those": sent(authority=(record(SOA),), asked=asking(qtype=MX)),
    "a CNAME as asked for": sent(record(CNAME, b"\1x\0"), asked=asking(qtype=CNAME)),
    "additional records": sent(record(), additional=(record(), messages.opt_record())),
    "additional, but no OPT record": sent(record(), additional=(record(),)),
    "an upper part of the rcode": sent(record(), additional=(messages.opt_record(rcode=16),)),
    "an OPT record that is cut": sent(record(), additional=(EDE[:-1],)),
    "octets after the end": sent(record(), after=b"\0"),
    "truncated": sent(record(), flags=messages.QR | messages.TC),
    "a query": sent(record(), flags=0),
    "another opcode": sent(record(), flags=messages.QR | 0x2000),
    "NXDOMAIN": sent(record(), flags=DENIED),
    "no answer": sent(),
    "another spelling": Sent(sent(record()).data, b"\3wWw\7example\0\0\1\0\1"),
    "another question": Sent(sent(record()).data, asking("ftp.example.")),
    "no question": Sent(sent(record()).data, asking("other.example.")),
    "cut": Sent(sent(record(), additional=()).data[:-1], asking()),
    "class CH": sent(record(), asked=asking()[:-1] + b"\3"),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_everything_else_is_decoded(case: Sent) -> None:
    assert plain_answers.read(case.data, case.asked) is None
    try:
        whole = messages.parse_response(case.data, case.asked)
    except BadMessage:
        with pytest.raises(BadMessage):
            plain_answers.parse(case.data, case.asked)
    else:
        assert plain_answers.parse(case.data, case.asked) == whole


def test_what_exceeds_a_datagram_is_passed_on_as_part_of_a_flight() -> None:
    """A client may take no more than 512 octets over UDP; see `messages.assemble`."""
    count = (plain_answers.MAX_PLAIN_OCTETS - len(sent().data)) // len(record())
    shorter, longer = (addresses(n) for n in (count, count + 1))
    assert check(shorter) is not None
    assert check(longer) is None
    assert plain_answers.parse(longer.data, longer.asked).body is not None


@pytest.mark.parametrize("count", [messages.MAX_RECORDS + 1, 4000])
def test_there_may_be_as_many_addresses_as_a_message_holds(count: int) -> None:
    case = addresses(count)
    response = plain_answers.parse(case.data, case.asked)
    scrubbed = scrub(response, case.questions[0], TRUSTS[0])
    answer, *_ = messages.decode(case.asked[:-4], scrubbed.body)
    assert len(answer) == len(response.answer) == count


def addresses(count: int) -> Sent:
    return sent(*(record(data=b"\xc6\x12" + n.to_bytes(2)) for n in range(count)))


def test_private_addresses_are_dropped_from_what_could_be_passed_on() -> None:
    case = sent(record(), record(data=PRIVATE))
    scrubbed = scrub(plain_answers.parse(case.data, case.asked), case.questions[0], TRUSTS[-1])
    assert scrubbed.lost_private
    answer, *_ = messages.decode(case.asked[:-4], scrubbed.body)
    assert answer == (RR(case.asked[:-4], A, IN, 300, DATA[A]),)


OWNERS = [
    names.to_wire(name)
    for name in (
        "www.example.",
        "example.",
        "e1.cdn.net.",
        "cdn.net.",
        "x.e1.cdn.net.",
        "web.docker.",
    )
]
QTYPES = [A, A, AAAA, HTTPS, TXT]
TTLS = st.sampled_from([0, 1, 59, MAX_POSITIVE, MAX_POSITIVE + 1, 0x80000000, 0xFFFFFFFF])
ADDITIONAL = st.lists(
    st.sampled_from([messages.opt_record(True), EDE, record(), b"\0"]), max_size=2
)
FLAGS = st.sampled_from([messages.QR | other for other in (0x0020, 0x0203, 0x0403, 2)])


def rarely(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 15)) == 15


SECTION = st.lists(
    st.tuples(st.sampled_from(OWNERS), st.sampled_from([A, CNAME, SOA, TXT, messages.NS])),
    max_size=2,
)


class Writer:
    """Writes records, with names compressed in any way that is allowed."""

    def __init__(self, draw: st.DrawFn, asked: bytes) -> None:
        self._draw = draw
        self.octets = bytearray(messages.HEADER_OCTETS)
        self._places: dict[bytes, list[int]] = {}
        self._note(asked[:-4], len(self.octets))
        self.octets += asked

    def _note(self, wire: bytes, at: int) -> None:
        start = 0
        while wire[start]:
            self._places.setdefault(wire[start:].lower(), []).append(at + start)
            start += 1 + wire[start]

    def name(self, wire: bytes) -> None:
        """Write a name: nearly always as a pointer where that is possible."""
        start = 0
        while wire[start]:
            places = self._places.get(wire[start:])
            if places and not rarely(self._draw):
                pointer = (0xC000 | self._draw(st.sampled_from(places))).to_bytes(2)
                self._write(wire, start, pointer)
                return
            start += 1 + wire[start]
        self._write(wire, start, b"\0")

    def _write(self, wire: bytes, end: int, after: bytes) -> None:
        at, start = len(self.octets), 0
        while start < end:
            self._places.setdefault(wire[start:], []).append(at + start)
            start += 1 + wire[start]
        spelled = wire[:end].swapcase() if self._draw(st.booleans()) else wire[:end]
        self.octets += spelled + after

    def record(self, owner: bytes, rtype: int, target: bytes, data: bytes) -> None:
        """Write a record; its data is that, or names if those are its type's."""
        ttl = self._draw(TTLS) if rarely(self._draw) else 300
        self.name(owner)
        self.octets += rtype.to_bytes(2) + b"\0\1" + ttl.to_bytes(4) + b"\0\0"
        start = len(self.octets)
        if rtype in (CNAME, messages.NS, SOA):
            self.name(target)
        if rtype == SOA:
            self.name(target)
            self.octets += SOA_NUMBERS
        elif rtype not in (CNAME, messages.NS):
            self.octets += data
        self.octets[start - 2 : start] = (len(self.octets) - start).to_bytes(2)


@st.composite
def responses(draw: st.DrawFn) -> Sent:
    """A response as some server might send it: mostly a chain and its end, possibly damaged."""
    qtype = draw(st.sampled_from(QTYPES))
    asked = draw(
        st.sampled_from([asking(qtype=qtype), b"\3wWw\7ExamPle\0" + asking(qtype=qtype)[-4:]])
    )
    writer = Writer(draw, asked)
    rest = draw(st.lists(st.sampled_from(OWNERS[1:]), max_size=3, unique=not rarely(draw)))
    chain = [OWNERS[0], *rest]
    answer = [(owner, CNAME, target, b"") for owner, target in pairwise(chain)]
    of_type = st.sampled_from([DATA[qtype], DATA[qtype][:-1] + b"\xff", PRIVATE])
    data = draw(st.lists(of_type, max_size=2, unique=not rarely(draw)))
    answer += [(chain[-1], qtype, b"", each) for each in data]
    if rarely(draw):
        answer = draw(st.permutations(answer))
    authority = [] if data else [(draw(st.sampled_from(OWNERS)), SOA)]
    if rarely(draw):
        authority = draw(SECTION)
    for each in answer:
        writer.record(*each)
    for owner, rtype in authority:
        writer.record(owner, rtype, owner, DATA[A])
    additional = draw(ADDITIONAL) if rarely(draw) else [messages.opt_record()]
    octets = writer.octets + b"".join(additional)
    usual = 0x8180 if data else draw(st.sampled_from([0x8180, DENIED]))
    flags = draw(FLAGS) if rarely(draw) else usual
    counts = (0x2B2B, flags, 1, len(answer), len(authority), len(additional))
    octets[: messages.HEADER_OCTETS] = b"".join(number.to_bytes(2) for number in counts)
    if rarely(draw):
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return Sent(bytes(octets[: -draw(st.integers(1, 30)) if rarely(draw) else None]), asked)


@given(responses())
@example(PLAIN["several addresses"])
@example(CHAINS["two"])
def test_both_ways_agree(case: Sent) -> None:
    check(case)
    try:
        expected = messages.parse_response(case.data, case.asked)
    except BadMessage as bad:
        assert plain_answers.read(case.data, case.asked) is None
        with pytest.raises(BadMessage, match=str(bad)):
            plain_answers.parse(case.data, case.asked)
    else:
        assert without_case(plain_answers.parse(case.data, case.asked)) == without_case(expected)


@pytest.mark.parametrize(
    ("opt", "says_more"),
    [
        (b"", False),
        (messages.opt_record(), False),
        (messages.opt_record(options=((messages.PADDING_OPTION, bytes(300)),)), False),
        (EDE, True),
    ],
    ids=["no OPT", "no options", "padding", "an extended error"],
)
def test_only_options_that_mean_something_are_looked_at(opt: bytes, says_more: bool) -> None:
    """RFC 8467: over TLS most responses are padded."""
    asked = asking()
    head = b"\0\7\x81\x80\0\1\0\1\0\0" + (b"\0\1" if opt else b"\0\0")
    record = POINTER + b"\0\1\0\1\0\0\0\x3c\0\4" + DATA[A]
    answer = plain_answers.read(head + asked + record + opt, asked)
    assert answer is not None
    assert answer.says_more is says_more

"""Responses that are passed on as they came say the same as decoded, filtered and encoded."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import AAAA, CNAME, IN, RR, TXT, A, Response
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.questions import Question
from containerdns.core.upstream.scrub import MAX_POSITIVE, Scrubbed, Trust, scrub
from containerdns.errors import BadMessage

POINTER = b"\xc0\x0c"  # to the question
DATA = {A: bytes([192, 0, 2, 1]), AAAA: bytes(15) + b"\1", TXT: b"\1x", CNAME: POINTER}
EDE = messages.opt_record(options=((messages.EDE_OPTION, b"\0\3stale"),))
PRIVATE = bytes([10, 0, 0, 1])
TRUSTS = [
    Trust(lambda name: names.is_below(name, "docker."), drops_private=drops_private)
    for drops_private in (False, True)
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


def decoded(scrubbed: Scrubbed, asked: bytes) -> Scrubbed:
    """Replace the octets by what they mean, now and after some time."""
    name, body = asked[:-4], scrubbed.body
    aged = messages.with_ttls(body, 7, 200)
    meaning = messages.decode(name, body), messages.decode(name, aged), body.counts, len(body.ends)
    assert not body.ends or body.ends[-1] == len(body.octets)
    return scrubbed._replace(body=meaning)  # type: ignore[arg-type]


def check(case: Sent) -> Response | None:
    """Compare both ways for a message; return what can be passed on, if it can."""
    if plain_answers.read(case.data, case.asked) is None:
        return None
    plain = plain_answers.parse(case.data, case.asked)
    whole = messages.parse_response(case.data, case.asked)
    assert plain._replace(body=None) == whole
    for question in case.questions:
        for trust in TRUSTS:
            one, other = (scrub(found, question, trust) for found in (plain, whole))
            assert decoded(one, case.asked) == decoded(other, case.asked)
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
}


@pytest.mark.parametrize("case", PLAIN.values(), ids=PLAIN)
def test_addresses_of_the_question_are_passed_on(case: Sent) -> None:
    plain = check(case)
    assert plain is not None
    assert plain.body is not None
    assert plain.body.octets in case.data


OTHERS = {
    "a TTL to be capped": sent(record(ttl=MAX_POSITIVE + 1)),
    "a TTL that means 0": sent(record(ttl=0x80000001)),
    "two TTLs": sent(record(), record(data=PRIVATE, ttl=1)),
    "a duplicate": sent(record(), record()),
    "another type": sent(record(TXT)),
    "a type among them": sent(record(), record(TXT)),
    "a CNAME": sent(record(CNAME)),
    "an address of another length": sent(record(data=b"\1\2\3")),
    "an owner not compressed": sent(record(owner=names.to_wire("www.example."))),
    "an owner above the question": sent(record(owner=b"\xc0\x10")),
    "authority": sent(record(), authority=(record(TXT),)),
    "additional records": sent(record(), additional=(record(), messages.opt_record())),
    "additional, but no OPT record": sent(record(), additional=(record(),)),
    "an upper part of the rcode": sent(record(), additional=(messages.opt_record(rcode=16),)),
    "an OPT record that is cut": sent(record(), additional=(EDE[:-1],)),
    "octets after the end": sent(record(), after=b"\0"),
    "truncated": sent(record(), flags=messages.QR | messages.TC),
    "a query": sent(record(), flags=0),
    "another opcode": sent(record(), flags=messages.QR | 0x2000),
    "NXDOMAIN": sent(record(), flags=messages.QR | messages.NXDOMAIN),
    "no answer": sent(),
    "another spelling": Sent(sent(record()).data, b"\3wWw\7example\0\0\1\0\1"),
    "another question": Sent(sent(record()).data, asking("ftp.example.")),
    "no question": Sent(sent(record()).data, asking("other.example.")),
    "too long": sent(*(record(data=bytes([192, 0, 2, n])) for n in range(40))),
    "cut": Sent(sent(record(), additional=()).data[:-1], asking()),
    "class CH": sent(record(), asked=asking()[:-1] + b"\3"),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_everything_else_is_decoded(case: Sent) -> None:
    assert plain_answers.read(case.data, case.asked) is None


def test_too_long_is_because_of_its_length_alone() -> None:
    count = (plain_answers.MAX_PLAIN_OCTETS - len(sent().data)) // len(record())
    assert check(sent(*(record(data=bytes([192, 0, 2, n])) for n in range(count)))) is not None


def test_private_addresses_are_dropped_from_what_could_be_passed_on() -> None:
    case = sent(record(), record(data=PRIVATE))
    scrubbed = scrub(plain_answers.parse(case.data, case.asked), case.questions[0], TRUSTS[1])
    assert scrubbed.lost_private
    answer, *_ = messages.decode(case.asked[:-4], scrubbed.body)
    assert answer == (RR(case.asked[:-4], A, IN, 300, DATA[A]),)


records = st.builds(
    record,
    st.sampled_from([A, A, A, A, AAAA, TXT, CNAME]),
    st.sampled_from([None, None, None, b"\1\2\3\4", PRIVATE, b"", bytes(16)]),
    owner=st.sampled_from([POINTER] * 6 + [b"\0", b"\xc0\x10", names.to_wire("www.example.")]),
    ttl=st.sampled_from([300] * 6 + [0, MAX_POSITIVE, MAX_POSITIVE + 1, 0x80000000, 0xFFFFFFFF]),
)
few = st.lists(records, max_size=1).map(tuple)
opts = st.sampled_from([messages.opt_record(), messages.opt_record(True), EDE, record(), b"\0"])


@st.composite
def responses(draw: st.DrawFn) -> Sent:
    """A response as some server might send it, possibly damaged."""
    asked = draw(st.sampled_from([asking(), asking(qtype=AAAA), b"\3wWw\2de\0\0\1\0\1"]))
    case = sent(
        *draw(st.lists(records, min_size=1, max_size=4)),
        asked=asked,
        authority=draw(st.one_of(st.just(()), st.just(()), few)),
        additional=draw(st.lists(opts, max_size=2).map(tuple)),
        flags=messages.QR | draw(st.sampled_from([0x0180] * 4 + [0, 0x0020, 0x0203, 0x0403, 2])),
        after=draw(st.sampled_from([b""] * 4 + [b"\0"])),
    )
    octets = bytearray(case.data)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(octets) - 1))
        octets[at] = draw(st.integers(0, 255))
    return Sent(bytes(octets[: draw(st.sampled_from([None, None, None, -1, -12]))]), asked)


@given(responses())
@example(PLAIN["several addresses"])
def test_both_ways_agree(case: Sent) -> None:
    check(case)
    try:
        expected = messages.parse_response(case.data, case.asked)
    except BadMessage as bad:
        with pytest.raises(BadMessage, match=str(bad)):
            plain_answers.parse(case.data, case.asked)
    else:
        assert plain_answers.parse(case.data, case.asked)._replace(body=None) == expected


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

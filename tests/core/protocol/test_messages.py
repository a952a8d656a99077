"""Messages: what is malformed, what is truncated, and what dnslib reads in ours."""

import struct
from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Query
from containerdns.errors import BadMessage

WEB = names.to_wire("web.docker.")
QUESTION = WEB + b"\0\1\0\1"


def head(*counts: int, flags: int = messages.RD) -> bytes:
    return struct.pack("!HHHHHH", 0x2B2B, flags, *counts)


def opt(*, owner: bytes = b"\0", payload: int = 1232, ttl: int = 0, data: bytes = b"") -> bytes:
    return owner + struct.pack("!HHIH", messages.OPT, payload, ttl, len(data)) + data


def a_query(edns: messages.Edns | None = None) -> Query:
    return Query(0x2B2B, messages.RD, QUESTION, "web.docker.", messages.A, messages.IN, edns)


def addresses(count: int) -> list[RR]:
    return [RR(WEB, messages.A, messages.IN, 5, bytes((10, 0, 0, n))) for n in range(1, count + 1)]


def read(octets: bytes) -> Any:
    return dnslib.DNSRecord.parse(octets)


def test_query_is_read() -> None:
    query = messages.parse_query(head(1, 0, 0, 1) + QUESTION + opt(ttl=0x8000))
    assert (query.id, query.name, query.qtype, query.qclass) == (0x2B2B, "web.docker.", 1, 1)
    assert query.wants_recursion
    assert query.edns == messages.Edns(1232, 0, True)
    assert query.question == QUESTION


@pytest.mark.parametrize(
    "data",
    [
        head(1, 0, 0, 0)[:11],
        head(2, 0, 0, 0) + QUESTION * 2,
        head(0, 0, 0, 0),
        head(0, 0, 0, 1) + opt(),
        head(1, 1, 0, 0) + QUESTION + opt(),
        head(1, 0, 1, 0) + QUESTION + opt(),
        head(1, 0, 0, 2) + QUESTION + opt() + opt(),
        head(1, 0, 0, 1) + QUESTION + opt(owner=b"\1a\0"),
        head(1, 0, 0, 1) + QUESTION,
        head(1, 0, 0, 0) + QUESTION + b"\0",
        head(1, 0, 0, 0) + QUESTION[:-1],
        head(1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        head(1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
        head(1, 0, 0, 0) + b"\1a" * 127 + b"\1\0\0\1\0\1",
        head(1, 0, 0, 1) + QUESTION + opt(data=b"\0\3\0\1"),
        head(1, 0, 0, 1) + QUESTION + opt(data=b"\0\3\0"),
        head(1, 0, 0, 2) + QUESTION + b"\0\0\xfa\0\xff\0\0\0\0\0\0" + opt(),
    ],
    ids=[
        "eleven octets", "two questions", "no question", "no question, no cookie", "an answer",
        "an authority", "two OPT", "OPT with an owner", "a record missing", "octets behind",
        "question cut", "pointer", "reserved label", "257 octets", "option data cut", "option cut",
        "OPT behind TSIG",
    ],
)  # fmt: skip
def test_malformed_query_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        messages.parse_query(data)


@pytest.mark.parametrize(("labels", "is_read"), [(126, True), (127, True), (128, False)])
def test_name_of_255_octets_is_read_and_no_longer_one(labels: int, is_read: bool) -> None:
    """127 labels of one octet are 255 octets with the root."""
    data = head(1, 0, 0, 0) + b"\1a" * labels + b"\0\0\1\0\1"
    if is_read:
        assert messages.parse_query(data).name == "a." * labels
    else:
        with pytest.raises(BadMessage):
            messages.parse_query(data)


def test_ixfr_query_tells_its_serial() -> None:
    """RFC 1995 section 3."""
    soa = b"\0\0" + struct.pack("!5I", 77, 1, 1, 1, 1)
    record = b"\0" + struct.pack("!HHIH", messages.SOA, 1, 0, len(soa)) + soa
    data = head(1, 0, 1, 0) + WEB + struct.pack("!HH", messages.IXFR, 1) + record
    assert messages.parse_query(data).serial == 77


@pytest.mark.parametrize(
    ("payload", "octets"),
    [
        *((None, 512), (0, 512), (511, 512), (512, 512), (513, 513)),
        *((1232, 1232), (1233, 1232), (65535, 1232)),
    ],
)
def test_datagram_is_as_long_as_both_sides_want(payload: int | None, octets: int) -> None:
    edns = None if payload is None else messages.Edns(payload, 0, False)
    assert a_query(edns).datagram_octets == octets


@pytest.mark.parametrize(
    ("limit", "answers", "is_truncated"),
    [(28 + 32, 2, False), (28 + 31, 1, True), (28 + 16, 1, True), (28 + 15, 0, True)],
    ids=["fits", "one octet short", "one fits", "none fits"],
)
def test_response_is_cut_at_a_record(limit: int, answers: int, is_truncated: bool) -> None:
    """RFC 2181 section 9; the question ends at octet 28, a record has 16."""
    body = messages.encode(WEB, addresses(2))
    octets = messages.assemble(a_query(), messages.AA, body, limit)
    assert len(octets) <= limit
    response = read(octets)
    assert (len(response.rr), bool(response.header.tc)) == (answers, is_truncated)


@pytest.mark.parametrize("rdata", [bytes((10, 0, 0, 1)), bytes(15) + b"\1"], ids=["A", "AAAA"])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_addresses_alone_are_encoded_as_among_other_records(rdata: bytes, count: int) -> None:
    rtype = messages.A if len(rdata) == 4 else messages.AAAA
    data = [rdata[:-1] + bytes([number]) for number in range(count)]
    expected = messages.encode(WEB, [RR(WEB, rtype, messages.IN, 70000, each) for each in data])
    assert messages.encode_addresses(rtype, 70000, data) == expected


def test_losing_additional_records_alone_is_no_truncation() -> None:
    """RFC 2181 section 9: TC is for what is required."""
    body = messages.encode(WEB, addresses(1), (), addresses(3)[1:])
    octets = messages.assemble(a_query(), 0, body, 28 + 16 + 20)
    response = read(octets)
    assert (len(response.rr), len(response.ar), response.header.tc) == (1, 1, 0)


def test_names_in_data_are_compressed_against_the_question_as_it_was_spelled() -> None:
    spelled = b"\3wEb\6doCKer\0"
    soa = names.to_wire("ns.docker.") + names.to_wire("root.docker.") + bytes(20)
    body = messages.encode(spelled, (), (RR(names.to_wire("docker."), messages.SOA, 1, 1, soa),))
    query = Query(1, 0, spelled + b"\0\1\0\1", "web.docker.", 1, 1)
    octets = messages.assemble(query, 0, body, 512)
    assert octets.count(b"ocker") == 0
    assert str(read(octets).auth[0].rdata.mname) == "ns.doCKer."
    assert octets.endswith(bytes(20))


def test_names_beyond_the_reach_of_a_pointer_are_written_out() -> None:
    """RFC 1035 section 4.1.4: 14 bits."""
    filler = [RR(WEB, messages.TXT, 1, 5, b"\xff" + bytes(255)) for _ in range(62)]
    late = RR(names.to_wire("late.example."), messages.A, 1, 5, bytes(4))
    body = messages.encode(WEB, [*filler, late, late])
    [*_, first, second] = messages.decode(WEB, body)[0]
    assert first == second == late
    assert body.octets.count(b"\4late\7example\0") == 2


def test_name_in_srv_data_is_not_compressed() -> None:
    """RFC 2782: the target must not be."""
    data = bytes(6) + WEB
    body = messages.encode(WEB, (RR(WEB, messages.SRV, 1, 5, data),))
    assert body.octets.endswith(data)


NAMES = st.lists(st.binary(min_size=1, max_size=8), max_size=4).map(
    lambda parts: b"".join(bytes([len(p)]) + p for p in parts) + b"\0"
)
RDATA = {
    messages.A: st.binary(min_size=4, max_size=4),
    messages.CNAME: NAMES,
    messages.SOA: st.builds(
        lambda a, b, n: a + b + n, NAMES, NAMES, st.binary(min_size=20, max_size=20)
    ),
    messages.MX: st.builds(lambda p, n: p + n, st.binary(min_size=2, max_size=2), NAMES),
    messages.SRV: st.builds(lambda p, n: p + n, st.binary(min_size=6, max_size=6), NAMES),
    messages.TXT: st.binary(max_size=300),
}
RRS = st.sampled_from(sorted(RDATA)).flatmap(
    lambda rtype: st.builds(
        RR, NAMES, st.just(rtype), st.just(1), st.integers(0, 2**31 - 1), RDATA[rtype]
    )
)


@given(NAMES, st.lists(RRS, max_size=4), st.lists(RRS, max_size=2), st.lists(RRS, max_size=2))
def test_sections_come_back_from_their_octets(
    asked: bytes, answer: list[RR], authority: list[RR], additional: list[RR]
) -> None:
    """Except for the case of letters, which a pointer may change."""
    body = messages.encode(asked, answer, authority, additional)
    sections = messages.decode(asked, body)

    def folded(records: Any) -> list[RR]:
        return [r._replace(owner=r.owner.lower(), rdata=r.rdata.lower()) for r in records]

    for given_records, found in zip((answer, authority, additional), sections, strict=True):
        assert folded(given_records) == folded(found)


@pytest.mark.parametrize(
    ("ttl", "age", "ceiling", "left"),
    [(60, 0, None, 60), (60, 59, None, 1), (60, 61, None, 0), (60, 10, 5, 5), (3, 0, 5, 3)],
    ids=["fresh", "aged", "over", "capped", "below the cap"],
)
def test_ttls_count_down_and_are_capped(ttl: int, age: int, ceiling: int | None, left: int) -> None:
    body = messages.encode(WEB, (RR(WEB, 1, 1, ttl, bytes(4)),))
    [[record], _, _] = messages.decode(WEB, messages.with_ttls(body, age, ceiling))
    assert record.ttl == left


@pytest.mark.parametrize(("octets", "is_read"), [(63, True), (64, False)])
def test_label_of_63_octets_is_read_in_a_response_and_no_longer_one(
    octets: int, is_read: bool
) -> None:
    record = bytes([octets]) + b"a" * octets + b"\0\0\1\0\1" + bytes(6)
    data = head(1, 1, 0, 0, flags=0x8000) + QUESTION + record
    if is_read:
        assert len(messages.parse_response(data).answer[0].owner) == octets + 2
    else:
        with pytest.raises(BadMessage):
            messages.parse_response(data)


def test_refusal_is_the_header_alone() -> None:
    data = head(2, 3, 4, 5, flags=0x2970)
    assert messages.refusal(data, messages.FORMERR) == struct.pack(
        "!HHHHHH", 0x2B2B, 0xA901, 0, 0, 0, 0
    )


@pytest.mark.parametrize("data", [b"", bytes(11), head(1, 0, 0, 0, flags=0x8000)])
def test_nobody_is_told_of_less_than_a_header_or_a_response(data: bytes) -> None:
    assert messages.refusal(data, messages.FORMERR) is None


@pytest.mark.parametrize(
    "rest",
    [
        b"\xc0\x0c\0\1\0\1" + bytes(6),
        b"\xc0\x1c\0\1\0\1" + bytes(6),
        b"\xc0\xff\0\1\0\1" + bytes(6),
        b"\xc0",
        b"\0\0\1\0\1\0\0\0\0\0\5\1\2\3\4",
        b"\0\0\5\0\1\0\0\0\0\0\1\3abc\0",
    ],
    ids=["of nothing", "to itself", "forwards", "pointer cut", "data cut", "name too long"],
)
def test_malformed_response_is_refused(rest: bytes) -> None:
    data = head(1, 1 if rest[:2] != b"\xc0\x0c" else 2, 0, 0, flags=0x8000) + QUESTION + rest
    with pytest.raises(BadMessage):
        messages.parse_response(data)


@pytest.mark.parametrize(
    ("text", "number"),
    [("A", 1), ("aaaa", 28), ("https", 65), ("TYPE65280", 65280), ("type1", 1), ("TYPE65536", None),
     ("TYPE", None), ("TYPE-1", None), ("WHAT", None), ("TYPE٣", None), ("", None)],
)  # fmt: skip
def test_type_has_a_number(text: str, number: int | None) -> None:
    assert messages.type_number(text) == number


@pytest.mark.parametrize(
    ("rtype", "rdata", "text"),
    [
        (messages.A, bytes((10, 0, 0, 1)), "10.0.0.1"),
        (messages.PTR, WEB, "web.docker."),
        (65280, b"\1\2", "\\# 2 0102"),
        (65280, b"", "\\# 0"),
        (messages.AAAA, b"\1", "\\# 1 01"),
        (messages.MX, b"\0\1" + b"\1\xff\0", "\\# 5 000101ff00"),
    ],
    ids=["A", "PTR", "unknown", "unknown and empty", "too short", "octets that are no text"],
)
def test_data_is_told_whatever_it_holds(rtype: int, rdata: bytes, text: str) -> None:
    assert messages.data_text(rtype, rdata) == text


@pytest.mark.parametrize("is_compressed", [False, True], ids=["whole", "behind a pointer"])
@pytest.mark.parametrize(("last", "is_read"), [(61, True), (62, False)], ids=["255", "256"])
def test_name_of_a_response_has_at_most_255_octets(
    last: int, is_read: bool, is_compressed: bool
) -> None:
    """RFC 1035 section 2.3.4, both sides of it."""
    label = b"\x3f" + b"a" * 63
    tail = label * 2 + bytes([last]) + b"b" * last + b"\0"
    fixed = struct.pack("!HHIH", 16, 1, 5, 0)
    records = tail + fixed + label + (b"\xc0\x0c" if is_compressed else tail) + fixed
    data = head(0, 2, 0, 0, flags=messages.QR) + records
    if is_read:
        assert len(messages.parse_response(data).answer[1].owner) == names.MAX_NAME
    else:
        with pytest.raises(BadMessage):
            messages.parse_response(data)


@pytest.mark.parametrize(
    ("labels", "count", "is_read"),
    [(3, messages.MAX_RECORDS, True), (120, 16, True), (120, 18, False)],
    ids=["many short names", "few long names", "many long names"],
)
def test_labels_of_a_response_are_bounded(labels: int, count: int, is_read: bool) -> None:
    """57 KB of CNAMEs between names of 120 labels took 13 ms in one stretch."""
    owner = names.to_wire("".join(f"{n % 10}." for n in range(labels)))
    record = owner + struct.pack("!HHIH", messages.TXT, 1, 5, 1) + b"\0"
    octets = head(1, count, 0, 0, flags=0x8180) + QUESTION + record * count
    if is_read:
        assert len(messages.parse_response(octets, QUESTION).answer) == count
        return
    with pytest.raises(BadMessage, match="labels"):
        messages.parse_response(octets, QUESTION)

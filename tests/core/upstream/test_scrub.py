"""What is kept of an upstream's response."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Response
from containerdns.core.upstream.questions import Question
from containerdns.core.upstream.scrub import NSEC, RRSIG, Trust, is_private, is_referral, scrub
from containerdns.errors import BadMessage

A, NS, CNAME, SOA, DNAME, HTTPS = 1, 2, 5, 6, 39, 65
WWW = Question("www.example.", A, False, False, None)
SIGNED = WWW._replace(wants_dnssec=True)
TRUST = Trust(lambda name: names.is_below(name, "docker."))


def wire(name: str) -> bytes:
    return names.to_wire(name)


def record(owner: str, rtype: int, rdata: bytes, ttl: int = 300) -> RR:
    return RR(wire(owner), rtype, 1, ttl, rdata)


def address(owner: str, text: str = "192.0.2.1", ttl: int = 300) -> RR:
    return record(owner, A, ipaddress.IPv4Address(text).packed, ttl)


def cname(owner: str, target: str, ttl: int = 300) -> RR:
    return record(owner, CNAME, wire(target), ttl)


def soa(owner: str, ttl: int = 3600, minimum: int = 3600) -> RR:
    numbers = b"".join(number.to_bytes(4) for number in (1, 2, 3, 4, minimum))
    return record(owner, SOA, wire("ns.example.") + wire("root.example.") + numbers, ttl)


def signature(owner: str, covered: int, signer: str, ttl: int = 300) -> RR:
    return record(owner, RRSIG, covered.to_bytes(2) + bytes(16) + wire(signer) + b"sig", ttl)


def response(
    *answer: RR, authority: tuple[RR, ...] = (), additional: tuple[RR, ...] = (), rcode: int = 0
) -> Response:
    return Response(1, messages.QR, rcode, WWW.wire, answer, authority, additional)


def kept(given_: Response, question: Question = WWW, trust: Trust = TRUST) -> list[list[RR]]:
    body = scrub(given_, question, trust).body
    return [list(section) for section in messages.decode(question.wire[:-4], body)]


@pytest.mark.parametrize(("rtype", "octets"), [(A, 3), (A, 5), (messages.AAAA, 4)])
def test_addresses_of_another_length_are_dropped(rtype: int, octets: int) -> None:
    """No client could read them, and nobody could tell whether they are private."""
    odd = record("www.example.", rtype, bytes(octets))
    assert kept(response(odd), WWW._replace(qtype=rtype)) == [[], [], []]


def test_records_that_nobody_asked_for_are_dropped() -> None:
    true = address("www.example.")
    poisoned = response(
        address("bank.example."),
        true,
        record("www.example.", 16, b"\1x"),
        authority=(record("example.", NS, wire("evil.example.")), soa("example.")),
        additional=(address("evil.example."),),
    )
    assert kept(poisoned) == [[true], [], []]


def test_a_chain_is_kept_in_its_order_however_it_came() -> None:
    chain = [cname("www.example.", "a.test."), cname("a.test.", "b.test."), address("b.test.")]
    assert kept(response(chain[2], address("c.test."), chain[1], chain[0]))[0] == chain


def test_a_circle_of_cnames_ends() -> None:
    circle = response(cname("www.example.", "a.test."), cname("a.test.", "www.example."))
    assert len(kept(circle)[0]) == 2


def test_a_dname_above_the_chain_is_kept_and_another_is_not() -> None:
    above = record("example.", DNAME, wire("test."))
    link = cname("www.example.", "www.test.")
    other = record("elsewhere.", DNAME, wire("evil.test."))
    assert kept(response(other, above, link, address("www.test.")))[0] == [
        above,
        link,
        address("www.test."),
    ]


def test_a_chain_ends_before_a_name_of_ours() -> None:
    """The first law: nothing of an upstream answers for it, nor denies it."""
    lie = response(
        cname("www.example.", "web.docker.", 600), address("web.docker."), rcode=messages.NXDOMAIN
    )
    scrubbed = scrub(lie, WWW, TRUST)
    assert kept(lie) == [[cname("www.example.", "web.docker.", 5)], [], []]
    assert (scrubbed.rcode, scrubbed.ttl) == (messages.NOERROR, 5)


def test_address_beside_a_cname_that_leads_to_a_name_of_ours_is_dropped() -> None:
    """The alias's owner may have no other data (RFC 1034 section 3.6.2), and ours answers."""
    both = cname("www.example.", "web.docker."), address("www.example.", "192.0.2.9")
    for order in (both, both[::-1]):
        assert kept(response(*order)) == [[cname("www.example.", "web.docker.", 5)], [], []]


def test_ttls_of_one_rrset_are_its_lowest() -> None:
    """RFC 2181 section 5.2."""
    both = response(address("www.example.", "192.0.2.1", 9), address("www.example.", "192.0.2.2"))
    assert [one.ttl for one in kept(both)[0]] == [9, 9]


@pytest.mark.parametrize(
    ("ttl", "given_out"),
    [(86400, 86400), (86401, 86400), (0, 0), (0x7FFFFFFF, 86400), (0x80000000, 0)],
)
def test_positive_ttl_is_capped_at_a_day(ttl: int, given_out: int) -> None:
    scrubbed = scrub(response(address("www.example.", ttl=ttl)), WWW, TRUST)
    assert scrubbed.ttl == given_out
    assert not scrubbed.is_negative


@pytest.mark.parametrize(
    ("ttl", "minimum", "given_out"),
    [(3600, 3600, 60), (60, 3600, 60), (59, 3600, 59), (3600, 7, 7), (3600, 0, 0)],
)
@pytest.mark.parametrize("rcode", [messages.NOERROR, messages.NXDOMAIN])
def test_negative_ttl_is_of_the_soa_and_at_most_60(
    rcode: int, ttl: int, minimum: int, given_out: int
) -> None:
    """RFC 2308 section 5."""
    denial = response(authority=(soa("example.", ttl, minimum),), rcode=rcode)
    scrubbed = scrub(denial, WWW, TRUST)
    assert scrubbed.is_negative
    assert scrubbed.ttl == given_out
    assert [one.ttl for one in kept(denial)[1]] == [given_out]


def test_negative_of_a_later_server_lives_shorter() -> None:
    denial = response(authority=(soa("example."),), rcode=messages.NXDOMAIN)
    assert scrub(denial, WWW, replace(TRUST, max_negative_ttl=5)).ttl == 5


def test_negative_without_soa_is_not_cached() -> None:
    assert scrub(response(rcode=messages.NXDOMAIN), WWW, TRUST).ttl == 0


def test_soa_of_another_zone_denies_nothing() -> None:
    denial = response(authority=(soa("bank.example."),), rcode=messages.NXDOMAIN)
    assert kept(denial) == [[], [], []]


def test_a_chain_that_ends_in_nothing_is_negative() -> None:
    denial = response(cname("www.example.", "a.test.", 20), authority=(soa("test."),))
    scrubbed = scrub(denial, WWW, TRUST)
    assert (scrubbed.is_negative, scrubbed.ttl) == (True, 20)


def test_proofs_are_kept_for_those_who_want_them() -> None:
    nsec = record("a.example.", NSEC, wire("z.example.") + b"\0\1\x40")
    proof = (
        soa("example."),
        signature("example.", SOA, "example."),
        nsec,
        signature("a.example.", NSEC, "example."),
    )
    denial = response(authority=proof, rcode=messages.NXDOMAIN)
    assert [one.rtype for one in kept(denial, SIGNED)[1]] == [SOA, RRSIG, NSEC, RRSIG]
    assert [one.ttl for one in kept(denial, SIGNED)[1]] == [60] * 4
    assert [one.rtype for one in kept(denial, WWW)[1]] == [SOA]


def test_proofs_of_another_zone_are_dropped() -> None:
    proof = (
        record("a.bank.test.", NSEC, wire("z.bank.test.") + b"\0\1\x40"),
        signature("a.bank.test.", NSEC, "bank.test."),
        signature("b.bank.test.", NSEC, "example."),
    )
    denial = response(authority=(soa("example."), *proof), rcode=messages.NXDOMAIN)
    assert [one.rtype for one in kept(denial, SIGNED)[1]] == [SOA]


def test_signatures_of_the_chain_are_kept() -> None:
    signed = [address("www.example."), signature("www.example.", A, "example.")]
    stray = signature("www.example.", 16, "example.")
    assert kept(response(*signed, stray), SIGNED)[0] == signed


@pytest.mark.parametrize(
    ("text", "is_dropped"),
    [
        ("10.0.0.1", True), ("172.16.0.1", True), ("172.32.0.1", False), ("192.168.1.1", True),
        ("127.0.0.1", True), ("0.0.0.0", True), ("169.254.1.1", True), ("100.64.0.1", True),
        ("192.0.2.1", False), ("::1", True), ("fd00::1", True), ("fe80::1", True),
        ("::ffff:10.0.0.1", True), ("64:ff9b::a00:1", True), ("::ffff:192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)  # fmt: skip
def test_private_addresses_are_dropped_if_wanted(text: str, is_dropped: bool) -> None:
    packed = ipaddress.ip_address(text).packed
    qtype = A if len(packed) == 4 else messages.AAAA
    question = WWW._replace(qtype=qtype)
    rebinding = response(record("www.example.", qtype, packed))
    scrubbed = scrub(rebinding, question, replace(TRUST, drops_private=True))
    assert scrubbed.lost_private == is_dropped
    assert scrubbed.body.counts[0] == (0 if is_dropped else 1)
    assert scrub(rebinding, question, TRUST).body.counts[0] == 1


def test_private_hints_of_https_records_are_dropped() -> None:
    hint = b"\0\4\0\4" + ipaddress.IPv4Address("10.0.0.1").packed
    question = WWW._replace(qtype=HTTPS)
    rebinding = response(record("www.example.", HTTPS, b"\0\1\0" + hint))
    assert scrub(rebinding, question, replace(TRUST, drops_private=True)).lost_private


@pytest.mark.parametrize(
    ("asked", "is_one"),
    [
        (response(authority=(record("test.", NS, wire("ns.test.")),)), True),
        (response(authority=(soa("example."),)), False),
        (response(address("www.example.")), False),
        (response(), False),
    ],
    ids=["referral", "nodata", "answer", "empty"],
)
def test_a_referral_is_told_from_an_answer(asked: Response, is_one: bool) -> None:
    assert is_referral(asked) == is_one


@given(st.binary(max_size=200), st.sampled_from([0, 1, 2, 3]))
def test_any_octets_are_a_bad_message_or_are_scrubbed(tail: bytes, count: int) -> None:
    head = b"\0\1\x81\x80\0\1" + count.to_bytes(2) * 3 + WWW.wire
    try:
        read = messages.parse_response(head + tail)
    except BadMessage:
        return
    scrub(read, SIGNED, replace(TRUST, drops_private=True))


_NAMES = st.sampled_from(["www.example.", "example.", ".", "a.test.", "web.docker.", "test."])
_RECORDS = st.builds(
    RR,
    _NAMES.map(wire),
    st.sampled_from([A, NS, CNAME, SOA, DNAME, RRSIG, NSEC, HTTPS, 28, 15]),
    st.sampled_from([1, 3]),
    st.integers(0, 2**32 - 1),
    st.one_of(_NAMES.map(wire), st.binary(max_size=40)),
)


def _is_readable(record_: RR) -> bool:
    """What `parse_response` lets through has whole names in its data."""
    data = bytes(12) + b"\0" + record_.rtype.to_bytes(2) + b"\0\1" + bytes(4)
    data += len(record_.rdata).to_bytes(2) + record_.rdata
    header = b"\0\0\x80\0\0\0\0\1\0\0\0\0"
    try:
        messages.parse_response(header + data[12:])
    except BadMessage:
        return False
    return b"\xc0" not in record_.rdata


_SECTION = st.lists(_RECORDS.filter(_is_readable), max_size=5).map(tuple)


@given(_SECTION, _SECTION, st.sampled_from([messages.NOERROR, messages.NXDOMAIN]))
def test_whatever_it_holds_nothing_of_ours_and_no_long_ttl_is_left(
    answer: tuple[RR, ...], authority: tuple[RR, ...], rcode: int
) -> None:
    read = response(*answer, authority=authority, rcode=rcode)
    for section in kept(read, SIGNED):
        for one in section:
            assert one.owner.lower() != wire("web.docker.")
            assert one.ttl <= 86400


@pytest.mark.parametrize(
    ("rtype", "rdata", "expected"),
    [
        (A, bytes([10, 0, 0, 1]), True),
        (A, bytes([93, 184, 216, 34]), False),
        (A, bytes([10, 0, 0]), False),
        (28, ipaddress.IPv6Address("fd00::1").packed, True),
        (28, ipaddress.IPv6Address("2600::1").packed, False),
        (28, ipaddress.IPv6Address("fd00::1").packed[:15], False),
        (16, bytes([15]) + b"fifteen octets.", False),
        (16, ipaddress.IPv6Address("fd00::1").packed, False),
        (CNAME, wire("web.example."), False),
    ],
)
def test_only_addresses_are_private(rtype: int, rdata: bytes, expected: bool) -> None:
    """Of any other type, or too short to be one, data are no address."""
    assert is_private(record("www.example.", rtype, rdata)) is expected

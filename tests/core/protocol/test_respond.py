"""The responder where scenarios do not reach: turns, keeping, cookies, forwards, and limits."""

import struct
import time
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import dnslib
import pytest

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.explain import explain, led_home
from containerdns.core.protocol.messages import RR, Response
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.respond import Peer, Reply, Responder, Transfer
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.questions import question_of
from containerdns.core.upstream.scrub import Trust, scrub
from containerdns.core.upstream.upstream_cache import Cached
from containerdns.core.zone import records
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Node, Shape, Zone

NOW = 1_000_000.0
VIEW = View(True, True, True, False, frozenset(), ("192.0.2.1",), ("192.0.2.1",))
CLIENT = bytes((10, 0, 0, 9))
PEER = Peer(CLIENT, bytes((192, 0, 2, 1)), VIEW)
TCP = Peer(CLIENT, bytes((192, 0, 2, 1)), VIEW, over_tcp=True)


def publication(name: str, *addresses: str, **more: Any) -> Publication:
    return Publication(
        name,
        name,
        claims=(Claim(name, Rank.CONTAINER, "container name", name),),
        addresses=tuple(
            PublishedAddress(a, "", "", preference) for preference, a in _preferred(addresses)
        ),
        **more,
    )


def _preferred(addresses: tuple[str, ...]) -> list[tuple[int, str]]:
    pairs = [text.partition("/") for text in addresses]
    return [(int(preference or 0), text) for text, _, preference in pairs]


def responder(*publications: Publication, counters: Counters | None = None) -> Responder:
    zone = Zone(Shape(search_domains=("corp.example.",)), 1, RememberedNames(60))
    for one in publications:
        zone.replace(one.id, one, NOW)
    zone.grow(NOW)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    cookies = Cookies(bytes(16))
    return Responder(ownership, cookies, counters or Counters(), identity="me", version="test 1")


def sharing(count: int, *texts: str) -> list[Publication]:
    """Containers that share a name, each with an address."""
    found = []
    for n in range(count):
        one = publication(f"c{n}", *(texts or (f"10.0.{n // 250}.{n % 250 + 1}",)))
        shared = Claim("all", Rank.DERIVED, "alias", one.id)
        found.append(replace(one, claims=(*one.claims, shared)))
    return found


def query(
    name: str, qtype: int = messages.A, *, flags: int = messages.RD, opt: bytes = b""
) -> bytes:
    question = names.to_wire(name) + qtype.to_bytes(2) + b"\0\1"
    return messages.query(0x2B2B, flags, question, opt)


def option(code: int, data: bytes) -> bytes:
    whole = code.to_bytes(2) + len(data).to_bytes(2) + data
    return b"\0" + struct.pack("!HHIH", messages.OPT, 1232, 0, len(whole)) + whole


def ask(made: Responder, data: bytes, peer: Peer = PEER) -> Reply:
    reply = made.respond(data, peer, NOW)
    assert isinstance(reply, Reply), reply
    return reply


def forwarded(made: Responder, data: bytes, peer: Peer = PEER) -> Forward:
    outcome = made.respond(data, peer, NOW)
    assert isinstance(outcome, Forward), outcome
    return outcome


def addresses(reply: Reply) -> list[str]:
    return [str(record.rdata) for record in read(reply).rr]


def read(reply: Reply) -> Any:
    return dnslib.DNSRecord.parse(reply.octets)


# -- in turn ----------------------------------------------------------------------------


def test_addresses_rotate_from_answer_to_answer() -> None:
    made = responder(publication("web", "10.0.0.1", "10.0.0.2", "10.0.0.3"))
    seen = Counter(addresses(ask(made, query("web.docker.")))[0] for _ in range(9))
    assert seen == {"10.0.0.1": 3, "10.0.0.2": 3, "10.0.0.3": 3}


def test_addresses_of_a_better_network_stay_before_the_others() -> None:
    made = responder(publication("web", "10.0.0.1/0", "10.0.0.2/0", "10.1.0.1/1", "10.1.0.2/1"))
    seen = {tuple(addresses(ask(made, query("web.docker.")))) for _ in range(4)}
    assert all(set(order[:2]) == {"10.0.0.1", "10.0.0.2"} for order in seen)
    assert len(seen) == 2


@pytest.mark.parametrize("count", [99, 100, 101, 150, 200, 201, 250, 300, 301, 1000])
def test_of_many_addresses_each_answer_has_a_hundred_and_all_come_in_turn(count: int) -> None:
    """Contract, section 3."""
    all_of_them = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(count)]
    made = responder(publication("web", *all_of_them))
    seen: Counter[str] = Counter()
    for _ in range(-(-count // 100)):
        found = addresses(ask(made, query("web.docker."), TCP))
        assert len(found) == len(set(found)) == min(count, 100)
        seen.update(found)
    assert set(seen) == set(all_of_them)


@pytest.mark.parametrize("count", [101, 199, 250, 1000])
def test_of_many_containers_each_answer_has_a_hundred_and_all_come_in_turn(count: int) -> None:
    """Contract, section 3; a container that is unhealthy is not among them."""
    made = responder(*sharing(count), replace(sharing(count + 1)[-1], is_healthy=False))
    seen: Counter[str] = Counter()
    for _ in range(-(-(count + 1) // 100)):
        found = addresses(ask(made, query("all.docker."), TCP))
        assert len(found) == len(set(found)) == 100
        seen.update(found)
    assert set(seen) == {f"10.0.{n // 250}.{n % 250 + 1}" for n in range(count)}


def test_few_addresses_of_very_many_containers_are_found() -> None:
    many = sharing(300)
    made = responder(*many, sharing(301, "fd00::1")[-1])
    assert addresses(ask(made, query("all.docker.", messages.AAAA))) == ["fd00::1"]
    made = responder(*(replace(p, is_healthy=False) for p in many), sharing(301)[-1])
    assert addresses(ask(made, query("all.docker."))) == ["10.0.1.51"]


def test_type_that_none_of_very_many_containers_has_is_nodata_and_kept() -> None:
    made = responder(*sharing(300))
    for qtype in (messages.AAAA, messages.TXT, messages.MX):
        reply = ask(made, query("all.docker.", qtype))
        assert (read(reply).header.rcode, read(reply).rr, reply.keeping) == (0, [], "name")
    assert ask(made, query("all.docker."), TCP).keeping == "no"


def test_answer_about_very_many_containers_looks_at_few() -> None:
    """Rendering all of 10,000 took 250 ms for each answer."""
    made = responder(*sharing(1000))
    looked = 0
    holder = made._zone.holder

    def counting(claim: Claim) -> Publication:
        nonlocal looked
        looked += 1
        return holder(claim)

    made._zone.holder = counting  # type: ignore[method-assign]
    for qtype in (messages.A, messages.AAAA, messages.TXT, messages.MX):
        ask(made, query("all.docker.", qtype), TCP)
    assert looked < 1000


def test_records_of_very_many_containers_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer took 1 to 3 ms; those over UDP are truncated, and have the records that fit."""
    holders = 0
    at_node = records.at_node

    def counting(zone: Any, name: str, node: Node, *rest: Any) -> tuple[records.Record, ...]:
        nonlocal holders
        holders += len(node.holders)
        return at_node(zone, name, node, *rest)

    monkeypatch.setattr(records, "at_node", counting)
    made = responder(*sharing(250))
    seen: Counter[str] = Counter()
    for _ in range(30):
        seen.update(addresses(ask(made, query("all.docker."), TCP)))
        reply = ask(made, query("all.docker.").replace(b"all", b"aLL"))
        assert (read(reply).header.tc, len(addresses(reply))) == (1, 30)
        assert str(read(reply).rr[-1].rname) == "aLL.docker."
    assert (len(seen), holders) == (250, 250)
    made.use(made._ownership)
    ask(made, query("all.docker."), TCP)
    assert holders == 350


def test_of_many_addresses_each_comes_first_in_turn() -> None:
    """Many clients take the first."""
    all_of_them = [f"10.0.0.{n}" for n in range(1, 201)]
    made = responder(publication("web", *all_of_them))
    first = {addresses(ask(made, query("web.docker."), TCP))[0] for _ in range(200)}
    assert first == set(all_of_them)


def test_addresses_of_each_family_rotate_by_themselves() -> None:
    """Clients ask A and AAAA in pairs, so that a common count would skip every other turn."""
    made = responder(publication("web", "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"))
    first = set()
    for _ in range(2):
        for qtype in (messages.A, messages.AAAA):
            first.add(addresses(ask(made, query("web.docker.", qtype)))[0])
    assert first == {"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"}


def test_answer_with_a_part_of_the_addresses_is_not_kept() -> None:
    many = publication("web", *(f"10.0.0.{n}" for n in range(1, 102)))
    assert ask(responder(many), query("web.docker."), TCP).keeping == "no"
    assert ask(responder(publication("web", "10.0.0.1")), query("web.docker.")).keeping == "name"


def test_rotation_tells_where_the_records_stand() -> None:
    made = responder(publication("web", "10.0.0.1", "10.0.0.2", "10.0.0.3/1"))
    reply = ask(made, query("web.docker."))
    assert reply.rotation == ((28, 16, 2), (60, 16, 1))


# -- keeping ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "qtype", "keeping"),
    [
        ("web.docker.", messages.A, "name"),
        ("web.docker.", messages.AAAA, "name"),
        ("other.docker.", messages.A, "absent"),
        ("other.", messages.A, "absent"),
        ("x.invalid.", messages.A, "absent"),
        ("x.localhost.", messages.A, "absent"),
        ("1.0.0.10.in-addr.arpa.", messages.PTR, "no"),
        ("docker.", messages.SOA, "name"),
    ],
)
def test_response_says_how_it_may_be_kept(name: str, qtype: int, keeping: str) -> None:
    assert ask(responder(publication("web", "10.0.0.1")), query(name, qtype)).keeping == keeping


@pytest.mark.parametrize(
    ("name", "qtype"),
    [("docker.", messages.SOA), ("other.docker.", messages.A), ("web.docker.", messages.MX)],
)
def test_response_says_where_the_serial_stands(name: str, qtype: int) -> None:
    reply = ask(responder(publication("web", "10.0.0.1")), query(name, qtype, opt=option(8, b"")))
    soa = (read(reply).rr + read(reply).auth)[0]
    assert reply.serial_at == 0
    reply = ask(responder(publication("web", "10.0.0.1")), query(name, qtype))
    serial = int.from_bytes(reply.octets[reply.serial_at : reply.serial_at + 4])
    assert serial == soa.rdata.times[0] == NOW


@pytest.mark.parametrize("code", [messages.COOKIE_OPTION, messages.NSID_OPTION, 8])
def test_response_to_a_query_with_options_is_for_that_client_alone(code: int) -> None:
    data = query("web.docker.", opt=option(code, b"12345678" if code == 10 else b""))
    assert ask(responder(publication("web", "10.0.0.1")), data).keeping == "no"


def test_truncated_response_is_not_kept() -> None:
    many = publication("web", *(f"10.0.0.{n}" for n in range(1, 90)))
    reply = ask(responder(many), query("web.docker."))
    assert read(reply).header.tc
    assert reply.keeping == "no"


def test_names_kept_from_upstreams_are_counted_and_those_below_domains_are_not() -> None:
    counters = Counters()
    made = responder(publication("web", "10.0.0.1"), counters=counters)
    for name in ("web.", "other.", "web.corp.example.", "x.invalid.", "web.docker.", "x.docker."):
        assert ask(made, query(name)).is_kept is not name.endswith("docker.")
    assert counters.kept_from_upstream == 4


# -- limits and cookies --------------------------------------------------------------------


def test_slipped_response_is_truncated_and_empty() -> None:
    """Contract, section 4: a rate-limited one has no records."""
    slipped = Peer(CLIENT, b"", VIEW, is_slipped=True)
    response = read(ask(responder(publication("web", "10.0.0.1")), query("web.docker."), slipped))
    assert (response.header.tc, response.rr, response.auth, response.header.rcode) == (1, [], [], 0)


def test_valid_cookie_proves_the_address() -> None:
    made = responder()
    response = ask(made, query("x.docker.", opt=option(10, b"12345678")))
    [cookie] = [o.data for o in read(response).ar[0].rdata if o.code == messages.COOKIE_OPTION]
    proof, unproven, plain = (
        messages.parse_query(query("x.docker.", opt=opt))
        for opt in (option(10, cookie), option(10, b"12345678"), b"")
    )
    assert made.has_valid_cookie(proof, PEER, NOW)
    assert not made.has_valid_cookie(proof, Peer(bytes(4), b"", VIEW), NOW)
    assert not made.has_valid_cookie(unproven, PEER, NOW)
    assert not made.has_valid_cookie(plain, PEER, NOW)


def test_long_message_of_a_stranger_is_refused_unread() -> None:
    """Whether a client may ask comes before what it asks; up to 512 octets both are said."""
    stranger = Peer(CLIENT, b"", replace(VIEW, may_ask=False), over_tcp=True)
    made = responder()
    short, long = (query("x.docker.", opt=option(12, bytes(octets))) for octets in (400, 600))
    assert ask(made, short, stranger).name == "x.docker."
    refused = ask(made, long, stranger)
    assert (refused.rcode, refused.name, len(refused.octets)) == (messages.REFUSED, "", 12)
    assert ask(made, b"\0\0\1" + b"\xff" * 4093, stranger).rcode == messages.REFUSED


# -- transfers -----------------------------------------------------------------------------


@pytest.mark.parametrize("qtype", [messages.AXFR, messages.IXFR])
def test_transfer_over_tcp_is_handed_on(qtype: int) -> None:
    outcome = responder().respond(query("docker.", qtype), TCP, NOW)
    assert isinstance(outcome, Transfer)
    assert outcome.apex == "docker."


def test_ixfr_over_udp_gets_the_soa_alone() -> None:
    """RFC 1995 section 2: the client then comes over TCP."""
    response = read(ask(responder(), query("docker.", messages.IXFR)))
    assert [dnslib.QTYPE[r.rtype] for r in response.rr] == ["SOA"]


def test_soa_of_the_catalog_is_for_those_who_may_transfer_it() -> None:
    """RFC 9432 section 3: who may not transfer it needs not know it; also after a denial."""
    made = responder()
    catalog = query(CATALOG, messages.SOA)
    stranger = replace(PEER, view=replace(PEER.view, may_transfer=False))
    ask(made, query(CATALOG.replace("catalog", "other")))
    assert read(ask(made, catalog)).rr[0].rname == CATALOG
    assert isinstance(made.respond(query(CATALOG, messages.AXFR), TCP, NOW), Transfer)
    assert ask(made, catalog, stranger).rcode == messages.NXDOMAIN
    assert made.synthesised(catalog, catalog[2:].lower(), PEER.view) is None
    assert read(ask(made, catalog)).rr[0].rname == CATALOG


# -- what comes back from upstreams ------------------------------------------------------------


def resolved(name: str, ttl: int = 300, rcode: int = 0, **more: Any) -> Resolution:
    wire = names.to_wire(name)
    return Resolution(
        rcode, messages.encode(wire, (RR(wire, 1, 1, ttl, bytes(4)),)), upstream="u", **more
    )


def test_response_of_an_upstream_takes_on_the_clients_spelling_and_is_not_ours() -> None:
    made = responder()
    data = query("www.example.net.").replace(b"example", b"eXamPle")
    reply = made.finish(forwarded(made, data), resolved("www.example.net."), PEER, NOW)
    response = read(reply)
    assert str(response.rr[0].rname) == "www.eXamPle.net."
    assert (response.header.aa, response.header.ra, response.rr[0].ttl) == (0, 1, 300)


def test_ttl_below_a_search_domain_is_capped() -> None:
    made = responder()
    forward = forwarded(made, query("printer.corp.example."))
    reply = made.finish(forward, resolved("printer.corp.example.", fresh_for=5.0), PEER, NOW)
    assert read(reply).rr[0].ttl == 5
    # Capped again each second; it would otherwise be counted down, though it has longer.
    assert (reply.keeping, reply.fresh_for) == ("fresh", 1.0)
    assert reply.depends_on == ("printer.corp.example.",)


def test_response_is_renewed_unless_its_ttl_is_capped() -> None:
    made = responder()
    for name, is_renewed in (("www.example.net.", True), ("printer.corp.example.", False)):
        found = resolved(name, fresh_for=5.0, renewal=lambda: 5.0)
        reply = made.finish(forwarded(made, query(name)), found, PEER, NOW)
        assert (reply.renewal is not None) is is_renewed


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        ("corp.example.", messages.NOERROR),
        ("example.", messages.NOERROR),
        ("front.corp.example.", messages.NOERROR),
        ("company.test-company.net.", messages.NOERROR),
        ("other.test-company.net.", messages.NXDOMAIN),
        ("back.corp.example.", messages.NXDOMAIN),
    ],
)
def test_upstream_denies_nothing_above_a_name_of_ours(name: str, rcode: int) -> None:
    """RFC 8020: a resolver in front of us would deny ours, too."""
    owners = ("web.front", "search.company.test-company.net.")
    claims = tuple(Claim(owner, Rank.LABEL, "label", "w") for owner in owners)
    made = responder(Publication("w", "w", claims=claims))
    asked = (
        forwarded(made, query(name, flags=messages.RD | messages.AD))
        if name != "example."
        else (Forward(messages.parse_query(query(name, flags=messages.RD | messages.AD)), name, 1))
    )
    denied = Resolution(messages.NXDOMAIN, is_authentic=True)
    response = read(made.finish(asked, denied, PEER, NOW))
    assert response.header.rcode == rcode
    assert response.header.ad == (rcode == messages.NXDOMAIN)


def test_ready_made_answer_below_a_search_domain_depends_on_the_domain_around_it() -> None:
    """A container `x` with a wildcard may come, which has what lies below it."""
    zone = Zone(Shape(search_domains=("x.docker.",)), 1, RememberedNames(60))
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    made = Responder(ownership, Cookies(bytes(16)), Counters())
    kept = PacketCache(Counters())
    asked = [query(name) for name in ("web.x.docker.", "no.x.docker.")]
    zone.replace("web", publication("web", "10.0.0.1"), NOW)
    for data in asked:
        kept.keep(VIEW, data, ask(made, data), 0.0)
        assert kept.answer(kept.table(VIEW), data, 0.0)
    kept.forget(zone.replace("x", publication("x", "10.0.0.2", is_wildcard=True), NOW))
    for data in asked:
        assert kept.answer(kept.table(VIEW), data, 0.0) is None
        assert addresses(ask(made, data)) == ["10.0.0.2"]


def test_response_depends_on_names_down_to_the_first_that_does_not_exist() -> None:
    """A name of 120 labels else would be kept under 120 names, a chain of them under 2,000."""
    claims = tuple(Claim(owner, Rank.LABEL, "", "w") for owner in ("web", "b.web", "x.corp"))
    made = responder(Publication("w", "w", claims=claims))
    reply = ask(made, query("y." * 50 + "a.b.web.docker."))
    behind = {"a.b.web.docker.", "b.web.docker.", "web.docker."}
    assert set(reply.depends_on) == {reply.name, *behind}
    data = query("y." * 50 + "corp.corp.example.")
    reply = made.finish(forwarded(made, data), resolved("example.", fresh_for=1.0), PEER, NOW)
    assert set(reply.depends_on) == {reply.name, "y.corp.corp.example.", "corp.corp.example."}


def test_name_that_became_a_containers_while_an_upstream_was_asked_is_answered_by_us() -> None:
    zone = Zone(Shape(search_domains=("corp.example.",)), 1, RememberedNames(60))
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    made = Responder(ownership, Cookies(bytes(16)), Counters())
    forward = forwarded(made, query("web.corp.example."))
    zone.replace("web", publication("web", "10.0.0.1"), NOW)
    denied = Resolution(messages.NXDOMAIN, upstream="u")
    assert addresses(made.finish(forward, denied, PEER, NOW)) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("opt", "ttl", "fresh_for", "keeping"),
    [
        (b"", 300, 1.0, "fresh"),
        (b"", 300, 0.0, "no"),
        (option(10, b"12345678"), 300, 1.0, "no"),
    ],
    ids=["plain", "as good as over", "for one client"],
)
def test_response_of_an_upstream_is_kept_while_it_stays_the_same(
    opt: bytes, ttl: int, fresh_for: float, keeping: str
) -> None:
    made = responder()
    forward = forwarded(made, query("www.example.net.", opt=opt))
    reply = made.finish(forward, resolved("www.example.net.", ttl, fresh_for=fresh_for), PEER, NOW)
    assert reply.keeping == keeping


@pytest.mark.parametrize("opt", [b"", messages.opt_record()], ids=["plain", "EDNS"])
def test_ttls_to_count_down_are_where_it_is_said(opt: bytes) -> None:
    made = responder()
    forward = forwarded(made, query("www.example.net.", opt=opt))
    found = resolved("www.example.net.", 300, fresh_for=5.0)._replace(ages_in=0.5)
    reply = made.finish(forward, found, PEER, NOW)
    assert (reply.fresh_for, reply.ages_in) == (5.0, 0.5)
    assert [reply.octets[at : at + 4] for at in reply.ttl_offsets] == [(300).to_bytes(4)]


def test_truncated_response_of_an_upstream_is_not_kept() -> None:
    made = responder()
    wire = names.to_wire("www.example.net.")
    body = messages.encode(wire, [RR(wire, 1, 1, 60, bytes((10, 0, 0, n))) for n in range(99)])
    forward = forwarded(made, query("www.example.net."))
    reply = made.finish(forward, Resolution(0, body, fresh_for=1.0), PEER, NOW)
    assert read(reply).header.tc
    assert reply.keeping == "no"


@pytest.mark.parametrize(
    ("flags", "do", "is_authentic", "is_told"),
    [
        (messages.AD, False, True, True),
        (0, True, True, True),
        (0, False, True, False),
        (messages.AD, True, False, False),
    ],
    ids=["AD set", "DO set", "neither", "not authentic"],
)
def test_authentic_data_is_told_to_who_understands_it(
    flags: int, do: bool, is_authentic: bool, is_told: bool
) -> None:
    """RFC 6840 section 5.7."""
    made = responder()
    opt = messages.opt_record(dnssec_ok=True) if do else b""
    forward = forwarded(made, query("www.example.net.", flags=messages.RD | flags, opt=opt))
    resolution = resolved("www.example.net.", is_authentic=is_authentic)
    assert bool(read(made.finish(forward, resolution, PEER, NOW)).header.ad) is is_told


def test_checking_disabled_is_copied_from_the_query() -> None:
    """RFC 4035 section 3.2.2."""
    made = responder()
    forward = forwarded(made, query("www.example.net.", flags=messages.RD | messages.CD))
    assert read(made.finish(forward, resolved("www.example.net."), PEER, NOW)).header.cd == 1


def test_extended_error_is_passed_on_with_edns() -> None:
    made = responder()
    forward = forwarded(made, query("www.example.net.", opt=messages.opt_record()))
    failed = Resolution(messages.SERVFAIL, extended_error=(22, "no reachable authority"))
    response = read(made.finish(forward, failed, PEER, NOW))
    assert response.header.rcode == messages.SERVFAIL
    [told] = response.ar[0].rdata
    assert (told.code, told.data) == (15, b"\0\x16no reachable authority")


def test_alias_that_leads_elsewhere_comes_before_what_the_upstream_says() -> None:
    made = responder(publication("alias", cname="www.example.net."))
    forward = forwarded(made, query("alias.docker."))
    assert forward.name == "www.example.net."
    reply = made.finish(forward, resolved("www.example.net."), PEER, NOW)
    response = read(reply)
    assert [(str(r.rname), dnslib.QTYPE[r.rtype]) for r in response.rr] == [
        ("alias.docker.", "CNAME"),
        ("www.example.net.", "A"),
    ]
    assert response.header.aa == 1
    assert reply.keeping == "no"


def test_alias_that_leads_to_a_special_name_is_answered_here() -> None:
    made = responder(publication("alias", cname="localhost."))
    response = read(ask(made, query("alias.docker.")))
    assert [str(r.rdata) for r in response.rr] == ["localhost.", "127.0.0.1"]


# -- CNAMEs of upstreams that lead home ------------------------------------------------------------


def cname(owner: str, target: str, ttl: int = 300) -> RR:
    return RR(names.to_wire(owner), messages.CNAME, 1, ttl, names.to_wire(target))


def a(owner: str, address: str = "203.0.113.66", ttl: int = 300) -> RR:
    return RR(names.to_wire(owner), messages.A, 1, ttl, ip_address(address).packed)


SEARCH = "search.company.example."
HOME = (cname(SEARCH, "web.docker."), a("web.docker."))  # and a lie about it


def scrubbed(made: Responder, forward: Forward, *answer: RR, **more: Any) -> Resolution:
    """What the forwarder gives of an upstream's answer."""
    question = question_of(forward)
    found = scrub(
        Response(1, messages.QR, 0, question.wire, answer, (), ()),
        question,
        Trust(lambda name: made._ownership.is_ours(name, NOW)),
    )
    return Resolution(0, found.body, upstream="u", fresh_for=1.0, targets=found.targets, **more)


LONG = [f"{'.'.join(letter * 100)}.example." for letter in "abcdefghijk"]  # 101 labels each
CHAIN = (*map(cname, LONG, [*LONG[1:], "web.corp.example."]), a("web.corp.example."))


def test_a_long_chain_is_decided_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's chain costs what its length is, but not each client that asks for it."""
    made = responder()
    forward = forwarded(made, query(LONG[0], opt=messages.opt_record()))
    resolution = scrubbed(made, forward, *CHAIN)
    assert len(resolution.targets) == len(LONG)
    first = made.finish(forward, resolution, PEER, NOW)
    decided: list[str] = []
    monkeypatch.setattr(
        made._ownership, "decide", lambda name, *_: pytest.fail(f"{name} is decided about again")
    )
    monkeypatch.setattr(made._zone, "names_behind", decided.append)
    again = made.finish(forward, resolution, PEER, NOW + 0.5)
    assert (again.octets, again.depends_on) == (first.octets, first.depends_on)
    assert decided == []


def test_a_chain_is_decided_about_again_after_a_change() -> None:
    made = responder()
    forward = forwarded(made, query(LONG[0], opt=messages.opt_record()))
    resolution = scrubbed(made, forward, *CHAIN)
    assert addresses(made.finish(forward, resolution, TCP, NOW))[-1] == "203.0.113.66"
    made._zone.replace("web", publication("web", "10.0.0.1"), NOW)
    assert addresses(made.finish(forward, resolution, TCP, NOW))[-1] == "10.0.0.1"
    made._zone.replace("web", None, NOW)
    gone = made.finish(forward, resolution, TCP, NOW)
    assert gone.rcode == messages.NXDOMAIN


def led(
    made: Responder, *answer: RR, qtype: int = messages.A, peer: Peer = PEER, **more: Any
) -> tuple[Reply, Any]:
    forward = forwarded(made, query(SEARCH, qtype, opt=messages.opt_record(dnssec_ok=True)))
    reply = made.finish(forward, scrubbed(made, forward, *answer, **more), peer, NOW)
    return reply, read(reply)


def lines(records: list[Any]) -> list[tuple[str, int, str, str]]:
    return [(str(r.rname), r.ttl, dnslib.QTYPE[r.rtype], str(r.rdata)) for r in records]


def test_alias_of_an_upstream_for_a_name_of_ours_has_our_address() -> None:
    """As a resolver would: a stub does not ask again for the target."""
    made = responder(publication("web", "10.0.0.1"))
    reply, response = led(made, *HOME, is_authentic=True)
    assert lines(response.rr) == [
        (SEARCH, 5, "CNAME", "web.docker."),
        ("web.docker.", 5, "A", "10.0.0.1"),
    ]
    assert (response.header.rcode, response.header.aa, response.header.ad) == (0, 0, 0)
    assert (reply.keeping, reply.source) == ("no", "upstream"), "the container may change"


@pytest.mark.parametrize("target", ["web.", "web.corp.example.", "shop.example.org."])
def test_alias_of_an_upstream_may_lead_to_any_kind_of_name_of_ours(target: str) -> None:
    claims = (
        Claim("web", Rank.CONTAINER, "container name", "web"),
        Claim("shop.example.org.", Rank.LABEL, "label fqdns", "web"),
    )
    made = responder(replace(publication("web", "10.0.0.1"), claims=claims))
    _, response = led(made, cname(SEARCH, target))
    assert lines(response.rr)[1:] == [(target, 5, "A", "10.0.0.1")]


def test_our_part_is_what_the_container_is_now() -> None:
    made = responder(publication("web", "10.0.0.1"))
    forward = forwarded(made, query(SEARCH))
    cached = scrubbed(made, forward, *HOME)
    made._zone.replace("web", publication("web", "10.0.0.2"), NOW)
    assert addresses(made.finish(forward, cached, PEER, NOW))[1:] == ["10.0.0.2"]
    made._zone.replace("web", None, NOW)
    response = read(made.finish(forward, cached, PEER, NOW))
    assert response.header.rcode == messages.NXDOMAIN


@pytest.mark.parametrize(
    ("target", "qtype", "rcode", "apex"),
    [
        ("gone.docker.", messages.A, messages.NXDOMAIN, "docker."),
        ("gone.", messages.AAAA, messages.NXDOMAIN, "."),
        ("web.docker.", messages.AAAA, messages.NOERROR, "docker."),
        ("localhost.", messages.MX, messages.NOERROR, "."),
    ],
    ids=["unknown", "unknown single label", "another type", "special"],
)
def test_what_our_name_lacks_is_denied_with_our_soa(
    target: str, qtype: int, rcode: int, apex: str
) -> None:
    """RFC 2308 section 2.1, RFC 6604: the rcode is of the last name."""
    made = responder(publication("web", "10.0.0.1"))
    _, response = led(made, cname(SEARCH, target), qtype=qtype)
    assert response.header.rcode == rcode
    assert lines(response.rr) == [(SEARCH, 5, "CNAME", target)]
    assert [(name, ttl, rtype) for name, ttl, rtype, _ in lines(response.auth)] == [
        (apex, 1, "SOA")
    ]


def test_the_alias_alone_is_given_to_who_asks_for_it() -> None:
    made = responder(publication("web", "10.0.0.1"))
    _, response = led(made, *HOME, qtype=messages.CNAME)
    assert lines(response.rr) == [(SEARCH, 300, "CNAME", "web.docker.")]


def test_alias_that_leads_home_is_servfail_before_the_first_listing() -> None:
    made = responder()
    made._ownership.listing = Listing.PENDING
    _, response = led(made, *HOME)
    assert (response.header.rcode, response.rr) == (messages.SERVFAIL, [])


def test_name_that_became_ours_is_ours_in_what_is_cached() -> None:
    """Until then it was an upstream's, below a search domain; its TTLs were short."""
    made = responder()
    forward = forwarded(made, query(SEARCH))
    target = "web.corp.example."
    cached = scrubbed(made, forward, cname(SEARCH, target), a(target))
    before = made.finish(forward, cached, PEER, NOW)
    assert [ttl for _, ttl, *_ in lines(read(before).rr)] == [5, 5]
    assert (before.keeping, target in before.depends_on) == ("fresh", True)
    made._zone.replace("web", publication("web", "10.0.0.1"), NOW)
    assert addresses(made.finish(forward, cached, PEER, NOW)) == [target, "10.0.0.1"]


@pytest.mark.parametrize(
    ("target", "rcode"),
    [("printer.corp.example.", messages.SERVFAIL), ("www.example.org.", messages.NXDOMAIN)],
    ids=["below a search domain", "elsewhere"],
)
def test_denial_behind_an_alias_is_doubtful_while_docker_is_overdue(
    target: str, rcode: int
) -> None:
    """Contract, section 4: below search domains data passes, a negative becomes SERVFAIL."""
    made = responder()
    made._ownership.listing = Listing.OVERDUE
    forward = forwarded(made, query(SEARCH))
    denied = scrubbed(made, forward, cname(SEARCH, target))._replace(rcode=messages.NXDOMAIN)
    assert read(made.finish(forward, denied, PEER, NOW)).header.rcode == rcode


def test_alias_of_ours_that_leads_home_by_way_of_an_upstream() -> None:
    made = responder(publication("alias", cname=SEARCH), publication("web", "10.0.0.1"))
    forward = forwarded(made, query("alias.docker."))
    response = read(made.finish(forward, scrubbed(made, forward, *HOME), PEER, NOW))
    assert [name for name, *_ in lines(response.rr)] == ["alias.docker.", SEARCH, "web.docker."]
    assert response.header.aa == 1


def test_aliases_in_a_circle_end() -> None:
    made = responder(publication("web", cname=SEARCH))
    forward = forwarded(made, query("web.docker."))
    response = read(made.finish(forward, scrubbed(made, forward, *HOME), PEER, NOW))
    assert [name for name, *_ in lines(response.rr)] == ["web.docker.", SEARCH]
    _, response = led(made, *HOME)
    assert [name for name, *_ in lines(response.rr)] == [SEARCH, "web.docker."]


def test_rebind_protection_holds_for_addresses_of_ours_behind_a_public_name() -> None:
    made = responder(publication("web", "10.0.0.1", "192.0.2.1"))
    _, response = led(made, *HOME, drops_private=True)
    assert [data for *_, data in lines(response.rr)] == ["web.docker.", "192.0.2.1"]


@pytest.mark.parametrize("drops_private", [True, False], ids=["protected", "unprotected"])
@pytest.mark.parametrize("listing", [Listing.COMPLETE, Listing.PENDING])
@pytest.mark.parametrize("qtype", [messages.A, messages.AAAA, messages.CNAME])
@pytest.mark.parametrize("target", ["web.docker.", "gone.", "alias.docker.", "www.example.net."])
def test_explanation_of_what_is_cached_is_the_response(
    target: str, qtype: int, listing: Listing, drops_private: bool
) -> None:
    made = responder(publication("web", "10.0.0.1"), publication("alias", cname="web.docker."))
    ownership = made._ownership
    ownership.listing = listing
    forward = forwarded(made, query(SEARCH, qtype))
    resolution = scrubbed(made, forward, cname(SEARCH, target), drops_private=drops_private)
    reply = made.finish(forward, resolution, PEER, NOW)
    told = led_home(
        ownership,
        explain(ownership, SEARCH, qtype, VIEW, NOW),
        VIEW,
        Cached(resolution._replace(drops_private=drops_private), NOW, NOW),
        NOW,
    )
    response = messages.parse_response(reply.octets)
    if told.rcode is None:
        assert response.rcode == 0
        assert len(response.answer) == 1
        return
    assert told.rcode == response.rcode
    assert [r.rr() for r in told.records] == list(response.answer[1:])
    assert told.soa_ttl == (response.authority[0].ttl if response.authority else None)


def test_forward_knows_its_client() -> None:
    made = responder()
    forward = forwarded(made, query("www.example.net."), TCP)
    assert (forward.client, forward.over_tcp, forward.ttl_ceiling) == (CLIENT, True, None)


def test_identity_is_left_out_if_there_is_none() -> None:
    zone = Zone(Shape(), 1, RememberedNames(60))
    made = Responder(Ownership(zone), Cookies(bytes(16)), Counters())
    reply = made.respond(query("www.example.net.", messages.OPT, opt=option(3, b"")), PEER, NOW)
    assert isinstance(reply, Reply)
    assert read(reply).ar[0].rdata == []


def test_response_is_made_in_well_under_a_millisecond() -> None:
    """A guard against something quadratic, not a measurement."""
    made = responder(*(publication(f"c{n}", f"10.0.{n // 250}.{n % 250}") for n in range(1000)))
    begun = time.process_time()
    for _ in range(200):
        ask(made, query("c999.docker."))
    assert (time.process_time() - begun) / 200 < 0.005

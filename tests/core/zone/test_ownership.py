"""Whose name it is, for every kind of name and state of the listing; see also scenarios."""

import pytest

from containerdns.core.protocol import messages
from containerdns.core.zone.containers import Network
from containerdns.core.zone.ownership import Act, Listing, Ownership
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Shape, Zone

NOW = 1000.0
SHAPE = Shape(
    domains=("docker.", "team.corp.example."), search_domains=("localdomain.", "corp.example.")
)
FORWARDS = frozenset({"lan.", "corp.example.", "10.in-addr.arpa."})


def rules(listing: Listing = Listing.COMPLETE, forwards: frozenset[str] = FORWARDS) -> Ownership:
    zone = Zone(SHAPE, 1, RememberedNames(60))
    for name in ("web", "app", "search.company.example."):
        claim = Claim(name, Rank.CONTAINER, "container name", name)
        zone.replace(name, Publication(name, name, claims=(claim,)), NOW)
    for name in ("old", "dev"):
        gone = Claim(name, Rank.CONTAINER, "container name", name)
        zone.replace(name, Publication(name, name, claims=(gone,)), NOW)
        zone.replace(name, None, NOW)
    made = Ownership(
        zone, top_level_domains=frozenset({"com.", "app.", "dev.", "onion."}), forwards=forwards
    )
    made.listing = listing
    return made


def acts(name: str, qtype: int = messages.A) -> list[str]:
    """What is done before the first listing, after 10 s without one, and once listed."""
    return [rules(listing).decide(name, qtype, NOW).act.value for listing in Listing]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker.", "zone zone zone"),
        ("web.docker.", "zone zone zone"),
        ("ns.docker.", "zone zone zone"),
        ("other.docker.", "wait wait zone"),
        ("web.team.corp.example.", "zone zone zone"),
        ("web.", "zone zone zone"),
        ("other.", "wait wait nxdomain"),
        ("old.", "wait wait nxdomain"),
        ("com.", "wait wait nodata"),
        ("dev.", "wait wait nxdomain"),  # a top-level domain, but a container had the name
        ("lan.", "wait wait forward"),
        ("host.", "wait wait zone"),
        ("host.docker.", "wait wait zone"),
        ("host.corp.example.", "wait wait zone"),
        ("x.lan.", "forward forward forward"),
        ("web.corp.example.", "zone zone zone"),
        ("other.corp.example.", "wait forward forward"),
        ("old.corp.example.", "wait wait nxdomain"),
        ("corp.example.", "forward forward forward"),
        ("x.docker.corp.example.", "wait wait nxdomain"),
        ("docker.corp.example.", "wait forward forward"),
        ("other.localdomain.", "wait wait nxdomain"),
        ("search.company.example.", "zone zone zone"),
        ("www.example.net.", "forward forward forward"),
        ("x.localhost.", "loopback loopback loopback"),
        ("mylocalhost.", "wait wait nxdomain"),
        ("x.mylocalhost.", "forward forward forward"),
        ("x.invalid.", "nxdomain nxdomain nxdomain"),
        ("resolver.arpa.", "nodata nodata nodata"),
        ("1.2.3.10.in-addr.arpa.", "forward forward forward"),
        ("1.2.168.192.in-addr.arpa.", "nxdomain nxdomain nxdomain"),
        ("8.8.8.8.in-addr.arpa.", "forward forward forward"),
        (".", "forward forward forward"),
    ],
)
def test_act_in_each_state_of_the_listing(name: str, expected: str) -> None:
    """Pending, overdue, complete: contract, sections 2 and 4."""
    assert " ".join(acts(name)) == expected


def test_name_of_an_engine_can_be_found_before_its_listing() -> None:
    """`--docker tcp://NAME` on a machine that asks us: without NAME there is no listing."""
    engine = "docker-host.corp.example."
    made = Ownership(Zone(SHAPE, 1, RememberedNames(60)), engine_hosts=frozenset({engine}))
    first = made.decide(engine, messages.A, NOW)
    assert (first.act, first.is_doubtful) == (Act.FORWARD, True)  # no NXDOMAIN of an upstream
    assert made.decide("other.corp.example.", messages.A, NOW).act is Act.WAIT
    made.listing = Listing.COMPLETE
    assert not made.decide(engine, messages.A, NOW).is_doubtful


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("app.", messages.DS, "forward"),
        ("app.", messages.DNSKEY, "forward"),
        ("app.", messages.NS, "forward"),
        ("app.", messages.SOA, "forward"),
        ("app.", messages.MX, "zone"),
        ("web.", messages.DS, "zone"),
        ("old.", messages.DS, "nxdomain"),
        ("other.", messages.DS, "forward"),
        ("other.", messages.CNAME, "nxdomain"),
        ("invalid.", messages.DS, "nxdomain"),
        ("onion.", messages.SOA, "nxdomain"),  # in the list of top-level domains, but special
    ],
)
def test_delegations_of_single_labels_are_asked_upstream(
    name: str, qtype: int, expected: str
) -> None:
    """For validators in front of us: contract, section 2."""
    assert rules().decide(name, qtype, NOW).act.value == expected


@pytest.mark.parametrize(
    ("name", "apex", "is_near"),
    [
        ("x.lan.", "lan.", False),
        ("a.b.corp.example.", "corp.example.", True),
        ("www.example.net.", None, False),
        ("other.", None, True),
    ],
)
def test_forward_says_which_servers_and_how_long_a_ttl_may_be(
    name: str, apex: str | None, is_near: bool
) -> None:
    decision = rules().decide(name, messages.DS, NOW)
    assert decision.act is Act.FORWARD
    assert (decision.forward_apex, decision.is_near) == (apex, is_near)


def test_forward_of_the_root_covers_what_nothing_else_does_and_no_special_name() -> None:
    made = rules(forwards=frozenset({".", "lan."}))
    assert made.decide("www.example.net.", messages.A, NOW).forward_apex == "."
    assert made.decide("x.lan.", messages.A, NOW).forward_apex == "lan."
    assert made.decide("x.invalid.", messages.A, NOW).act is Act.NXDOMAIN
    assert made.decide("other.", messages.A, NOW).act is Act.NXDOMAIN


@pytest.mark.parametrize("listing", list(Listing))
def test_negative_of_an_upstream_is_doubtful_while_an_engine_is_overdue(listing: Listing) -> None:
    made = rules(listing)
    is_overdue = listing is Listing.OVERDUE
    near = made.decide("other.corp.example.", messages.A, NOW)
    assert near.act is Act.WAIT or near.is_doubtful is is_overdue
    assert not made.decide("corp.example.", messages.A, NOW).is_doubtful  # no container has it
    assert not made.decide("www.example.net.", messages.A, NOW).is_doubtful


def test_remembered_name_is_nobodys_after_its_time() -> None:
    assert rules().decide("old.corp.example.", messages.A, NOW + 59.9).act is Act.NXDOMAIN
    assert rules().decide("old.corp.example.", messages.A, NOW + 60).act is Act.FORWARD
    assert rules().decide("old.", messages.A, NOW + 60).act is Act.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "answers", "is_ours"),
    [("web.docker.", True, True), ("other.", False, True), ("www.example.net.", False, False)],
)
def test_names_of_ours_are_told_to_http_and_to_the_forwarder(
    name: str, answers: bool, is_ours: bool
) -> None:
    assert rules().answers(name, NOW) is answers
    assert rules().is_ours(name, NOW) is is_ours


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localdomain.", "nodata"),  # a special name, and a search domain
        ("internal.", "nodata"),  # a special name above an fqdn
        ("b.internal.", "nodata"),
        ("test.", "nodata"),  # above an fqdn that is remembered
        ("invalid.", "nxdomain"),
        ("front.localdomain.", "nodata"),  # gone by itself, above an owner with records
        ("c.internal.", "nxdomain"),
        ("top.internal.", "nodata"),  # an fqdn that is gone, above one that is there
    ],
)
def test_nothing_above_a_name_of_ours_is_denied(name: str, expected: str) -> None:
    """RFC 8020; PowerDNS Recursor then denies what lies below, whatever we say of that."""
    zone = Zone(SHAPE, 1, RememberedNames(60))
    for running, *owners in (
        (True, "a.b.internal.", "web.front", "x.top.internal."),
        (False, "old.test.", "front", "top.internal."),
    ):
        claims = tuple(Claim(o, Rank.LABEL, "label", str(running)) for o in owners)
        zone.replace(str(running), Publication(str(running), "x", claims=claims), NOW)
        if not running:
            zone.replace(str(running), None, NOW)
    made = Ownership(zone)
    made.listing = Listing.COMPLETE
    assert made.decide(name, messages.A, NOW).act.value == expected


def test_parent_of_a_stopped_containers_fqdn_is_above_ours_until_it_is_removed() -> None:
    zone = Zone(SHAPE, 1, RememberedNames(60))
    made = Ownership(zone)
    claims = (Claim("a.b.example.", Rank.LABEL, "label fqdns", "x"),)
    for state in (Publication("x", "x", claims=claims, is_running=False), None):
        zone.replace("x", state, NOW)
        assert made.is_above_ours("b.example.")
        assert made.is_above_ours("example.")
        assert not made.is_above_ours("a.b.example.")
    zone.remembered.expire(NOW + 61)
    assert not made.is_above_ours("b.example.")


@pytest.mark.parametrize(
    ("engine", "is_running", "is_whole"),
    [("", True, False), ("unix:///x", False, False), ("unix:///x", True, True)],
    ids=["a hosts file alone", "a stopped container", "a running container"],
)
def test_zone_is_copied_while_an_engine_is_overdue_only_if_another_was_listed(
    engine: str, is_running: bool, is_whole: bool
) -> None:
    """A secondary would deny all containers for as long as it has a zone of a hosts file."""
    zone = Zone(SHAPE, 1, RememberedNames(60))
    claim = Claim("web", Rank.LABEL, "hosts", "web")
    one = Publication("web", "web", claims=(claim,), engine=engine, is_running=is_running)
    zone.replace("web", one, NOW)
    made = Ownership(zone)
    for listing in Listing:
        made.listing = listing
        expected = is_whole if listing is Listing.OVERDUE else listing is Listing.COMPLETE
        assert made.has_whole_zone is expected


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("18.172.in-addr.arpa.", Act.ZONE),
        ("7.0.18.172.in-addr.arpa.", Act.FORWARD),
        ("7.0.19.172.in-addr.arpa.", Act.FORWARD),
    ],
    ids=["our zone", "free address in it", "address beside it"],
)
def test_reverse_zone_of_docker_is_ours_and_a_forward_has_its_free_addresses(
    name: str, act: Act
) -> None:
    """The contract, section 2; secondaries and `dig SOA` find the zone at its apex."""
    made = rules(forwards=frozenset({"172.in-addr.arpa."}))
    made.zone.reverse.set_networks([Network("n", "n", "unix:///x", "bridge", ("172.18.0.0/16",))])
    assert made.decide(name, messages.PTR, NOW).act is act

"""A synthesised answer is that of the slow path, octet by octet."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.respond import Peer, Responder
from containerdns.core.protocol.synthesised_answers import MAX_FORMS, Denied, SynthesisedAnswers
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Zone
from tests.core.protocol.test_respond import (
    NOW,
    PEER,
    VIEW,
    ask,
    publication,
    query,
    read,
    responder,
    sharing,
)
from tests.fuzz.generating import CONTAINER_NAMES, DOMAINS, SEARCH_DOMAINS
from tests.fuzz.worlds import World, changes

LABELS = (
    *CONTAINER_NAMES[:11],
    "s",
    "p",
    "www",
    "hostmaster",
    "*",
    "nobody",
    "absent",
    "Nobody",
    "eu",
    "xy",
    "lab",
)
APEXES = (*DOMAINS, *SEARCH_DOMAINS, ".", "localdomain.", "internal.", "test.")
TYPES = (messages.A, 65, 97)
OPT = b"\0\0\x29\x04\xd0" + bytes(6)


def at_a_glance(made: Responder, data: bytes, view: View = VIEW) -> bytes | None:
    """What is known without thinking."""
    found = made.synthesised(data, data[2:].lower(), view)
    return None if found is None else found[1].response(data, found[0])


@given(st.lists(st.lists(changes, max_size=4), min_size=1, max_size=4), st.data())
def test_glance_says_what_thought_says(rounds: list[list[object]], data: st.DataObject) -> None:
    world = World()
    peer = world.peer("127.0.0.1")
    questions = st.tuples(st.sampled_from(LABELS), st.sampled_from(APEXES), st.sampled_from(TYPES))
    for happening in rounds:
        for change in happening:
            world.happen(change)  # type: ignore[arg-type]
        for label, apex, qtype in data.draw(st.lists(questions, max_size=12)):
            asked = query(names.join(label, apex), qtype)
            writer = world.writer
            thinking = Responder(writer.ownership, Cookies(bytes(16)), Counters(), identity="x")
            said, thought = (
                responder.respond(asked, peer, NOW) for responder in (world.responder, thinking)
            )
            if at_a_glance(world.responder, asked, peer.view) is not None:
                assert thought == said


def test_another_name_is_denied_at_a_glance() -> None:
    made = responder(publication("web", "192.0.2.7"))
    assert at_a_glance(made, query("other.docker.")) is None
    ask(made, query("first.docker."))
    denied = at_a_glance(made, query("other.docker."))
    assert denied is not None
    thinking = responder(publication("web", "192.0.2.7"))
    assert ask(made, query("other.docker.")) == ask(thinking, query("other.docker."))
    asked = query("other.docker.").replace(b"other", b"OtheR").replace(b"docker", b"DoCKer")
    assert asked[12:-4] in ask(made, asked).octets


def test_what_differs_is_thought_about() -> None:
    made = responder(publication("alpha", "192.0.2.7"))
    ask(made, query("first.docker."))
    for data in (
        query("alpha.docker."),  # a container
        query("longer.docker."),  # its SOA points elsewhere
        query("first.docker.", messages.AAAA),
        query("first.docker.", flags=0),
        query("first.docker.", opt=OPT),
        query("first.docker.") + b"\0",
        query("\\000irst.docker."),
        query("x.first.docker."),
        query("first."),
        query("first.docker.")[:14],
        b"",
    ):
        assert at_a_glance(made, data) is None, data
    assert at_a_glance(made, query("other.docker.")) is not None


def test_type_whose_number_looks_like_a_letter_is_not_mistaken() -> None:
    made = responder()
    ask(made, query("first.docker.", 97))
    assert at_a_glance(made, query("other.docker.", 65)) is None
    assert at_a_glance(made, query("other.docker.", 97)) is not None


def test_response_that_points_to_its_own_label_is_of_no_other() -> None:
    made = responder()
    ask(made, query("hostmaster.docker."))
    assert at_a_glance(made, query("tenletters.docker.")) is None


def test_containers_wildcards_and_fqdns_end_it() -> None:
    made = responder()
    ask(made, query("first.docker."))
    asked = query("other.docker.")
    for owner in ("other", "below.other", "*", "other.docker.", "below.other.docker."):
        claim = Claim(owner, Rank.LABEL, "label names", "id")
        serial = made._zone.serial
        made._zone.replace("id", Publication("id", "x", claims=(claim,)), NOW)
        made._zone.serial = serial
        assert at_a_glance(made, asked) is None, owner
        made._zone.replace("id", None, NOW)
        made._zone.serial = serial
        assert at_a_glance(made, asked) is not None, owner


def test_domain_below_another_exists() -> None:
    world = World()
    peer = world.peer("127.0.0.1")
    world.responder.respond(query("xy.docker."), peer, NOW)
    assert at_a_glance(world.responder, query("xx.docker.")) is not None
    assert at_a_glance(world.responder, query("eu.docker.")) is None


def test_new_serial_is_told() -> None:
    made = responder()
    ask(made, query("first.docker."))
    made._zone.serial += 1
    denied = at_a_glance(made, query("other.docker."))
    assert denied is not None
    assert made._zone.serial.to_bytes(4) in denied


def test_nothing_is_denied_before_docker_is_listed() -> None:
    made = responder()
    ask(made, query("first.docker."))
    made._ownership.listing = Listing.OVERDUE
    assert ask(made, query("other.docker.")).rcode == messages.SERVFAIL


def test_what_is_known_is_bounded() -> None:
    made, answering = SynthesisedAnswers(Counters()), responder()
    made.use(answering._ownership)
    octets = ask(responder(), query("first.docker.")).octets
    for qtype in range(20_000, 25_000):
        denied = Denied(octets, "first.docker.", qtype, 40)
        asked = query("first.docker.", qtype)
        made.learn(asked, denied, "docker.")
    assert 0 < len(made._forms) <= MAX_FORMS


@pytest.mark.parametrize(
    ("first", "other", "is_denied"),
    [
        ("first.", "other.", True),
        ("first.", "alpha.", False),  # a container
        ("alpha.", "first.", False),
        ("first.", "local.", False),  # another rule
        ("first.localdomain.", "other.localdomain.", True),
        ("first.localdomain.", "alpha.localdomain.", False),
        ("first.x.invalid.", "other.x.invalid.", True),
        ("first.docker.localdomain.", "other.docker.localdomain.", False),  # see depends_on
    ],
)
def test_names_of_nobody_are_denied_at_a_glance(first: str, other: str, is_denied: bool) -> None:
    """Below the root and special names, as a flood of them must cost no more."""
    shape = Shape(search_domains=("localdomain.",))
    zone = Zone(shape, 1, RememberedNames(60))
    zone.replace("alpha", publication("alpha", "192.0.2.7"), NOW)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    made, thinking = (Responder(ownership, Cookies(bytes(16)), Counters()) for _ in range(2))
    ask(made, query(first))
    denied = at_a_glance(made, query(other))
    assert (denied is not None) is is_denied
    assert ask(made, query(other)) == ask(thinking, query(other))


@pytest.mark.parametrize("parent", ["", "localdomain.", "test."])
@pytest.mark.parametrize("state", ["running", "stopped", "remembered"])
@pytest.mark.parametrize("kind", ["label", "below", "fqdn", "below fqdn", "wildcard"])
def test_denial_ends_while_a_container_has_the_name(parent: str, state: str, kind: str) -> None:
    made = _denying(f"first.{parent}")
    zone, asked = made._zone, query(f"other.{parent}")
    denied = at_a_glance(made, asked)
    assert denied is not None
    owner = {
        "label": "other",
        "below": "below.other",
        "fqdn": f"other.{parent}",
        "below fqdn": f"below.other.{parent}",
        "wildcard": "*",
    }[kind]
    if state == "remembered":
        zone.remembered.put(owner, NOW + 60)
    else:
        claim = Claim(owner, Rank.LABEL, "label names", "id")
        has = Publication("id", "x", claims=(claim,), is_running=state == "running")
        zone.replace("id", has, NOW)
    assert at_a_glance(made, asked) is None
    zone.replace("id", None, NOW)
    zone.remembered.discard(owner)
    assert at_a_glance(made, asked) is not None


def _denying(first: str) -> Responder:
    """Return a responder without containers, which was asked for a name."""
    ownership = Ownership(Zone(Shape(), 1, RememberedNames(60)))
    ownership.listing = Listing.COMPLETE
    made = Responder(ownership, Cookies(bytes(16)), Counters())
    ask(made, query(first))
    return made


def test_denials_are_counted_when_asked_for_and_when_they_are_forgotten() -> None:
    counters = Counters()
    zone = Zone(Shape(search_domains=("localdomain.",)), 1, RememberedNames(60))
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    made = Responder(ownership, Cookies(bytes(16)), counters)
    for first, other in (("first.docker.", "other.docker."), ("first.", "other.")):
        ask(made, query(first))
        data = query(other)
        for _ in range(3):
            found = made.synthesised(data, data[2:].lower(), VIEW)
            assert found is not None
            found[1].hits += 1
    counters.kept_from_upstream = 0
    made.use(ownership)
    made.tally()
    assert counters.requests == {("udp", messages.A): 6}
    assert counters.responses == {
        (messages.NXDOMAIN, "zone"): 3,
        (messages.NXDOMAIN, "policy"): 3,
    }
    assert counters.kept_from_upstream == 3


@pytest.mark.parametrize("length", range(30))
def test_no_message_is_too_short_to_look_at(length: int) -> None:
    made = responder()
    ask(made, query("first.docker."))
    assert at_a_glance(made, query("other.docker.")[:length]) is None


# -- names that a container has -------------------------------------------------------------


def _container(name: str, *addresses: PublishedAddress, **more: object) -> Publication:
    claim = Claim(name, Rank.CONTAINER, "container name", name)
    found = Publication(name, name, claims=(claim,), addresses=addresses)
    return replace(found, **more)  # type: ignore[arg-type]  # fields of a publication


def _fixed(text: str) -> PublishedAddress:
    return PublishedAddress(text, "", "")


WEB, ALT, APP = (
    _container("web", _fixed("192.0.2.7")),
    _container("alt", _fixed("192.0.2.8")),
    _container("app", _fixed("192.0.2.9"), _fixed("2001:db8::9")),
)


def _agrees(made: Responder, data: bytes, peer: Peer = PEER) -> bytes:
    """The synthesised response, which is that of a responder that was asked for nothing else."""
    found = at_a_glance(made, data, peer.view)
    thinking = Responder(made._ownership, Cookies(bytes(16)), Counters(), identity="me")
    assert found == ask(thinking, data, peer).octets
    return found


@pytest.mark.parametrize("suffix", ["docker.", "corp.example.", "."])
@pytest.mark.parametrize("opt", [b"", OPT], ids=["plain", "EDNS"])
@pytest.mark.parametrize("qtype", [messages.A, messages.AAAA, 65, 97, messages.MX])
def test_first_query_for_a_container_is_answered_at_a_glance(
    suffix: str, opt: bytes, qtype: int
) -> None:
    made = responder(WEB, ALT, APP)
    ask(made, query(names.join("web", suffix), qtype, opt=opt))
    _agrees(made, query(names.join("alt", suffix), qtype, opt=opt))
    asked = query(names.join("app", suffix), qtype, opt=opt)
    if qtype == messages.AAAA:  # it has one, unlike all before
        assert at_a_glance(made, asked) is None
        ask(made, asked)
    _agrees(made, asked)
    mixed = query(names.join("alt", suffix), qtype, opt=opt).replace(b"alt", b"aLT")
    assert b"aLT" in _agrees(made, mixed)


def test_owner_of_several_labels_is_answered_at_a_glance() -> None:
    made = responder(
        *(
            _container(name, _fixed(f"192.0.2.{n}"))
            for n, name in enumerate(("a.front", "b.back12"))
        )
    )
    made._zone.replace("c.front", _container("c.front", _fixed("192.0.2.9")), NOW)
    ask(made, query("a.front.docker."))
    _agrees(made, query("c.front.docker."))
    assert at_a_glance(made, query("b.back12.docker.")) is None, "of another length"
    assert at_a_glance(made, query("c.front.corp.example.")) is None, "below another suffix"
    assert at_a_glance(made, query("c.front.")) is None, "not a bare name"
    assert at_a_glance(made, query("x.front.docker.")) is None, "unowned"
    assert at_a_glance(made, query("c\\.front.docker.")) is None, "one label with a dot"


@pytest.mark.parametrize(("network", "is_known"), [("", True), ("A", True), ("B", False)])
def test_dotted_owner_has_the_address_of_its_network(network: str, is_known: bool) -> None:
    made = responder(_container("web.net", _fixed("192.0.2.6")), WEB)
    for name in ("web.net", "web"):
        ask(made, query(f"{name}.docker."))
    claims = (ALT.claims[0], Claim("alt.net", Rank.DERIVED, "x", "alt", network=network))
    address = PublishedAddress("192.0.2.8", "a", "A")
    made._zone.replace("alt", replace(ALT, claims=claims, addresses=(address,)), NOW)
    _agrees(made, query("alt.docker."))
    assert (at_a_glance(made, query("alt.net.docker.")) is not None) is is_known
    if is_known:
        _agrees(made, query("alt.net.docker."))


def test_label_is_sole_again_when_its_rival_has_gone() -> None:
    made = responder(WEB, ALT)
    ask(made, query("web.docker."))
    rival = replace(APP, id="app", claims=(APP.claims[0]._replace(owner="alt"),))
    made._zone.replace("app", rival, NOW)
    assert at_a_glance(made, query("alt.docker.")) is None
    made._zone.replace("app", None, NOW)
    made._zone.end_handovers(["alt"], NOW + 100)
    assert bytes((192, 0, 2, 8)) in _agrees(made, query("alt.docker."))


def test_label_of_a_new_domain_is_sole_no_more() -> None:
    """The name below the other domains would be an apex, or above one."""
    made = responder(WEB, ALT)
    made._zone.reshape(Shape(domains=("docker.", "alt.docker.")))
    assert "alt" not in made._zone.sole_owners.a
    made._zone.reshape(Shape())
    assert "alt" in made._zone.sole_owners.a


def test_long_owner_is_no_other_one_whose_length_looks_like_its_letter() -> None:
    """In lower case, the octet 66 becomes 98."""
    owners = [".".join(["x" * 40, "y" * octets]) for octets in (66 - 41, 98 - 41)]
    made = responder(*(_container(owner, _fixed("192.0.2.7")) for owner in owners))
    for owner in owners:
        ask(made, query(f"{owner}.docker.", messages.AAAA))
    for owner in owners:
        other = owner.replace("x", "z")
        made._zone.replace(other, _container(other, _fixed("192.0.2.8")), NOW)
        _agrees(made, query(f"{other}.docker.", messages.AAAA))


def test_changed_container_is_answered_with_what_it_has_now() -> None:
    made = responder(WEB, ALT)
    ask(made, query("web.docker."))
    ask(made, query("web.docker.", messages.AAAA))
    assert bytes((192, 0, 2, 8)) in _agrees(made, query("alt.docker."))
    made._zone.replace("alt", _container("alt", _fixed("192.0.2.99"), ttl=77), NOW)
    made._zone.grow(NOW + 5)
    assert bytes((192, 0, 2, 99)) in _agrees(made, query("alt.docker."))
    assert made._zone.serial.to_bytes(4) in _agrees(made, query("alt.docker.", messages.AAAA))
    made._zone.replace("alt", None, NOW)
    assert at_a_glance(made, query("alt.docker.")) is None
    assert ask(made, query("alt.docker.")).rcode == messages.NXDOMAIN


def test_container_that_gets_another_address_is_thought_about() -> None:
    made = responder(WEB, ALT)
    ask(made, query("web.docker."))
    _agrees(made, query("alt.docker."))
    two = replace(ALT, addresses=(_fixed("192.0.2.8"), _fixed("192.0.2.9")))
    made._zone.replace("alt", two, NOW)
    assert at_a_glance(made, query("alt.docker.")) is None


def test_name_that_is_held_back_is_denied() -> None:
    """Contract, `--handover`."""
    made = responder(WEB)
    ask(made, query("web.docker."))
    for project in ("p", "q"):
        claim = Claim("dbs", Rank.DERIVED, "alias", project)
        derived = replace(ALT, id=project, claims=(claim,), project=project)
        made._zone.replace(project, derived, NOW)
        if project == "p":
            _agrees(made, query("dbs.docker."))
            made._zone.replace(project, None, NOW)
    assert at_a_glance(made, query("dbs.docker.")) is None
    assert ask(made, query("dbs.docker.")).rcode == messages.NXDOMAIN


def test_domains_below_each_other_are_thought_about() -> None:
    zone = Zone(Shape(domains=("docker.", "eu.docker.")), 1, RememberedNames(60))
    for one in (WEB, ALT):
        zone.replace(one.id, one, NOW)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    made = Responder(ownership, Cookies(bytes(16)), Counters())
    ask(made, query("web.docker."))
    assert at_a_glance(made, query("alt.docker.")) is None


def test_client_gets_the_address_on_its_own_network() -> None:
    """Contract, section 3."""
    two = (PublishedAddress("10.1.0.9", "a", "A"), PublishedAddress("10.2.0.9", "b", "B"))
    made = responder(WEB, _container("alt", *two))
    peers = [
        replace(PEER, view=replace(VIEW, networks=frozenset({network}))) for network in ("A", "B")
    ]
    ask(made, query("web.docker."), peers[0])
    for peer, (address, *_) in zip(peers, two, strict=True):
        assert ip_address(address).packed in _agrees(made, query("alt.docker."), peer)
    assert at_a_glance(made, query("alt.docker.")) is None, "others get both, in turn"


def test_name_on_another_network_has_none_of_its_addresses() -> None:
    made = responder(WEB)
    claim = Claim("alt", Rank.DERIVED, "name and network", "alt", network="B")
    address = PublishedAddress("10.1.0.9", "a", "A")
    made._zone.replace("alt", replace(ALT, claims=(claim,), addresses=(address,)), NOW)
    for qtype in (messages.A, messages.AAAA):
        ask(made, query("web.docker.", qtype))
    assert at_a_glance(made, query("alt.docker.")) is None, "nothing was learned of NODATA for A"
    assert not read(ask(made, query("alt.docker."))).rr


def test_host_has_the_address_that_was_asked() -> None:
    made = responder(WEB, _container("alt", on_host=True))
    ask(made, query("web.docker."))
    for text in ("192.0.2.1", "198.51.100.1"):
        peer = replace(PEER, view=replace(VIEW, host_addresses=(text,)))
        assert ip_address(text).packed in _agrees(made, query("alt.docker."), peer)


@pytest.mark.parametrize(
    "other",
    [
        _container("alt", _fixed("192.0.2.8"), _fixed("192.0.2.9")),
        _container("alt", cname="web.docker."),
        replace(ALT, claims=(Claim("alt", Rank.LABEL, "proxy", "alt", proxy="traefik"),)),
        _container("ns", _fixed("192.0.2.8")),
    ],
    ids=["two addresses", "CNAME", "proxy", "name of the server"],
)
def test_holder_that_needs_thought_is_thought_about(other: Publication) -> None:
    made = responder(_container("wx", _fixed("192.0.2.6")), WEB, other)
    for name in ("wx", "web"):
        ask(made, query(f"{name}.docker."))
    assert at_a_glance(made, query(f"{other.id}.docker.")) is None


def test_shared_name_is_thought_about() -> None:
    made = responder(WEB, *sharing(2))
    ask(made, query("web.docker."))
    assert at_a_glance(made, query("all.docker.")) is None


def test_fqdn_of_another_container_is_thought_about() -> None:
    made = responder(WEB, ALT)
    ask(made, query("web.docker."))
    claim = Claim("alt.docker.", Rank.LABEL, "label fqdns", "id")
    made._zone.replace("id", Publication("id", "x", claims=(claim,)), NOW)
    assert at_a_glance(made, query("alt.docker.")) is None


def test_bare_service_is_answered_below_domains_alone() -> None:
    made = responder(WEB)
    for name in ("web.docker.", "web.corp.example."):
        ask(made, query(name))
    claim = Claim("svc", Rank.DERIVED, "Compose service", "id", project="p")
    made._zone.replace("id", replace(ALT, id="id", claims=(claim,), project="p"), NOW)
    _agrees(made, query("svc.docker."))
    assert at_a_glance(made, query("svc.corp.example.")) is None
    claim = claim._replace(publication="id2", project="q")
    made._zone.replace("id2", replace(ALT, id="id2", claims=(claim,), project="q"), NOW)
    assert at_a_glance(made, query("svc.docker.")) is None, "two projects have it"


def test_delegation_of_a_top_level_domain_is_thought_about() -> None:
    zone = Zone(Shape(), 1, RememberedNames(60))
    for one in (WEB, APP):
        zone.replace(one.id, one, NOW)
    ownership = Ownership(zone, top_level_domains=frozenset({"app."}))
    ownership.listing = Listing.COMPLETE
    made = Responder(ownership, Cookies(bytes(16)), Counters())
    for qtype in (messages.DS, messages.MX):
        made.respond(query("web.", qtype), PEER, NOW)
    assert at_a_glance(made, query("app.", messages.DS)) is None
    assert at_a_glance(made, query("app.", messages.MX)) is not None


def test_container_called_localhost_is_not_at_the_loopback_name() -> None:
    made = responder(WEB, _container("localhost", _fixed("192.0.2.8")))
    made._zone.replace("ninechars", _container("ninechars", _fixed("192.0.2.6")), NOW)
    ask(made, query("ninechars."))
    assert at_a_glance(made, query("localhost.")) is None


def test_octets_that_no_text_has_are_thought_about() -> None:
    made = responder(_container("a.b", _fixed("192.0.2.7")), WEB)
    ask(made, query("web.docker."))
    assert at_a_glance(made, query("a\\.b.docker.")) is None
    assert at_a_glance(made, query("\\255eb.docker.")) is None

"""What is denied at a glance is what thinking would deny, octet by octet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.respond import Responder
from containerdns.core.protocol.synthesised_denials import MAX_KNOWN, Denials, Denied
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Shape, Zone
from tests.core.protocol.test_respond import NOW, ask, publication, query, responder
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


def at_a_glance(made: Responder, data: bytes) -> bytes | None:
    """What is known without thinking."""
    found = made.denied(data, data[2:].lower())
    return None if found is None else found[0]


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
            if at_a_glance(world.responder, asked) is not None:
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
    assert at_a_glance(made, query("other.docker.")) is None
    serial = made._zone.serial.to_bytes(4)
    assert serial in ask(made, query("other.docker.")).octets


def test_nothing_is_denied_before_docker_is_listed() -> None:
    made = responder()
    ask(made, query("first.docker."))
    made._ownership.listing = Listing.OVERDUE
    assert ask(made, query("other.docker.")).rcode == messages.SERVFAIL


def test_what_is_known_is_bounded() -> None:
    made, answering = Denials(Counters()), responder()
    made.use(answering._ownership)
    octets = ask(responder(), query("first.docker.")).octets
    for qtype in range(20_000, 25_000):
        denied = Denied(octets, "first.docker.", qtype, 40)
        asked = query("first.docker.", qtype)
        made.learn(asked, denied, "docker.")
    assert 0 < len(made._known) <= MAX_KNOWN


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


def test_name_that_is_remembered_or_claimed_is_thought_about() -> None:
    made = responder()
    ask(made, query("first."))
    assert at_a_glance(made, query("other.")) is not None
    made._zone.remembered.put("other", NOW + 60)
    assert at_a_glance(made, query("other.")) is None


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
            found = made.denied(data, data[2:].lower())
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

"""Answers: what they depend on, and in words why. What they hold is in the scenarios."""

from typing import Any

import pytest

from containerdns.core.protocol import messages
from containerdns.core.zone import answers
from containerdns.core.zone.answers import Answer, Lookup
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Suffix, SuffixKind, Zone

NOW = 1000.0
DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
BARE = Suffix(".", SuffixKind.BARE)
VIEW = View(True, True, True, False, frozenset(), ())


def publication(name: str, owner: str = "", **more: Any) -> Publication:
    claim = Claim(owner or name, Rank.CONTAINER, "container name", name)
    address = () if more.get("cname") else (PublishedAddress("10.0.0.1", "n", "n"),)
    return Publication(name, name, claims=(claim,), addresses=address, **more)


def find(name: str, *publications: Publication, qtype: int = messages.A) -> Answer:
    zone = Zone(Shape(), 1, RememberedNames(60))
    for one in publications:
        zone.replace(one.id, one, NOW)
    suffix = DOCKER if name.endswith("docker.") else BARE
    return answers.find(zone, Lookup(name, qtype, VIEW), suffix)


@pytest.mark.parametrize(
    ("name", "depends_on"),
    [
        ("web.docker.", ("web.docker.",)),
        ("a.b.docker.", ("a.b.docker.", "b.docker.")),
        ("docker.", ("docker.",)),
        ("ns.docker.", ("ns.docker.",)),
        ("web.", ("web.",)),
    ],
)
def test_answer_depends_on_the_names_between_it_and_the_apex(
    name: str, depends_on: tuple[str, ...]
) -> None:
    assert find(name, publication("web")).depends_on == depends_on


def test_answer_through_an_alias_depends_on_its_target_as_well() -> None:
    found = find("a.docker.", publication("a", cname="b.docker."), publication("b"))
    assert set(found.depends_on) == {"a.docker.", "b.docker."}
    assert [r.name for r in (*found.chain, *found.records)] == ["a.docker.", "b.docker."]


def test_alias_out_of_our_domains_says_where_it_leads() -> None:
    found = find("a.docker.", publication("a", cname="www.example.net."))
    assert found.leads_to == "www.example.net."
    assert find("a.docker.", publication("a", cname="b.docker.")).leads_to == ""


@pytest.mark.parametrize("length", [3, 8, 20])
def test_chain_of_aliases_ends(length: int) -> None:
    links = [publication(f"c{n}", cname=f"c{n + 1}.docker.") for n in range(length)]
    found = find("c0.docker.", *links, publication(f"c{length}"))
    assert len(found.chain) == min(length, answers.MAX_CHAIN + 1)
    assert bool(found.records) is (length <= answers.MAX_CHAIN + 1)


def test_circle_of_aliases_is_gone_round_once() -> None:
    ring = [publication(f"c{n}", cname=f"c{(n + 1) % 3}.docker.") for n in range(3)]
    assert [r.name for r in find("c1.docker.", *ring).chain] == [
        "c1.docker.",
        "c2.docker.",
        "c0.docker.",
    ]


@pytest.mark.parametrize(
    ("publications", "reason"),
    [
        ((publication("web"),), "the container web is running"),
        ((publication("b", "web"), publication("a", "web")), "the containers a, b are running"),
        (
            tuple(publication(f"r{n}", "web") for n in range(5)),
            "the containers r0, r1, r2, r3, r4 are running",
        ),
        (
            tuple(publication(f"r{n}", "web") for n in range(6)),
            "the containers r0, r1, r2, r3, r4 and others are running",
        ),
        ((), "no running container has this name"),
    ],
    ids=["one", "two", "as many as are shown", "more", "none"],
)
def test_reason_says_who_has_the_name(publications: tuple[Publication, ...], reason: str) -> None:
    assert find("web.docker.", *publications).reason == reason


def test_rule_of_a_bare_name_says_so() -> None:
    """The contract's example in section 6."""
    assert find("web.", publication("web")).rule == "bare container name"
    assert find("web.docker.", publication("web")).rule == "container name"


def test_reason_of_a_name_without_such_a_record_says_so() -> None:
    found = find("web.docker.", publication("web"), qtype=messages.MX)
    assert found.reason == "the container web is running, but has no such record"
    assert found.soa is not None


def test_host_and_hosts_files_have_reasons_of_their_own() -> None:
    assert "the host that this server runs on" in find("host.docker.").reason
    static = Publication(
        "hosts:x:web", "", claims=(Claim("web", 10, "hosts file x", "hosts:x:web"),)
    )
    assert find("web.docker.", static).reason.startswith("it is in a hosts file")

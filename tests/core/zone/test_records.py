"""What stands at a name: order, lowest TTLs, preference, pointers, and whole zones."""

from typing import Any

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import records
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.records import Record
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Suffix, SuffixKind, Zone
from tests.reading_zones import in_zone

NOW = 1000.0
DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
LOCAL = Suffix("localdomain.", SuffixKind.SEARCH)
BARE = Suffix(".", SuffixKind.BARE)
SERVICES = {"_80._tcp": (80,)}


def publication(name: str, *addresses: str, owner: str = "", **more: Any) -> Publication:
    claim = Claim(owner or name, Rank.CONTAINER, "container name", name)
    pairs = [text.partition("@") for text in addresses]
    found = tuple(PublishedAddress(text, network, network) for text, _, network in pairs)
    return Publication(name, name, claims=(claim,), addresses=found, **more)


def a_zone(*publications: Publication, **changes: Any) -> Zone:
    made = Zone(Shape(**changes), 1, RememberedNames(60))
    for one in publications:
        made.replace(one.id, one, NOW)
    return made


def view(*networks: str, host: tuple[str, ...] = ("192.0.2.1",)) -> View:
    return View(True, True, True, False, frozenset(networks), host, host)


def at(zone: Zone, owner: str, seen_by: View | None = None) -> tuple[Record, ...]:
    node = zone.node(owner, DOCKER)
    assert node is not None
    return records.at_node(zone, f"{owner}.docker.", node, seen_by or view(), DOCKER)


def texts(found: Any) -> list[str]:
    return [messages.data_text(r.rtype, r.rdata) for r in found]


def test_addresses_stand_before_texts_and_ipv4_before_ipv6() -> None:
    zone = a_zone(publication("web", "fd00::1", "10.0.0.1", texts={"": ("t",)}))
    found = [messages.type_text(r.rtype) for r in at(zone, "web")]
    assert found == ["A", "AAAA", "TXT"]


def test_ttl_is_the_lowest_of_its_type() -> None:
    """RFC 2181 section 5.2."""
    zone = a_zone(
        publication("a", "10.0.0.1", owner="web", ttl=60),
        publication("b", "10.0.0.2", owner="web", ttl=7),
        publication("c", "fd00::1", owner="web", ttl=30),
    )
    assert {(r.rtype, r.ttl) for r in at(zone, "web")} == {(1, 7), (28, 30)}


def test_alias_of_several_has_the_lowest_of_their_ttls_and_the_first_ones_target() -> None:
    zone = a_zone(
        publication("b", owner="web", cname="x.example.", ttl=3),
        publication("a", owner="web", cname="y.example.", ttl=60),
    )
    [found] = at(zone, "web")
    assert (found.ttl, texts([found])) == (3, ["y.example."])


@pytest.mark.parametrize(
    ("networks", "own", "told"),
    [
        ((), (), ["10.0.0.1", "10.1.0.1"]),
        (("a",), (), ["10.0.0.1"]),
        (("a", "b"), (), ["10.0.0.1", "10.1.0.1"]),
        (("c",), (), ["10.0.0.1", "10.1.0.1"]),
        ((), ("b",), ["10.1.0.1"]),
        (("a",), ("b",), ["10.0.0.1"]),
        (("c",), ("b",), ["10.1.0.1"]),
    ],
)
def test_address_is_on_the_clients_network_else_on_ours_else_any(
    networks: tuple[str, ...], own: tuple[str, ...], told: list[str]
) -> None:
    """Contract, section 3."""
    zone = a_zone(publication("web", "10.0.0.1@a", "10.1.0.1@b"))
    zone.own_networks = frozenset(own)
    assert texts(at(zone, "web", view(*networks))) == told


def test_unhealthy_one_is_left_out_of_its_family_only() -> None:
    zone = a_zone(
        publication("a", "10.0.0.1", owner="web"),
        publication("b", "10.0.0.2", "fd00::2", owner="web", is_healthy=False),
    )
    assert texts(at(zone, "web")) == ["10.0.0.1", "fd00::2"]


def test_address_that_two_have_is_told_once() -> None:
    zone = a_zone(
        publication("a", "10.0.0.1", owner="web"), publication("b", "10.0.0.1", owner="web")
    )
    assert texts(at(zone, "web")) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("name", "domain", "target"),
    [
        ("web", "docker.", "web.docker."),
        ("n" * 60 + "." + "n" * 60, "d" * 63 + "." + "e" * 63 + ".docker.", None),
    ],
    ids=["the container name", "the id, if the name is too long"],
)
def test_pointer_leads_to_the_container_name(name: str, domain: str, target: str | None) -> None:
    one = Publication(
        "0123456789abcdef",
        name,
        claims=(Claim(name, Rank.CONTAINER, "container name", "0123456789abcdef"),),
        pointers=("10.0.0.1",),
    )
    zone = a_zone(one, domains=(domain,))
    [found] = records.pointer(zone, "1.0.0.10.in-addr.arpa.")
    assert texts([found]) == [target or f"0123456789ab.{domain}"]


def test_pointer_of_a_free_address_is_none() -> None:
    assert records.pointer(a_zone(), "1.0.0.10.in-addr.arpa.") == ()


@pytest.mark.parametrize(
    ("apex", "primary"),
    [
        ("docker.", "docker."),
        ("b.example.", "b.example."),
        ("corp.example.", "docker."),
        (".", "docker."),
    ],
)
def test_soa_names_the_server_of_its_own_domain_or_the_first(apex: str, primary: str) -> None:
    zone = a_zone(domains=("docker.", "b.example."), negative_ttl=3, ttl=9)
    zone.serial = 77
    found = records.soa(zone, apex)
    assert (found.name, found.ttl) == (apex, 3)
    ends = names.to_wire(f"ns.{primary}") + names.to_wire(f"hostmaster.{primary}")
    assert found.rdata.startswith(ends + (77).to_bytes(4))
    assert found.rdata.endswith((3).to_bytes(4))
    assert records.soa(zone, apex, 9).ttl == 9


def told(zone: Zone, suffix: Suffix) -> list[str]:
    found = in_zone(zone, suffix, view())
    return [f"{r.name} {messages.type_text(r.rtype)}" for r in found]


def test_whole_domain_has_its_apex_its_server_and_each_owner() -> None:
    zone = a_zone(publication("web", "10.0.0.1", services=SERVICES, is_wildcard=True))
    assert told(zone, DOCKER) == [
        "docker. SOA", "docker. NS", "ns.docker. A", "host.docker. A", "web.docker. A",
        "*.web.docker. A", "_80._tcp.web.docker. SRV",
    ]  # fmt: skip


def test_whole_search_domain_and_root_have_what_is_answered_there() -> None:
    zone = a_zone(publication("web", "10.0.0.1"), publication("a.b", "10.0.0.2"))
    assert [t for t in told(zone, LOCAL) if t.endswith(" A")] == [
        "a.b.localdomain. A",
        "host.localdomain. A",
        "web.localdomain. A",
    ]
    assert [t for t in told(zone, BARE) if t.endswith(" A")] == ["host. A", "web. A"]


def test_absolute_name_is_told_in_the_zone_above_it_once() -> None:
    zone = a_zone(
        publication("a", "10.0.0.1", owner="x.docker."),
        publication("b", "10.0.0.2", owner="y.docker."),
        publication("c", "10.0.0.3", owner="y"),
        publication("d", "10.0.0.4", owner="z.example."),
    )
    assert told(zone, DOCKER)[4:] == ["x.docker. A", "y.docker. A", "y.docker. A"]
    assert "z.example. A" in told(zone, BARE)
    assert "z.example. A" not in told(zone, DOCKER)


def test_absolute_name_below_a_suffix_is_in_its_zone_alone() -> None:
    """The whole zone is shown as all zones together, which has each record once."""
    zone = a_zone(
        publication("a", "10.0.0.1", owner="x.docker."),
        publication("b", "10.0.0.2", owner="web.localdomain."),
        publication("c", "10.0.0.3", owner="docker"),
        publication("d", "10.0.0.4", owner="localdomain."),
    )
    found = [t for suffix in (DOCKER, LOCAL, BARE) for t in told(zone, suffix) if t.endswith(" A")]
    assert found == [
        "docker. A", "ns.docker. A", "docker.docker. A", "host.docker. A", "x.docker. A",
        "docker.localdomain. A", "host.localdomain. A", "web.localdomain. A",
        "host. A", "localdomain. A",
    ]  # fmt: skip


def test_name_that_is_too_long_below_a_suffix_is_left_out_there() -> None:
    long = ".".join(["n" * 60] * 4)
    zone = a_zone(publication("a", "10.0.0.1", owner=long), domains=("docker.", "d" * 20 + "."))
    assert f"{long}.docker. A" in told(zone, DOCKER)
    assert told(zone, Suffix("d" * 20 + ".", SuffixKind.DOMAIN))[3:] == [f"host.{'d' * 20}. A"]


def test_of_any_the_first_type_is_given() -> None:
    """RFC 8482 section 4.1."""
    zone = a_zone(publication("web", "10.0.0.1", "10.0.0.2", "fd00::1"))
    assert texts(records.of_type(at(zone, "web"), messages.ANY)) == ["10.0.0.1", "10.0.0.2"]
    assert records.of_type((), messages.ANY) == ()


def test_host_is_told_with_the_ttl_of_all() -> None:
    zone = a_zone(ttl=77)
    node = zone.node("host", DOCKER)
    assert node is not None
    [found] = records.at_node(zone, "host.docker.", node, view(), DOCKER)
    assert found.ttl == 77


def test_unhealthy_keep_their_place_if_they_are_kept() -> None:
    """`--unhealthy keep`: the order is that of preference, as if all were well."""
    found = [
        Publication(
            name,
            name,
            claims=(Claim("web", Rank.CONTAINER, "container name", name),),
            addresses=(PublishedAddress(address, "", "", preference),),
            is_healthy=is_healthy,
        )
        for name, address, preference, is_healthy in (
            ("a", "10.0.0.1", 1, True),
            ("b", "10.0.0.2", 0, False),
        )
    ]
    assert texts(at(a_zone(*found, unhealthy="keep"), "web")) == ["10.0.0.2", "10.0.0.1"]
    assert texts(at(a_zone(*found), "web")) == ["10.0.0.1"]


@pytest.mark.parametrize("bare_names", [True, False])
def test_container_called_like_a_domain_has_its_apex_only_with_bare_names(bare_names: bool) -> None:
    """The bare name of the container `docker` is the apex of the domain `docker`."""
    zone = a_zone(publication("docker", "10.0.0.1"), bare_names=bare_names)
    found = [messages.type_text(r.rtype) for r in records.at_apex(zone, "docker.", view())]
    assert found == ["SOA", "NS", *["A"] * bare_names]


def test_answer_about_a_text_has_those_of_all_who_share_a_name() -> None:
    """Each of very many containers may have another text, up to the largest answer."""
    count = records.MANY_HOLDERS + 1
    shared = [publication(f"r{n}", owner="web", texts={"": (f"t{n}",)}) for n in range(count)]
    zone = a_zone(*shared)
    node = zone.node("web", DOCKER)
    assert node is not None
    part = records.some_of(zone, node, view(), messages.TXT, lambda: 0)
    assert len(part.node.holders) == records.MAX_OF_TYPE
    assert not part.is_whole


def test_container_holds_nothing_at_a_name_that_it_lost() -> None:
    """Another container is called as its Compose service is; /zone shows the loss."""
    loser = Publication(
        "loser",
        "loser",
        claims=(
            Claim("loser", Rank.CONTAINER, "container name", "loser"),
            Claim("web", Rank.DERIVED, "Compose service", "loser"),
        ),
        addresses=(PublishedAddress("10.0.0.2", "n", "n"),),
    )
    zone = a_zone(publication("web", "10.0.0.1"), loser)
    held = [found.claim.owner for found in records.held_by(zone, loser, view())]
    assert held == ["loser"]


def test_domain_localhost_has_no_container_of_that_name_at_its_apex() -> None:
    """RFC 6761 section 6.3: `localhost` is loopback, whatever containers are called."""
    zone = a_zone(publication("localhost", "10.0.0.1"), domains=("localhost.",))
    found = [messages.type_text(r.rtype) for r in records.at_apex(zone, "localhost.", view())]
    assert found == ["SOA", "NS"]

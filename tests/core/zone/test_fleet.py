"""Publications of other hosts: documents that come back, and addresses that lead somewhere."""

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.zone.containers import Network
from containerdns.core.zone.fleet import (
    BEHIND_OWN,
    Host,
    Placement,
    Together,
    base_document,
    base_for,
    base_of,
    document_of,
    host_of,
    placed,
    remote_of,
    serial_at,
    shared_subnets,
    subnets_of,
)
from containerdns.core.zone.policy import (
    Claim,
    Publication,
    PublishedAddress,
    Rank,
    with_host_names,
)
from containerdns.errors import BadDocument

WEB = with_host_names(
    Publication(
        id="0" * 64,
        container_name="web",
        claims=(
            Claim("web", Rank.CONTAINER, "container name", "0" * 64, is_asked_for=True),
            Claim("web.front", Rank.DERIVED, "container name on a network", "0" * 64, network="n1"),
            Claim("db", Rank.DERIVED, "Compose service", "0" * 64, project="shop"),
            Claim("web.example.", Rank.LABEL, "label containerdns.fqdns", "0" * 64),
        ),
        addresses=(
            PublishedAddress("172.17.0.2", "bridge", "n1"),
            PublishedAddress("10.9.0.2", "back", "n2"),
        ),
        texts={"": ("hello",), "key": ("v",)},
        services={"_80._tcp": (80,)},
        pointers=("172.17.0.2", "10.9.0.2"),
        project="shop",
    ),
    "a",
)
PUBLISHED = {"_80._tcp": (8080,)}
A = Host("a", ("192.0.2.1",), ("172.17.0.0/16", "10.9.0.0/24"))
B = Host("b", ("192.0.2.2",), ("172.17.0.0/16",))


def remote(publication: Publication = WEB, published: Any = None) -> Any:
    document = json.loads(json.dumps(document_of(publication, published)))
    return remote_of("a", "0" * 64, document)


def test_publication_comes_back_from_its_document() -> None:
    found = remote().publication
    there = found.id
    assert there == f"fleet:a/{'0' * 64}"
    expected = replace(
        WEB,
        id=there,
        engine="fleet:a/1",
        claims=tuple(c._replace(publication=there) for c in WEB.claims),
        addresses=tuple(a._replace(preference=BEHIND_OWN) for a in WEB.addresses),
    )
    assert found == expected


def test_document_has_nothing_that_names_do_not_need() -> None:
    """No environment, no labels, no path of a socket."""
    assert set(document_of(WEB, None)) == {
        *("version", "name", "running", "healthy", "ttl", "claims", "asked_for", "addresses"),
        *("on_host", "cname", "texts", "services", "published", "wildcard", "pointers"),
        *("skipped", "project", "engine"),
    }


def test_host_names_of_a_proxy_stay_with_its_own_server() -> None:
    """Elsewhere they would lead to the container itself."""
    proxied = Claim("shop.docker.", Rank.LABEL, "host name of traefik", "a", proxy="traefik")
    document = document_of(replace(WEB, claims=(*WEB.claims, proxied)), None)
    assert document == document_of(WEB, None)


def test_single_labels_are_below_the_host_as_well() -> None:
    owners = [claim.owner for claim in WEB.claims]
    assert owners == ["web", "web.front", "db", "web.example.", "web.a", "db.a"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(document_of(WEB, PUBLISHED))), json_values)
def test_any_value_in_any_field_gives_a_publication_or_a_bad_document(
    field: str, value: object
) -> None:
    document = document_of(WEB, PUBLISHED) | {field: value}
    try:
        found = remote_of("a", "0" * 64, document)
    except BadDocument:
        return
    assert found.publication.engine.startswith("fleet:a/")


@pytest.mark.parametrize("document", [None, [], {}, {"version": 2}], ids=str)
def test_document_of_another_kind_is_bad(document: object) -> None:
    with pytest.raises(BadDocument):
        remote_of("a", "x", document)
    with pytest.raises(BadDocument):
        host_of("a", document)


def test_host_comes_back_from_its_document() -> None:
    assert host_of("a", json.loads(json.dumps(A.document()))) == A


def test_host_is_lost_with_all_its_engines_and_each_of_them_counts_for_itself() -> None:
    some, every = (replace(A, engines=("1", "2"), lost=lost) for lost in (("2",), ("1", "2")))
    assert (A.is_lost, some.is_lost, every.is_lost) == (False, False, True)
    assert Together.of([some, B]).lost == {"fleet:a/2"}
    assert remote_of("a", "0", document_of(WEB, None, "2")).publication.engine == "fleet:a/2"
    assert host_of("a", json.loads(json.dumps(some.document()))) == some


def test_subnet_that_two_hosts_have_is_shared_and_one_host_shares_none() -> None:
    assert shared_subnets((A, B)) == ("172.17.0.0/16",)
    assert shared_subnets((A,)) == ()
    wider = Host("c", (), ("10.0.0.0/8",))
    assert shared_subnets((A, wider)) == ("10.0.0.0/8", "10.9.0.0/24")


def test_only_bridges_count_as_subnets_of_a_host() -> None:
    """An overlay is one network on all hosts."""
    networks = [
        Network("1", "bridge", "e", "bridge", ("172.17.0.0/16",), ()),
        Network("2", "over", "e", "overlay", ("10.0.1.0/24",), ()),
    ]
    assert subnets_of(networks, "bridge") == ("172.17.0.0/16",)


def addresses(publication: Publication) -> list[str]:
    return [address.text for address in publication.addresses]


def test_address_in_a_shared_subnet_is_left_out_of_those_that_lead_somewhere() -> None:
    found = placed(remote(), A, shared_subnets((A, B)), "auto")
    assert addresses(found) == ["10.9.0.2"]
    assert found.pointers == ("10.9.0.2",)
    assert addresses(placed(remote(), A, (), "auto")) == ["172.17.0.2", "10.9.0.2"]


def test_container_in_shared_subnets_alone_has_its_hosts_address_and_ports() -> None:
    shared = ("172.17.0.0/16", "10.9.0.0/24")
    found = placed(remote(published=PUBLISHED), A, shared, "auto")
    assert addresses(found) == ["192.0.2.1"]
    assert found.services == PUBLISHED
    assert found.pointers == ()
    assert found.is_running


def test_container_that_nobody_can_reach_is_left_out_with_the_reason() -> None:
    found = placed(remote(), A, ("172.17.0.0/16", "10.9.0.0/24"), "auto")
    assert not found.is_running
    assert "publishes no port on its host a" in found.skipped


def test_operator_may_choose_one_way_for_all() -> None:
    shared = ("172.17.0.0/16",)
    assert len(addresses(placed(remote(), A, shared, "container"))) == 2
    assert addresses(placed(remote(published=PUBLISHED), A, (), "host")) == ["192.0.2.1"]
    assert not placed(remote(), A, (), "host").is_running


def test_container_on_the_network_of_its_host_has_that_hosts_address() -> None:
    on_host = replace(WEB, addresses=(), on_host=True, pointers=())
    assert addresses(placed(remote(on_host), A, (), "auto")) == ["192.0.2.1"]


def test_serial_follows_the_clock_at_first_and_the_last_one_ever_after() -> None:
    """RFC 1982; also when etcd is another one, whose revisions start over."""
    now = 1_800_000_000.0
    base = base_for(0, now, revision=500)
    assert serial_at(base, 500) == 1_800_000_000
    assert serial_at(base, 501) == 1_800_000_001
    ahead = serial_at(base, 100_000)
    assert serial_at(base_for(ahead, now, revision=3), 3) == ahead + 1
    assert base_of(json.loads(json.dumps(base_document(base)))) == base


@pytest.mark.parametrize("document", [None, {}, {"version": 1, "base": "x"}, {"version": 2}])
def test_base_that_cannot_be_read_is_a_bad_document(document: object) -> None:
    with pytest.raises(BadDocument):
        base_of(document)


subnets = st.sampled_from(
    [
        *("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.3.0/24", "172.17.0.0/16"),
        *("172.17.1.0/24", "fd00::/16", "fd00:1::/32"),
    ]
)
fleets = st.lists(st.lists(subnets, max_size=4), max_size=5)


@given(fleets)
def test_shared_subnets_are_those_that_overlap_with_another_hosts(found: list[list[str]]) -> None:
    hosts = [Host(str(number), (), tuple(subnets)) for number, subnets in enumerate(found)]
    pairs = [(host.name, ip_network(text)) for host in hosts for text in host.subnets]
    expected = {
        str(subnet)
        for name, subnet in pairs
        for other, its in pairs
        if name != other and its.version == subnet.version and its.overlaps(subnet)
    }
    assert shared_subnets(hosts) == tuple(sorted(expected))


actions = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["host", "other", "gone", "1", "2", "-1"])),
    max_size=12,
)


@given(actions)
def test_placement_follows_from_the_documents_and_not_from_their_order(
    done: list[tuple[str, str]],
) -> None:
    """The result of the changes is that of reading the final documents."""
    changing, known = Placement("auto"), dict[str, Publication]()
    hosts: dict[str, Host] = {}
    containers: dict[tuple[str, str], Any] = {}
    for name, action in done:
        if action in ("host", "other"):
            subnet = "172.17.0.0/16" if action == "host" else f"10.{ord(name)}.0.0/16"
            hosts[name] = Host(name, (f"192.0.2.{ord(name)}",), (subnet,))
            changes = changing.set_hosts((hosts[name],))
        elif action == "gone":
            hosts.pop(name, None)
            changes = changing.remove_host(name)
        elif action.startswith("-"):
            containers.pop((name, action[1:]), None)
            changes = changing.remove(name, action[1:])
        else:
            document = json.loads(json.dumps(document_of(WEB, PUBLISHED)))
            containers[name, action] = remote_of(name, action, document)
            changes = changing.set(name, action, containers[name, action])
        for publication_id, publication in changes:
            known.pop(publication_id, None)
            if publication is not None:
                known[publication_id] = publication
    anew = Placement("auto")
    expected = dict(anew.set_hosts(hosts.values()))
    for (name, container), found in containers.items():
        expected |= dict(anew.set(name, container, found))
    assert known == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("claims", [["we b" * 40, 0, "r", "", ""]]),
        ("claims", [["WEB", 0, "r", "", ""]]),
        ("claims", [["a..b", 0, "r", "", ""]]),
        ("services", {"_80._tcp": [65536]}),
        ("texts", {"x" * 64: ["text"]}),
        ("addresses", [[1, "front", "n1"]]),
        ("ttl", float("inf")),
        ("cname", "no..name."),
    ],
)
def test_document_with_what_cannot_be_published_is_bad(field: str, value: object) -> None:
    """It must not become a fault of the zone later."""
    with pytest.raises(BadDocument):
        remote_of("a", "x", document_of(WEB, PUBLISHED) | {field: value})

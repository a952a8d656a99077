"""Host names in the labels of reverse proxies, and whose address they get."""

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import master_file
from containerdns.core.zone.answers import Lookup, find
from containerdns.core.zone.containers import Attachment, Container, container_from_inspect
from containerdns.core.zone.inventory import Inventory
from containerdns.core.zone.ownership import Act, Listing, Ownership
from containerdns.core.zone.policy import Policy, publish
from containerdns.core.zone.proxy_labels import (
    caddy_hosts,
    hosts_of,
    kinds_of,
    nginx_hosts,
    traefik_hosts,
)
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Zone

ENGINE = "unix:///e"
NOW = 1_800_000_000.0
VIEW = View(True, True, True, False, frozenset(), ())
POLICY = Policy(
    suffixes=("docker.", "corp.example."), proxy_labels=True, proxy_domains=("apps.example.",)
)


@pytest.mark.parametrize(
    ("rule", "hosts"),
    [
        ("Host(`a.docker`)", ["a.docker"]),
        ("Host(`a.docker`) || Host(`b.docker`)", ["a.docker", "b.docker"]),
        ("Host(`a.docker`, `b.docker`)", ["a.docker", "b.docker"]),
        ('Host("a.docker") && PathPrefix("/x")', ["a.docker"]),
        ("(Host(`a.docker`) && Path(`/`)) || (Host(`b.docker`))", ["a.docker", "b.docker"]),
        ("HostSNI(`a.docker`)", ["a.docker"]),
        ("HostSNI(`*`)", []),
        ("HostRegexp(`^.+\\.docker$`)", []),
        ("HostHeader(`a.docker`)", []),
        ("!Host(`a.docker`)", []),
        ("Host(`a.docker`) && !(Host(`b.docker`))", ["a.docker"]),
        ("Path(`Host(a.docker)`)", []),
        ('Header("Host(`a.docker`)", "x")', []),
        ("host( ` a.docker ` )", ["a.docker"]),
        ("Host(`a.docker", []),
        ("Host(a.docker)", []),
        ("))((Host(`a.docker`)", ["a.docker"]),
        ("", []),
    ],
)
def test_hosts_of_a_traefik_rule(rule: str, hosts: list[str]) -> None:
    """doc.traefik.io: v3 has one name a matcher, v2 several; double quotes do as well."""
    assert list(traefik_hosts(rule)) == hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a.docker", ["a.docker"]),
        ("a.docker, b.docker", ["a.docker", "b.docker"]),
        ("a.docker b.docker", ["a.docker", "b.docker"]),
        ("http://a.docker:8080/x https://b.docker", ["a.docker", "b.docker"]),
        ("a.docker:443", ["a.docker"]),
        (":80", []),
        ("(snippet)", []),
        ("", []),
        ("http://[fd00::1]:80", []),
    ],
)
def test_hosts_of_a_caddy_address(text: str, hosts: list[str]) -> None:
    assert list(caddy_hosts(text)) == hosts


def test_hosts_of_nginx_proxy_are_separated_by_commas() -> None:
    assert list(nginx_hosts(" a.docker , b.docker:8080,,")) == ["a.docker", "b.docker"]


def test_every_source_is_read() -> None:
    labels = {
        "traefik.http.routers.web.rule": "Host(`t.docker`)",
        "traefik.tcp.routers.web.rule": "HostSNI(`s.docker`)",
        "traefik.http.routers.web.service": "Host(`no.docker`)",
        "caddy": "c.docker",
        "caddy_0": "c0.docker",
        "caddy.reverse_proxy": "no.docker",
    }
    found = [(h.kind, h.host) for h in hosts_of(labels, "n.docker")]
    assert found == [
        ("traefik", "t.docker"),
        ("traefik", "s.docker"),
        ("caddy", "c.docker"),
        ("caddy", "c0.docker"),
        ("nginx-proxy", "n.docker"),
    ]


def test_container_that_traefik_leaves_out_has_no_host() -> None:
    labels = {"traefik.enable": "false", "traefik.http.routers.w.rule": "Host(`a.docker`)"}
    assert list(hosts_of(labels, "")) == []


LABELS = st.sampled_from(
    ["traefik.http.routers.a.rule", "traefik.tcp.routers.b.rule", "caddy", "caddy_7"]
)
RULES = st.text(st.sampled_from('Host(`"a.docker*~!)|&, \\:/\0é{}^'), max_size=60) | st.text()


@given(st.dictionaries(LABELS, RULES), RULES)
def test_any_label_costs_its_own_container_at_most(labels: dict[str, str], variable: str) -> None:
    """No text raises, and all resulting names are below served suffixes."""
    web = replace(container("web", labels=labels), virtual_host=variable)
    inventory = Inventory(replace(POLICY, proxy_addresses=("192.0.2.1",)))
    (publication,) = inventory.put(web)
    assert {host.kind for host in hosts_of(labels, variable)} <= set(kinds_of(labels, variable))
    for claim in publication.claims:
        if claim.proxy:
            above = names.parents(claim.owner)
            allowed = ("docker.", "corp.example.", "apps.example.")
            assert claim.owner == "apps.example." or set(above) & set(allowed)
    assert "web" in {claim.owner for claim in publication.claims}


# -- whose address ----------------------------------------------------------------------------


def container(name: str, address: str = "10.0.0.9", **fields: Any) -> Container:
    labels = fields.pop("labels", {})
    at = (Attachment("front", "id-front", (address,)),)
    fields = {"attachments": at, "docker_labels": labels, **fields}
    return Container(name.encode().hex().ljust(64, "0"), name, ENGINE, "running", **fields)


TRAEFIK = container("edge", "10.0.0.2", labels={"containerdns.proxy": "traefik"})
WEB = container(
    "web",
    labels={
        "traefik.http.routers.web.rule": "Host(`shop.docker`) || Host(`shop.corp.example`) || "
        "Host(`shop.apps.example`) || Host(`www.example.com`) || Host(`shop`)",
        "containerdns.txt": "text",
    },
)


class World:
    """An inventory and its zone."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.inventory = Inventory(policy)
        self.zone = Zone(
            Shape(domains=("docker.",), search_domains=("corp.example.",)), 1, RememberedNames(60)
        )
        self.ownership = Ownership(self.zone)
        self.ownership.listing = Listing.COMPLETE

    def put(self, one: Container) -> set[str]:
        """Put a container; return who was published."""
        changes = self.inventory.put(one)
        for publication in changes:
            self.zone.replace(publication.id, publication, NOW)
        return {publication.container_name for publication in changes}

    def remove(self, one: Container) -> None:
        changes = self.inventory.remove(one.id)
        self.zone.replace(one.id, None, NOW)
        for publication in changes:
            self.zone.replace(publication.id, publication, NOW)

    def ask(self, name: str, qtype: int = messages.A) -> list[str]:
        decision = self.ownership.decide(name, qtype, NOW)
        if decision.act is not Act.ZONE:
            return [decision.act.value]
        answer = find(self.zone, Lookup(name, qtype, VIEW), decision.suffix)
        if answer.rcode:
            return ["nxdomain"]
        return [master_file.data_text(r.rtype, r.rdata) for r in answer.records]


def test_host_name_is_answered_with_the_address_of_the_proxy() -> None:
    world = World()
    world.put(WEB)
    assert world.ask("shop.docker.") == ["nxdomain"], "there is no proxy yet"
    assert world.put(TRAEFIK) == {"edge", "web"}
    for name in ("shop.docker.", "shop.corp.example.", "shop.apps.example."):
        assert world.ask(name) == ["10.0.0.2"]
    assert world.ask("shop.docker.", messages.TXT) == []
    assert world.ask("web.docker.") == ["10.0.0.9"]


def test_public_name_and_bare_name_are_never_taken() -> None:
    world = World()
    world.put(TRAEFIK)
    world.put(WEB)
    assert world.ask("www.example.com.") == ["forward"]
    assert world.ask("shop.") == ["nxdomain"]
    assert world.ask("shop.docker.corp.example.") == ["nxdomain"]


def test_new_address_of_the_proxy_costs_those_who_depend_on_it() -> None:
    world = World()
    for one in (TRAEFIK, WEB, container("other", "10.0.0.7")):
        world.put(one)
    moved = Attachment("front", "id-front", ("10.0.0.3",))
    assert world.put(replace(TRAEFIK, attachments=(moved,))) == {"edge", "web"}
    assert world.ask("shop.docker.") == ["10.0.0.3"]
    sick = replace(TRAEFIK, attachments=(moved,), health="unhealthy")
    assert world.put(sick) == {"edge"}, "an event that moves nothing costs nobody else"


def test_names_go_with_the_container_or_the_proxy_and_stay_ours() -> None:
    world = World()
    world.put(TRAEFIK)
    world.put(WEB)
    world.remove(TRAEFIK)
    assert world.ask("shop.corp.example.") == ["nxdomain"], "remembered, never forwarded"
    world.put(TRAEFIK)
    assert world.ask("shop.corp.example.") == ["10.0.0.2"]
    world.remove(WEB)
    assert world.ask("shop.corp.example.") == ["nxdomain"]
    assert world.ask("shop.apps.example.") == ["nxdomain"]


def test_proxy_address_serves_where_no_container_is_labelled() -> None:
    world = World(replace(POLICY, proxy_addresses=("192.0.2.7",)))
    world.put(WEB)
    assert world.ask("shop.docker.") == ["192.0.2.7"]
    world.put(TRAEFIK)
    assert world.ask("shop.docker.") == ["10.0.0.2"]


def test_nothing_is_published_without_the_option() -> None:
    world = World(replace(POLICY, proxy_labels=False))
    world.put(TRAEFIK)
    world.put(WEB)
    assert world.ask("shop.docker.") == ["nxdomain"]


def test_option_that_is_turned_on_at_a_reload_is_followed() -> None:
    world = World(replace(POLICY, proxy_labels=False))
    world.put(TRAEFIK)
    world.put(WEB)
    world.inventory.policy = POLICY
    publication = world.inventory.publication(WEB.id)
    assert publication is not None
    world.zone.replace(WEB.id, publication, NOW)
    assert world.ask("shop.docker.") == ["10.0.0.2"]


@pytest.mark.parametrize("text", ["*.shop.docker", "~^shop\\..*", "shop.*"])
def test_pattern_is_left_out_and_reported(text: str) -> None:
    world = World(replace(POLICY, proxy_addresses=("192.0.2.7",)))
    world.put(replace(container("web"), virtual_host=text))
    publication = world.zone.publication(container("web").id)
    assert publication is not None
    assert publication.faults == ((f"VIRTUAL_HOST: {text}", "a pattern is not a host name"),)
    assert not any(claim.proxy for claim in publication.claims)


def test_unknown_proxy_is_reported() -> None:
    made = publish(container("web", labels={"containerdns.proxy": "haproxy"}), POLICY)
    assert made.faults == (
        ("containerdns.proxy=haproxy", "expected one of traefik, caddy, nginx-proxy"),
    )


def test_of_the_environment_one_variable_is_kept() -> None:
    """Others may be secrets."""
    document = {
        "Id": "0" * 64,
        "Name": "/web",
        "State": {"Status": "running"},
        "Config": {"Env": ["PASSWORD=secret", "VIRTUAL_HOST=a.docker,b.docker", 7]},
    }
    made = container_from_inspect(document, ENGINE)
    assert made.virtual_host == "a.docker,b.docker"
    assert "secret" not in repr(made)


@pytest.mark.parametrize(
    "rule", ['Host(`a`) || Path("/\\"Host(`b`)', "Host(`a`) && Path(`/Host('b')"]
)
def test_nothing_is_read_behind_a_literal_that_does_not_end(rule: str) -> None:
    """Its end was looked for at each quote in it: 8 KB of them took half a second."""
    assert list(traefik_hosts(rule)) == ["a"]


@pytest.mark.parametrize("part", ['\\"', "`", '"', "(", "Host(`a`)||"])
def test_rule_costs_what_its_length_is(part: str) -> None:
    """A quarter of a rule costs a quarter, not a sixteenth; minima, so that pauses do not count."""

    def cost(count: int) -> float:
        rule = '"' * (part == '\\"') + part * count
        found = []
        for _ in range(5):
            begun = time.process_time()
            for _ in range(8000 // count):
                list(traefik_hosts(rule))
            found.append(time.process_time() - begun)
        return min(found)

    assert cost(4000) < 3 * cost(500) + 0.005

"""Which containers share a network, and what a change of one means for others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerdns.core.zone.containers import Attachment, Container, Network
from containerdns.core.zone.inventory import Inventory
from containerdns.core.zone.policy import Policy, Publication
from tests.fuzz.generating import containers

VPN, SIDE, INNER = "a" * 64, "b" * 64, "c" * 64


def container(container_id: str, mode: str = "bridge", **changes: Any) -> Container:
    attachments = () if ":" in mode else (Attachment("n", "n", (f"10.0.0.{len(changes) + 1}",)),)
    values: dict[str, Any] = {"attachments": attachments, "state": "running", **changes}
    return Container(container_id, container_id[:4], "e", network_mode=mode, **values)


def addresses(found: list[Publication]) -> dict[str, list[str]]:
    return {p.container_name: [a.text for a in p.addresses] for p in found if p.is_running}


def test_same_news_twice_changes_nothing() -> None:
    made = Inventory(Policy())
    assert len(made.put(container(VPN))) == 1
    assert made.put(container(VPN)) == []


def test_sidecar_follows_its_lender() -> None:
    made = Inventory(Policy())
    assert addresses(made.put(container(SIDE, f"container:{VPN}"))) == {"bbbb": []}
    assert addresses(made.put(container(VPN))) == {"aaaa": ["10.0.0.1"], "bbbb": ["10.0.0.1"]}
    assert addresses(made.die(VPN)) == {"bbbb": []}
    moved = container(VPN, attachments=(Attachment("m", "m", ("10.9.0.1",)),))
    assert addresses(made.put(moved)) == {"aaaa": ["10.9.0.1"], "bbbb": ["10.9.0.1"]}
    assert addresses(made.remove(VPN)) == {"bbbb": []}


def test_sidecar_of_a_sidecar_follows_too() -> None:
    made = Inventory(Policy())
    made.put(container(INNER, f"container:{SIDE}"))
    made.put(container(SIDE, f"container:{VPN}"))
    found = addresses(made.put(container(VPN)))
    assert found == {"aaaa": ["10.0.0.1"], "bbbb": ["10.0.0.1"], "cccc": ["10.0.0.1"]}
    assert addresses(made.remove(VPN)) == {"bbbb": [], "cccc": []}


def test_containers_that_share_in_a_circle_have_no_address() -> None:
    """An Engine does not allow it; a hostile one may say so."""
    made = Inventory(Policy())
    made.put(container(SIDE, f"container:{INNER}"))
    found = addresses(made.put(container(INNER, f"container:{SIDE}")))
    assert found == {"cccc": [], "bbbb": []}
    assert addresses(made.put(container(VPN, f"container:{VPN}"))) == {"aaaa": []}


def test_container_that_stops_sharing_is_no_borrower_any_more() -> None:
    made = Inventory(Policy())
    made.put(container(VPN))
    made.put(container(SIDE, f"container:{VPN}"))
    made.put(container(SIDE))
    assert addresses(made.die(VPN)) == {}


def test_death_of_an_unknown_or_dead_container_changes_nothing() -> None:
    made = Inventory(Policy())
    assert made.die(VPN) == []
    assert made.remove(VPN) == []
    made.put(container(VPN, state="exited"))
    assert made.die(VPN) == []


def test_dead_container_keeps_its_names_and_loses_its_addresses() -> None:
    made = Inventory(Policy())
    made.put(container(VPN))
    [found] = made.die(VPN)
    assert not found.is_running
    assert {"aaaa", "aaaa.n"} <= {claim.owner for claim in found.claims}
    assert found.addresses == ()


def test_container_that_can_be_read_again_is_not_unreadable() -> None:
    made = Inventory(Policy())
    made.unreadable[VPN] = ("aaaa", "State")
    made.put(container(VPN))
    assert made.unreadable == {}
    made.unreadable[VPN] = ("aaaa", "State")
    made.remove(VPN)
    assert made.unreadable == {}


def test_networks_that_no_listing_showed_are_known_from_containers() -> None:
    made = Inventory(Policy())
    attachment = Attachment("n", "id", ("10.0.0.2",), ("10.0.0.0/24",), ("10.0.0.1",))
    there = container(VPN, attachments=(attachment,))
    made.put(there)
    assert made.has_unlisted_network(there)
    assert [(n.id, n.driver) for n in made.networks()] == [("id", "")]
    made.set_networks("e", [Network("id", "n", "e", "bridge", ("10.0.0.0/24",))])
    assert not made.has_unlisted_network(there)
    assert [(n.id, n.driver) for n in made.networks()] == [("id", "bridge")]


def test_gateway_that_the_network_does_not_show_is_known_from_containers() -> None:
    """Otherwise any client behind Docker's proxy counts as one on that network."""
    made = Inventory(Policy())
    made.set_networks("e", [Network("id", "n", "e", "bridge", ("10.0.0.0/24",))])
    attachment = Attachment("n", "id", ("10.0.0.2",), ("10.0.0.0/24",), ("10.0.0.1",))
    there = container(VPN, attachments=(attachment,))
    assert made.has_unknown_gateway(there)
    made.put(there)
    assert not made.has_unknown_gateway(there)
    assert [n.gateways for n in made.networks()] == [("10.0.0.1",)]
    made.set_networks("e", [Network("id", "n", "e", "bridge", ("10.0.0.0/24",), ("10.0.0.1",))])
    assert [n.gateways for n in made.networks()] == [("10.0.0.1",)]


def test_publications_anew_follow_the_policy() -> None:
    made = Inventory(Policy())
    made.put(container(VPN))
    made.policy = replace(made.policy, expose_by_default=False)
    assert [p.is_running for p in map(made.publication, [c.id for c in made]) if p] == [False]


SERVICE = "service:s1"


def task(**labels: str) -> Container:
    told = {"com.docker.swarm.service.id": "s1", "com.docker.swarm.service.name": "web"}
    return container(SIDE, docker_labels={**told, **labels})


def service(**labels: str) -> Container:
    named = {f"containerdns.{key}": value for key, value in labels.items()}
    return replace(container(SERVICE, docker_labels=named), container_name="web")


def test_service_that_is_not_published_takes_its_tasks_with_it() -> None:
    """`deploy: labels:` of a Compose file, and `docker service create --label`, label it alone."""
    made = Inventory(Policy())
    made.put(task())
    found = {p.id: p.skipped for p in made.put(service(enable="false"))}
    assert found == {
        SERVICE: "label containerdns.enable=false",
        SIDE: "label containerdns.enable=false of the service web",
    }
    assert [p.skipped for p in made.put(service(enable="true"))] == ["", ""]
    made.put(service(enable="false"))
    assert [(p.id, p.skipped) for p in made.remove(SERVICE)] == [(SIDE, "")]


def test_task_that_comes_later_follows_its_service_too() -> None:
    made = Inventory(Policy(expose_by_default=False))
    made.put(service(enable="true"))
    [found] = made.put(task())
    assert found.skipped == ""
    assert found.is_running


def test_label_of_the_task_itself_goes_before_that_of_its_service() -> None:
    made = Inventory(Policy())
    made.put(service(enable="false", ttl="7"))
    [found] = made.put(task(**{"containerdns.enable": "true"}))
    assert (found.skipped, found.ttl) == ("", 5)


def test_service_with_an_odd_label_hides_its_tasks() -> None:
    """As a container's own label does; an empty one is as good as none."""
    made = Inventory(Policy())
    made.put(service(enable="perhaps"))
    [found] = made.put(task())
    assert found.skipped.startswith("label containerdns.enable=perhaps of the service")
    made = Inventory(Policy())
    made.put(service(enable=""))
    [found] = made.put(task())
    assert found.is_running


@pytest.mark.parametrize(
    ("side", "web", "is_left"),
    [
        (20.0, 10.0, False),
        (10.0, 10.0, False),
        (10.0, 20.0, True),
        (0.0, 20.0, False),
        (10.0, 0.0, False),
    ],
    ids=["started after", "at once", "before", "not known", "lender's not known"],
)
def test_sharer_has_no_address_once_its_lender_was_restarted(
    side: float, web: float, is_left: bool
) -> None:
    """It sits in the former network namespace, which has a loopback interface alone."""
    made = Inventory(Policy())
    made.put(container(VPN, started_at=web))
    [found] = made.put(container(SIDE, f"container:{VPN}", started_at=side))
    assert found.is_running
    assert bool(found.addresses) is not is_left
    [again] = made.put(container(SIDE, f"container:{VPN}", started_at=30.0))
    assert again.addresses


def test_lender_that_is_restarted_takes_the_address_from_its_sharers() -> None:
    made = Inventory(Policy(host_mode=True))
    made.put(container(VPN, started_at=10.0))
    [side] = made.put(container(SIDE, f"container:{VPN}", started_at=11.0))
    assert side.on_host
    left = made.put(container(VPN, started_at=20.0))[-1]
    assert (left.id, left.on_host, left.addresses) == (SIDE, False, ())


def test_sharer_of_the_hosts_network_stays_in_it() -> None:
    made = Inventory(Policy())
    made.put(container(VPN, "host", attachments=(), started_at=20.0))
    [found] = made.put(container(SIDE, f"container:{VPN}", started_at=10.0))
    assert found.on_host


@given(containers, st.lists(containers, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_death_publishes_what_the_rules_say_whatever_was_published_before(
    dying: Any, others: list[Any], has_proxies: bool
) -> None:
    """It needs no rules: a redeploy of very many containers would otherwise apply them twice."""
    policy = Policy(proxy_labels=has_proxies, proxy_domains=("example.",))
    zone: dict[str, Publication] = {}
    quick, thorough = Inventory(policy, zone.get), Inventory(policy)
    for container in (*others, replace(dying, state="running")):
        for made in (quick, thorough):
            for publication in made.put(container):
                zone[publication.id] = publication
    assert quick.die(dying.id, 5.0, 137) == thorough.die(dying.id, 5.0, 137)
    assert list(quick) == list(thorough)


@pytest.mark.parametrize("mode", ["bridge", "host", "none"])
def test_death_needs_no_rules(mode: str) -> None:
    zone: dict[str, Publication] = {}
    made = Inventory(Policy(), zone.get)
    [zone[VPN]] = made.put(container(VPN, mode))
    [dead] = made.die(VPN)
    assert dead.claims is zone[VPN].claims
    assert (dead.is_running, dead.addresses, dead.pointers) == (False, (), ())


class Counted(tuple[Attachment, ...]):
    """Attachments that count how often any of them are looked at."""

    __slots__ = ()
    looks = 0

    def __iter__(self) -> Iterator[Attachment]:
        Counted.looks += 1
        return super().__iter__()


def test_networks_are_known_without_a_look_at_each_container() -> None:
    """The status page asks each second, and an event of a container on an unlisted network."""
    made = Inventory(Policy())
    made.set_networks("e", [Network("id", "n", "e", "bridge", ("10.0.0.0/16",))])
    listed = Attachment("n", "id", ("10.0.0.2",), ("10.0.0.0/16",))
    unlisted = Attachment("m", "other", ("10.1.0.2",), ("10.1.0.0/16",))
    for number in range(100):
        made.put(container(f"{number:064x}", attachments=Counted((listed, unlisted))))
    Counted.looks = 0
    assert [n.id for n in made.networks()] == ["id", "other"]
    assert [n.id for n in made.networks()] == ["id", "other"]
    assert Counted.looks < 10
    made.set_networks("e", [])
    assert [n.id for n in made.networks()] == ["id", "other"]
    assert Counted.looks < 10


def test_network_of_containers_alone_goes_with_the_last_of_them() -> None:
    made = Inventory(Policy())
    shown = Attachment("n", "id", ("10.0.0.2",), ("10.0.0.0/24",))
    made.put(container(VPN, attachments=(shown,)))
    made.put(container(SIDE, attachments=(replace(shown, addresses=("10.0.0.3",)),)))
    made.remove(VPN)
    assert [n.subnets for n in made.networks()] == [("10.0.0.0/24",)]
    made.put(container(SIDE, attachments=(replace(shown, subnets=("10.0.1.0/24",)),)))
    assert [n.subnets for n in made.networks()] == [("10.0.1.0/24",)]
    made.put(container(SIDE))
    assert made.networks() == ()


def test_states_of_containers_are_counted_as_they_change() -> None:
    made = Inventory(Policy())
    made.put(container(VPN))
    made.put(container(SIDE, state="paused"))
    made.put(container(SERVICE))
    assert +made.states == {"running": 1, "paused": 1}
    made.put(container(SIDE, state="exited"))
    made.die(VPN)
    assert +made.states == {"exited": 2}
    made.remove(VPN)
    made.remove(SIDE)
    assert made.states.total() == 0

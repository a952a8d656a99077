"""Which container has which name, and that a change and its reverse leave no trace."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerdns.core.zone.policy import Claim, Policy, Publication, Rank, publish
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import BARE, Loss, Shape, Suffix, SuffixKind, Zone, next_serial
from tests.fuzz.generating import containers

DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
LOCAL = Suffix("localdomain.", SuffixKind.SEARCH)
NOW = 1_000_000.0


def a_zone(*publications: Publication, **changes: Any) -> Zone:
    made = Zone(Shape(**{"handover": 0, **changes}), 1, RememberedNames(60))
    for publication in publications:
        made.replace(publication.id, publication, NOW)
    return made


def claiming(
    publication_id: str, *owners: str, rank: int = Rank.CONTAINER, project: str = "", **more: Any
) -> Publication:
    claims = tuple(Claim(o, rank, "rule", publication_id, project=project) for o in owners)
    return Publication(publication_id, publication_id, claims=claims, **more)


def holders(zone: Zone, owner: str, suffix: Suffix = DOCKER) -> set[str]:
    return {claim.publication for claim in zone.holders(owner, suffix)}


def test_best_rank_holds_a_name_and_equal_ranks_share_it() -> None:
    zone = a_zone(
        claiming("a", "web", rank=Rank.LABEL),
        claiming("b", "web", rank=Rank.LABEL),
        claiming("c", "web", rank=Rank.HOST_NAME),
    )
    assert holders(zone, "web") == {"a", "b"}
    zone.replace("a", None, NOW)
    zone.replace("b", None, NOW)
    assert holders(zone, "web") == {"c"}


def test_losses_name_the_loser_and_the_winner() -> None:
    zone = a_zone(claiming("a", "web"), claiming("b", "web", "x", rank=Rank.HOST_NAME))
    assert list(zone.losses()) == [Loss("web", "b", "a", "rule", "b")]


def test_losses_name_the_alias_that_yields_to_an_address() -> None:
    zone = a_zone(claiming("a", "web", cname="elsewhere.example."), claiming("b", "web"))
    assert list(zone.losses()) == [Loss("web", "a", "b", "rule", "a")]


def test_losses_name_all_aliases_but_the_one_that_stands() -> None:
    zone = a_zone(
        claiming("b", "web", cname="b.example."), claiming("a", "web", cname="a.example.")
    )
    assert list(zone.losses()) == [Loss("web", "b", "a", "rule", "b")]


def test_losses_say_which_hosts_file_lost() -> None:
    static = Claim("web", Rank.LABEL, "hosts file /etc/hosts", "hosts:1")
    zone = a_zone(claiming("a", "web"), Publication("hosts:1", "", claims=(static,)))
    assert [loss.loser for loss in zone.losses()] == ["hosts file /etc/hosts"]


@pytest.mark.parametrize("rank", [Rank.TASK, Rank.TASK_HYPHENS])
@pytest.mark.parametrize("service", ["service:1", "fleet:a/service:1"])
def test_tasks_that_stand_behind_their_service_lose_nothing(rank: Rank, service: str) -> None:
    """Every service with a virtual address would warn of each of its tasks."""
    zone = a_zone(claiming(service, "web", rank=Rank.DERIVED), claiming("t", "web", rank=rank))
    assert list(zone.losses()) == []


@pytest.mark.parametrize(
    ("suffix", "has"),
    [(DOCKER, True), (LOCAL, False), (BARE, False)],
    ids=["domain", "search domain", "bare"],
)
def test_bare_service_of_one_project_is_below_domains_only(suffix: Suffix, has: bool) -> None:
    zone = a_zone(claiming("a", "web", project="p"), claiming("b", "web", project="p"))
    assert holders(zone, "web", suffix) == ({"a", "b"} if has else set())
    assert not zone.is_ours("web", NOW)
    zone.replace("c", claiming("c", "web", project="q"), NOW)
    assert holders(zone, "web", suffix) == set()


def test_service_of_the_last_container_is_forgotten_with_it() -> None:
    """`docker compose up --force-recreate`: the only container of a service is replaced."""
    zone = a_zone(claiming("old", "web", project="p"))
    assert holders(zone, "web") == {"old"}
    zone.replace("old", None, NOW)
    assert holders(zone, "web") == set()
    zone.replace("new", claiming("new", "web", project="p"), NOW)
    assert holders(zone, "web") == {"new"}


def test_absolute_name_is_held_with_the_relative_one_of_the_same_place() -> None:
    zone = a_zone(claiming("a", "web.docker.", rank=Rank.LABEL), claiming("b", "web"))
    assert holders(zone, "web") == {"b"}
    assert holders(zone, "web", LOCAL) == {"b"}
    zone.replace("b", None, NOW)
    assert holders(zone, "web") == {"a"}
    assert holders(zone, "web", LOCAL) == set()


@pytest.mark.parametrize(
    ("owner", "is_empty"),
    [("frontend", True), ("b.c", True), ("c", True), ("a.b.c", False), ("a", False), ("x", False)],
)
def test_what_lies_above_a_name_is_an_empty_non_terminal(owner: str, is_empty: bool) -> None:
    zone = a_zone(claiming("1", "web.frontend", "a.b.c", "a"))
    assert zone.is_empty_non_terminal(owner, DOCKER) is is_empty
    zone.replace("1", None, NOW)
    assert not zone.is_empty_non_terminal(owner, DOCKER)


@pytest.mark.parametrize(
    ("owner", "base"),
    [
        ("x.web", "web"),
        ("y.x.web", "web"),
        ("x.a.web", None),
        ("a.web", "web"),
        ("x._tcp.web", None),
        ("x._udp.web", "web"),
        ("x.db", None),
    ],
    ids=["below", "further below", "below a name", "a name itself", "below an empty one",
         "below nothing", "of another"],
)  # fmt: skip
def test_closest_encloser_decides_about_wildcards(owner: str, base: str | None) -> None:
    """RFC 4592 section 3.3.1."""
    services = {"_80._tcp": (80,)}
    zone = a_zone(
        claiming("1", "web", is_wildcard=True, services=services), claiming("2", "a.web", "db")
    )
    node = zone.wildcard(owner, DOCKER)
    assert (node.base if node else None) == base


@pytest.mark.parametrize(
    "suffix", [BARE, Suffix("example.", SuffixKind.EXACT)], ids=["bare", "exact"]
)
def test_bare_and_absolute_names_have_no_wildcards(suffix: Suffix) -> None:
    zone = a_zone(claiming("1", "web", "web.example.", is_wildcard=True))
    assert zone.wildcard("x.web" if suffix is BARE else "x.web.example.", suffix) is None


def test_removed_name_is_remembered_unless_another_claims_it() -> None:
    zone = a_zone(claiming("1", "web", "db"), claiming("2", "db", is_running=False))
    zone.replace("1", None, NOW)
    assert [owner for owner, _ in filter(None, zone.remembered.items())] == ["web"]
    assert zone.is_ours("db", NOW + 10**9)
    assert zone.is_ours("web", NOW + 59.9)
    assert not zone.is_ours("web", NOW + 60)


@pytest.mark.parametrize(("lifetime", "changed"), [(60, set()), (0, {"web.docker.", "web."})])
def test_removal_of_a_stopped_container_changes_an_answer_only_if_it_is_not_remembered(
    lifetime: float, changed: set[str]
) -> None:
    """Its names are ours before and after it, so that no ready-made response ends."""
    zone = Zone(Shape(search_domains=()), 1, RememberedNames(lifetime))
    zone.replace("1", claiming("1", "web"), NOW)
    assert zone.replace("1", claiming("1", "web", is_running=False), NOW) >= {"web.docker.", "web."}
    assert zone.replace("1", None, NOW) == changed
    assert zone.is_ours("web", NOW) is bool(lifetime)


def test_name_that_comes_again_is_not_remembered_any_more() -> None:
    zone = a_zone(claiming("1", "web"))
    zone.replace("1", None, NOW)
    zone.replace("2", claiming("2", "web"), NOW)
    assert len(zone.remembered) == 0


def test_what_was_below_a_name_is_remembered_with_it() -> None:
    """Its services need no place of their own: `ownership` keeps them with the name."""
    services = {"_80._tcp": (80,), "_odd": (80,), "_a._b._c": (80,), r"_a\._b": (80,)}
    zone = a_zone(claiming("1", "web", texts={"key": ("v",)}, services=services))
    zone.replace("1", None, NOW)
    kept = {"web", "key.web", "_odd.web", "_a._b._c.web", r"_a\._b.web"}
    assert {owner for owner, _ in filter(None, zone.remembered.items())} == kept


def test_changed_names_are_those_below_every_suffix_and_above() -> None:
    zone = a_zone(domains=("docker.", "d.example."))
    changed = zone.replace("1", claiming("1", "web", "x.net", "exact.example.org."), NOW)
    assert changed == {
        *("web.", "web.docker.", "web.d.example.", "web.localdomain."),
        *("x.net.docker.", "x.net.d.example.", "x.net.localdomain."),
        *("net.", "net.docker.", "net.d.example.", "net.localdomain."),
        *("exact.example.org.", "example.org.", "org."),
    }


def test_same_publication_again_changes_nothing_not_even_the_serial() -> None:
    zone = a_zone(claiming("1", "web"))
    zone.is_ahead = False
    assert zone.replace("1", claiming("1", "web"), NOW + 100) == set()
    assert zone.replace("nobody", None, NOW + 100) == set()
    assert not zone.is_ahead


def test_serial_grows_with_records_only() -> None:
    zone = a_zone()
    zone.replace("1", claiming("1", "web", is_running=False), NOW)
    assert not zone.is_ahead
    zone.replace("1", claiming("1", "web"), NOW)
    assert zone.is_ahead
    assert zone.grow(NOW)
    assert (zone.serial, zone.is_ahead) == (int(NOW), False)


def test_second_change_of_a_second_waits_for_the_next_one() -> None:
    """A serial that counted changes would run ahead of the clock, and be lower after a restart."""
    zone = a_zone(claiming("1", "web"))
    assert zone.grow(NOW)
    zone.replace("1", None, NOW)
    assert not zone.grow(int(NOW) + 0.9, is_tick=True)
    assert (zone.serial, zone.is_ahead) == (int(NOW), True)
    assert zone.grow(int(NOW) + 1.0)
    assert (zone.serial, zone.is_ahead) == (int(NOW) + 1, False)


@pytest.mark.parametrize(
    ("serial", "now", "at_once", "at_tick"),
    [
        (5, 100.9, 100, 100),
        (100, 100.9, 100, 100),
        (200, 100.0, 200, 201),
        (0xFFFFFFFF, 100.0, 100, 100),
        (0xFFFFFFFF, 0.0, 1, 1),
        (0xFFFFFFFE, 2**32 - 10.0, 0xFFFFFFFE, 0xFFFFFFFF),
        (0xFFFFFFFF, 2**32 - 10.0, 0xFFFFFFFF, 1),
    ],
    ids=["lower", "equal", "clock set back", "wrapped", "never 0", "at the end", "behind the end"],
)  # fmt: skip
def test_serial_is_the_clock_and_never_lower_than_before(
    serial: int, now: float, at_once: int, at_tick: int
) -> None:
    """RFC 1982: a higher one is higher by less than half of all."""
    assert next_serial(serial, now) == at_once
    assert next_serial(serial, now, is_tick=True) == at_tick
    assert 0 <= (at_once - serial) % 2**32 < 2**31
    assert 0 <= (at_tick - serial) % 2**32 < 2**31


NUMBERS_AND_MEMORY = frozenset(
    {
        *("serial", "is_ahead", "generation", "remembered", "shape", "reverse", "handovers"),
        *("_names_known", "sole_owners", "_last"),
    }
)


def state(zone: Zone) -> dict[str, object]:
    """Everything that a zone knows but its numbers and memory, without order."""
    assert not len(zone.handovers)
    found: dict[str, object] = {}
    parts = {**vars(zone), **vars(zone.reverse), **vars(zone.sole_owners)}
    for key, value in parts.items():
        if key not in NUMBERS_AND_MEMORY:
            found[key] = _unordered(copy.deepcopy(value))
    return found


def _unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unordered(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return sorted(map(repr, value))
    return value


@given(st.lists(containers, max_size=6, unique_by=lambda c: c.id), containers, st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_change_and_its_reverse_leave_no_trace(
    others: list[Any], changed: Any, is_removed: bool
) -> None:
    """So that a zone never drifts, however long it lives."""
    zone = a_zone(*(publish(other, Policy()) for other in others))
    before = state(zone)
    old = zone.publication(changed.id)
    zone.replace(changed.id, None if is_removed else publish(changed, Policy()), NOW)
    zone.replace(changed.id, old, NOW)
    assert state(zone) == before


@given(st.lists(containers, max_size=8))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_zone_is_what_its_publications_are_whatever_the_way(happened: list[Any]) -> None:
    """A zone that grew by changes is one made at once."""
    zone = a_zone()
    for container in happened:
        zone.replace(container.id, publish(container, Policy()), NOW)
    assert state(zone) == state(a_zone(*zone.publications()))


@given(containers, st.lists(containers, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_update_of_a_running_container_leaves_what_one_made_anew_has(
    first: Any, updates: list[Any], is_handed_over: bool
) -> None:
    """Only the claims that differ are touched: as when an inspect adds aliases to a list."""
    handover = 60 if is_handed_over else 0
    zone = a_zone(handover=handover)
    for container in (first, *updates):
        same = replace(container, id=first.id, state="running")
        zone.replace(first.id, publish(same, Policy()), NOW)
    zone.replace("observer", claiming("observer", "web"), NOW)
    new = a_zone(*zone.publications(), handover=handover)
    zone.handovers, zone.remembered = new.handovers, new.remembered  # of names it gave up
    zone._best.clear()
    assert state(zone) == state(new)


def test_update_changes_the_names_that_differ_alone() -> None:
    """An inspect that adds a name to the many of a list forgets no response of the others."""
    listed = claiming("a", *(f"name-{number}" for number in range(100)))
    zone = a_zone(listed)
    more = Claim("alias", Rank.DERIVED, "rule", "a")
    changed = zone.replace("a", replace(listed, claims=(*listed.claims, more)), NOW)
    assert changed == {"alias.", "alias.docker.", "alias.localdomain."}
    changed = zone.replace("a", listed, NOW)
    assert changed == {"alias.", "alias.docker.", "alias.localdomain."}
    assert zone.is_ours("alias", NOW)
    assert not zone.is_running("alias")


def test_update_of_data_changes_all_names() -> None:
    listed = claiming("a", "web", "www", pointers=("172.18.0.2",))
    zone = a_zone(listed)
    changed = zone.replace("a", replace(listed, ttl=7), NOW)
    assert {"web.docker.", "www.docker.", "2.0.18.172.in-addr.arpa."} <= changed


@given(st.lists(containers, max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_zone_that_was_not_asked_for_names_is_the_same(happened: list[Any]) -> None:
    """As in a first listing, where working them out would be half of the work."""
    zone, asked = a_zone(), a_zone()
    for container in happened:
        zone.replace(container.id, publish(container, Policy()), NOW, wants_names=False)
        asked.replace(container.id, publish(container, Policy()), NOW)
    assert state(zone) == state(asked)


def test_losses_of_a_name_that_very_many_share_cost_little() -> None:
    """They were looked for among all, once a second: 50 ms at 3,000 containers."""
    zone = a_zone(*(claiming(str(number), "all") for number in range(2000)))
    looked = 0
    called = zone._called

    def counting(claim: Claim) -> str:
        nonlocal looked
        looked += 1
        return called(claim)

    zone._called = counting  # type: ignore[method-assign]
    assert not list(zone.losses())
    assert not looked

"""Names in handover: who waits for a name, who has it at once, and when it passes on."""

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerdns.core.zone.handover import MAX_DEPARTURES
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import BARE, Loss, Shape, Suffix, SuffixKind, Zone

DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
NOW = 1_000_000.0
WAIT = 60


def a_zone(*publications: Publication, handover: int = WAIT) -> Zone:
    made = Zone(Shape(handover=handover), 1, RememberedNames(0))
    for publication in publications:
        made.replace(publication.id, publication, NOW)
    return made


def claiming(name: str, rank: Rank, project: str = "", owner: str = "db") -> Publication:
    """A running container with one claim; a service is a bare one of its project."""
    service = project if rank is Rank.DERIVED else ""
    claim = Claim(owner, rank, "rule", name, "", service, rank <= Rank.LABEL)
    return Publication(name, name, claims=(claim,), project=project)


def stopped(publication: Publication, at: float = 0.0) -> Publication:
    return replace(publication, is_running=False, stopped_at=at)


def have(zone: Zone, suffix: Suffix = DOCKER, owner: str = "db") -> set[str]:
    return {claim.publication for claim in zone.holders(owner, suffix)}


def later(zone: Zone, seconds: float) -> None:
    while owners := zone.handovers.due(NOW + seconds, 1):
        zone.end_handovers(owners, NOW + seconds)


ALPHA = claiming("alpha", Rank.DERIVED, "alpha")
BETA = claiming("beta", Rank.DERIVED, "beta")
GUEST = claiming("guest", Rank.HOST_NAME, "guests")


TEMPLATE = replace(
    claiming("shop", Rank.LABEL, "beta"),
    claims=(Claim("db", Rank.LABEL, "name template", "shop", "", "", False),),
)


@pytest.mark.parametrize(
    ("holder", "other", "waits"),
    [
        (ALPHA, BETA, True),
        (ALPHA, claiming("alpha-2", Rank.DERIVED, "alpha"), False),
        (ALPHA, claiming("guest", Rank.HOST_NAME, "alpha"), True),
        (ALPHA, claiming("db", Rank.CONTAINER, "beta"), False),
        (ALPHA, claiming("other", Rank.LABEL), False),
        (ALPHA, TEMPLATE, False),
        (claiming("db", Rank.CONTAINER), GUEST, True),
        (claiming("db", Rank.CONTAINER), BETA, True),
        (claiming("db", Rank.CONTAINER), claiming("new", Rank.CONTAINER, "beta"), False),
        (claiming("db", Rank.CONTAINER), claiming("other", Rank.HYPHENS), True),
        (claiming("a", Rank.HOST_NAME), claiming("b", Rank.HOST_NAME), False),
        (claiming("a", Rank.HOST_NAME, "x"), claiming("b", Rank.HOST_NAME, "y"), True),
        (claiming("a", Rank.HOST_NAME, "x"), ALPHA, True),
        (claiming("vip", Rank.DERIVED), claiming("task", Rank.TASK), False),
    ],
    ids=[
        "service of another project", "replica", "host name of the project", "container name",
        "label", "template", "guest", "service", "container of that name", "hyphens", "host names",
        "host names of projects", "better rank of another project", "tasks of a service",
    ],
)  # fmt: skip
@pytest.mark.parametrize("comes", ["before", "after"])
def test_who_waits_and_who_has_a_name_at_once(
    holder: Publication, other: Publication, waits: bool, comes: str
) -> None:
    zone = a_zone(holder)
    if comes == "before":
        if other.claims[0].rank <= holder.claims[0].rank:
            return  # it had the name, or had it too
        zone.replace(other.id, other, NOW)
    zone.replace(holder.id, stopped(holder), NOW)
    zone.replace(other.id, other, NOW + 1)
    assert have(zone) == (set() if waits else {other.id})
    later(zone, WAIT - 0.1)
    assert have(zone) == (set() if waits else {other.id})
    zone.is_ahead = False
    later(zone, WAIT)
    assert have(zone) == {other.id}
    assert zone.is_ahead is waits
    assert not len(zone.handovers)


@pytest.mark.parametrize("is_removed", [True, False])
def test_redeploy_of_one_project_never_leads_to_another(is_removed: bool) -> None:
    """Two projects have the service: nobody has the bare name, nor while one is replaced."""
    zone = a_zone(ALPHA, BETA)
    assert have(zone) == set()
    zone.replace("alpha", None if is_removed else stopped(ALPHA), NOW)
    assert have(zone) == set()
    new = claiming("alpha-2", Rank.DERIVED, "alpha")
    zone.replace("alpha-2", new, NOW + 5)
    assert have(zone) == set()
    zone.replace("alpha-2", None, NOW + 5)
    later(zone, 64.9)
    assert have(zone) == set()
    later(zone, 65)
    assert have(zone) == {"beta"}


def test_others_who_had_the_name_keep_it() -> None:
    """Equal ranks share a name; one of them going takes nothing from the others."""
    zone = a_zone(claiming("a", Rank.HOST_NAME, "x"), claiming("b", Rank.HOST_NAME, "y"))
    zone.replace("a", None, NOW)
    assert have(zone) == {"b"}


def test_bare_service_that_goes_takes_nothing_from_the_root() -> None:
    """There a bare service has no name, and the guest had it all the time."""
    zone = a_zone(ALPHA, GUEST)
    assert (have(zone), have(zone, BARE)) == ({"alpha"}, {"guest"})
    zone.replace("alpha", None, NOW)
    assert (have(zone), have(zone, BARE)) == (set(), {"guest"})
    zone.replace("beta", BETA, NOW)  # nor does a second service open the name to the guest
    assert (have(zone), have(zone, BARE)) == (set(), {"guest"})


def test_container_that_comes_back_ends_the_handover() -> None:
    db = claiming("db", Rank.CONTAINER)
    zone = a_zone(db, GUEST)
    zone.replace("db", stopped(db), NOW)
    zone.replace("db", db, NOW + 1)
    assert have(zone) == {"db"}
    assert not len(zone.handovers)


def test_container_that_was_renamed_keeps_what_else_it_claims() -> None:
    db = claiming("db", Rank.CONTAINER)
    zone = a_zone(db)
    claim = Claim("db", Rank.HOST_NAME, "host name", "db")
    zone.replace("db", replace(db, claims=(claim,)), NOW)
    assert have(zone) == {"db"}


def test_other_rules_hand_nothing_over() -> None:
    """A reload that takes a name from a container is no redeploy."""
    zone = a_zone(claiming("db", Rank.CONTAINER), GUEST)
    zone.replace("db", None, NOW, hands_over=False)
    assert have(zone) == {"guest"}


def test_without_a_handover_names_pass_at_once() -> None:
    zone = a_zone(ALPHA, BETA, handover=0)
    zone.replace("alpha", None, NOW)
    assert have(zone) == {"beta"}


@pytest.mark.parametrize(("handover", "seconds"), [(10, 10), (120, 120), (0, 0)])
def test_reload_changes_handovers_under_way(handover: int, seconds: float) -> None:
    zone = a_zone(claiming("db", Rank.CONTAINER), GUEST)
    zone.replace("db", None, NOW)
    zone.reshape(Shape(handover=handover))
    later(zone, seconds - 1)
    assert have(zone) == set()
    later(zone, seconds)
    assert have(zone) == {"guest"}


@pytest.mark.parametrize(
    ("ago", "waits"), [(5.0, True), (59.9, True), (60.0, False), (-5.0, True), (None, False)]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_container_found_stopped_lately_holds_its_name_back(
    ago: float | None, waits: bool, is_first: bool
) -> None:
    """This server may itself have been restarted while alpha's db was redeployed."""
    found = stopped(ALPHA, 0.0 if ago is None else NOW - ago)
    zone = a_zone(found, BETA) if is_first else a_zone(BETA, found)
    assert have(zone) == (set() if waits else {"beta"})
    later(zone, WAIT if ago is None else WAIT - max(ago, 0.0))
    assert have(zone) == {"beta"}


def test_container_found_stopped_takes_nothing_from_its_replicas() -> None:
    zone = a_zone(claiming("alpha-2", Rank.DERIVED, "alpha"), stopped(ALPHA, NOW - 1))
    assert have(zone) == {"alpha-2"}


def test_loss_says_for_whom_and_until_when_a_name_is_held_back() -> None:
    zone = a_zone(ALPHA, BETA)
    zone.replace("alpha", None, NOW)
    assert list(zone.losses()) == [
        Loss("db", "beta", "", "rule", "beta", "alpha of project alpha", NOW + WAIT)
    ]
    later(zone, WAIT)
    assert list(zone.losses()) == []


def test_many_departures_from_one_name_are_bounded() -> None:
    """A host that runs a Compose project a test has one service name in hundreds of them."""
    zone = a_zone(BETA)
    for number in range(3 * MAX_DEPARTURES):
        one = claiming(f"c{number}", Rank.DERIVED, f"p{number}")
        zone.replace(one.id, one, NOW)
        zone.replace(one.id, None, NOW)
    assert len(zone.handovers.of("db")) == MAX_DEPARTURES
    later(zone, WAIT)
    assert have(zone) == {"beta"}


# -- any sequence, against what must hold -------------------------------------------------


class Step(NamedTuple):
    """One container starts, stops or goes, after some seconds."""

    number: int
    verb: str
    seconds: int


CAST = (
    ALPHA,
    claiming("alpha-2", Rank.DERIVED, "alpha"),
    BETA,
    claiming("gamma", Rank.DERIVED, "gamma"),
    GUEST,
    claiming("guest-2", Rank.HOST_NAME, "guests"),
    claiming("plain", Rank.HOST_NAME),
    claiming("db", Rank.CONTAINER),
    claiming("label", Rank.LABEL, "beta"),
    claiming("hyphens", Rank.HYPHENS, "alpha"),
)
steps = st.lists(
    st.builds(
        Step,
        st.integers(0, len(CAST) - 1),
        st.sampled_from(("start", "start", "stop", "go", "wait")),
        st.sampled_from((0, 0, 1, 30, 60, 61)),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_nobody_inherits_what_he_must_wait_for_and_in_the_end_ranks_decide(
    happened: list[Step],
) -> None:
    """Compares a zone with handovers with one without, and every new holder with the last."""
    zone, plain = a_zone(), a_zone(handover=0)
    seconds = 0.0
    last: dict[Suffix, tuple[set[str], float]] = {DOCKER: (set(), 0.0), BARE: (set(), 0.0)}
    for step in happened:
        seconds += step.seconds
        later(zone, seconds)
        _check(zone, plain, last, seconds)
        container = CAST[step.number]
        if step.verb in ("stop", "go") and zone.publication(container.id) is None:
            continue
        changed = {"start": container, "stop": stopped(container), "go": None}
        for one in (zone, plain) if step.verb in changed else ():
            one.replace(container.id, changed[step.verb], NOW + seconds)
        _check(zone, plain, last, seconds)
    later(zone, seconds + WAIT)
    assert not len(zone.handovers)
    for suffix in (DOCKER, BARE):
        assert have(zone, suffix) == have(plain, suffix)


def _check(
    zone: Zone, plain: Zone, last: dict[Suffix, tuple[set[str], float]], seconds: float
) -> None:
    by_id = {c.id: c for c in CAST}
    running = {p.id for p in zone.publications() if p.is_running}
    for suffix, (before, since) in last.items():
        now = have(zone, suffix)
        best = have(plain, suffix)
        if any(by_id[i].claims[0].rank <= Rank.LABEL for i in best):
            assert now == best, "a container that asks for a name has it at once"
        if not before & running:  # otherwise one of a better rank may have taken it
            for one in (by_id[i] for i in now if seconds - since < WAIT and before):
                is_asked_for = one.claims[0].rank <= Rank.LABEL
                is_heir = any(
                    by_id[i].project == one.project
                    and by_id[i].claims[0].rank >= one.claims[0].rank
                    for i in before
                )
                assert is_asked_for or is_heir, f"{one.id} inherits from {before}"
        if now or before & running:
            last[suffix] = (now or before, seconds)
        assert now <= running

"""Few claims and many are held in different ways, and decide alike."""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from containerdns.core.zone import claims
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import BARE, Shape, Suffix, SuffixKind, Zone

DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
OWNERS = ("web", "a.web")
BEFORE = ("_80._tcp.web", "_tcp.web", "_80._tcp.a.web", "any.web")
RANKS = (Rank.CONTAINER, Rank.LABEL, Rank.DERIVED, Rank.HOST_NAME)


def publication(
    number: int, owner: str, rank: Rank, project: str, has_service: bool, is_running: bool
) -> Publication:
    name = f"c{number}"
    service = project if rank is Rank.DERIVED else ""
    claim = Claim(owner, rank, "rule", name, "", service, rank <= Rank.LABEL)
    return Publication(
        name,
        name,
        claims=(claim,),
        services={"_80._tcp": (80,)} if has_service else None,
        project=project,
        is_running=is_running,
    )


publications = st.builds(
    publication,
    st.integers(0, 5),
    st.sampled_from(OWNERS),
    st.sampled_from(RANKS),
    st.sampled_from(("", "p", "q")),
    st.booleans(),
    st.booleans(),
)
changes = st.lists(
    st.one_of(publications, st.integers(0, 5).map(lambda number: f"c{number}")), max_size=24
)


def histories(happened: list[Publication | str]) -> Iterator[object]:
    """What holds after each change; one every 10 s, so that handovers begin and end."""
    zone = Zone(Shape(handover=30), 1, RememberedNames(60))
    for step, change in enumerate(happened):
        now = 1_000_000.0 + 10 * step
        while owners := zone.handovers.due(now, 1):
            zone.end_handovers(owners, now)
        if isinstance(change, str):
            zone.replace(change, None, now)
        else:
            zone.replace(change.id, change, now)
        for suffix in (DOCKER, BARE):
            for owner in OWNERS:
                yield {claim.publication for claim in zone.holders(owner, suffix)}
                yield zone.is_empty_non_terminal(owner, suffix)
            for owner in BEFORE:
                node = zone.node(owner, suffix)
                yield node and (node.before, {claim.publication for claim in node.holders})
                yield zone.is_empty_non_terminal(owner, suffix)
        yield {(loss.owner, loss.loser_id, loss.winner) for loss in zone.losses()}


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes)
@example(  # the name waits for the first one's project, which the third one is of
    [
        publication(0, "web", Rank.HOST_NAME, "p", False, True),
        "c0",
        publication(1, "web", Rank.HOST_NAME, "q", False, True),
        publication(2, "web", Rank.HOST_NAME, "p", False, True),
    ]
)
def test_many_claims_decide_as_few_do(
    monkeypatch: pytest.MonkeyPatch, happened: list[Publication | str]
) -> None:
    """A replica of a service that comes or goes must not show in how the claims are kept."""
    monkeypatch.setattr(claims, "MAX_FEW", 1000)
    few = list(histories(happened))
    monkeypatch.setattr(claims, "MAX_FEW", 1)
    assert list(histories(happened)) == few


def test_losses_of_a_name_that_thousands_share_are_no_look_at_each() -> None:
    """These are sought each second in which one of them comes or goes."""
    zone = Zone(Shape(handover=30), 1, RememberedNames(60))
    for number in range(3000):
        new = publication(number, "web", Rank.CONTAINER, "p", False, True)
        zone.replace(new.id, new, 1_000_000.0)
    zone.replace("c7", None, 1_000_000.0)
    tracemalloc.start()
    try:
        assert list(zone.losses(["web"])) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3000 * 8 / 2  # a list of the holders takes eight octets each
    late = publication(3000, "web", Rank.HOST_NAME, "p", False, True)
    zone.replace(late.id, late, 1_000_000.0)
    assert [loss.loser_id for loss in zone.losses(["web"])] == [late.id]

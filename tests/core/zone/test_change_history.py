"""The history of changes: what an operator wants to know about ten past ten."""

from dataclasses import replace

from containerdns.core.zone.change_history import MAX_GONE, MAX_KEPT, ChangeHistory, line
from containerdns.core.zone.policy import Publication, PublishedAddress

ONE, OTHER = "10.212.0.2", "10.212.0.5"


def web(
    address: str = ONE,
    *,
    ident: str = "a",
    name: str = "web",
    is_running: bool = True,
    is_healthy: bool = True,
) -> Publication:
    addresses = (PublishedAddress(address, "", ""),)
    return Publication(
        ident, name, is_running=is_running, is_healthy=is_healthy, addresses=addresses
    )


def told(changes: ChangeHistory) -> list[str]:
    return [line(change) for change in changes.since(0)[0]]


def test_container_that_comes_and_goes_is_two_lines() -> None:
    changes = ChangeHistory()
    changes.note(None, web(), 10.0)
    changes.note(web(), web(is_running=False), 20.0)
    changes.note(web(is_running=False), None, 21.0)
    assert told(changes) == ["+ web 10.212.0.2 (0 names)", "- web 10.212.0.2"]


def test_redeploy_has_its_gap() -> None:
    changes = ChangeHistory()
    changes.note(web(), None, 20.0)
    changes.note(None, web(OTHER, ident="b"), 20.8)
    assert told(changes)[1] == "~ web 10.212.0.2 -> 10.212.0.5, 0.8 s without"
    assert [c.seconds_without for c in changes.since(1)[0]] == [20.8 - 20.0]


def test_restart_at_the_same_address_shows_it_once() -> None:
    changes = ChangeHistory()
    changes.note(web(), web(is_running=False), 20.0)
    changes.note(web(is_running=False), web(), 21.1)
    assert told(changes)[1] == "~ web 10.212.0.2, 1.1 s without"


def test_redeploy_of_compose_ends_with_a_rename() -> None:
    """`up --force-recreate` makes ID_web, removes web, and renames."""
    changes = ChangeHistory()
    changes.note(None, web(OTHER, ident="b", name="b_web"), 19.0)
    changes.note(web(), None, 20.0)
    changes.note(web(OTHER, ident="b", name="b_web"), web(OTHER, ident="b"), 20.5)
    assert told(changes)[2] == "~ web 10.212.0.2 -> 10.212.0.5, 0.5 s without"


def test_health_and_addresses_of_a_running_container() -> None:
    changes = ChangeHistory()
    changes.note(web(), web(is_healthy=False), 10.0)
    changes.note(web(), web(OTHER), 11.0)
    changes.note(web(), web(name="shop"), 12.0)
    changes.note(web(), web(), 13.0)
    assert told(changes) == [
        "~ web is unhealthy",
        "~ web 10.212.0.2 -> 10.212.0.5",
        "~ shop 10.212.0.2, renamed",
    ]


def test_what_is_kept_is_bounded() -> None:
    changes = ChangeHistory()
    for number in range(2 * max(MAX_KEPT, MAX_GONE)):
        changes.note(web(name=f"web{number}"), None, float(number))
    kept, total = changes.since(0)
    assert len(list(kept)) == MAX_KEPT
    assert total == 2000
    assert list(changes.since(total)[0]) == []
    changes.note(None, web(name="web0"), 2000.0)
    assert next(changes.since(total)[0]).change == "came"


def test_container_without_an_address_says_so() -> None:
    """A sharer of a network whose owner has gone."""
    changes = ChangeHistory()
    lonely = replace(web(), addresses=())
    changes.note(None, lonely, 10.0)
    changes.note(lonely, web(), 11.0)
    changes.note(web(), lonely, 12.0)
    assert told(changes)[::2] == ["+ web no address (0 names)", "~ web 10.212.0.2 -> no address"]

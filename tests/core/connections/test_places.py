"""Connections are bounded, and nobody is kept out by those who have many."""

from dataclasses import dataclass

import pytest

from containerdns.core.connections.places import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_OF_A_CLIENT,
    STRANGERS,
    Limits,
    Places,
    limits_by,
)

LIMITS = Limits(8, 3)


@dataclass(eq=False)
class Visitor:
    """A connection that does nothing."""

    address: bytes
    active_at: float = 0.0
    is_busy: bool = False
    is_aborted: bool = False

    def abort(self) -> None:
        self.is_aborted = True


def admitted(
    places: Places, count: int, *, address: bytes = b"", busy: bool = False
) -> list[Visitor]:
    """Let some connections in, of one client or of one each, the longest idle first."""
    visitors = [
        Visitor(address or bytes([10, 0, 0, n]), float(n), is_busy=busy) for n in range(count)
    ]
    for visitor in visitors:
        places.admit(visitor, may_ask=True)
    return visitors


def test_longest_idle_of_a_client_makes_room_for_its_next() -> None:
    """RFC 7766 section 6.2.2: a client has a limited number, and its newest counts."""
    places = Places(LIMITS)
    mine = admitted(places, 4, address=b"mine")
    assert [each.is_aborted for each in mine] == [True, False, False, False]
    assert len(places) == 3


def test_longest_idle_of_all_makes_room_in_a_full_house() -> None:
    places = Places(LIMITS)
    all_of_them = admitted(places, 8)
    all_of_them[0].active_at = 99.0
    places.admit(Visitor(b"late"), may_ask=True)
    assert [each.is_aborted for each in all_of_them].index(True) == 1
    assert len(places) == 8


def test_a_busy_one_stays_while_another_is_idle() -> None:
    places = Places(LIMITS)
    busy, idle = Visitor(b"a", 0.0, is_busy=True), Visitor(b"a", 5.0)
    for each in (busy, idle, Visitor(b"a", 6.0), Visitor(b"a", 7.0)):
        places.admit(each, may_ask=True)
    assert (busy.is_aborted, idle.is_aborted) == (False, True)


def test_among_busy_ones_the_client_with_the_most_gives_way() -> None:
    """So that many streams of one client never end the only one of another."""
    places = Places(Limits(4, 3))
    only = Visitor(b"only", 0.0, is_busy=True)
    places.admit(only, may_ask=True)
    many = admitted(places, 3, address=b"many", busy=True)
    places.admit(Visitor(b"late"), may_ask=True)
    assert not only.is_aborted
    assert many[0].is_aborted


def test_strangers_take_no_place_of_those_who_may_ask() -> None:
    places = Places(LIMITS)
    known = admitted(places, 8)
    strangers = [Visitor(bytes([203, 0, 113, n]), 100.0 + n) for n in range(200)]
    for stranger in strangers:
        places.admit(stranger, may_ask=False)
    assert not any(each.is_aborted for each in known)
    assert sum(not each.is_aborted for each in strangers) == STRANGERS.in_all
    assert len(places) == 8 + STRANGERS.in_all


def test_who_has_left_is_aborted_no_more() -> None:
    places = Places(LIMITS)
    mine = admitted(places, 3, address=b"mine")
    places.leave(mine[0])
    places.admit(Visitor(b"mine"), may_ask=True)
    assert not any(each.is_aborted for each in mine)


@pytest.mark.parametrize(
    ("descriptors", "limits"),
    [
        (65536, Limits(MAX_CONNECTIONS, MAX_CONNECTIONS_OF_A_CLIENT)),
        (1024, Limits(256, 32)),
        (256, Limits(64, 32)),
        (32, Limits(8, 4)),
        (3, Limits(1, 1)),
    ],
    ids=["plenty", "usual", "few", "very few", "none"],
)
def test_limits_leave_half_of_the_descriptors_to_others(descriptors: int, limits: Limits) -> None:
    assert limits_by(descriptors) == limits

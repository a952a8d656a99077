"""Timeouts from round trips, and which servers are marked down."""

import pytest

from containerdns.core.upstream.upstream_health import MAX_PAUSE, Health


def silent(health: Health, *waits: tuple[float, float]) -> list[bool]:
    """Let time-outs pass: when each began, and ended."""
    return [health.was_silent("silent", since, now) for since, now in waits]


def set_aside(now: float) -> Health:
    """A server that was just marked down."""
    health = Health()
    assert silent(health, (now - 3, now - 2), (now - 2, now - 1), (now - 1, now))[-1]
    return health


def test_three_silences_in_a_row_set_a_server_aside() -> None:
    health = Health()
    assert silent(health, (10.0, 10.2), (10.2, 10.6), (10.6, 11.4)) == [False, False, True]
    assert health.is_aside
    assert health.aside_until == 12.4


def test_an_answer_in_between_starts_the_count_again() -> None:
    health = Health()
    silent(health, (10.0, 10.2), (10.2, 10.6))
    health.heard(0.01, 10.7)
    assert silent(health, (11.0, 12.0)) == [False]
    assert not health.is_aside


def test_a_time_out_in_which_something_was_heard_is_none() -> None:
    """The first question of a page is slow; others are answered meanwhile."""
    health = Health()
    for second in range(5):
        health.heard(0.01, second + 0.5)
        assert silent(health, (second, second + 1.0)) == [False]
    assert not health.silences


def test_time_outs_that_overlap_are_one() -> None:
    health = Health()
    assert not any(silent(health, *[(0.01 * n, 0.2 + 0.01 * n) for n in range(10)]))
    assert health.silences == 1


@pytest.mark.parametrize(("longest", "is_aside"), [(0.85, False), (1.4, True)])
def test_three_short_silences_do_not_set_aside(longest: float, is_aside: bool) -> None:
    """The third is of a question that came later: the first one may still be answered."""
    health = Health()
    silent(health, (0.0, 0.2), (0.2, 0.6), (0.65, longest))
    assert health.is_aside is is_aside


def test_pauses_grow_to_their_longest() -> None:
    health = set_aside(0.0)
    pauses = [health.pause]
    for _ in range(4):
        now = health.aside_until
        assert silent(health, (now, now + 0.2)) == [True]
        pauses.append(health.pause)
    assert pauses == [1.0, 2.0, MAX_PAUSE, MAX_PAUSE, MAX_PAUSE]
    assert health.silent_since == 0.0


def test_silences_within_a_pause_do_not_lengthen_it() -> None:
    health = set_aside(0.0)
    assert silent(health, (0.3, 0.5)) == [False]
    assert health.aside_until == 1.0


def test_an_answer_ends_the_time_aside() -> None:
    health = set_aside(0.0)
    assert health.heard(0.01, 0.5)
    assert not health.is_aside
    assert not health.heard(0.01, 0.6)


@pytest.mark.parametrize(
    ("round_trips", "attempt", "timeout"),
    [
        ([], 0, 0.3), ([], 1, 0.6), ([0.001] * 50, 0, 0.2), ([0.001] * 50, 2, 0.8),
        ([0.001] * 50, 4, 2.0), ([3.0], 0, 2.0),
    ],
)  # fmt: skip
def test_timeouts_stay_between_their_bounds(
    round_trips: list[float], attempt: int, timeout: float
) -> None:
    health = Health()
    for round_trip in round_trips:
        health.heard(round_trip, 0.0)
    assert health.timeout(attempt) == pytest.approx(timeout)


def test_timeout_follows_the_round_trips() -> None:
    """RFC 6298 section 2: the mean and four deviations."""
    health = Health()
    health.heard(0.1, 0.0)
    assert health.timeout(0) == pytest.approx(0.1 + 4 * 0.05)


@pytest.mark.parametrize(
    ("second", "timeout"),
    [(0.1, 0.1 + 4 * 0.0375), (0.5, 0.15 + 4 * 0.1375), (0.02, 0.09 + 4 * 0.0575)],
    ids=["the same", "slower", "faster"],
)
def test_second_round_trip_moves_mean_and_deviation(second: float, timeout: float) -> None:
    """RFC 6298 section 2.3: by an eighth and by a quarter, the deviation from the mean before."""
    health = Health()
    health.heard(0.1, 0.0)
    health.heard(second, 1.0)
    assert health.timeout(0) == pytest.approx(timeout)


def test_bad_certificate_marks_down_at_once_for_a_growing_while() -> None:
    """Nothing may be sent to such a server, so it is tried again rarely, and a minute at most."""
    health = Health()
    assert health.distrust("expired", 100.0)
    assert (health.is_aside, health.is_distrusted, health.silent_since) == (True, True, 100.0)
    pauses, now = [health.pause], health.aside_until
    assert now == 101.0
    assert not health.distrust("expired", now - 0.1), "it was not tried: this changes nothing"
    assert health.pause == pauses[0]
    for _ in range(7):
        assert not health.distrust("expired", now), "it was down before"
        pauses.append(health.pause)
        now = health.aside_until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert health.silent_since == 100.0
    assert health.heard(0.01, now)
    assert (health.is_aside, health.is_distrusted) == (False, False)

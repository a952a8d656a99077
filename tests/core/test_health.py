"""Time-outs from round trips, and who is set aside."""

import pytest

from containerdns.core.health import PAUSE_LONGEST, Health


def test_three_silences_in_a_row_set_a_server_aside() -> None:
    health = Health()
    assert [health.was_silent("silent", 10.0) for _ in range(3)] == [False, False, True]
    assert health.is_aside
    assert health.aside_until == 11.0


def test_an_answer_in_between_starts_the_count_again() -> None:
    health = Health()
    health.was_silent("silent", 10.0)
    health.was_silent("silent", 10.0)
    health.answered(0.01)
    assert not health.was_silent("silent", 10.0)
    assert not health.is_aside


def test_pauses_grow_to_their_longest() -> None:
    health = Health(silences=2)
    now, pauses = 0.0, []
    for _ in range(5):
        health.was_silent("silent", now)
        pauses.append(health.pause)
        now = health.aside_until
    assert pauses == [1.0, 2.0, PAUSE_LONGEST, PAUSE_LONGEST, PAUSE_LONGEST]
    assert health.silent_since == 0.0


def test_silences_within_a_pause_do_not_lengthen_it() -> None:
    health = Health(silences=2)
    health.was_silent("silent", 0.0)
    assert not health.was_silent("silent", 0.5)
    assert health.aside_until == 1.0


def test_an_answer_ends_the_time_aside() -> None:
    health = Health(silences=2)
    health.was_silent("silent", 0.0)
    assert health.answered(0.01)
    assert not health.is_aside
    assert not health.answered(0.01)


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
        health.answered(round_trip)
    assert health.timeout(attempt) == pytest.approx(timeout)


def test_timeout_follows_the_round_trips() -> None:
    """RFC 6298 section 2: the mean and four deviations."""
    health = Health()
    health.answered(0.1)
    assert health.timeout(0) == pytest.approx(0.1 + 4 * 0.05)

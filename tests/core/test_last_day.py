"""The growth of a count over one day."""

from containerdns.core.last_day import DAY, INTERVAL, LastDay


def test_growth_is_that_of_the_last_day_alone() -> None:
    """One more each ten minutes: 144 a day, however long it goes on."""
    last_day = LastDay()
    for number in range(1000):
        last_day.note(number, number * INTERVAL)
        assert last_day.growth(number) == min(number, DAY / INTERVAL)


def test_growth_between_two_samples_counts_at_once() -> None:
    last_day = LastDay()
    last_day.note(5, 100.0)
    last_day.note(7, 101.0)  # not due
    assert last_day.growth(9) == 4


def test_sample_is_due_after_the_interval() -> None:
    last_day = LastDay()
    assert last_day.is_due(0.0)
    last_day.note(0, 0.0)
    assert not last_day.is_due(INTERVAL - 1)
    assert last_day.is_due(INTERVAL)

"""The names of removed containers."""

from containerdns.core import memory
from containerdns.core.memory import Memory


def test_owner_is_held_until_its_time_and_not_at_it() -> None:
    kept = Memory(60)
    kept.add(["web"], now=1000.0)
    assert kept.holds("web", now=1059.9)
    assert not kept.holds("web", now=1060.0)
    assert not kept.holds("db", now=1000.0)


def test_owner_remembered_again_is_held_for_longer() -> None:
    kept = Memory(60)
    kept.add(["web"], now=1000.0)
    kept.add(["web"], now=1050.0)
    assert kept.holds("web", now=1100.0)
    assert len(kept) == 1


def test_nothing_is_remembered_without_a_lifetime() -> None:
    kept = Memory(0)
    kept.add(["web"], now=1000.0)
    assert not kept.holds("web", now=1000.0)
    assert len(kept) == 0


def test_what_is_over_is_dropped_and_given() -> None:
    kept = Memory(60)
    kept.add(["web"], now=1000.0)
    kept.add(["db"], now=1001.0)
    assert kept.expire(now=1059.9) == []
    assert kept.expire(now=1060.0) == ["web"]
    assert list(kept.items()) == [("db", 1061.0)]


def test_oldest_makes_room() -> None:
    """The contract: at most 100,000 names, the oldest go first."""
    kept = Memory(60)
    kept.add((str(number) for number in range(memory.REMEMBERED_MOST)), now=1000.0)
    assert kept.holds("0", now=1000.0)
    kept.add(["0"], now=1001.0)
    kept.add(["new"], now=1002.0)
    assert len(kept) == memory.REMEMBERED_MOST == 100_000
    assert kept.holds("0", now=1002.0)
    assert not kept.holds("1", now=1002.0)
    assert kept.holds("new", now=1002.0)


def test_discarded_owner_is_forgotten() -> None:
    kept = Memory(60)
    kept.add(["web"], now=1000.0)
    kept.discard("web")
    kept.discard("db")
    assert not kept.holds("web", now=1000.0)


def test_one_owner_is_looked_up_without_the_others() -> None:
    kept = Memory(60)
    kept.add(["web"], now=1000.0)
    assert (kept.until("web"), kept.until("db")) == (1060.0, 0.0)

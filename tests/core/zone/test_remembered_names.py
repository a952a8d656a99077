"""The names of removed containers."""

from containerdns.core.zone import remembered_names
from containerdns.core.zone.remembered_names import RememberedNames


def test_owner_is_held_until_its_time_and_not_at_it() -> None:
    kept = RememberedNames(60)
    kept.add(["web"], now=1000.0)
    assert kept.holds("web", now=1059.9)
    assert not kept.holds("web", now=1060.0)
    assert not kept.holds("db", now=1000.0)


def test_owner_remembered_again_is_held_for_longer() -> None:
    kept = RememberedNames(60)
    kept.add(["web"], now=1000.0)
    kept.add(["web"], now=1050.0)
    assert kept.holds("web", now=1100.0)
    assert len(kept) == 1


def test_nothing_is_remembered_without_a_lifetime() -> None:
    kept = RememberedNames(0)
    kept.add(["web"], now=1000.0)
    assert not kept.holds("web", now=1000.0)
    assert len(kept) == 0


def test_what_is_over_is_dropped_and_given() -> None:
    kept = RememberedNames(60)
    kept.add(["web"], now=1000.0)
    kept.add(["db"], now=1001.0)
    assert kept.expire(now=1059.9) == []
    assert kept.expire(now=1060.0) == ["web"]
    assert list(kept.items()) == [("db", 1061.0)]


def test_oldest_makes_room() -> None:
    """The contract: at most 100,000 names, the oldest go first."""
    kept = RememberedNames(60)
    kept.add((str(number) for number in range(remembered_names.MAX_REMEMBERED)), now=1000.0)
    assert kept.holds("0", now=1000.0)
    kept.add(["0"], now=1001.0)
    kept.add(["new"], now=1002.0)
    assert len(kept) == remembered_names.MAX_REMEMBERED == 100_000
    assert kept.holds("0", now=1002.0)
    assert not kept.holds("1", now=1002.0)
    assert kept.holds("new", now=1002.0)


def test_discarded_owner_is_forgotten() -> None:
    kept = RememberedNames(60)
    kept.add(["web"], now=1000.0)
    kept.discard("web")
    kept.discard("db")
    assert not kept.holds("web", now=1000.0)


def test_one_owner_is_looked_up_without_the_others() -> None:
    kept = RememberedNames(60)
    kept.add(["web"], now=1000.0)
    assert (kept.until("web"), kept.until("db")) == (1060.0, 0.0)


def test_another_lifetime_holds_for_what_is_remembered() -> None:
    """A reload to a shorter --remember left names ours for a day."""
    kept = RememberedNames(86400)
    kept.add(["web"], now=1000.0)
    kept.lifetime = 60
    kept.add(["db"], now=1010.0)
    assert list(kept.items()) == [("web", 1060.0), ("db", 1070.0)]
    assert kept.holds("web", now=1059.9)
    assert not kept.holds("web", now=1060.0)
    assert kept.expire(now=1060.0) == ["web"]
    kept.lifetime = 0
    assert not kept.holds("db", now=1060.0)
    assert kept.expire(now=1060.0) == ["db"]


def test_each_is_over_at_its_own_time() -> None:
    """Whatever came before it: a clock that was set back, a time from the state file."""
    kept = RememberedNames(60)
    kept.add(["future"], now=9000.0)
    kept.add(["now"], now=1000.0)
    kept.put("file", until=1050.0)
    assert kept.expire(now=1059.0) == ["file"]
    assert kept.expire(now=1060.0) == ["now"]
    assert kept.expire(now=9060.0) == ["future"]


def test_owner_remembered_again_is_not_over_at_its_first_time() -> None:
    kept = RememberedNames(60)
    kept.add(["web", "db"], now=1000.0)
    kept.add(["web"], now=1030.0)
    kept.discard("db")
    assert kept.expire(now=1060.0) == []
    assert kept.expire(now=1090.0) == ["web"]


def test_many_are_dropped_a_few_at_a_time() -> None:
    kept = RememberedNames(60)
    kept.add((str(number) for number in range(1000)), now=1000.0)
    dropped = []
    while some := kept.expire(now=2000.0):
        assert len(some) <= remembered_names.MAX_EXPIRED_AT_ONCE
        dropped += some
    assert len(set(dropped)) == 1000
    assert len(kept) == 0


def test_an_owner_that_comes_and_goes_costs_a_place_a_minute() -> None:
    """A container in a crash loop, for weeks."""
    kept = RememberedNames(600)
    for moment in range(20_000):
        kept.add(["web"], now=float(moment))
        kept.discard("web")
        kept.expire(now=float(moment))
    assert len(kept._periods) == len(kept._order) <= 1
    assert len(kept) == 0


class Compared(str):
    """An owner that counts how often owners are compared."""

    __slots__ = ()
    times = 0

    def __lt__(self, other: str) -> bool:
        Compared.times += 1
        return str.__lt__(self, other)

    __hash__ = str.__hash__


def test_many_that_come_and_go_are_never_put_in_order_at_once() -> None:
    """A heap of 100,000 was rebuilt in one stretch of 20 ms."""
    kept = RememberedNames(60)
    most = 0
    for number in range(10_000):
        before = Compared.times
        kept.add([Compared(number)], now=1000.0)
        if number % 4:
            kept.discard(str(number))
        most = max(most, Compared.times - before)
    assert len(kept) == 2500
    assert most < 100


def test_owners_expire_in_the_order_of_their_times_after_the_clock_went_back() -> None:
    kept = RememberedNames(60)
    kept.add(["late"], now=1019.0)
    kept.add(["early"], now=1001.0)
    kept.add(["between"], now=1010.0)
    assert kept.expire(now=1061.0) == ["early"]
    assert kept.expire(now=1100.0) == ["between", "late"]


def test_names_below_an_owner_are_known_until_the_last_is_discarded() -> None:
    """An empty non-terminal above a remembered name must not be denied, RFC 8020."""
    kept = RememberedNames(60)
    kept.add(["a.shop", "b.shop"], now=1000.0)
    kept.add(["a.shop"], now=1001.0)  # again: it counts once
    assert kept.is_above("shop")
    assert "shop" in kept.tables[1]
    kept.discard("a.shop")
    assert kept.is_above("shop")
    kept.discard("b.shop")
    assert not kept.is_above("shop")
    assert "shop" not in kept.tables[1]


def test_owner_remembered_again_is_the_newest() -> None:
    """The state file has the oldest first, and drops these if there are too many."""
    kept = RememberedNames(60)
    kept.add(["web", "db"], now=1000.0)
    kept.add(["web"], now=1001.0)
    assert list(kept.items()) == [("db", 1060.0), ("web", 1061.0)]


def test_shortest_lifetime_remembers() -> None:
    kept = RememberedNames(1)
    kept.add(["web"], now=1000.0)
    assert kept.holds("web", now=1000.9)

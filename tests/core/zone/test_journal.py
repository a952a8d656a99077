"""The chain of changes that IXFR is made of."""

from itertools import pairwise

import pytest

from containerdns.core.protocol.messages import RR
from containerdns.core.zone import journal
from containerdns.core.zone.journal import MAX_CHANGES, MAX_RECORDS, Difference, Journal

RECORD = RR(b"\3web\6docker\0", 1, 1, 5, bytes(4))


def chain(*serials: int) -> Journal:
    """A journal whose changes lead from each serial to the next."""
    made = Journal()
    for before, after in pairwise(serials):
        made.add(Difference(before, after, [], []))
    return made


@pytest.mark.parametrize(
    ("serial", "steps"),
    [(1, [(1, 2), (2, 5)]), (2, [(2, 5)]), (3, None), (5, None), (0, None)],
    ids=["the oldest", "a later one", "between two", "the last", "unknown"],
)
def test_changes_since_a_serial_come_oldest_first(
    serial: int, steps: list[tuple[int, int]] | None
) -> None:
    found = chain(1, 2, 5).since(serial)
    assert (None if found is None else [(c.before, c.after) for c in found]) == steps


def test_change_that_does_not_follow_starts_the_chain_anew() -> None:
    """RFC 1995 section 5: a server may give up the differences at any time."""
    made = chain(1, 2)
    made.add(Difference(5, 6, [], []))
    assert made.since(1) is None
    assert made.since(5) == [Difference(5, 6, [], [])]


def test_cleared_journal_knows_nothing() -> None:
    made = chain(1, 2)
    made.clear()
    assert made.since(1) is None


@pytest.mark.parametrize("extra", [0, 1], ids=["at the limit", "beyond it"])
def test_oldest_changes_give_way_to_a_limit_of_changes(extra: int) -> None:
    made = chain(*range(1, MAX_CHANGES + 2 + extra))
    assert (made.since(1) is None) == bool(extra)
    assert made.since(2) is not None


@pytest.mark.parametrize("extra", [0, 1], ids=["at the limit", "beyond it"])
def test_oldest_changes_give_way_to_a_limit_of_records(extra: int) -> None:
    """Two SOA records of each change count as well."""
    made = chain(1, 2)
    made.add(Difference(2, 3, [], [RECORD] * (MAX_RECORDS - 4 + extra)))
    assert (made.since(1) is None) == bool(extra)
    assert made.since(2) is not None


def test_change_larger_than_the_journal_leaves_it_empty_and_usable() -> None:
    made = chain(1, 2)
    made.add(Difference(2, 3, [], [RECORD] * MAX_RECORDS))
    assert made.since(2) is None
    made.add(Difference(3, 4, [], []))
    assert made.since(3) is not None


def test_chain_goes_over_the_end_of_the_serials() -> None:
    """RFC 1982: 0 follows on 2**32 - 1; we leave it out."""
    last = 2**32 - 1
    found = chain(last - 1, last, 1).since(last - 1)
    assert found is not None
    assert [c.after for c in found] == [last, 1]


@pytest.mark.parametrize(
    ("serial", "other", "expected"),
    [(2, 1, True), (1, 1, False), (1, 2, False), (1, 2**32 - 1, True), (2**31 + 1, 1, False)],
    ids=["newer", "the same", "older", "over the end", "half a circle"],
)
def test_newer_is_as_in_rfc_1982(serial: int, other: int, *, expected: bool) -> None:
    assert journal.is_newer(serial, other) is expected


def test_serial_of_a_soa_is_read_and_replaced() -> None:
    names = b"\2ns\6docker\0" * 2
    soa = RR(b"\6docker\0", 6, 1, 5, names + (7).to_bytes(4) + bytes(16))
    assert journal.serial_of(soa) == 7
    other = journal.with_serial(soa, 2**32 - 1)
    assert journal.serial_of(other) == 2**32 - 1
    assert other.rdata[: len(names)] == names
    assert len(other.rdata) == len(soa.rdata)


@pytest.mark.parametrize(
    ("serial", "steps"),
    [(3, [(3, 5), (5, 9)]), (2, [(2, 5), (5, 9)]), (7, [(7, 9)]), (9, None), (1, None)],
    ids=["between two", "the oldest", "between the last two", "the last", "before"],
)
def test_zone_that_is_looked_at_at_each_change_is_known_between_two(
    serial: int, steps: list[tuple[int, int]] | None
) -> None:
    """So a secondary that comes from another primary finds its serial."""
    made = Journal(keeps_each_serial=True)
    made.add(Difference(2, 5, [], []))
    made.add(Difference(5, 9, [], []))
    found = made.since(serial)
    assert (None if found is None else [(c.before, c.after) for c in found]) == steps

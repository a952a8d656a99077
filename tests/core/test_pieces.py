"""Copies of large tables are made in pieces, and are those of one moment."""

from containerdns.core.pieces import COPIED_AT_ONCE, copied, emptied

MANY = 10 * COPIED_AT_ONCE


def test_large_table_is_copied_in_small_pieces() -> None:
    table = dict.fromkeys(range(MANY))
    *nothing, whole = copied(table, lambda: 0)
    assert nothing == [None] * 10
    assert whole == list(range(MANY))


def test_small_or_empty_table_is_one_piece() -> None:
    assert list(copied({}, lambda: 0)) == [[]]
    assert list(copied({"a": 1}, lambda: 0)) == [["a"]]


def test_copy_is_that_of_the_moment_at_which_it_is_complete() -> None:
    """A dictionary must not change while it is iterated over."""
    table = dict.fromkeys(range(MANY))
    changes = 0
    pieces = copied(table, lambda: changes)
    for number in range(3):
        next(pieces)
        del table[number]
        table[MANY + number] = None
        changes += 1
    *_, whole = pieces
    assert whole == list(range(3, MANY + 3))


def test_table_that_never_stops_changing_is_copied_all_the_same() -> None:
    table = dict.fromkeys(range(MANY))
    found: list[int] = []
    for whole in copied(table, lambda: len(table)):
        table[len(table)] = None
        found = whole or found
    assert len(found) >= MANY


def test_list_is_emptied_from_its_beginning() -> None:
    items = list("abc")
    left = [(item, len(items)) for item in emptied(items)]
    assert left == [("a", 2), ("b", 1), ("c", 0)]

"""Copies of large tables, made in pieces while the tables change."""

from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Final, TypeVar

COPIED_AT_ONCE: Final = 2048  # within 0.2 ms, as hardly any key is in the processor's cache

Key = TypeVar("Key")


def copied(table: Collection[Key], version: Callable[[], int]) -> Iterator[list[Key] | None]:
    """Yield None after each piece of work, and finally the keys that a table has at that moment.

    If the table changes meanwhile, it is copied again, in pieces of twice the size, so that this
    ends however often it changes.

    Args:
        table: The table.
        version: Returns another number after each change of the table.
    """
    most = COPIED_AT_ONCE
    while True:
        began, keys, found = version(), iter(table), list[Key]()
        while version() == began:
            piece = list(islice(keys, most))
            found += piece
            if len(piece) < most:
                yield found
                return
            yield None
        most *= 2


def emptied(items: list[Key]) -> Iterator[Key]:
    """Yield the items of a list in order, and remove each, so that not all are freed at once."""
    items.reverse()
    while items:
        yield items.pop()

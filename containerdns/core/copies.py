"""A zone as its secondaries hold it: the records of one serial, and how they came about.

A copy is what AXFR sends, and the differences that IXFR sends are those between one
state of the copy and the next.  So a client that applies every difference holds what
a whole transfer would give it, whatever changed the zone: a name that was reported as
changed is looked at again, and compared with what was sent of it before.

Nothing is looked at until somebody asks.  A caller then calls `advance` until it
returns False, with pauses as it likes; names that change meanwhile are looked at once
more, and the copy takes over everything in one step.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple, Protocol

from containerdns.core import journal
from containerdns.core.journal import Change, Journal
from containerdns.core.messages import RR

MAX_CHANGED: Final = 10_000  # names between two transfers; beyond, the zone is sent whole

Contents = dict[str, tuple[RR, ...]]  # by name; what lies just below a name may be with it


class Source(Protocol):
    """The zone that is copied."""

    def soa(self) -> RR:
        """The SOA record with the zone's serial, which grows whenever a record changes."""

    def names(self) -> Iterator[str]:
        """All names that have records; those that change during the iteration are optional."""

    def records(self, name: str) -> tuple[RR, ...]:
        """The records that belong to a name, without SOA; none if it has none."""


class Copy:
    """One zone at one serial, and the changes that led there.

    Attributes:
        serial: Of the contents; 0 before the first.
    """

    def __init__(self, source: Source) -> None:
        self.serial = 0
        self._source = source
        self._journal = Journal()
        self.restart()

    # -- what the zone's writer calls ------------------------------------------------

    def touch(self, names: Iterable[str]) -> None:
        """Note that the records of some names may be others now."""
        if not self._is_taken and self._unread is None:
            return  # they will be read with all others
        self._changed.update(dict.fromkeys(names))
        if len(self._changed) > MAX_CHANGED:
            self.restart()

    def restart(self) -> None:
        """Note that every record may be another one: the zone is read anew, and sent whole."""
        self._journal.clear()
        self._changed: dict[str, None] = {}
        self._unread: Iterator[str] | None = None
        self._is_taken = False  # the contents are a whole zone
        self._contents: Contents = {}
        self._discard()

    # -- what transfers call ---------------------------------------------------------

    def advance(self) -> bool:
        """Look at one more name; return whether there may be more to do.

        When it returns False, the copy is what the zone is.  Only while a zone changes
        under one serial, as in a reload, is it what the zone was when it got that serial.
        """
        if not self._is_taken:
            if self._unread is None:
                self._unread = self._source.names()
            name = next(self._unread, None)
            if name is not None:
                self._look_at(name)
                return True
        if self._changed:
            name, _ = self._changed.popitem()
            self._look_at(name)
            return True
        self._take_over()
        return False

    @property
    def soa(self) -> RR:
        """The SOA record of the copy."""
        return journal.with_serial(self._source.soa(), self.serial)

    def records(self) -> Iterator[RR]:
        """All records at this serial but the SOA, whatever happens to the copy meanwhile."""
        return chain.from_iterable(list(self._contents.values()))

    def since(self, serial: int) -> Sequence[Change] | None:
        """The changes from a serial to that of the copy, or None if not all are known."""
        return self._journal.since(serial)

    # -- the two states: contents, and what was seen since ------------------------------

    def _look_at(self, name: str) -> None:
        """Compare the records of a name with those in the contents."""
        had, has = self._contents.get(name, ()), self._source.records(name)
        if not self._is_taken:
            _put(self._contents, name, has)
        elif had == has:
            self._fresh.pop(name, None)
        else:
            before, now = set(had), set(has)
            removed = tuple(r for r in had if r not in now)
            added = tuple(r for r in has if r not in before)
            self._fresh[name] = _Seen(has, removed, added)

    def _take_over(self) -> None:
        """Make what was seen the contents, under the zone's serial."""
        serial = journal.serial_of(self._source.soa())
        if not self._is_taken:
            self._unread, self._is_taken = None, True
            # A zone that was read twice under one serial may have been sent in both states.
            self._is_ambiguous = serial == self.serial
        elif serial == self.serial:
            return
        elif self._is_ambiguous:
            self._is_ambiguous = False
        else:
            removed = [record for seen in self._fresh.values() for record in seen.removed]
            added = [record for seen in self._fresh.values() for record in seen.added]
            self._journal.add(Change(self.serial, serial, removed, added))
        for name, seen in self._fresh.items():
            _put(self._contents, name, seen.records)
        self.serial = serial
        self._discard()

    def _discard(self) -> None:
        self._fresh: dict[str, _Seen] = {}  # names that are not as in the contents


class _Seen(NamedTuple):
    """What was found at a name, beside what the contents have there."""

    records: tuple[RR, ...]
    removed: tuple[RR, ...]
    added: tuple[RR, ...]


def _put(contents: Contents, name: str, records: tuple[RR, ...]) -> None:
    if records:
        contents[name] = records
    else:
        contents.pop(name, None)

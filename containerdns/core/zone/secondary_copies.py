"""A zone as its secondaries hold it: the records of one serial, and how they came about.

A copy is what AXFR sends, and the differences that IXFR sends are those between one
state of the copy and the next.  So a client that applies every difference holds what
a whole transfer would give it, whatever changed the zone: a name that was reported as
changed is looked at again, and compared with what was sent of it before.

Nothing is looked at until somebody asks.  A caller then calls `advance` until it
returns False, with pauses as it likes; names that change meanwhile are looked at once
more.  Then `cut` makes the copy current, but for names that very many containers have:
what these were at the cut is worked out in a thread and pasted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, Protocol

from containerdns.core.protocol.messages import RR
from containerdns.core.zone import journal
from containerdns.core.zone.journal import Difference, Journal

MAX_CHANGED: Final = 10_000  # names between two transfers; beyond, the zone is sent whole

Contents = dict[str, tuple[RR, ...]]  # by name; what lies just below a name may be with it


Work = Callable[[], tuple[RR, ...]]


class Source(Protocol):
    """The zone that is copied."""

    def soa(self) -> RR:
        """The SOA record with the zone's serial, which grows whenever a record changes."""

    def names(self) -> Iterator[str]:
        """All names that have records; those that change during the iteration are optional."""

    def records(self, name: str) -> tuple[RR, ...]:
        """The records that belong to a name, without SOA; none if it has none."""

    def is_large(self, name: str) -> bool:
        """Return whether `records` takes so long that `later` is called instead."""

    def later(self, name: str) -> Work:
        """What `records` would give now, to be worked out in a thread."""


class Copy:
    """One zone at one serial, and the changes that led there.

    Attributes:
        serial: Of the contents; 0 before the first.
    """

    def __init__(self, source: Source) -> None:
        self.serial = 0
        self._source = source
        self._journal = Journal()
        self._generation = 0
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
        self._is_read = False
        self._is_taken = False  # the contents are a whole zone
        self._large: dict[str, None] = {}  # names that changed and take long
        self._generation += 1
        self._contents: Contents = {}
        self._discard()

    # -- what transfers call ---------------------------------------------------------

    def advance(self) -> bool:
        """Look at one more name; return whether there may be more to do before `cut`."""
        if not self._is_taken and not self._is_read:
            if self._unread is None:
                self._unread = self._source.names()
            name = next(self._unread, None)
            if name is not None:
                self._look_at(name)
                return True
            self._is_read = True
        if self._changed:
            name, _ = self._changed.popitem()
            self._look_at(name)
            return True
        return False

    def cut(self) -> "Cut | None":
        """Return what is still to be worked out, as it is now; None if the copy is current.

        To be called when `advance` has returned False, before anything else happens.  Only
        while a zone changes under one serial, as in a reload, is a current copy what the
        zone was when it got that serial.
        """
        serial = journal.serial_of(self._source.soa())
        works = []
        for name in self._large:
            if self._source.is_large(name):
                works.append((name, self._contents.get(name, ()), self._source.later(name)))
            else:
                self._compare(name, self._source.records(name))
        self._large.clear()
        if not works:
            self._take_over(serial)
            return None
        return Cut(self._generation, serial, works)

    def paste(self, cut: "Cut", seen: dict[str, "Seen"]) -> bool:
        """Take over what was worked out; return False if the zone is to be read anew.

        The copy is then what the zone was at the cut.
        """
        if cut.generation != self._generation:
            return False
        if self._is_taken:
            self._fresh.update(seen)
        else:
            self._contents.update({name: found.records for name, found in seen.items()})
        self._take_over(cut.serial)
        return True

    @property
    def is_whole(self) -> bool:
        """Whether the copy is the zone of some serial, if not of the current one."""
        return self._is_taken

    @property
    def soa(self) -> RR:
        """The SOA record of the copy."""
        return journal.with_serial(self._source.soa(), self.serial)

    def records(self) -> Iterator[RR]:
        """All records at this serial but the SOA, whatever happens to the copy meanwhile."""
        return chain.from_iterable(list(self._contents.values()))

    def since(self, serial: int) -> Sequence[Difference] | None:
        """The changes from a serial to that of the copy, or None if not all are known."""
        return self._journal.since(serial)

    # -- the two states: contents, and what was seen since ------------------------------

    def _look_at(self, name: str) -> None:
        """Look at the records of a name, or leave that for the cut."""
        if self._source.is_large(name):
            self._large[name] = None
        else:
            self._large.pop(name, None)
            self._compare(name, self._source.records(name))

    def _compare(self, name: str, has: tuple[RR, ...]) -> None:
        """Compare the records of a name with those in the contents."""
        had = self._contents.get(name, ())
        if not self._is_taken:
            _put(self._contents, name, has)
        elif had == has:
            self._fresh.pop(name, None)
        else:
            self._fresh[name] = compared(had, has)

    def _take_over(self, serial: int) -> None:
        """Make what was seen the contents, under the serial that the zone had then."""
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
            self._journal.add(Difference(self.serial, serial, removed, added))
        for name, seen in self._fresh.items():
            _put(self._contents, name, seen.records)
        self.serial = serial
        self._discard()

    def _discard(self) -> None:
        self._fresh: dict[str, Seen] = {}  # names that are not as in the contents


class Seen(NamedTuple):
    """What was found at a name, beside what the contents have there."""

    records: tuple[RR, ...]
    removed: tuple[RR, ...]
    added: tuple[RR, ...]


def compared(had: tuple[RR, ...], has: tuple[RR, ...]) -> Seen:
    """What was found at a name, beside what had been there."""
    before, now = set(had), set(has)
    removed = tuple(record for record in had if record not in now)
    return Seen(has, removed, tuple(record for record in has if record not in before))


@dataclass(frozen=True, slots=True)
class Cut:
    """What the zone was at one moment, for the names that take long.

    Attributes:
        generation: Of the copy, which may be read anew meanwhile.
        serial: The zone's.
        works: Name, what the copy has there, and what gives what is there now.
    """

    generation: int
    serial: int
    works: Sequence[tuple[str, tuple[RR, ...], Work]]

    def work_out(self) -> dict[str, Seen]:
        """Work out all of it; may be called in a thread."""
        return {name: compared(had, work()) for name, had, work in self.works}


def _put(contents: Contents, name: str, records: tuple[RR, ...]) -> None:
    if records:
        contents[name] = records
    else:
        contents.pop(name, None)

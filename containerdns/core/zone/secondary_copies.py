"""A copy of a zone for its secondaries: the records at one serial, and the differences.

AXFR sends the copy, and IXFR the differences between one state of the copy and the next.  So a
client that applies every difference has the same as after a full transfer, whatever changed
the zone: a name that was reported as changed is read again, and compared with what was sent.

Nothing is read until a secondary asks.  A caller then calls `advance` until it
returns False, with pauses as it likes; names that change meanwhile are read once
more.  Then `cut` makes the copy current, except for names of very many containers, whose records
at the cut are computed in small pieces and pasted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, Protocol

from containerdns.core.protocol.messages import RR
from containerdns.core.zone import journal
from containerdns.core.zone.journal import Difference, Journal

MAX_CHANGED: Final = 10_000  # names between two transfers; beyond, the zone is sent whole

Contents = dict[str, tuple[RR, ...]]  # by name; may include records just below the name


Work = Iterator[tuple[RR, ...] | None]  # None after each piece but the last


class Source(Protocol):
    """The zone that is copied."""

    def soa(self) -> RR:
        """Return the SOA record; its serial increases whenever a record changes."""

    def names(self) -> Iterator[str | None]:
        """Yield all names with records, and None after other work.

        Names that change meanwhile are optional.
        """

    def records(self, name: str) -> tuple[RR, ...]:
        """Return the records of a name, without SOA."""

    def is_large(self, name: str) -> bool:
        """Return whether `records` takes so long that `later` is called instead."""

    def later(self, name: str) -> Work:
        """Compute what `records` would return now, in pieces."""


class Copy:
    """One zone at one serial, and the changes that led there.

    Attributes:
        serial: The serial of the contents; 0 before the first.
    """

    def __init__(self, source: Source, *, keeps_each_serial: bool = False) -> None:
        """Begin empty.

        Args:
            source: The zone.
            keeps_each_serial: `cut` is called at each serial at which a record changes.
        """
        self.serial = 0
        self._source = source
        self._journal = Journal(keeps_each_serial=keeps_each_serial)
        self._generation = 0
        self.restart()

    # -- called by the zone's writer -------------------------------------------------

    def touch(self, names: Iterable[str]) -> None:
        """Record that the records of some names may have changed."""
        if not self._is_taken and self._unread is None:
            return  # all names will be read anyway
        self._changed.update(dict.fromkeys(names))
        if len(self._changed) > MAX_CHANGED:
            self.restart()

    def restart(self) -> None:
        """Record that every record may have changed: read the zone again, and send it whole."""
        self._journal.clear()
        self._changed: dict[str, None] = {}
        self._unread: Iterator[str | None] | None = None
        self._is_read = False
        self._is_taken = False  # the contents are complete
        self._large: dict[str, None] = {}  # changed names that take long
        self._generation += 1
        self._contents: Contents = {}
        self._discard()

    # -- called by transfers ----------------------------------------------------------

    def advance(self) -> bool:
        """Read one more name, or look for it; return whether there may be more before `cut`."""
        if not self._is_taken and not self._is_read:
            if self._unread is None:
                self._unread = self._source.names()
            for name in self._unread:
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
        """Return the remaining work, as of now; None if the copy is current.

        Must be called right after `advance` has returned False.  If the zone changes under one
        serial, as in a reload, a copy is current if it is what the zone was when it got that
        serial.
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
        """Apply the finished work; return False if the zone has to be read again.

        The copy is then the zone at the time of the cut.
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
        """Whether the copy is complete at some serial, possibly not the current one."""
        return self._is_taken

    @property
    def version(self) -> tuple[int, int]:
        """Return a value that differs whenever the contents do; they may, under one serial."""
        return self._generation, self.serial

    @property
    def soa(self) -> RR:
        """Return the SOA record of the copy."""
        return journal.with_serial(self._source.soa(), self.serial)

    def records(self) -> Iterator[RR]:
        """Return all records at this serial without the SOA, unaffected by later changes."""
        return chain.from_iterable(list(self._contents.values()))

    def since(self, serial: int) -> Sequence[Difference] | None:
        """Return the changes since a serial, or None if not all are known."""
        return self._journal.since(serial)

    # -- the two states: contents, and changes seen since -------------------------------

    def _look_at(self, name: str) -> None:
        """Read the records of a name, or leave that for the cut."""
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
        """Apply what was seen to the contents, under the serial that the zone had then."""
        if not self._is_taken:
            self._unread, self._is_taken = None, True
            # A zone read twice under one serial may have been sent in both states.
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
        self._fresh: dict[str, Seen] = {}  # names that differ from the contents


class Seen(NamedTuple):
    """The records found at a name, and those in the contents."""

    records: tuple[RR, ...]
    removed: tuple[RR, ...]
    added: tuple[RR, ...]


def compared(had: tuple[RR, ...], has: tuple[RR, ...]) -> Seen:
    """Return the comparison of a name's records with the earlier ones."""
    before, now = set(had), set(has)
    removed = tuple(record for record in had if record not in now)
    return Seen(has, removed, tuple(record for record in has if record not in before))


@dataclass(frozen=True, slots=True)
class Cut:
    """The remaining work at one moment, for the names that take long.

    Attributes:
        generation: The copy's, as that may be read again meanwhile.
        serial: The zone's.
        works: The name, its records in the copy, and a function that computes the new ones.
    """

    generation: int
    serial: int
    works: Sequence[tuple[str, tuple[RR, ...], Work]]

    def work_out(self, seen: "dict[str, Seen]") -> Iterator[None]:
        """Store the records found at each name, and yield after each piece of work."""
        for name, had, work in self.works:
            for found in work:
                if found is not None:
                    seen[name] = compared(had, found)
                yield


def _put(contents: Contents, name: str, records: tuple[RR, ...]) -> None:
    if records:
        contents[name] = records
    else:
        contents.pop(name, None)

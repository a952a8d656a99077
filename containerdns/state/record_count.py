"""How many records of each type the first domain has, and how many names were lost: for metrics."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from containerdns.core.protocol import messages
from containerdns.core.zone import records
from containerdns.core.zone.records import Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Loss, Suffix, SuffixKind, Zone

QUICK_COUNT = 200  # owners; that many are counted within some milliseconds
RECOUNT_AFTER = 30.0  # seconds between two counts of a large zone that keeps changing
MAX_SHARE = 0.005  # of the time that may be spent on counting; then there is more between them
COUNT_SLICE = 0.00025  # seconds of counting between queries
LOST = "lost"  # how lost names are counted beside types
COUNTED = ("A", "AAAA", "CNAME", "NS", "SOA", "SRV", "TXT")


@dataclass(slots=True)
class _Count:
    """One count: of which version of the zone, what is left, what was found."""

    version: tuple[int, int]
    left: Iterator[Record | Loss | None]
    found: Counter[str] = field(default_factory=Counter)


class RecordCount:
    """The count of a zone; a large one is counted in pieces, and shown when it is whole."""

    def __init__(self) -> None:
        self._shown = _Count((-1, -1), iter(()))
        self._next: _Count | None = None
        self._due_at = 0.0
        self._spent = 0.0  # seconds on the present count

    @property
    def by_type(self) -> dict[str, int]:
        """The records by the mnemonic of their type."""
        found = dict.fromkeys(COUNTED, 0) | self._shown.found
        found.pop(LOST, None)
        return found

    @property
    def lost(self) -> int:
        """The number of claims whose names others have."""
        return self._shown.found[LOST]

    def bring_up_to_date(self, zone: Zone, view: View) -> Iterator[None]:
        """Count a small zone, in pieces; a large one shows the last count."""
        while len(zone) <= QUICK_COUNT and not self.go_on(zone, view):
            yield

    def go_on(self, zone: Zone, view: View) -> bool:
        """Count for a moment; return whether the count is current, or not due yet."""
        if self._next is None:
            is_due = time.monotonic() >= self._due_at or len(zone) <= QUICK_COUNT
            if self._shown.version == _version_of(zone) or not is_due:
                return True
            suffix = Suffix(zone.shape.domains[0], SuffixKind.DOMAIN)
            recorded = records.in_pieces(zone, suffix, view)
            self._next = _Count(_version_of(zone), chain(recorded, zone.losses_in_pieces()))
        began = time.perf_counter()
        until = began + COUNT_SLICE
        for counted in self._next.left:
            if isinstance(counted, Loss):
                self._next.found[LOST] += 1
            elif counted is not None:
                self._next.found[messages.type_text(counted.rtype)] += 1
            if time.perf_counter() >= until:
                self._spent += time.perf_counter() - began
                return False
        self._shown, self._next = self._next, None
        self._spent += time.perf_counter() - began
        self._due_at = time.monotonic() + max(RECOUNT_AFTER, self._spent / MAX_SHARE)
        self._spent = 0.0
        return self._shown.version == _version_of(zone)


def _version_of(zone: Zone) -> tuple[int, int]:
    """Return a version that changes with the records; the serial alone may lag a second."""
    return zone.serial, zone.generation

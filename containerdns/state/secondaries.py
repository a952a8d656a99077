"""What secondaries get: our zones as records, made when somebody takes one, and NOTIFY.

The writer of the zone only says which names changed.  What that did to the records is
worked out in `core/zone/secondary_copies` when a secondary asks, so that no transfer can miss
a change, and transfers cost nothing without secondaries.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from containerdns.core import names
from containerdns.core.protocol.messages import RR
from containerdns.core.zone import records
from containerdns.core.zone.secondary_copies import Copy, Work
from containerdns.core.zone.special_names import nearest
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind, Zone
from containerdns.tasks.turns import turns

GATHER = 0.1  # seconds in which changes are notified together
REST = 4  # times as long as names of very many containers took, before they are read again
MAX_REST = 5.0  # seconds; a secondary waits for an answer, mostly for 10


class ChangeListener(Protocol):
    """Sends NOTIFY to secondaries."""

    def changed(self, apex: str, soa: RR) -> None:
        """Send every target a zone's new SOA, soon."""


class ZoneSource:
    """One of our zones, in nobody's view in particular, as `secondary_copies` reads it."""

    def __init__(self, zone: Zone, suffix: Suffix, view: View) -> None:
        self._zone = zone
        self._suffix = suffix
        self._view = view
        self._searches = zone.searches_in(suffix.apex) if suffix.kind is SuffixKind.DOMAIN else []
        self._hiding: set[str] = set()

    def soa(self) -> RR:
        """The SOA record, with the zone's serial."""
        return records.soa(self._zone, self._suffix.apex, self._zone.shape.ttl).rr()

    def names(self) -> Iterator[str]:
        """All names that have records."""
        return records.names_in(self._zone, self._suffix)

    def records(self, name: str) -> tuple[RR, ...]:
        """The records that belong to a name, without SOA."""
        if self._searches and self._is_related(name):
            (self._hiding.add if self._hides(name) else self._hiding.discard)(name)
        found = records.of_name(self._zone, name, self._suffix, self._view)
        return tuple(record.rr() for record in found)

    def is_large(self, name: str) -> bool:
        """Return whether very many hold a name."""
        return records.is_large(self._zone, name, self._suffix)

    def later(self, name: str) -> Work:
        """What `records` would give now of a large name, to be worked out in a thread."""
        work = records.later(self._zone, name, self._suffix, self._view)
        return lambda: tuple(record.rr() for record in work())

    def may_reveal(self, changed: str) -> bool:
        """Return whether a change of a name may hide or show names of an inner search domain.

        What the domain has of its own, also by a wildcard, is not looked up in the search
        domain; and what exists between a wildcard and a name takes the name from the wildcard.
        """
        if not self._searches or not self._is_related(changed):
            return False
        return bool(self._hiding) or self._hides(changed)

    def _is_related(self, name: str) -> bool:
        """Return whether a name is in or above an inner search domain, or a wildcard is."""
        base = name.removeprefix("*.")
        return any(names.is_below(base, s) or names.is_below(s, base) for s in self._searches)

    def _hides(self, name: str) -> bool:
        """Return whether the domain has something of its own below a name, or a wildcard there."""
        if name == self._suffix.apex:
            return False
        holders = self._zone.holders(self._suffix.owner_of(name), self._suffix)
        return any(name.startswith("*.") or self._zone.befores_of(claim) for claim in holders)


class Feed:
    """Hears what changes, keeps copies of zones for those who take them, and has them notified.

    Attributes:
        notifies: There is somebody to notify.
    """

    def __init__(
        self, zone: Zone, see: Callable[[], View], notifier: ChangeListener, *, notifies: bool
    ) -> None:
        """Take what is copied, and in whose view now; `notifies` if there is anybody to notify."""
        self._zone = zone
        self._see = see
        self._view = see()
        self._notifier = notifier
        self.notifies = notifies
        self._sources: dict[str, ZoneSource] = {}
        self._copies: dict[str, Copy] = {}
        self._readers: dict[str, asyncio.Lock] = {}
        self._cut_at: dict[str, float] = {}  # by apex, by the clock of the loop
        self._rest_until: dict[str, float] = {}  # likewise
        self._to_notify: set[str] = set()  # apexes
        self._is_scheduled = False

    # -- what the zone's writer calls ------------------------------------------------------

    def look_again(self) -> None:
        """Note that the view may be another one: where this server is, or the host."""
        view = self._see()
        if view != self._view:
            self._view = view
            self.renewed()

    def changed(self, changed: Iterable[str]) -> None:
        """Note the names whose records may have changed, and those above them.

        To be called after the change, and at any time before or after the serial grew.
        """
        if not self._copies and not self.notifies:
            return
        apexes = self._apexes()
        for name in changed:
            apex = nearest(name, apexes)
            if not apex:
                continue
            self._to_notify.add(apex)
            copy = self._copies.get(apex)
            if copy is not None:
                if self._sources[apex].may_reveal(name):
                    copy.restart()
                else:
                    copy.touch((name,))
        self._notify_soon()

    def renewed(self) -> None:
        """Note that any record may be another one, and any zone may have come or gone."""
        self._copies.clear()
        self._sources.clear()
        self.grown()

    def grown(self) -> None:
        """Note that the serial of all zones grew."""
        if self.notifies:
            self._to_notify |= self._apexes()
            self._notify_soon()

    def regrouped(self) -> None:
        """Note that there are other reverse zones; what they hold may be parted otherwise."""
        for apex in [a for a in self._copies if a not in self._zone.shape.domains]:
            del self._copies[apex], self._sources[apex]
        self.grown()

    # -- what transfers call --------------------------------------------------------------

    async def current(self, apex: str) -> Copy | None:
        """Return the copy of a zone as it is now, or None if there is no such zone of ours.

        Reads what is to be read in short turns, once for all who ask meanwhile.  What the
        copy says is to be taken before the next await; it goes on changing.
        """
        asked = asyncio.get_running_loop().time()
        async with self._readers.setdefault(apex, asyncio.Lock()):
            while apex in self._apexes():
                copy = self._copy_of(apex)
                if copy.is_whole and self._cut_at.get(apex, -1.0) > asked:
                    return copy
                rest = self._rest_until.pop(apex, 0.0) - asyncio.get_running_loop().time()
                if rest > 0:
                    await asyncio.sleep(rest)
                await self._advance(copy, apex)
                if await self._finish(copy, apex) and copy is self._copies.get(apex):
                    return copy
        return None

    async def _advance(self, copy: Copy, apex: str) -> None:
        """Look at all names that changed, in turns, until nothing is left at one moment."""
        while turns().is_over() or copy.advance():
            await turns().offer(("copy", apex))

    async def _finish(self, copy: Copy, apex: str) -> bool:
        """Make a copy current; return False if the zone is to be read anew.

        Names that very many containers have are worked out in a thread, which must not
        keep a core busy on a host where they change all the time.
        """
        clock = asyncio.get_running_loop().time
        cut = copy.cut()
        if cut is None:
            return True
        self._cut_at[apex] = begun = clock()
        seen = await asyncio.to_thread(cut.work_out)
        taken = clock() - begun
        has_pasted = copy.paste(cut, seen)
        self._rest_until[apex] = clock() + min(taken * REST, MAX_REST)
        return has_pasted

    def _copy_of(self, apex: str) -> Copy:
        copy = self._copies.get(apex)
        if copy is None:
            kind = SuffixKind.DOMAIN if apex in self._zone.shape.domains else SuffixKind.REVERSE
            source = ZoneSource(self._zone, Suffix(apex, kind), self._view)
            copy = self._copies[apex] = Copy(source)
            self._sources[apex] = source
        return copy

    def _apexes(self) -> frozenset[str]:
        return frozenset((*self._zone.shape.domains, *self._zone.reverse.apexes()))

    # -- NOTIFY ---------------------------------------------------------------------------

    def _notify_soon(self) -> None:
        if self.notifies and self._to_notify and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(GATHER, self._notify)

    def _notify(self) -> None:
        """Have the changes of the last moment notified, with the serial that there is now."""
        self._is_scheduled = False
        apexes, self._to_notify = self._to_notify, set()
        zone = self._zone
        for apex in sorted(apexes & self._apexes()):
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())

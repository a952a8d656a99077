"""What secondaries get: our zones as records, generated on demand, and NOTIFY.

The zone's writer only reports which names changed.  `core/zone/secondary_copies` works out the
records when a secondary asks, so that no transfer can miss a change, and transfers cost
nothing without secondaries.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from containerdns.core import names
from containerdns.core.protocol.messages import RR
from containerdns.core.zone import catalog, records
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.secondary_copies import Copy, Cut, Seen, Work
from containerdns.core.zone.special_names import nearest
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import HOST_OWNER, Suffix, SuffixKind, Zone
from containerdns.tasks.turns import turns

LOOK_AGAIN = 0.05  # seconds between checks for changes, while a copy waits for its serial
MAX_AT_GROWTH = 16  # names read when the serial grows, within 2 ms
GATHER = 0.1  # seconds in which changes are notified together


class ChangeListener(Protocol):
    """Sends NOTIFY to secondaries."""

    def changed(self, apex: str, soa: RR) -> None:
        """Send a zone's new SOA to every target soon."""


class NotifyQueue:
    """The zones to notify secondaries of: those that change within a moment, together."""

    def __init__(
        self, zone: Zone, notifier: ChangeListener, apexes: Callable[[], frozenset[str]] | None
    ) -> None:
        """Begin empty.

        Args:
            zone: Whose SOA is sent, as it is then.
            notifier: Sends NOTIFY.
            apexes: Returns the zones there are then, if they may have gone meanwhile.
        """
        self._zone = zone
        self._notifier = notifier
        self._apexes = apexes
        self._queued: set[str] = set()  # apexes
        self._is_scheduled = False

    def add(self, apexes: Iterable[str]) -> None:
        """Send NOTIFY for some zones soon."""
        self._queued.update(apexes)
        if self._queued and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(GATHER, self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        queued, self._queued = self._queued, set()
        zone = self._zone
        for apex in sorted(queued if self._apexes is None else queued & self._apexes()):
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())


class ZoneSource:
    """One of our zones in the neutral view, for `secondary_copies`."""

    def __init__(self, zone: Zone, suffix: Suffix, view: View) -> None:
        self._zone = zone
        self._suffix = suffix
        self._view = view
        self._searches = zone.searches_in(suffix.apex) if suffix.kind is SuffixKind.DOMAIN else []
        self._hiding: set[str] = set()

    def see(self, view: View) -> None:
        """Use another view from now on; the names that it concerns are to be read again."""
        self._view = view

    def soa(self) -> RR:
        """Return the SOA record with the zone's serial."""
        return records.soa(self._zone, self._suffix.apex, self._zone.shape.ttl).rr()

    def names(self) -> Iterator[str | None]:
        """Yield all names that have records, and None after other work."""
        return records.names_in(self._zone, self._suffix)

    def records(self, name: str) -> tuple[RR, ...]:
        """Return the records of a name, without SOA."""
        if self._searches and self._is_related(name):
            (self._hiding.add if self._hides(name) else self._hiding.discard)(name)
        found = records.of_name(self._zone, name, self._suffix, self._view)
        return tuple(record.rr() for record in records.at_most(found))

    def is_large(self, name: str) -> bool:
        """Return whether very many containers have a name."""
        return records.is_large(self._zone, name, self._suffix)

    def later(self, name: str) -> Work:
        """Compute the current records of a large name, in pieces."""
        work = records.of_large_name(self._zone, name, self._suffix, self._view)
        return (None if found is None else tuple(r.rr() for r in found) for found in work)

    def may_reveal(self, changed: str) -> bool:
        """Return whether a change of a name may hide or show names of an inner search domain.

        Names that the domain itself has, also by a wildcard, are not looked up in the search
        domain; and a wildcard does not apply to a name below another existing name.
        """
        if not self._searches or not self._is_related(changed):
            return False
        return bool(self._hiding) or self._hides(changed)

    def _is_related(self, name: str) -> bool:
        """Return whether a name is in or above an inner search domain, or a wildcard is."""
        base = name.removeprefix("*.")
        return any(names.is_below(base, s) or names.is_below(s, base) for s in self._searches)

    def _hides(self, name: str) -> bool:
        """Return whether the domain itself has a name, or a wildcard, below a name."""
        if name == self._suffix.apex:
            return False
        holders = self._zone.holders(self._suffix.owner_of(name), self._suffix)
        return any(name.startswith("*.") or self._zone.befores_of(claim) for claim in holders)


class CatalogSource:
    """The catalog of our zones, for `secondary_copies`; all of it is at one name."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def soa(self) -> RR:
        """Return the SOA record with the serial of all our zones."""
        return records.soa(self._zone, CATALOG, self._zone.shape.ttl).rr()

    def names(self) -> Iterator[str]:
        """Yield the apex."""
        yield CATALOG

    def records(self, name: str) -> tuple[RR, ...]:
        """Return the records, without SOA."""
        return catalog.records_of(_zones_of(self._zone), self._zone.shape.ttl)

    def is_large(self, name: str) -> bool:
        """Return False: zones are few."""
        return False

    def later(self, name: str) -> Work:
        """What `records` would give now."""
        yield self.records(name)

    def may_reveal(self, changed: str) -> bool:
        """Return False: nothing in it depends on names."""
        return False


class Feed:
    """Records changes, keeps copies of the zones that are transferred, and sends NOTIFY.

    Attributes:
        notifies: There are secondaries to notify.
    """

    def __init__(
        self,
        zone: Zone,
        see: Callable[[], View],
        notifier: ChangeListener,
        *,
        notifies: bool,
        keeps_each_serial: bool = False,
    ) -> None:
        """Set up without copies.

        Args:
            zone: The zone that is copied.
            see: Returns the neutral view.
            notifier: Sends NOTIFY.
            notifies: There are secondaries to notify.
            keeps_each_serial: `current` is called at each serial that touches a zone.
        """
        self._zone = zone
        self._see = see
        self._view = see()
        self._queue = NotifyQueue(zone, notifier, self.apexes)
        self.notifies = notifies
        self._keeps_each_serial = keeps_each_serial
        self._touched: set[str] = set()  # apexes with copies
        self._sources: dict[str, ZoneSource | CatalogSource] = {}
        self._copies: dict[str, Copy] = {}
        self._readers: dict[str, asyncio.Lock] = {}
        self._growth = asyncio.Event()  # set, and another one, when the serial grows
        self._waiting: dict[str, Copy] = {}  # by apex, for the serial to grow
        self._cuts: dict[str, Cut | None] = {}  # by apex, of those that waited
        self._held: set[str] = set()  # apexes whose changes have no serial yet

    # -- called by the zone's writer -------------------------------------------------------

    def look_again(self) -> None:
        """Check whether the neutral view changed: our own networks or the host's address."""
        view = self._see()
        if view != self._view:
            self._view = view
            self.renewed()

    def changed(self, changed: Iterable[str]) -> None:
        """Record the names whose records may have changed, and those above them.

        To be called after the change, and before `grown` if the serial grew with it.
        """
        if not self._copies and not self.notifies:
            return
        apexes = self.apexes()
        news: set[str] = set()
        for name in changed:
            apex = nearest(name, apexes)
            if not apex:
                continue
            news.add(apex)
            copy = self._copies.get(apex)
            if copy is not None:
                if self._sources[apex].may_reveal(name):
                    copy.restart()
                else:
                    copy.touch((name,))
        self._touched |= news & self._copies.keys()
        self._note(news)

    def renewed(self) -> None:
        """Record that any record may have changed, and any zone been added or removed."""
        self._copies.clear()
        self._sources.clear()
        self._cuts.clear()
        self.all_changed()

    def all_changed(self) -> None:
        """Record that all zones changed in some way, if only in their serial."""
        self._note(self.apexes())

    def grown(self) -> None:
        """Record that the serial grew and now includes all changes so far."""
        growth, self._growth = self._growth, asyncio.Event()
        growth.set()
        self._cut_those_waiting()
        held, self._held = self._held, set()
        self._note(held)

    def regrouped(self) -> None:
        """Record that the reverse zones changed, so that records may belong to other zones."""
        kept = {*self._zone.shape.domains, CATALOG}
        for apex in [a for a in self._copies if a not in kept]:
            del self._copies[apex], self._sources[apex]
        if CATALOG in self._copies:
            self._copies[CATALOG].touch((CATALOG,))
            self._touched.add(CATALOG)
        self.all_changed()

    def see_again(self) -> None:
        """Have the addresses of the server and of `host` read again in each domain."""
        self._view = self._see()
        for apex, source in self._sources.items():
            if isinstance(source, ZoneSource) and apex in self._zone.shape.domains:
                source.see(self._view)
                self._copies[apex].touch((apex, names.join(HOST_OWNER, apex)))
                self._touched.add(apex)

    @property
    def has_copies(self) -> bool:
        """Whether there is any copy."""
        return bool(self._copies)

    def take_touched(self) -> set[str]:
        """Return the zones with copies that were touched since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    # -- called by transfers ---------------------------------------------------------------

    async def current(self, apex: str) -> Copy | None:
        """Return the current copy of a zone, or None if there is no such zone.

        Works in short turns, once for all concurrent callers.  The caller must use the copy
        before its next await, as it keeps changing.
        """
        async with self._readers.setdefault(apex, asyncio.Lock()):
            while apex in self.apexes():
                copy = self._copy_of(apex)
                if copy.is_whole and copy.serial == self._zone.serial:
                    return copy
                await self._advance(copy, apex)
                if self._zone.is_ahead:
                    await self._wait_for_serial(copy, apex)
                else:
                    self._cuts[apex] = copy.cut()
                if apex not in self._cuts:
                    continue
                has_finished = await self._finish(copy, apex, self._cuts.pop(apex))
                if has_finished and copy is self._copies.get(apex):
                    return copy
        return None

    async def _wait_for_serial(self, copy: Copy, apex: str) -> None:
        """Wait until what the zone holds has a serial, or until there are more changes.

        A copy made before that would not be the contents of any serial: another process, or this
        one a moment later, would have other records under the same serial.
        """
        self._waiting[apex] = copy
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await self._growth.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.pop(apex, None)

    def _cut_those_waiting(self) -> None:
        """Cut the copies that wait for a serial, now that the zone is that of one.

        At the next change it is ahead again, which may be in a moment.
        """
        for apex, copy in self._waiting.items():
            if copy is not self._copies.get(apex):
                continue
            for _ in range(MAX_AT_GROWTH):
                if not copy.advance():
                    self._cuts[apex] = copy.cut()
                    break

    async def _advance(self, copy: Copy, apex: str) -> None:
        """Process all names that changed, in turns, until none is left."""
        while turns().is_over() or copy.advance():
            if not copy.is_whole:
                gc.freeze()  # a collection over all new objects would delay queries
            await turns().offer(("copy", apex))

    async def _finish(self, copy: Copy, apex: str, cut: Cut | None) -> bool:
        """Finish the work of a cut; return False if the zone has to be read again."""
        if cut is None:
            return True
        seen: dict[str, Seen] = {}
        for _ in cut.work_out(seen):
            await turns().offer(("copy", apex))
        return copy.paste(cut, seen)

    def _copy_of(self, apex: str) -> Copy:
        copy = self._copies.get(apex)
        if copy is None:
            source = self._sources[apex] = self._source_of(apex)
            copy = self._copies[apex] = Copy(source, keeps_each_serial=self._keeps_each_serial)
        return copy

    def _source_of(self, apex: str) -> ZoneSource | CatalogSource:
        if apex == CATALOG:
            return CatalogSource(self._zone)
        kind = SuffixKind.DOMAIN if apex in self._zone.shape.domains else SuffixKind.REVERSE
        return ZoneSource(self._zone, Suffix(apex, kind), self._view)

    def apexes(self) -> frozenset[str]:
        """Return the zones that can be transferred."""
        return frozenset((*_zones_of(self._zone), CATALOG))

    # -- NOTIFY ---------------------------------------------------------------------------

    def _note(self, apexes: Iterable[str]) -> None:
        """Schedule NOTIFY for some zones, now or once their changes have a serial."""
        if not self.notifies:
            return
        if self._zone.is_ahead:
            self._held.update(apexes)
        else:
            self._queue.add(apexes)


def _zones_of(zone: Zone) -> tuple[str, ...]:
    """Return the apexes of our zones that can be transferred, without the catalog."""
    return (*zone.shape.domains, *zone.reverse.apexes())

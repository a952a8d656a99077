"""What secondaries get: our zones as records, generated on demand, and NOTIFY.

The zone's writer only reports which names changed.  `core/zone/secondary_copies` works out the
records when a secondary asks, so that no transfer can miss a change, and transfers cost
nothing without secondaries.
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
REST = 4  # multiple of the time that very common names took, before they are read again
MAX_REST = 5.0  # seconds; most secondaries wait 10 for a response


class ChangeListener(Protocol):
    """Sends NOTIFY to secondaries."""

    def changed(self, apex: str, soa: RR) -> None:
        """Send a zone's new SOA to every target soon."""


class ZoneSource:
    """One of our zones in the neutral view, for `secondary_copies`."""

    def __init__(self, zone: Zone, suffix: Suffix, view: View) -> None:
        self._zone = zone
        self._suffix = suffix
        self._view = view
        self._searches = zone.searches_in(suffix.apex) if suffix.kind is SuffixKind.DOMAIN else []
        self._hiding: set[str] = set()

    def soa(self) -> RR:
        """Return the SOA record with the zone's serial."""
        return records.soa(self._zone, self._suffix.apex, self._zone.shape.ttl).rr()

    def names(self) -> Iterator[str]:
        """Yield all names that have records."""
        return records.names_in(self._zone, self._suffix)

    def records(self, name: str) -> tuple[RR, ...]:
        """Return the records of a name, without SOA."""
        if self._searches and self._is_related(name):
            (self._hiding.add if self._hides(name) else self._hiding.discard)(name)
        found = records.of_name(self._zone, name, self._suffix, self._view)
        return tuple(record.rr() for record in found)

    def is_large(self, name: str) -> bool:
        """Return whether very many containers have a name."""
        return records.is_large(self._zone, name, self._suffix)

    def later(self, name: str) -> Work:
        """Return a function that computes the present `records` of a large name in a thread."""
        work = records.later(self._zone, name, self._suffix, self._view)
        return lambda: tuple(record.rr() for record in work())

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


class Feed:
    """Records changes, keeps copies of the zones that are transferred, and sends NOTIFY.

    Attributes:
        notifies: There are secondaries to notify.
    """

    def __init__(
        self, zone: Zone, see: Callable[[], View], notifier: ChangeListener, *, notifies: bool
    ) -> None:
        """Set up without copies; `notifies` if there are secondaries to notify."""
        self._zone = zone
        self._see = see
        self._view = see()
        self._notifier = notifier
        self.notifies = notifies
        self._sources: dict[str, ZoneSource] = {}
        self._copies: dict[str, Copy] = {}
        self._readers: dict[str, asyncio.Lock] = {}
        self._cut_at: dict[str, float] = {}  # by apex, by the clock of the loop
        self._rest_until: dict[str, float] = {}  # same
        self._to_notify: set[str] = set()  # apexes
        self._is_scheduled = False

    # -- called by the zone's writer -------------------------------------------------------

    def look_again(self) -> None:
        """Check whether the neutral view changed: our own networks or the host's address."""
        view = self._see()
        if view != self._view:
            self._view = view
            self.renewed()

    def changed(self, changed: Iterable[str]) -> None:
        """Record the names whose records may have changed, and those above them.

        Must be called after the change, before or after the serial is increased.
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
        """Record that any record may have changed, and any zone been added or removed."""
        self._copies.clear()
        self._sources.clear()
        self.grown()

    def grown(self) -> None:
        """Record that the serial of all zones was increased."""
        if self.notifies:
            self._to_notify |= self._apexes()
            self._notify_soon()

    def regrouped(self) -> None:
        """Record that the reverse zones changed, so that records may belong to other zones."""
        for apex in [a for a in self._copies if a not in self._zone.shape.domains]:
            del self._copies[apex], self._sources[apex]
        self.grown()

    # -- called by transfers ---------------------------------------------------------------

    async def current(self, apex: str) -> Copy | None:
        """Return the current copy of a zone, or None if there is no such zone.

        Works in short turns, once for all concurrent callers.  The caller must use the copy
        before its next await, as it keeps changing.
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
        """Process all names that changed, in turns, until none is left."""
        while turns().is_over() or copy.advance():
            await turns().offer(("copy", apex))

    async def _finish(self, copy: Copy, apex: str) -> bool:
        """Bring a copy up to date; return False if the zone has to be read again.

        Names of very many containers are computed in a thread, which must not keep a core
        busy on a host where they change all the time.
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
        """Send NOTIFY for the latest changes, with the current serial."""
        self._is_scheduled = False
        apexes, self._to_notify = self._to_notify, set()
        zone = self._zone
        for apex in sorted(apexes & self._apexes()):
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())

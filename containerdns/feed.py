"""What secondaries get: whole zones as records, and what each change does to them.

Changes are worked out from the owners that they touch, those of a moment together,
and only once somebody takes them: after a first transfer, or with `--notify`.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from containerdns.core import records
from containerdns.core.messages import RR, SOA
from containerdns.core.special import nearest
from containerdns.core.views import View
from containerdns.core.zone import Kind, Suffix, Zone

GATHER = 0.1  # seconds in which changes are told together

Snapshot = dict[str, frozenset[RR]]  # by apex


class Journal(Protocol):
    """Who keeps what changed."""

    def changed(
        self, apex: str, before: int, after: int, removed: Sequence[RR], added: Sequence[RR]
    ) -> None:
        """Note what changed in a zone; without the SOA records."""


class Notifier(Protocol):
    """Who tells secondaries."""

    def changed(self, apex: str, soa: RR) -> None:
        """Have every target told of a zone's new SOA, soon."""


class Zones:
    """Our zones as secondaries see them: for nobody's view in particular.

    Attributes:
        is_wanted: Somebody took a zone: from now on it is told what changes.
    """

    def __init__(self, zone: Zone, view: View) -> None:
        self.is_wanted = False
        self._zone = zone
        self._view = view

    def use(self, zone: Zone, view: View) -> None:
        """Show another zone, in another view, from now on."""
        self._zone, self._view = zone, view

    def records(self, apex: str) -> Iterator[RR]:
        """All records of a zone, its SOA first and only once."""
        self.is_wanted = True
        kind = Kind.DOMAIN if apex in self._zone.shape.domains else Kind.REVERSE
        return (r.rr() for r in records.in_zone(self._zone, Suffix(apex, kind), self._view))

    def apexes(self) -> Snapshot:
        """The records of each domain itself, without SOA."""
        return {
            apex: _without_soa(records.at_apex(self._zone, apex, self._view))
            for apex in self._zone.shape.domains
        }

    def snapshot(self, owner: str) -> Snapshot:
        """The records of an owner in each domain."""
        return {
            apex: _without_soa(
                records.of_owner(self._zone, owner, Suffix(apex, Kind.DOMAIN), self._view)
            )
            for apex in self._zone.shape.domains
        }


def _without_soa(found: Iterable[records.Record]) -> frozenset[RR]:
    return frozenset(record.rr() for record in found if record.rtype != SOA)


class Feed:
    """Tells a journal and a notifier what changed, gathered over a moment.

    Attributes:
        notifies: There is somebody to notify.

    An owner is rendered twice per moment, however often it changes in it; who asks for
    the difference within the moment gets the zone whole.
    """

    def __init__(self, zones: Zones, journal: Journal, notifier: Notifier, notifies: bool) -> None:
        """Take whom to tell; `notifies` if there is anybody to notify."""
        self._zones = zones
        self._journal = journal
        self._notifier = notifier
        self.notifies = notifies
        self._before: dict[str, Snapshot] = {}  # by owner, as last told
        self._apexes: Snapshot = {}
        self._serial: int | None = None  # as last told; None if nothing has changed since
        self._reverse: set[str] = set()
        self._is_scheduled = False

    @property
    def is_wanted(self) -> bool:
        """Whether working out changes is of use to anybody."""
        return self.notifies or self._zones.is_wanted

    def before(self, zone: Zone, owners: Iterable[str]) -> None:
        """Note what there is before a change of some owners."""
        if self._serial is None:
            self._serial = zone.serial
            self._apexes = self._zones.apexes()
        for owner in owners:
            if owner not in self._before:
                self._before[owner] = self._zones.snapshot(owner)

    def after(self, zone: Zone, names: Iterable[str]) -> None:
        """Note that the change was made, and have it told in a moment.

        Args:
            zone: After the change.
            names: What changed, for the reverse zones among it.
        """
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(GATHER, self._tell, zone)
        self._reverse.update(name for name in names if name.endswith(".arpa."))

    def renewed(self, zone: Zone) -> None:
        """Tell that all zones are others now, without saying in what."""
        self._before, self._reverse, self._serial = {}, set(), None
        for apex in (*zone.shape.domains, *zone.reverse.apexes()):
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())

    def _tell(self, zone: Zone) -> None:
        """Tell what the changes of the last moment did."""
        self._is_scheduled = False
        before, self._before = self._before, {}
        reverse, self._reverse = self._reverse, set()
        serial, self._serial = self._serial, None
        if serial is None or serial == zone.serial:
            return
        now = {owner: self._zones.snapshot(owner) for owner in before}
        apexes = self._zones.apexes()
        for apex in zone.shape.domains:
            was = self._apexes.get(apex, frozenset()).union(*(s[apex] for s in before.values()))
            becomes = apexes[apex].union(*(s[apex] for s in now.values()))
            removed, added = sorted(was - becomes), sorted(becomes - was)
            self._journal.changed(apex, serial, zone.serial, removed, added)
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())
        ours = frozenset(zone.reverse.apexes())
        for apex in {nearest(name, ours) for name in reverse} - {""}:
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())

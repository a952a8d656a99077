"""What secondaries get: whole zones as records, and what each change does to them.

Changes are worked out per change, from the owners that it touches, and only once
somebody takes them: a first transfer, or a `--notify`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from containerdns.core import records
from containerdns.core.messages import RR, SOA
from containerdns.core.special import nearest
from containerdns.core.views import View
from containerdns.core.zone import Kind, Suffix, Zone

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

    def snapshot(self, owners: Iterable[str]) -> Snapshot:
        """The records of some owners in each domain, and those of the apex, without SOA."""
        kept = sorted(owners)
        found = {}
        for apex in self._zone.shape.domains:
            suffix = Suffix(apex, Kind.DOMAIN)
            own = records.at_apex(self._zone, apex, self._view)
            rest = (
                record
                for owner in kept
                for record in records.of_owner(self._zone, owner, suffix, self._view)
            )
            found[apex] = frozenset(r.rr() for r in (*own, *rest) if r.rtype != SOA)
        return found


class Feed:
    """Tells a journal and a notifier what a change of the zone was."""

    def __init__(self, zones: Zones, journal: Journal, notifier: Notifier, notifies: bool) -> None:
        """Take whom to tell; `notifies` if there is anybody to notify."""
        self._zones = zones
        self._journal = journal
        self._notifier = notifier
        self._notifies = notifies

    @property
    def is_wanted(self) -> bool:
        """Whether working out changes is of use to anybody."""
        return self._notifies or self._zones.is_wanted

    def before(self, owners: Iterable[str]) -> Snapshot:
        """What there is before a change of some owners."""
        return self._zones.snapshot(owners)

    def after(
        self, zone: Zone, before: Snapshot, serial: int, owners: Iterable[str], names: Iterable[str]
    ) -> None:
        """Tell what the change did.

        Args:
            zone: After the change.
            before: As `before` gave it.
            serial: Before the change.
            owners: The same as then.
            names: What changed, for the reverse zones among it.
        """
        if zone.serial == serial:
            return
        for apex, now in self._zones.snapshot(owners).items():
            removed, added = before[apex] - now, now - before[apex]
            self._journal.changed(apex, serial, zone.serial, sorted(removed), sorted(added))
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())
        reverse = frozenset(zone.reverse.apexes())
        for apex in {nearest(name, reverse) for name in names if name.endswith(".arpa.")} - {""}:
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())

    def renewed(self, zone: Zone) -> None:
        """Tell that all zones are others now, without saying in what."""
        for apex in (*zone.shape.domains, *zone.reverse.apexes()):
            self._notifier.changed(apex, records.soa(zone, apex, zone.shape.ttl).rr())

"""All records of a zone at once, to compare with what is made of them in pieces."""

from collections.abc import Iterator

from containerdns.core.zone import records
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind, Zone


def in_zone(zone: Zone, suffix: Suffix, view: View) -> Iterator[records.Record]:
    """Yield all records of one of our zones, the SOA first, then by owner."""
    if suffix.kind in (SuffixKind.DOMAIN, SuffixKind.REVERSE):
        yield records.soa(zone, suffix.apex, zone.shape.ttl)
        for name in filter(None, records.names_in(zone, suffix)):
            yield from records.of_name(zone, name, suffix, view)
        return
    yield records.soa(zone, suffix.apex, zone.shape.ttl)
    yield records.ns(zone, suffix.apex)
    for owner in filter(None, zone.owners()):
        yield from records.of_owner(zone, owner, suffix, view)

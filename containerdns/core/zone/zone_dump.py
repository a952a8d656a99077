"""All records of a zone, or those of one name, in pieces that each take little time.

`None` stands for a piece without a record, so that the caller can let other work continue after
each item.  The zone may change meanwhile; a change is then visible in part.
"""

from collections.abc import Iterable, Iterator

from containerdns.core import names
from containerdns.core.zone import records
from containerdns.core.zone.policy import Claim
from containerdns.core.zone.records import HOLDERS_AT_ONCE, MANY_HOLDERS, Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import NS_LABEL, Node, Suffix, SuffixKind, Zone

Dump = Iterator[Record | None]
RENDERED_AT_ONCE = 10  # holders, whose records are made between two turns
WHOLE = (SuffixKind.DOMAIN, SuffixKind.REVERSE)  # zones that are transferred


def dump(zone: Zone, suffix: Suffix, view: View) -> Dump:
    """Yield the records of a zone, the SOA first, then by owner.

    Args:
        zone: The names.
        suffix: Of the zone.
        view: Whose answers these are.
    """
    yield records.soa(zone, suffix.apex, zone.shape.ttl)
    if suffix.kind in WHOLE:
        for name in records.names_in(zone, suffix):
            if name is not None:
                yield from _of_name(zone, name, suffix, view)
            yield None
        return
    yield records.ns(zone, suffix.apex)
    for owner in zone.owners():
        if owner is not None:
            yield from _of_owner(zone, owner, suffix, view)
        yield None


def dump_name(zone: Zone, name: str, suffix: Suffix, view: View) -> Dump:
    """Yield the records that `dump` has of one name, found by a look at what is above it.

    Args:
        zone: The names.
        name: Canonical.
        suffix: Of the zone.
        view: Whose answers these are.
    """
    if not names.is_below(name, suffix.apex):
        return
    if name == suffix.apex:
        yield records.soa(zone, name, zone.shape.ttl)
        if suffix.kind not in WHOLE:
            yield records.ns(zone, name)
    for above in (name, *names.parents(name)):
        if not names.is_below(above, suffix.apex):
            return
        for record in _at_or_below(zone, above, suffix, view):
            yield record if record is not None and record.name == name else None


def _at_or_below(zone: Zone, name: str, suffix: Suffix, view: View) -> Dump:
    """Yield the records that the dump has because of one name."""
    if suffix.kind in WHOLE:
        yield from _of_name(zone, name, suffix, view)
        return
    for owner in (names.strip_suffix(name, suffix.apex), name):
        if name != suffix.apex and zone.is_running(owner):
            yield from _of_owner(zone, owner, suffix, view)


def _of_name(zone: Zone, name: str, suffix: Suffix, view: View) -> Dump:
    """As `records.of_name`, in pieces."""
    owner = "" if name == suffix.apex else suffix.owner_of(name)
    is_nested = zone.is_above_domain(suffix.apex) or zone.searches_in(suffix.apex)
    if suffix.kind is SuffixKind.REVERSE or is_nested or zone.count(owner) < MANY_HOLDERS:
        yield from records.of_name(zone, name, suffix, view)
    elif owner != NS_LABEL:
        yield from _of_many(zone, owner, suffix, view)


def _of_owner(zone: Zone, owner: str, suffix: Suffix, view: View) -> Dump:
    """As `records.of_owner`, in pieces."""
    if zone.count(owner) < MANY_HOLDERS:
        yield from records.of_owner(zone, owner, suffix, view)
    elif (place := records.place_of(zone, owner, suffix)) is not None:
        yield from _of_many(zone, *place, view)


def _of_many(zone: Zone, owner: str, suffix: Suffix, view: View) -> Dump:
    """Yield the records of an owner that very many containers have, and those just below it."""
    holders: dict[str, list[Claim]] = {"": []}  # by the relative name before
    has_below = suffix.kind in (SuffixKind.DOMAIN, SuffixKind.SEARCH)
    for claim in _paced(zone.holders(owner, suffix), HOLDERS_AT_ONCE):
        if claim is None:
            yield None
        elif zone.publication(claim.publication) is not None:
            for before in ("", *(zone.befores_of(claim) if has_below else ())):
                holders.setdefault(before, []).append(claim)
    for before in sorted(holders):
        below = f"{before}.{owner}" if before else owner
        nearest = zone.node(below, suffix) if before else None
        is_theirs = not before or (nearest is not None and nearest.base == owner)
        if is_theirs and names.fits(suffix.name_of(below)):
            node = Node(owner, before, tuple(holders[before]))
            yield from _at_node(zone, suffix.name_of(below), node, view, suffix)


def _at_node(zone: Zone, name: str, node: Node, view: View, suffix: Suffix) -> Dump:
    """As `records.at_node`: of the best containers, each record once, with the lowest TTL."""
    of_type: dict[int, _RRset] = {}
    aliases: list[Claim] = []
    for claim in _paced(node.holders, RENDERED_AT_ONCE):
        publication = zone.publication(claim.publication) if claim is not None else None
        if claim is None or publication is None:
            yield None
        elif publication.cname and not claim.proxy and node.before in ("", "*"):
            aliases.append(claim)
        else:
            one = node._replace(holders=(claim,))
            for record in records.at_node(zone, name, one, view, suffix):
                of_type.setdefault(record.rtype, _RRset()).add(record)
    if aliases and not of_type:
        yield from records.at_node(zone, name, node._replace(holders=tuple(aliases)), view, suffix)
    for rtype in sorted(of_type):
        yield from of_type[rtype].records()


class _RRset:
    """The records of one type at one name, from all who have it."""

    def __init__(self) -> None:
        self._ttl = 1 << 31
        self._tier = 1 << 31
        self._found: dict[bytes, Record] = {}

    def add(self, record: Record) -> None:
        """Add a record, unless there are better ones; drop those that are worse."""
        tier = records.tier_of(record)
        if tier < self._tier:
            self._found.clear()
            self._tier, self._ttl = tier, record.ttl
        if tier == self._tier:
            self._ttl = min(self._ttl, record.ttl)
            self._found.setdefault(record.rdata, record)

    def records(self) -> Iterator[Record]:
        """Yield the best records, with their lowest TTL (RFC 2181 section 5.2)."""
        return (record._replace(ttl=self._ttl) for record in self._found.values())


def _paced(claims: Iterable[Claim], at_once: int) -> Iterator[Claim | None]:
    """Yield claims, and None after every few."""
    for number, claim in enumerate(claims, 1):
        yield claim
        if number % at_once == 0:
            yield None

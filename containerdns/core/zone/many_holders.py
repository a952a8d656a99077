"""Addresses of names that very many containers have, each made once for many answers.

Of such a name each answer has a hundred addresses, and the next one has others, so that no answer
is kept ready-made.  But the records of each holder are: they are made for the first answer that
has them, and used until the claims to the name change, or the container does.

The answers are those of `answers.find`; what is not found here has to be asked for there.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from containerdns.core.zone import records
from containerdns.core.zone.claims import Chosen
from containerdns.core.zone.policy import Claim, Publication
from containerdns.core.zone.records import MANY_HOLDERS, MAX_OF_TYPE, Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Node, Suffix, SuffixKind, Zone

MAX_MADE: Final = 16384  # holders with records here, of all names and views; then all are forgotten


class _Made(NamedTuple):
    """The records of a holder.

    Attributes:
        publication: That they were made of.
        records: Those of the wanted type; none if they are left out where others exist.
        data: Of these records.
    """

    publication: Publication
    records: tuple[Record, ...]
    data: frozenset[bytes]


class _Ready:
    """The records of one type at a name, as seen from one view.

    Attributes:
        depends_on: What else they were made of.
        made: Those of each holder that an answer had, by its place among all.
    """

    __slots__ = ("depends_on", "made")

    def __init__(self, depends_on: tuple[object, ...]) -> None:
        self.depends_on = depends_on
        self.made: dict[int, _Made] = {}


class Wanted(NamedTuple):
    """The addresses that are wanted for an answer.

    Attributes:
        name: Canonical.
        rtype: A or AAAA.
        view: Of the client.
    """

    name: str
    rtype: int
    view: View


class ManyHolders:
    """Ready-made records of names with more than `records.MANY_HOLDERS` holders.

    Those of a name are freed together with what the zone has about its holders.
    """

    def __init__(self) -> None:
        self._of_name: WeakKeyDictionary[Chosen, dict[Wanted, _Ready]] = WeakKeyDictionary()
        self._made = 0  # since all were forgotten

    def __len__(self) -> int:
        """Return the number of holders with records here, of all names and views."""
        every = (ready for of_name in self._of_name.values() for ready in of_name.values())
        return sum(len(ready.made) for ready in every)

    def forget(self) -> None:
        """Forget all records."""
        self._of_name.clear()
        self._made = 0

    def find(self, zone: Zone, wanted: Wanted, suffix: Suffix, turn: int) -> tuple[Record, ...]:
        """Return the addresses in one of many answers.

        Args:
            zone: The zone.
            wanted: Its name is at or below the suffix.
            suffix: What makes the name ours.
            turn: The number of the answer, from 0.

        Returns:
            `records.MAX_OF_TYPE` records, the preferred first; none if the name does not have
            more holders than that, or if no answer leaves any out, so that it can be kept.
        """
        if suffix.kind is SuffixKind.REVERSE or wanted.name == suffix.apex:
            return ()
        chosen = zone.many(suffix.owner_of(wanted.name), suffix)
        if chosen is None or len(chosen.holders) <= MANY_HOLDERS:
            return ()
        if zone.is_without(wanted.rtype, wanted.view.host_addresses):
            return ()
        ready = self._ready(zone, chosen, wanted)
        holders, made, count = chosen.holders, ready.made, len(chosen.holders)
        start = records.start_of(turn, count)
        found: list[Record] = []
        seen: set[bytes] = set()
        for place in chain(range(start, count), range(start)):
            publication = zone.holder(holders[place])
            one = made.get(place)
            if one is None or one.publication is not publication:
                one = made[place] = self._make(zone, holders[place], wanted, suffix)
            if not one.data <= seen:
                seen |= one.data
                found += one.records
                if len(seen) >= MAX_OF_TYPE:
                    is_part = (place + 1) % count != start
                    return _merged(found) if is_part else ()
        return ()

    def _ready(self, zone: Zone, chosen: Chosen, wanted: Wanted) -> _Ready:
        depends_on = zone.shape, zone.own_networks, zone.lost_engines
        of_name = self._of_name.setdefault(chosen, {})
        ready = of_name.get(wanted)
        if ready is None or ready.depends_on != depends_on:
            ready = of_name[wanted] = _Ready(depends_on)
        return ready

    def _make(self, zone: Zone, claim: Claim, wanted: Wanted, suffix: Suffix) -> _Made:
        """Build the records of a holder, which are none if it is an alias."""
        if self._made >= MAX_MADE:
            self.forget()
        self._made += 1
        publication = zone.holder(claim)
        own: Sequence[Record] = ()
        if not publication.cname:
            node = Node(suffix.owner_of(wanted.name), "", (claim,))
            found = records.at_node(zone, wanted.name, node, wanted.view, suffix)
            own = [r for r in found if r.rtype == wanted.rtype and not records.tier_of(r)]
        return _Made(publication, tuple(own), frozenset(r.rdata for r in own))


def _merged(found: Iterable[Record]) -> tuple[Record, ...]:
    """Return records of a type as an RRset: the preferred first, each once, of the lowest TTL."""
    unique: dict[bytes, Record] = {}
    for record in sorted(found, key=_preference):
        unique.setdefault(record.rdata, record)
    ttls = {record.ttl for record in unique.values()}
    merged: Iterable[Record] = unique.values()
    if len(ttls) > 1:  # RFC 2181 section 5.2
        merged = [record._replace(ttl=min(ttls)) for record in merged]
    return tuple(records.at_most(merged))


def _preference(record: Record) -> int:
    return record.preference

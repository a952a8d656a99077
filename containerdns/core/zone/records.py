"""The records at each name of the zone, as seen from one view."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain, islice
from typing import NamedTuple, Protocol

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone.claims import befores_of
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.sole_addresses import SoleAddresses, of_addresses, packed
from containerdns.core.zone.special_names import LOOPBACK_NAME
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import NS_LABEL, Node, Shape, Suffix, SuffixKind, Zone

MAX_STRING = 255  # octets of one character-string, RFC 1035 section 3.3
MANY_HOLDERS = 100  # of a name; of more, some are chosen before records are made
MAX_OF_TYPE = 100  # records at a name of a transferred zone; BIND refuses zones with more
MAX_ALIKE = 1000  # holders considered for texts and services, which are mostly alike
HOLDERS_AT_ONCE = 50  # considered between two turns, within 0.2 ms
REFRESH, RETRY, EXPIRE = 60, 10, 604800  # seconds, of the SOA; secondaries get NOTIFY besides
SERVER_RULE = "name of this server"

# In the order in which a type is chosen for ANY.
CHOSEN_TYPES = (messages.A, messages.AAAA, messages.TXT, messages.SRV)
ALIKE_TYPES = (messages.TXT, messages.SRV)
NOT_AT_NAMES = (messages.SRV,)
NOT_AT_SERVICES = (messages.A, messages.AAAA)

_SOA_NUMBERS = struct.Struct("!5L")  # serial, refresh, retry, expire, minimum
_UNHEALTHY = 1_000_000  # added to the preference, to come after all healthy ones
_LOST = 2 * _UNHEALTHY  # if the Engine's grace period is over; comes after unhealthy ones


class Record(NamedTuple):
    """A record, and the reason for it.

    Attributes:
        name: The owner, absolute.
        rtype: The type's number.
        ttl: Seconds.
        rdata: Uncompressed.
        container: The container's name; "" for the server's own records.
        container_id: Its id.
        network: The network of an address; "" if none.
        rule: The rule behind the owner.
        preference: Lower comes first in an answer.
    """

    name: str
    rtype: int
    ttl: int
    rdata: bytes
    container: str = ""
    container_id: str = ""
    network: str = ""
    rule: str = ""
    preference: int = 0

    def rr(self) -> messages.RR:
        """Return the record without the reasons."""
        return messages.RR(names.to_wire(self.name), self.rtype, messages.IN, self.ttl, self.rdata)


class Holding(Protocol):
    """What the records of a name depend on: a `Zone`, or a `Moment` of it."""

    @property
    def shape(self) -> Shape:
        """As `Zone.shape`."""

    @property
    def own_networks(self) -> frozenset[str]:
        """As `Zone.own_networks`."""

    @property
    def lost_engines(self) -> frozenset[str]:
        """As `Zone.lost_engines`."""

    def holder(self, claim: Claim) -> Publication:
        """As `Zone.holder`."""

    def holders(self, owner: str, suffix: Suffix) -> tuple[Claim, ...]:
        """As `Zone.holders`."""

    def befores_of(self, claim: Claim) -> tuple[str, ...]:
        """As `Zone.befores_of`."""


class Moment:
    """What the records of one name depend on at one moment, while the zone goes on changing."""

    def __init__(self, zone: Zone, holders: tuple[Claim, ...]) -> None:
        self.shape = zone.shape
        self.own_networks = zone.own_networks
        self.lost_engines = zone.lost_engines
        self._holders = holders
        self._past = zone.past()

    def holder(self, claim: Claim) -> Publication:
        """As `Zone.holder`, of a claim to the name."""
        return self._past[claim.publication]

    def holders(self, owner: str, suffix: Suffix) -> tuple[Claim, ...]:
        """As `Zone.holders`, of the name alone."""
        return self._holders

    def befores_of(self, claim: Claim) -> tuple[str, ...]:
        """As `Zone.befores_of`, of a claim to the name."""
        return befores_of(claim, self._past[claim.publication])


def at_node(zone: Holding, name: str, node: Node, view: View, suffix: Suffix) -> tuple[Record, ...]:
    """Return all records at a node: addresses, TXT and SRV, or one CNAME."""
    held = [(claim, zone.holder(claim)) for claim in node.holders]
    is_plain = node.before in ("", "*")
    if is_plain:
        aliases = [(c, p) for c, p in held if p.cname and not c.proxy]
        if aliases and len(aliases) == len(held):
            aliases = [(c, p) for c, p in aliases if p.cname != name]
            if not aliases:  # a CNAME to itself
                return ()
            claim, publication = min(aliases, key=lambda pair: (pair[1].container_name, pair[1].id))
            rdata = names.to_wire(publication.cname)
            lowest = min(p.ttl for _, p in aliases)
            alias = _record(name, messages.CNAME, rdata, publication, claim)
            return (alias._replace(ttl=lowest),)
        held = [(c, p) for c, p in held if c.proxy or not p.cname]
    records = list(_address_records(zone, name, held, view)) if is_plain else []
    before = "" if node.before == "*" else node.before
    for claim, publication in held:
        if claim.proxy:
            continue  # what else the container has is not at the proxy
        for text in (publication.texts or {}).get(before, ()):
            records.append(_record(name, messages.TXT, _strings(text), publication, claim))
        ports = (publication.services or {}).get(node.before, ())
        if ports and _has_address(zone, node.base, view, suffix):
            target = names.to_wire(suffix.name_of(node.base))
            for port in ports:
                rdata = bytes(4) + port.to_bytes(2) + target  # priority 0, weight 0, RFC 2782
                records.append(_record(name, messages.SRV, rdata, publication, claim))
    return _one_ttl(records)


def at_apex(zone: Zone, apex: str, view: View) -> tuple[Record, ...]:
    """Return the records at an apex: SOA, NS, and those of a container of the same name."""
    own = (soa(zone, apex, zone.shape.ttl), ns(zone, apex))
    if not (zone.shape.bare_names and names.is_single_label(apex)) or apex == LOOPBACK_NAME:
        return own
    bare = Suffix(names.ROOT, SuffixKind.BARE)
    node = zone.node(apex[:-1], bare)
    if node is None:
        return own
    found = at_node(zone, apex, node, view, bare)
    return own + tuple(r for r in found if r.rtype != messages.CNAME)


def of_server(zone: Zone, name: str, view: View) -> tuple[Record, ...]:
    """Return the addresses of this server, at `ns.DOMAIN`."""
    return tuple(
        Record(name, _rtype(text), zone.shape.ttl, ip_address(text).packed, rule=SERVER_RULE)
        for text in view.server_addresses
    )


def pointer(zone: Zone, name: str) -> tuple[Record, ...]:
    """Return the PTR record of a reverse name, or none."""
    publication = zone.publication(zone.reverse.holder(name) or "")
    if publication is None:
        return ()
    own = (c.owner for c in publication.claims if c.rank == Rank.CONTAINER and c.owner != NS_LABEL)
    target = names.join(next(own, publication.id[:12]), zone.shape.domains[0])
    if not names.fits(target):  # too long with the domain; the id is short
        target = names.join(publication.id[:12], zone.shape.domains[0])
    return (
        Record(
            name,
            messages.PTR,
            publication.ttl,
            names.to_wire(target),
            publication.container_name,
            publication.id,
            rule="address of a container",
        ),
    )


def soa(zone: Zone, apex: str, ttl: int | None = None) -> Record:
    """Return the SOA record of a zone of ours; the default TTL is that of negative answers."""
    minimum = zone.shape.negative_ttl
    return _soa(apex, _domain_of(zone, apex), zone.serial, minimum, minimum if ttl is None else ttl)


@lru_cache(maxsize=256)
def _soa(apex: str, primary: str, serial: int, minimum: int, ttl: int) -> Record:
    """Build an SOA record; cached, as every negative answer has one of a few."""
    server = names.to_wire(names.join(NS_LABEL, primary))
    person = names.to_wire(names.join("hostmaster", primary))
    numbers = _SOA_NUMBERS.pack(serial, REFRESH, RETRY, EXPIRE, minimum)
    return Record(apex, messages.SOA, ttl, server + person + numbers)


def ns(zone: Zone, apex: str) -> Record:
    """Return the NS record of a zone of ours."""
    target = names.to_wire(names.join(NS_LABEL, _domain_of(zone, apex)))
    return Record(apex, messages.NS, zone.shape.ttl, target)


def in_pieces(zone: Zone, suffix: Suffix, view: View) -> Iterator[Record | None]:
    """Yield the records of a domain as in a transfer, and None after work without a record.

    No step takes long, even if very many containers have a name: of its records, the first
    hundred of each type are yielded.
    """
    yield soa(zone, suffix.apex, zone.shape.ttl)
    for name in names_in(zone, suffix):
        if name is None:
            yield None
            continue
        if not is_large(zone, name, suffix):
            yield from at_most(of_name(zone, name, suffix, view))
            yield None
            continue
        for found in of_large_name(zone, name, suffix, view):
            if found is None:
                yield None
            else:
                yield from found


def names_in(zone: Zone, suffix: Suffix) -> Iterator[str | None]:
    """Yield the names that may have records in a zone, the apex first, each once.

    None is yielded after work without a name.
    """
    yield suffix.apex
    if suffix.kind is SuffixKind.REVERSE:
        yield from zone.reverse_names(suffix.apex)
        return
    for owner in zone.owners():
        if owner is None:
            yield None
            continue
        if not owner.endswith("."):
            yield names.join(owner, suffix.apex)
            continue
        is_inside = owner != suffix.apex and names.is_below(owner, suffix.apex)
        if is_inside and not zone.is_running(suffix.owner_of(owner)):
            yield owner
    for search in zone.searches_in(suffix.apex):
        for owner in zone.owners():
            name = names.join(owner, search) if owner and not owner.endswith(".") else None
            is_there = name and (zone.is_running(suffix.owner_of(name)) or zone.is_running(name))
            yield None if is_there else name


def of_name(zone: Zone, name: str, suffix: Suffix, view: View) -> list[Record]:
    """Return the records of a zone that belong to a name, without the SOA.

    These include its texts, services and wildcards, which are below it; for the apex, also
    those of the server itself and of the zones below.  The names of `names_in` together have
    all records of a zone, each once.
    """
    apex = suffix.apex
    if name == apex:
        return _of_apex(zone, suffix, view)
    if suffix.kind is SuffixKind.REVERSE:
        return list(pointer(zone, name))
    if name == names.join(NS_LABEL, apex) or not names.fits(name):
        return []
    if zone.is_above_domain(apex) and zone.domain_above(name) != apex:
        return []
    place = zone.suffix_in(apex, name)
    relative = place.owner_of(name)
    above = Node(relative, "", zone.holders(relative, place))
    if not above.holders:
        return []
    found = list(at_node(zone, name, above, view, place))
    for before in _befores_in(zone, above, place, apex):
        having = tuple(c for c in above.holders if before in zone.befores_of(c))
        found += at_node(zone, f"{before}.{name}", Node(relative, before, having), view, place)
    return found


def _befores_in(zone: Zone, above: Node, place: Suffix, apex: str) -> Iterator[str]:
    """Yield the relative names that exist before a name in a zone, unless another one has them."""
    is_parted = zone.is_above_domain(apex)
    for before in zone.befores_at(above.base, place):
        below = f"{before}.{place.name_of(above.base)}"
        if is_parted and zone.domain_above(below) != apex:
            continue
        is_there = names.fits(below) and zone.suffix_in(apex, below) == place
        if is_there and not _is_taken(zone, before, above, place):
            yield before


def _is_taken(zone: Zone, before: str, above: Node, suffix: Suffix) -> bool:
    """Return whether a nearer name has the name before one with holders."""
    for end in _ends_of(before):
        nearer = f"{end}.{above.base}"
        if zone.is_running(nearer) or zone.is_running(suffix.name_of(nearer)):
            node = zone.node(f"{before}.{above.base}", suffix)
            return node is None or node.base != above.base
    return False


def is_large(zone: Zone, name: str, suffix: Suffix) -> bool:
    """Return whether a name has very many claims, so that `of_large_name` should be used."""
    if suffix.kind is not SuffixKind.DOMAIN or name == suffix.apex:
        return False
    owner = zone.suffix_in(suffix.apex, name).owner_of(name)
    return zone.count(owner) + zone.count(name) > MANY_HOLDERS


def of_large_name(
    zone: Zone, name: str, suffix: Suffix, view: View
) -> Iterator[list[Record] | None]:
    """Compute the current records of a large name in pieces, while the zone may change.

    Yields None after each piece, and finally the records as `of_name` would return them, at most
    a hundred of each type.
    """
    apex = suffix.apex
    place = zone.suffix_in(apex, name)
    relative = place.owner_of(name)
    node = Node(relative, "", zone.holders(relative, place))
    is_elsewhere = zone.is_above_domain(apex) and zone.domain_above(name) != apex
    if is_elsewhere or not names.fits(name) or not node.holders:
        return iter(([],))
    befores = frozenset(_befores_in(zone, node, place, apex))
    types = [t for t in CHOSEN_TYPES if not zone.is_without(t, view.host_addresses)]
    work = _Work(Moment(zone, node.holders), node, befores, view, place, types)
    return work.run()


@dataclass(frozen=True, slots=True)
class _Work:
    """The work on a large name.

    Attributes:
        moment: When it is the zone's.
        node: Of the name.
        befores: The relative names before it that are in the zone with it.
        view: Of secondaries.
        suffix: Of the name.
        types: Those that any container has records of.
    """

    moment: Moment
    node: Node
    befores: frozenset[str]
    view: View
    suffix: Suffix
    types: Sequence[int]

    def run(self) -> Iterator[list[Record] | None]:
        """Yield None after each piece, and finally the records."""
        choices = {before: self._choices(before) for before in ("", *sorted(self.befores))}
        sought = {before: list(by_type.values()) for before, by_type in choices.items()}
        for count, claim in enumerate(self.node.holders, 1):
            publication = self.moment.holder(claim)
            for before in ("", *self.moment.befores_of(claim)):
                if open_choices := sought.get(before):
                    self._look_at(open_choices, claim, publication)
            if count == MAX_ALIKE:
                for before, by_type in choices.items():
                    sought[before] = [c for t, c in by_type.items() if t not in ALIKE_TYPES]
            if count % HOLDERS_AT_ONCE == 0:
                yield None
                sought = {before: still for before, still in sought.items() if still}
                if not sought:
                    break
        name = self.suffix.name_of(self.node.base)
        found: list[Record] = []
        for before, by_type in choices.items():
            claims = {claim: None for choice in by_type.values() for claim in choice.chosen()}
            part = Node(self.node.base, before, tuple(claims) or self.node.holders)
            below = f"{before}.{name}" if before else name
            found += at_most(at_node(self.moment, below, part, self.view, self.suffix))
            yield None
        yield found

    def _choices(self, before: str) -> dict[int, "Choice"]:
        """Return a choice of each type that may be at a name before the large one."""
        absent = {"": NOT_AT_NAMES, "*": ()}.get(before, NOT_AT_SERVICES)
        wanted = [rtype for rtype in self.types if rtype not in absent]
        return {t: Choice(self.moment, before, self.view, t) for t in wanted}

    @staticmethod
    def _look_at(open_choices: list["Choice"], claim: Claim, publication: Publication) -> None:
        for choice in open_choices:
            choice.look_at(claim, publication)
        if any(choice.is_full for choice in open_choices):
            open_choices[:] = [choice for choice in open_choices if not choice.is_full]


def at_most(found: Iterable[Record]) -> list[Record]:
    """Return at most `MAX_OF_TYPE` records of each name and type, those with the lowest data.

    So it does not depend on the order of the holders, which differs between processes.
    """
    records = list(found)
    if len(records) <= MAX_OF_TYPE:
        return records
    alike: dict[tuple[str, int], list[bytes]] = {}
    for record in records:
        alike.setdefault((record.name, record.rtype), []).append(record.rdata)
    excess = {key for key, data in alike.items() if len(data) > MAX_OF_TYPE}
    if not excess:
        return records
    kept = {key: frozenset(sorted(alike[key])[:MAX_OF_TYPE]) for key in excess}
    return [r for r in records if r.rdata in kept.get((r.name, r.rtype), (r.rdata,))]


class Choice:
    """The holders, of very many, that provide enough records of a type for an answer.

    Attributes:
        is_full: More holders would add nothing.
    """

    def __init__(self, zone: Holding, before: str, view: View, rtype: int) -> None:
        self.is_full = False
        self._zone = zone
        self._before = before
        self._view = view
        self._rtype = rtype
        self._tiers: dict[int, tuple[list[Claim], set[object]]] = {}
        self._other: Claim | None = None  # a holder of the name without such a record

    def look_at(self, claim: Claim, publication: Publication) -> None:
        """Consider a holder."""
        if publication.cname:
            return
        self._other = self._other or claim
        items = set(self._items(claim, publication))
        if not items:
            return
        is_address = self._rtype in (messages.A, messages.AAAA)
        tier = _behind(self._zone, publication) if is_address else 0
        claims, seen = self._tiers.setdefault(tier, ([], set()))
        if len(seen) < MAX_OF_TYPE and not items <= seen:
            claims.append(claim)
            seen |= items
        self.is_full = not tier and len(seen) >= MAX_OF_TYPE

    def chosen(self) -> list[Claim]:
        """Return the holders; none if all of them are aliases."""
        if self._tiers:
            return self._tiers[min(self._tiers)][0]
        return [self._other] if self._other else []

    def _items(self, claim: Claim, publication: Publication) -> Iterable[object]:
        """Return the data that a holder provides."""
        if self._rtype == messages.TXT:
            before = "" if self._before == "*" else self._before
            return (publication.texts or {}).get(before, ())
        if self._rtype == messages.SRV:
            return (publication.services or {}).get(self._before, ())
        if self._before not in ("", "*"):
            return ()
        is_ipv6 = self._rtype == messages.AAAA
        addresses = _addresses(self._zone, publication, claim, self._view)
        return [a.text for a in addresses if (":" in a.text) is is_ipv6]


class Part(NamedTuple):
    """A node with the holders chosen for an answer.

    Attributes:
        node: With all holders, unless there are very many.
        is_whole: The others would add nothing to the answer.
    """

    node: Node
    is_whole: bool


def some_of(zone: Zone, node: Node, view: View, qtype: int, turn: Callable[[], int]) -> Part:
    """Choose enough of very many holders for one answer.

    So the cost of an answer does not grow with the number of holders, as long as many of them
    have records of its type.

    Args:
        zone: The zone of the node.
        node: The holders of a name.
        view: Of the client.
        qtype: The type's number.
        turn: Counts the answers about the name, each of which has other records.
    """
    count = len(node.holders)
    if count <= MANY_HOLDERS:
        return Part(node, True)
    rtype = messages.A if qtype == messages.ANY else qtype
    is_absent = rtype not in CHOSEN_TYPES or zone.is_without(rtype, view.host_addresses)
    start = 0
    if not is_absent:
        start = start_of(turn(), count)
    choice = Choice(zone, node.before, view, rtype)
    is_whole = True
    in_turn = chain(islice(node.holders, start, None), islice(node.holders, start))
    for looked, claim in enumerate(in_turn, 1):
        choice.look_at(claim, zone.holder(claim))
        if choice.is_full or (looked == MAX_ALIKE and rtype in ALIKE_TYPES):
            is_whole = looked == count
            break
        if is_absent and choice.chosen():
            break
    chosen = choice.chosen()
    if not chosen:
        return Part(node, True)  # all are aliases, of which one is chosen
    return Part(node._replace(holders=tuple(chosen)), is_whole)


def start_of(turn: int, count: int) -> int:
    """Return the place of the first of very many holders that one of the answers looks at.

    A round of answers has all of them; each round starts one further.
    """
    answers_for_all = -(-count // MAX_OF_TYPE)
    round_before, place = divmod(turn, answers_for_all)
    return (place * MAX_OF_TYPE + round_before) % count


@lru_cache(maxsize=1024)
def _ends_of(relative_name: str) -> tuple[str, ...]:
    """Return a relative name, and the names above it."""
    labels = names.labels_of_text(relative_name)
    return tuple(".".join(labels[count:]) for count in range(len(labels)))


def _of_apex(zone: Zone, suffix: Suffix, view: View) -> list[Record]:
    """Return the records at an apex without SOA, of the server, and of the domains below."""
    apex = suffix.apex
    if suffix.kind is SuffixKind.REVERSE:
        return [ns(zone, apex)]
    found = [r for r in at_apex(zone, apex, view) if r.rtype != messages.SOA]
    found += of_server(zone, names.join(NS_LABEL, apex), view)
    for inner in zone.shape.domains:
        if inner != apex and zone.domain_above(names.parent(inner)) == apex:
            found.append(ns(zone, inner))
            found += of_server(zone, names.join(NS_LABEL, inner), view)
    return found


def of_owner(zone: Zone, owner: str, suffix: Suffix, view: View) -> list[Record]:
    """Return the records of a claimed owner, with its texts, services and wildcards."""
    place = place_of(zone, owner, suffix)
    if place is None:
        return []
    relative, suffix = place
    holders = zone.holders(relative, suffix)
    found: list[Record] = []
    name = suffix.name_of(relative)
    if holders and names.fits(name):
        found += at_node(zone, name, Node(relative, "", holders), view, suffix)
    if suffix.kind not in (SuffixKind.DOMAIN, SuffixKind.SEARCH):
        return found
    for before in sorted({b for c in holders for b in zone.befores_of(c)}):
        having = tuple(c for c in holders if before in zone.befores_of(c))
        below = f"{before}.{relative}"
        if not zone.holders(below, suffix) and names.fits(suffix.name_of(below)):
            node = Node(relative, before, having)
            found += at_node(zone, suffix.name_of(below), node, view, suffix)
    return found


def targets_of(
    zone: Zone, found: Iterable[Record], name: str, view: View, suffix: Suffix
) -> tuple[Record, ...]:
    """Return the addresses of SRV targets, for the additional section."""
    extra: dict[tuple[str, bytes], Record] = {}
    for record in found:
        if record.rtype != messages.SRV:
            continue
        target = names.from_wire(record.rdata[6:])
        node = zone.node(suffix.owner_of(target), suffix) if target != name else None
        if node is None:
            continue
        part = some_of(zone, node, view, messages.A, lambda: 0).node
        for address in at_most(at_node(zone, target, part, view, suffix)):
            if address.rtype in (messages.A, messages.AAAA):
                extra[target, address.rdata] = address
    return tuple(extra.values())


def of_type(found: Iterable[Record], qtype: int) -> tuple[Record, ...]:
    """Return the records of a type; for ANY, those of the first existing type (RFC 8482)."""
    records = tuple(found)
    if qtype == messages.ANY and records:
        qtype = records[0].rtype
    return tuple(r for r in records if r.rtype == qtype)


def place_of(zone: Zone, owner: str, suffix: Suffix) -> tuple[str, Suffix] | None:
    """Return the name of a claimed owner below a suffix; None if it is not there."""
    if not owner.endswith("."):
        name = f"{owner}."
        if suffix.kind is SuffixKind.BARE and (
            not names.is_single_label(owner) or name == LOOPBACK_NAME or zone.has_zone_above(name)
        ):
            return None
        is_server = suffix.kind is SuffixKind.DOMAIN and owner == NS_LABEL
        return None if is_server else (owner, suffix)
    if owner == suffix.apex or not names.is_below(owner, suffix.apex):
        return None
    if suffix.kind is SuffixKind.BARE and zone.has_zone_above(owner):
        return None
    if suffix.kind is SuffixKind.BARE and not names.is_single_label(owner):
        return owner, Suffix(names.parent(owner), SuffixKind.EXACT)
    relative = suffix.owner_of(owner)
    is_taken = zone.is_running(relative) or (
        suffix.kind is SuffixKind.DOMAIN and relative == NS_LABEL
    )
    return None if is_taken else (relative, suffix)


def _address_records(
    zone: Holding, name: str, held: list[tuple[Claim, Publication]], view: View
) -> Iterator[Record]:
    """Return the A and AAAA records of claims, each address once."""
    found = [
        Record(
            name,
            address.rtype,
            publication.ttl,
            packed(address.text),
            publication.container_name,
            publication.id,
            address.network,
            claim.rule,
            address.preference + _behind(zone, publication),
        )
        for claim, publication in held
        for address in _addresses(zone, publication, claim, view)
    ]
    found.sort(key=lambda r: (r.rtype, r.preference))
    best: dict[int, int] = {}  # by type, the tier of its first record
    for record in found:
        best.setdefault(record.rtype, tier_of(record))
    found = [r for r in found if tier_of(r) == best[r.rtype]]
    seen: set[bytes] = set()
    for record in found:
        if record.rdata not in seen:
            seen.add(record.rdata)
            yield record


def tier_of(record: Record) -> int:
    """Return how an address's container is doing: those of a higher tier are left out."""
    return record.preference // _UNHEALTHY


def _behind(zone: Holding, publication: Publication) -> int:
    """Return what to add to a preference so that these addresses are left out."""
    behind = _LOST if publication.engine in zone.lost_engines else 0
    return behind + (0 if publication.is_healthy or zone.shape.unhealthy == "keep" else _UNHEALTHY)


def _addresses(
    zone: Holding, publication: Publication, claim: Claim, view: View
) -> Iterable[PublishedAddress]:
    """Return the addresses of a publication for a view; see docs/names.md, which address."""
    proxy = (publication.proxies or {}).get(claim.proxy)
    if proxy.on_host if proxy else publication.on_host:
        return [PublishedAddress(text, "", "") for text in view.host_addresses]
    addresses = proxy.addresses if proxy else publication.addresses
    if claim.network:
        own = [a for a in addresses if a.network_id == claim.network]
        return own or [a for a in addresses if not a.network_id]
    if len(addresses) < 2:
        return addresses
    for networks in (view.networks, zone.own_networks):
        shared = [a for a in addresses if a.network_id in networks] if networks else []
        if shared:
            return shared
    return addresses


def sole_addresses(zone: Zone, claim: Claim, view: View) -> SoleAddresses | None:
    """Return all that a view sees at the names of a claim, if that is one address of a family."""
    publication = zone.holder(claim)
    return of_addresses(publication, tuple(_addresses(zone, publication, claim, view)))


def _has_address(zone: Holding, owner: str, view: View, suffix: Suffix) -> bool:
    """Return whether an owner has an address in a view."""
    return any(
        True
        for claim in zone.holders(owner, suffix)
        for _ in _addresses(zone, zone.holder(claim), claim, view)
    )


def _one_ttl(records: list[Record]) -> tuple[Record, ...]:
    """Give each type's records their lowest TTL (RFC 2181 section 5.2), without duplicates."""
    if len(records) < 2:
        return tuple(records)
    lowest: dict[int, int] = {}
    for record in records:
        lowest[record.rtype] = min(record.ttl, lowest.get(record.rtype, record.ttl))
    unique: dict[tuple[int, bytes], Record] = {}
    for record in records:
        unique.setdefault((record.rtype, record.rdata), record._replace(ttl=lowest[record.rtype]))
    return tuple(unique.values())


def _record(name: str, rtype: int, rdata: bytes, publication: Publication, claim: Claim) -> Record:
    return Record(
        name,
        rtype,
        publication.ttl,
        rdata,
        publication.container_name,
        publication.id,
        rule=claim.rule,
    )


def _strings(text: str) -> bytes:
    """Return a text as character-strings of at most 255 octets (RFC 1035 section 3.3.14)."""
    octets = text.encode("utf-8", "replace")
    pieces = [octets[i : i + MAX_STRING] for i in range(0, len(octets), MAX_STRING)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces or [b""])


def _domain_of(zone: Zone, apex: str) -> str:
    """Return the domain whose `ns` serves an apex: its own, or the first one."""
    return apex if apex in zone.shape.domains else zone.shape.domains[0]


def _rtype(address_text: str) -> int:
    return messages.AAAA if ":" in address_text else messages.A


class Held(NamedTuple):
    """A name that a publication has, with its records there.

    Attributes:
        claim: Its claim to the name.
        records: Its own records there; none if the name has no data.
    """

    claim: Claim
    records: tuple[Record, ...]


def held_by(zone: Zone, publication: Publication, view: View) -> Iterator[Held]:
    """Yield the names in the first domain, and absolute ones, that resolve to a publication.

    Names that another one has are left out, and those whose answers contain only others, as
    for an unhealthy replica, and all names if it is not running.
    """
    if not publication.is_running:
        return
    domain = Suffix(zone.shape.domains[0], SuffixKind.DOMAIN)
    alone: dict[str, tuple[Record, ...]] = {}  # by network, for names without other holders
    first: dict[str, Claim] = {}  # to each owner, the container's own name before all others
    for claim in publication.claims:
        first.setdefault(claim.owner, claim)
    for claim in first.values():
        suffix = domain
        if claim.owner.endswith("."):
            suffix = Suffix(names.parent(claim.owner), SuffixKind.EXACT)
        holders = zone.holders(claim.owner, suffix)
        name = suffix.name_of(claim.owner)
        if not holders or not names.fits(name):
            continue
        if len(holders) > MANY_HOLDERS:
            yield from _held_with_many(zone, publication, Node(claim.owner, "", holders), view)
            continue
        mine = [c for c in holders if c.publication == publication.id]
        if not mine:
            continue
        found = alone.get(mine[0].network) if len(holders) == 1 else None
        if found is None:
            found = tuple(at_node(zone, name, Node(claim.owner, "", holders), view, suffix))
            if len(holders) == 1:
                alone[mine[0].network] = found
        own = tuple(record for record in found if record.container_id == publication.id)
        if own or len(mine) == len(holders) or not _leads_elsewhere(found):
            yield Held(mine[0], own)


def _held_with_many(zone: Zone, publication: Publication, node: Node, view: View) -> Iterator[Held]:
    """Yield a name that a publication has with very many others, unless these leave it out."""
    is_absolute = node.base.endswith(".")
    domain = Suffix(zone.shape.domains[0], SuffixKind.DOMAIN)
    suffix = Suffix(names.parent(node.base), SuffixKind.EXACT) if is_absolute else domain
    wanted = (c for c in publication.claims if c.owner == node.base)
    mine = tuple(c for c in wanted if zone.is_holder(c, suffix))
    behind = _behind(zone, publication)
    is_last = bool(behind or publication.cname)
    others = islice(node.holders, MAX_ALIKE) if is_last else ()
    is_left_out = any(
        (_behind(zone, p), bool(p.cname)) < (behind, bool(publication.cname))
        for p in map(zone.holder, others)
    )
    if mine and not is_left_out:
        own = at_node(zone, suffix.name_of(node.base), node._replace(holders=mine), view, suffix)
        yield Held(mine[0], own)


def _leads_elsewhere(found: Iterable[Record]) -> bool:
    return any(r.rtype in (messages.A, messages.AAAA, messages.CNAME) for r in found)

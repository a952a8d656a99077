"""The zone: every name that containers publish, stored once and found below every suffix.

Owners are relative names ("web", "web.frontend") or, with their final dot,
absolute ones of `fqdns` labels.  A relative owner exists below each `--domain`
and each `--search-domain`, and bare if it is a single label; it is stored once,
so that the cost of a change depends on that container's names only.
TXT, SRV and wildcard owners ("_80._tcp.web", "*.web") are not stored; they
are derived from the owner above them.

This module knows which container has which name; `records` builds its records.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple, TypeVar
from weakref import ref

from containerdns.core import names
from containerdns.core.pieces import copied, emptied
from containerdns.core.values import with_fields
from containerdns.core.zone import handover
from containerdns.core.zone.claims import (
    Chosen,
    Claims,
    ManyClaims,
    added,
    befores,
    befores_of,
    removed,
    samples,
)
from containerdns.core.zone.handover import Departure, Handovers, may_have
from containerdns.core.zone.policy import SERVICE_ID, Claim, Publication, Rank
from containerdns.core.zone.remembered_names import RememberedNames, Tables
from containerdns.core.zone.reverse import Reverse
from containerdns.core.zone.sole_addresses import SoleOwners
from containerdns.core.zone.special_names import LOOPBACK_NAME, nearest

Key = TypeVar("Key")
NO_DATA = {"claims", "faults", "skipped", "stopped_at"}  # of a publication; not in its records
_data_of = attrgetter(*(f.name for f in fields(Publication) if f.name not in NO_DATA))

HOST_OWNER, HOST_ID = "host", "host:"  # rule 9, and the id of its publication
MAX_SORTED = 2000  # owners or reverse names, sorted within half a millisecond
MAX_ENDED = 500  # handovers at once, within some milliseconds
MAX_NAMES_KNOWN = 256  # owners; one redeploy changes the same ones several times
LOOKED_AT_ONCE = 200  # claims or owners that are looked at for losses between two turns
TYPE_CNAME, TYPE_TXT, TYPE_AAAA = 5, 16, 28
NS_LABEL = "ns"  # of each domain: this server itself; no container can have it there


class SuffixKind(Enum):
    """The kind of a suffix."""

    DOMAIN = "domain"
    SEARCH = "search domain"
    BARE = "root"
    EXACT = "fqdn"
    REVERSE = "reverse zone"


class Suffix(NamedTuple):
    """A suffix that names of ours are below.

    Attributes:
        apex: Its name; for EXACT, the parent of the name.
        kind: Its kind.
    """

    apex: str
    kind: SuffixKind

    def owner_of(self, name: str) -> str:
        """Return the owner of a name below this suffix."""
        return name if self.kind is SuffixKind.EXACT else names.strip_suffix(name, self.apex)

    def name_of(self, owner: str) -> str:
        """Return the name of an owner below this suffix."""
        return owner if self.kind is SuffixKind.EXACT else names.join(owner, self.apex)


BARE = Suffix(names.ROOT, SuffixKind.BARE)


class Loss(NamedTuple):
    """A claim that another one prevailed over.

    Attributes:
        owner: The relative or absolute name.
        loser: The name of the container that claimed it.
        winner: The name of the container that has it; "" if none, as it is ambiguous.
        rule: The rule behind the lost claim.
        loser_id: The id of the publication that claimed it.
        held_for: For a name in handover, its former container; "" otherwise.
        until: When the handover ends, seconds since the epoch; 0 otherwise.
    """

    owner: str
    loser: str
    winner: str
    rule: str
    loser_id: str
    held_for: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The suffixes and times of the zone; see the options of the same names."""

    domains: tuple[str, ...] = ("docker.",)
    search_domains: tuple[str, ...] = ("localdomain.",)
    bare_names: bool = True
    ttl: int = 5
    negative_ttl: int = 1
    handover: int = 60
    unhealthy: str = "drop"  # or "keep"


class Node(NamedTuple):
    """The claims that hold a name.

    Attributes:
        base: The claimed owner.
        before: The relative name before it, for a text, service or wildcard; "" for none.
        holders: The claims that have it, all of the best rank.
    """

    base: str
    before: str
    holders: tuple[Claim, ...]


class Past:
    """The publications of a moment, for work that goes on while the zone changes.

    Only what is replaced afterwards is kept, so that a moment costs nothing at first.
    """

    def __init__(self, publications: dict[str, Publication]) -> None:
        self._current = publications
        self._replaced: dict[str, Publication] = {}

    def __getitem__(self, publication_id: str) -> Publication:
        """Return the publication that had an id at that moment."""
        replaced = self._replaced.get(publication_id)
        return self._current[publication_id] if replaced is None else replaced

    def keep(self, publication: Publication) -> None:
        """Keep a publication that is being replaced, unless an earlier one was."""
        self._replaced.setdefault(publication.id, publication)


class Zone:
    """All names, and the claims to them.

    Attributes:
        shape: Its suffixes and times; changed by `reshape`.
        serial: The SOA serial of all our zones, 1 to 2**32 - 1; increased by `grow` only.
        follows_clock: The serial is the clock's; False if it is set from outside.
        is_ahead: Records changed since the serial was increased, so that the current contents
            have no serial yet.
        generation: Increases with every change, also with those that affect no record.
        remembered: The owners of removed containers.
        reverse: Addresses and subnets.
        handovers: The names whose holders stopped or were removed recently.
        own_networks: Ids of the networks that this server's own container is on.
        lost_engines: URLs of Engines whose addresses are left out of answers that have others.
        sole_owners: The labels that one container has, unless an fqdn or a handover says otherwise.
        absolute_owners: The number of fqdns that are owners; usually 0.
        skipped: The number of publications of containers that publish nothing, for some reason.
    """

    def __init__(self, shape: Shape, serial: int, remembered: RememberedNames) -> None:
        self.handovers = Handovers(shape.handover)
        self.sole_owners = SoleOwners()
        self._claims: dict[str, Claims] = {}
        self._labels_of_ours: set[str] = set()
        self._take_shape(shape)
        self.serial = serial
        self.follows_clock = True
        self.is_ahead = False
        self.generation = 0
        self.remembered = remembered
        self.reverse = Reverse()
        self.own_networks: frozenset[str] = frozenset()
        self.lost_engines: frozenset[str] = frozenset()
        self._publications: dict[str, Publication] = {}
        self._pasts: list[ref[Past]] = []
        self._reserved: Counter[str] = Counter()
        self._above_reserved: Counter[str] = Counter()
        self._above: Counter[str] = Counter()
        self._having: Counter[int] = Counter()  # publications that run, by type of record
        self._contested: dict[str, None] = {}  # owners with several claims
        self._best: dict[str, dict[bool, Chosen]] = {}
        self._services: dict[str, Counter[str]] = {}  # bare services by owner: their projects
        self.absolute_owners = 0
        self.skipped = 0
        self.replace(HOST_ID, _host(shape.ttl), now=0.0)
        self.is_ahead = False

    # -- changes -------------------------------------------------------------

    def reshape(self, shape: Shape) -> None:
        """Set the suffixes and times; every answer may change."""
        self._take_shape(shape)
        self.generation += 1
        self.replace(HOST_ID, _host(shape.ttl), now=0.0)

    def _take_shape(self, shape: Shape) -> None:
        self.shape = shape
        self.handovers.lifetime = shape.handover
        suffixes = shape.domains + shape.search_domains
        self._names_known: dict[str, tuple[str, ...]] = {}  # `_names_at` of single owners
        self._endings = tuple("." if s == names.ROOT else f".{s}" for s in suffixes)
        self._above_suffixes = frozenset(a for s in suffixes for a in (s, *names.parents(s)))
        former = self._labels_of_ours
        self._labels_of_ours = {NS_LABEL, LOOPBACK_NAME[:-1]} | {
            a.partition(".")[0] for a in self._above_suffixes
        }
        for label in former ^ self._labels_of_ours:
            self._note_sole(label, self._claims.get(label, ()))
        self._domains = frozenset(shape.domains)
        self._kinds = dict.fromkeys(shape.search_domains, SuffixKind.SEARCH)
        self._kinds |= dict.fromkeys(shape.domains, SuffixKind.DOMAIN)
        self._outer = self._domains & {a for d in shape.domains for a in names.parents(d)}
        self._nested = tuple(  # search domains that contain names of a domain
            Suffix(s, SuffixKind.SEARCH)
            for s in shape.search_domains
            if any(names.is_below(s, d) for d in shape.domains)
        )

    def replace(
        self,
        publication_id: str,
        new: Publication | None,
        now: float,
        *,
        hands_over: bool = True,
        wants_names: bool = True,
    ) -> set[str]:
        """Replace or remove the publication with an id.

        Removed names are remembered.  If a record changed, the zone is ahead of its serial until
        `grow`.

        Args:
            publication_id: The container's id.
            new: None if the container was removed.
            now: Seconds since the epoch.
            hands_over: Hold back names that lose their holders; False if the change is due to
                new rules.
            wants_names: Return names; False saves half of the work in a first listing.

        Returns:
            The absolute names whose answers may have changed; of a container that does not run,
            because they are kept from upstreams now, or no longer.
        """
        old = self._publications.get(publication_id)
        if old == new:
            return set()
        self.generation += 1
        if old is not None and self._pasts:
            self._keep_for_pasts(old)
        if old is not None and new is not None and _claim_alike(old, new):
            return self._exchange(old, new, now, hands_over=hands_over)
        was_running, is_running = bool(old and old.is_running), bool(new and new.is_running)
        self.skipped += bool(new and new.skipped) - bool(old and old.skipped)
        is_kept = new is None and not was_running and self.remembered.lifetime > 0
        changed: set[str] = set()
        if wants_names and not is_kept:  # by its container until now, and remembered from now on
            changed = self._names_at(_owners_of(old, new))
        if old is not None:
            changed |= self._withdraw(old)
        if new is not None:
            self._publications[publication_id] = new
            changed |= self._enter(new)
        else:
            del self._publications[publication_id]
        if old is not None and not (new is not None and _is_kept_alike(old, new)):
            self._remember(_owners_to_keep(old), new, now)
        is_withdrawn = False
        if hands_over and was_running and old is not None:
            self._depart(old, old.claims, now)
        elif hands_over and new is not None and not is_running:
            is_withdrawn = self._depart_lately(new, now)
        if was_running or is_running or is_withdrawn:
            self.is_ahead = True
        return changed

    def _keep_for_pasts(self, old: Publication) -> None:
        """Keep a publication that is being replaced for those that need it."""
        for reference in self._pasts:
            if (past := reference()) is not None:
                past.keep(old)

    def _exchange(
        self, old: Publication, new: Publication, now: float, *, hands_over: bool
    ) -> set[str]:
        """Replace the publication of a running container by another one (`_claim_alike`).

        Only the claims that it loses or gains cost anything.  Most changes are such: an inspect
        that adds host name and aliases to what the list showed, a health check, a new address.
        """
        known = {claim: claim for claim in old.claims}
        new = with_fields(new, claims=tuple([known.get(claim, claim) for claim in new.claims]))
        kept = known.keys() & new.claims
        lost = [claim for claim in old.claims if claim not in kept]
        gained = [claim for claim in new.claims if claim not in kept]
        self._remove_claims(old, lost)
        self._publications[new.id] = new
        for claim in kept:
            self._admit_again(claim, new.project)
        self._add_claims(new, gained)
        if lost:
            self._remember(_owners_to_keep(old, lost), new, now)
        if hands_over:
            self._depart(old, lost, now)
        self.is_ahead = True
        if _has_same_data(old, new):
            return self._names_at(claim.owner for claim in (*lost, *gained))
        pointers = self._exchange_pointers(old, new)
        for claim in kept:
            self._note_sole(claim.owner, self._claims[claim.owner])
        self._count_types(old, -1)
        self._count_types(new, 1)
        return self._names_at(claim.owner for claim in (*old.claims, *gained)) | pointers

    def _remember(self, gone: list[str], new: Publication | None, now: float) -> None:
        """Remember owners that a container had, unless it or another one keeps them."""
        kept = frozenset(_owners_to_keep(new)) if new is not None else frozenset()
        self.remembered.add([o for o in gone if o not in kept and not self._is_kept(o)], now)

    def _admit_again(self, claim: Claim, project: str) -> None:
        """End the departures that do not hold back a claim, as when it was added."""
        if claim.owner in self.handovers:
            self.handovers.admit(claim.owner, claim, project)
            self._best.pop(claim.owner, None)

    def _exchange_pointers(self, old: Publication, new: Publication) -> set[str]:
        """Replace the addresses of a publication; return the reverse names that changed."""
        removed_names = {self.reverse.remove(a, old.id) for a in old.pointers}
        return removed_names | {self.reverse.add(a, new.id) for a in new.pointers}

    def grow(self, now: float, *, is_tick: bool = False) -> bool:
        """Assign a serial to the current contents; return whether the serial increased.

        Serials are seconds of the clock, so that none is lower than one before a restart.  Of
        the changes in one second, only the first gets a serial immediately.

        Args:
            now: Seconds since the epoch.
            is_tick: A second has passed; a serial that is higher than the clock, because the
                clock was set back, then increases by one.
        """
        if not self.follows_clock:
            return False
        serial = next_serial(self.serial, now, is_tick=is_tick)
        if serial == self.serial:
            return False
        self.serial, self.is_ahead = serial, False
        return True

    def end_handovers(self, owners: Iterable[str], now: float) -> set[str]:
        """End handovers, and return the names whose answers may have changed.

        Args:
            owners: As returned by `Handovers.due`.
            now: Seconds since the epoch.
        """
        passed = set()
        self.generation += 1
        for owner in owners:
            self.handovers.end(owner, now)
            self._best.pop(owner, None)
            if owner in self._claims:
                passed.add(owner)
        if passed:
            self.is_ahead = True
        return self._names_at(passed)

    def _depart(self, old: Publication, lost: Iterable[Claim], now: float) -> None:
        """Hold back the names that a publication lost, and that no other may have at once."""
        if self.handovers.lifetime <= 0:
            return
        for claim in lost:
            if claim.owner.endswith("."):
                continue  # absolute names are never derived
            left = Departure(claim, old.project, old.container_name, now, True, not claim.project)
            if claim.owner in self._claims or claim.owner in self.handovers.by_owner:
                left = self._where_alone(left)
            is_counted = claim.project and claim.project not in self._services.get(claim.owner, ())
            if left.in_domains or left.elsewhere or is_counted:
                self.handovers.add(claim.owner, left)
                self._best.pop(claim.owner, None)

    def _where_alone(self, left: Departure) -> Departure:
        """Return a departure that holds back its name where its claim had it alone."""
        owner = left.claim.owner
        in_domains = elsewhere = self._was_alone(left, is_domain=True)
        if owner in self._services or owner in self.handovers.by_owner:  # suffixes may differ
            elsewhere = self._was_alone(left, is_domain=False)
        return left._replace(in_domains=in_domains, elsewhere=left.elsewhere and elsewhere)

    def _was_alone(self, left: Departure, *, is_domain: bool) -> bool:
        """Return whether a removed claim had its name alone, without a successor."""
        claim = left.claim
        services = self._services.get(claim.owner, ()) if is_domain else ()
        if claim.project and services:
            return False  # a replica has the name, or none had
        before = self.handovers.by_owner.get(claim.owner)
        counts_services = len(services) == 1  # ambiguous: several projects claimed it
        others = samples(self._claims.get(claim.owner, ()))
        waiting = [c for c in others if counts_services or not c.project]
        if not before:
            for c in waiting:  # if many share a name, the first one decides
                if c.rank <= claim.rank or may_have(c, self._project_of(c), left):
                    return False
            return True
        if any(may_have(c, self._project_of(c), left) for c in waiting):
            return False

        def project_of(c: Claim) -> str:
            return left.project if c is claim else self._project_of(c)

        had = handover.holders((*waiting, claim), before, project_of, is_domain=is_domain)
        return had == (claim,)

    def _depart_lately(self, new: Publication, now: float) -> bool:
        """Hold back names of a container that was found stopped, from its stop time.

        So a restart of this server during a redeploy changes nothing.  Names that several
        could share are excluded, since their holder is unknown.

        Returns:
            Whether a name is held back now.
        """
        is_withdrawn = False
        since = min(new.stopped_at, now)
        if not new.stopped_at or since + self.handovers.lifetime <= now:
            return False
        for claim in new.claims:
            others = self._samples(claim.owner)
            left = Departure(claim, new.project, new.container_name, since, True, not claim.project)
            is_known = claim.rank <= Rank.LABEL or claim.project
            if claim.owner.endswith(".") or not is_known:
                continue
            if not any(may_have(c, self._project_of(c), left) for c in others):
                self.handovers.add(claim.owner, left)
                self._best.pop(claim.owner, None)
                is_withdrawn |= bool(others)
        return is_withdrawn

    def _samples(self, owner: str) -> Sequence[Claim]:
        """Return the claims to an owner; of very many, one of each that the rules treat alike."""
        return samples(self._claims.get(owner, ()))

    def _project_of(self, claim: Claim) -> str:
        return self._publications[claim.publication].project

    def _withdraw(self, publication: Publication) -> set[str]:
        """Remove a publication's claims; return the reverse names that changed."""
        if not publication.is_running:
            for owner in _owners_to_keep(publication):
                if count := self._reserved[owner] - 1:
                    self._reserved[owner] = count
                    continue
                self._reserved.pop(owner)
                if above := names.above_owner(owner):
                    _count(self._above_reserved, above, -1)
            return set()
        self._remove_claims(publication, publication.claims)
        self._count_types(publication, -1)
        return {self.reverse.remove(a, publication.id) for a in publication.pointers}

    def _enter(self, publication: Publication) -> set[str]:
        """Add a publication's claims; return the reverse names that changed."""
        if not publication.is_running:
            for owner in _owners_to_keep(publication):
                count = self._reserved.get(owner, 0)
                self._reserved[owner] = count + 1
                if not count and (above := names.above_owner(owner)):
                    _count(self._above_reserved, above, 1)
            return set()
        self._add_claims(publication, publication.claims)
        self._count_types(publication, 1)
        return {self.reverse.add(a, publication.id) for a in publication.pointers}

    def _remove_claims(self, publication: Publication, lost: Iterable[Claim]) -> None:
        """Remove claims of a running publication."""
        for claim in lost:
            self._set_claims(claim.owner, removed(self._claims[claim.owner], claim, publication))
            if claim.project:
                services = self._services[claim.owner]
                _count(services, (claim.project,), -1)
                if not services:
                    del self._services[claim.owner]

    def _add_claims(self, publication: Publication, gained: Iterable[Claim]) -> None:
        """Add claims of a running publication."""
        for claim in gained:
            owner = claim.owner
            if owner in self.handovers.by_owner:
                self.handovers.admit(owner, claim, publication.project)
            claims = self._claims.get(owner)
            self._set_claims(owner, added(claims, claim, self.holder) if claims else (claim,))
            if claim.project:
                self._services.setdefault(owner, Counter())[claim.project] += 1
        for owner in _owners_to_keep(publication, gained) if self.remembered else ():
            if owner in self.remembered.by_owner:
                self.remembered.discard(owner)

    def _count_types(self, publication: Publication, change: int) -> None:
        """Count what runs with IPv6 addresses, texts and aliases, which few or all have."""
        if any(":" in address.text for address in publication.addresses):
            _count(self._having, (TYPE_AAAA,), change)
        if publication.texts:
            _count(self._having, (TYPE_TXT,), change)
        if publication.cname:
            _count(self._having, (TYPE_CNAME,), change)

    def is_without(self, rtype: int, host_addresses: Iterable[str]) -> bool:
        """Return whether no container is known to have records of a type, without a search."""
        if rtype in self._having or rtype not in (TYPE_AAAA, TYPE_TXT):
            return False
        return rtype == TYPE_TXT or not any(":" in text for text in host_addresses)

    def _set_claims(self, owner: str, claims: Claims) -> None:
        """Replace the claims to an owner, and update everything derived from them.

        Claims change only here, so that derived tables stay consistent.
        """
        count = len(claims)
        self._best.pop(owner, None)
        had_claims = owner in self._claims
        if count:
            self._claims[owner] = claims
        elif had_claims:
            del self._claims[owner]
        if count == 1:
            self._note_sole(owner, claims)
        elif owner in self.sole_owners.a:
            self.sole_owners.remove(owner)
        if count > 1:
            self._contested[owner] = None
        else:
            self._contested.pop(owner, None)
        if had_claims == (count > 0):
            return
        change = 1 if count else -1
        if owner.endswith("."):
            self.absolute_owners += change
        if above := names.above_owner(owner):
            _count(self._above, above, change)

    def _note_sole(self, owner: str, claims: Claims) -> None:
        """Keep the records of an owner ready-made if one container alone has it."""
        if len(claims) == 1 and owner not in self._labels_of_ours:
            (claim,) = claims
            self.sole_owners.set(claim, self._publications[claim.publication])
        else:
            self.sole_owners.remove(owner)

    def _names_of(self, publication: Publication) -> set[str]:
        """Return the absolute names of a publication, and those above, which may be empty."""
        return self._names_at(c.owner for c in publication.claims)

    def _names_at(self, owners: Iterable[str]) -> set[str]:
        """Return the absolute names of some owners, and those above, which may be empty."""
        found: set[str] = set()
        known = self._names_known
        for owner in owners:
            names_at = known.get(owner)
            if names_at is None:
                if len(known) >= MAX_NAMES_KNOWN:
                    known.clear()
                around = (owner, *names.above_owner(owner))
                names_at = known[owner] = tuple([n for o in around for n in self.names_of(o)])
            found.update(names_at)
        return found

    def names_of(self, owner: str) -> list[str]:
        """Return the absolute names that an owner has below all suffixes."""
        if owner.endswith("."):
            return [owner]
        found = [owner + ending for ending in self._endings]
        if names.is_single_label(owner):
            found.append(owner + ".")
        return found

    def names_with_choice(self) -> set[str]:
        """Return the names of publications with several networks, where the view matters."""
        chosen = (p for p in self._publications.values() if len(p.addresses) > 1 or p.proxies)
        return set().union(*map(self._names_of, chosen))

    # -- names of ours ----------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of owners."""
        return len(self._claims)

    def publication(self, publication_id: str) -> Publication | None:
        """Return the publication with an id."""
        return self._publications.get(publication_id)

    def publications(self) -> Iterator[Publication]:
        """Return all publications, running or not, of containers and hosts files."""
        return (p for p in list(self._publications.values()) if p.id != HOST_ID)

    def owners(self) -> Iterator[str | None]:
        """Yield all owners with records, sorted unless there are many, and None between some.

        Those of one moment, though the zone may change meanwhile.
        """
        return self._walked(self._claims)

    def reverse_names(self, apex: str) -> Iterator[str | None]:
        """Yield the reverse names with a PTR record below an apex, in the same way."""
        for name in self._walked(self.reverse.names):
            yield name if name is None or names.is_below(name, apex) else None

    def _walked(self, table: Collection[str]) -> Iterator[str | None]:
        """Yield the keys of a table that changes with the zone alone, and None between some."""
        for found in copied(table, lambda: self.generation):
            if found is None:
                yield None
                continue
            if len(found) <= MAX_SORTED:
                found.sort()
            yield from emptied(found)

    def owners_to_keep(self) -> Iterator[str]:
        """Yield all owners that would be remembered if their containers were removed now.

        The zone may change meanwhile; owners added later are left out.
        """
        for publication in self.publications():
            yield from _owners_to_keep(publication)

    def holder(self, claim: Claim) -> Publication:
        """Return the publication of a running container's claim."""
        return self._publications[claim.publication]

    def past(self) -> Past:
        """Return the publications as of now, while the zone may change."""
        past = Past(self._publications)
        self._pasts = [r for r in self._pasts if r() is not None] + [ref(past)]
        return past

    def is_running(self, owner: str) -> bool:
        """Return whether a running container claims an owner."""
        return owner in self._claims

    def claims(self, owner: str) -> tuple[Claim, ...]:
        """Return all claims of running containers to an owner."""
        return tuple(self._claims.get(owner, ()))

    @property
    def running_owners(self) -> Mapping[str, object]:
        """The owners with records, now and after every change; only to look them up."""
        return self._claims

    @property
    def known_owners(self) -> tuple[Tables, ...]:
        """The owners that are claimed, kept or remembered, each with those above them.

        They are right now and after every change; only to look owners up.
        """
        kept = self._reserved, self._above_reserved
        return (self._claims, self._above), kept, self.remembered.tables

    def count(self, owner: str) -> int:
        """Return the number of claims to a relative or absolute owner."""
        return len(self._claims.get(owner, ()))

    def is_host_alone(self, owner: str) -> bool:
        """Return whether an owner is only rule 9's, not a container's."""
        return owner == HOST_OWNER and len(self._claims.get(owner, ())) == 1

    def is_claimed(self, owner: str) -> bool:
        """Return whether an existing container, running or not, claims an owner."""
        return owner in self._claims or owner in self._reserved

    def _is_kept(self, owner: str) -> bool:
        """Return whether an existing container keeps an owner, as a bare service does not."""
        if owner in self._reserved:
            return True
        claims = self._claims.get(owner)
        return claims is not None and not all(claim.project for claim in samples(claims))

    def is_ours(self, owner: str, now: float) -> bool:
        """Return whether an owner belongs to a container, or did until recently.

        Args:
            owner: Relative, as below a search domain, or absolute.
            now: Seconds since the epoch.
        """
        return self._is_kept(owner) or self.remembered.holds(owner, now)

    def is_below_ours(self, owner: str, now: float) -> bool:
        """Return whether a wildcard of ours, current or remembered, covers a relative owner."""
        stars = tuple(map("*.".__add__, names.enclosers(owner)))
        known = (*filter(self.is_claimed, stars), *filter(self.remembered.__contains__, stars))
        return any(self.is_ours(star, now) for star in known)

    def domain_above(self, name: str) -> str:
        """Return the domain of ours that a name is at or below; "" for none."""
        return nearest(name, self._domains)

    def has_zone_above(self, name: str) -> bool:
        """Return whether a name is in the zone of a domain or search domain, not in the root's."""
        is_below_some = any(parent in self._kinds for parent in names.parents(name))
        return is_below_some or name in self._domains

    def is_above_domain(self, apex: str) -> bool:
        """Return whether another domain of ours is below a domain."""
        return apex in self._outer

    def searches_in(self, apex: str) -> list[str]:
        """Return the search domains inside a domain of ours, the longest first."""
        inner = [s.apex for s in self._nested if self.domain_above(s.apex) == apex]
        return sorted(inner, key=len, reverse=True)

    def suffix_in(self, apex: str, name: str) -> Suffix:
        """Return the suffix to look up a name of a domain: that, or a search domain in it."""
        domain = Suffix(apex, SuffixKind.DOMAIN)
        if not self._nested or self.has(domain.owner_of(name), domain):
            return domain
        for inner in self.searches_in(apex):
            search = Suffix(inner, SuffixKind.SEARCH)
            is_inside = name != inner and names.is_below(name, inner)
            if is_inside and self.has(search.owner_of(name), search):
                return search
        return domain

    def has(self, owner: str, suffix: Suffix) -> bool:
        """Return whether an owner has records, or matches a wildcard, below a kind of suffix."""
        return bool(self.node(owner, suffix) or self.wildcard(owner, suffix))

    # -- nodes -----------------------------------------------------------------

    def _best_claims(self, owner: str, *, is_domain: bool) -> tuple[Claim, ...]:
        """Return the claims to an owner that have it, all of one rank."""
        claims = self._claims.get(owner)
        if not claims:
            return ()
        is_alone = isinstance(claims, tuple) and len(claims) == 1 and not claims[0].project
        if is_alone and owner not in self.handovers:
            return tuple(claims)
        return self._chosen(owner, claims, is_domain=is_domain).holders

    def _chosen(self, owner: str, claims: Claims, *, is_domain: bool) -> Chosen:
        known = self._best.setdefault(owner, {})
        if is_domain not in known:
            left = self.handovers.of(owner)
            best = handover.holders(samples(claims), left, self._project_of, is_domain=is_domain)
            known[is_domain] = Chosen(claims, best)
        return known[is_domain]

    def holders(self, owner: str, suffix: Suffix) -> tuple[Claim, ...]:
        """Return the claims that have an owner below a suffix, and absolute ones to that name.

        `ns.DOMAIN` and the names derived from it always belong to this server.
        """
        is_domain = suffix.kind is SuffixKind.DOMAIN
        if is_domain and owner == NS_LABEL:
            return ()
        holders = self._best_claims(owner, is_domain=is_domain)
        if suffix.kind is SuffixKind.EXACT or not self.absolute_owners:
            return holders
        exact = self._best_claims(suffix.name_of(owner), is_domain=False)
        if not (holders and exact):
            return holders or exact
        if holders[0].rank != exact[0].rank:
            return min(holders, exact, key=lambda claims: claims[0].rank)
        return holders + exact

    def sole_claim(self, owner: str, suffix: Suffix) -> Claim | None:
        """Return the claim that alone has a relative owner; None also means unknown.

        Args:
            owner: Relative.
            suffix: A domain, if none has another suffix of ours below it; a search domain; or
                the root, for a single label.
        """
        claims = self._claims.get(owner)
        if claims is None or owner in self._labels_of_ours:
            return None
        if self.absolute_owners and suffix.name_of(owner) in self._claims:
            return None
        claim = claims[0] if type(claims) is tuple else None  # faster than isinstance
        if claim is None or len(claims) > 1 or claim.project or owner in self.handovers.by_owner:
            best = self._best_claims(owner, is_domain=suffix.kind is SuffixKind.DOMAIN)
            if len(best) != 1:
                return None
            claim = best[0]
        return None if claim.proxy else claim

    def is_holder(self, claim: Claim, suffix: Suffix) -> bool:
        """Return whether a claim is one of `holders`, however many these are."""
        holders = self.holders(claim.owner, suffix)
        chosen = self._many(claim.owner, holders, suffix)
        return claim in (holders if chosen is None else chosen)

    def many(self, owner: str, suffix: Suffix) -> Chosen | None:
        """Return the holders of an owner if they are many, and no others are there.

        They are the same object until the claims to the owner change, or who may have it.
        """
        return self._many(owner, self.holders(owner, suffix), suffix)

    def _many(self, owner: str, holders: tuple[Claim, ...], suffix: Suffix) -> Chosen | None:
        """Return more about the holders of an owner if they are many, and no others are there."""
        known = self._best.get(owner)
        chosen = known.get(suffix.kind is SuffixKind.DOMAIN) if known else None
        return chosen if chosen and chosen.is_many and chosen.holders is holders else None

    def _holders_with(self, owner: str, before: str, suffix: Suffix) -> tuple[Claim, ...]:
        """Return the holders of an owner that have a relative name before it."""
        holders = self.holders(owner, suffix)
        chosen = self._many(owner, holders, suffix)
        if chosen is not None:
            return chosen.having(before)
        return tuple(c for c in holders if before in self.befores_of(c))

    def befores_at(self, owner: str, suffix: Suffix) -> list[str]:
        """Return the relative names that exist before an owner, sorted."""
        holders = self.holders(owner, suffix)
        chosen = self._many(owner, holders, suffix)
        if chosen is not None:
            return sorted(chosen.befores())
        return sorted({before for claim in holders for before in self.befores_of(claim)})

    def _is_above_some(self, owner: str, before: str, suffix: Suffix) -> bool:
        """Return whether a relative name before an owner is above one that a holder has."""
        holders = self.holders(owner, suffix)
        chosen = self._many(owner, holders, suffix)
        if chosen is not None:
            return chosen.is_above(before)
        return any(b.endswith(f".{before}") for c in holders for b in self.befores_of(c))

    def node(self, owner: str, suffix: Suffix) -> Node | None:
        """Return the node of an owner, or of the text, service or wildcard it matches."""
        holders = self.holders(owner, suffix)
        if holders:
            return Node(owner, "", holders)
        if suffix.kind in (SuffixKind.EXACT, SuffixKind.BARE):
            return None
        for base, before in reversed(self._claimed_above(owner, suffix)):
            if having := self._holders_with(base, before, suffix):
                return Node(base, before, having)
        return None

    def _claimed_above(self, owner: str, suffix: Suffix) -> list[tuple[str, str]]:
        """Return the claimed owners above an owner, the highest first, with the labels before.

        The search goes down from the suffix until no claim is deeper, so that the cost of a
        name with many labels depends on what exists.
        """
        found = []
        for base, before in names.from_the_top(owner):
            name = suffix.name_of(base) if self.absolute_owners else base
            if base in self._claims or name in self._claims:
                if before:
                    found.append((base, before))
            elif base not in self._above and name not in self._above:
                break
        return found

    def befores_of(self, claim: Claim) -> tuple[str, ...]:
        """Return the relative names that exist before a claimed name; none for an fqdn."""
        return befores_of(claim, self._publications[claim.publication])

    def is_empty_non_terminal(self, owner: str, suffix: Suffix) -> bool:
        """Return whether there are no records at an owner, but some below."""
        name = suffix.name_of(owner)
        if owner in self._above or name in self._above or name in self._above_suffixes:
            return True
        for inner in self._nested:
            is_inside = len(inner.apex) > len(suffix.apex) and names.is_below(name, inner.apex)
            if is_inside and self.is_empty_non_terminal(inner.owner_of(name), inner):
                return True
        return any(
            self._is_above_some(base, before, suffix)
            for base, before in self._claimed_above(owner, suffix)
        )

    def _exists(self, owner: str, suffix: Suffix) -> bool:
        """Return whether a name exists, possibly empty, without a wildcard."""
        if self.node(owner, suffix) or self.is_empty_non_terminal(owner, suffix):
            return True
        name = suffix.name_of(owner)
        return any(
            inner.apex != suffix.apex
            and names.is_below(name, inner.apex)
            and self.node(inner.owner_of(name), inner)
            for inner in self._nested
        )

    def is_free(self, label: str, apex: str) -> bool:
        """Return whether a label below a domain certainly does not exist; False means unknown."""
        claims = self._claims
        if label in claims or label in self._above or "*" in claims:
            return False
        if label in self._labels_of_ours:
            return False
        if not self.absolute_owners:  # nearly always
            return True
        name = f"{label}.{apex}"
        return not (name in claims or name in self._above or f"*.{apex}" in claims)

    def is_above_owner(self, owner: str) -> bool:
        """Return whether an owner with records is below a relative or absolute one."""
        return owner in self._above

    def is_above_absolute(self, name: str) -> bool:
        """Return whether an fqdn of a container, current or remembered, is below a name."""
        return name in self._above or name in self._above_reserved or self.remembered.is_above(name)

    def wildcard(self, owner: str, suffix: Suffix) -> Node | None:
        """Return the wildcard node at the closest encloser (RFC 4592 section 3.3.1)."""
        if suffix.kind in (SuffixKind.EXACT, SuffixKind.BARE):
            return None
        closest = ""
        for encloser, before in names.from_the_top(owner):
            if not before or not self._exists(encloser, suffix):
                break
            closest = encloser
        return self.node(f"*.{closest}" if closest else "*", suffix)

    def names_behind(self, name: str) -> tuple[str, ...]:
        """Return the names on which the answer for a name depends, starting with itself.

        For each suffix of ours, these are the existing names below it and the next one, which
        does not exist: any change that made the name exist would create that one too.  So
        they are few, however many labels the name has.
        """
        behind = {name: None}
        for apex in filter(self._kinds.__contains__, names.parents(name)):
            suffix = Suffix(apex, self._kinds[apex])
            behind.update(dict.fromkeys(self._existing(name, suffix)))
            if suffix.kind is SuffixKind.DOMAIN:  # names below it do not depend on names above it
                break
        return tuple(behind)

    def _existing(self, name: str, suffix: Suffix) -> Iterator[str]:
        for owner, _ in names.from_the_top(suffix.owner_of(name)):
            yield suffix.name_of(owner)
            if not self._exists(owner, suffix):
                return

    def losses(self, owners: Iterable[str] | None = None) -> Iterator[Loss]:
        """Yield the lost claims, for some owners or for all."""
        return (loss for loss in self.losses_in_pieces(owners) if loss is not None)

    def losses_in_pieces(self, owners: Iterable[str] | None = None) -> Iterator[Loss | None]:
        """Yield the lost claims, and None after each small piece of work without any.

        The zone may change meanwhile; what is gone is left out.
        """
        if NS_LABEL in self._claims and (owners is None or NS_LABEL in owners):
            for claim in self.claims(NS_LABEL):
                if called := self._called(claim):
                    yield Loss(NS_LABEL, called, "this server", claim.rule, claim.publication)
        wanted = self._perhaps_lost() if owners is None else owners
        for count, owner in enumerate(wanted):
            if count % LOOKED_AT_ONCE == 0:
                yield None
            if owner is None:
                yield None
                continue
            may_be_lost = owner in self._contested or owner in self.handovers
            if may_be_lost and owner != NS_LABEL and owner in self._claims:
                yield from self._losses_of(owner)

    def _perhaps_lost(self) -> Iterator[str | None]:
        """Yield the owners with several claims or a departure, each once."""
        yield from self._walked(self._contested)
        for owner in self._walked(self.handovers.by_owner):
            yield None if owner in self._contested else owner

    def _losses_of(self, owner: str) -> Iterator[Loss | None]:
        """Yield the lost claims to one owner, and None now and then."""
        if self._is_shared_by_all(owner):
            return
        claims = self.claims(owner)
        holders = self.holders(owner, Suffix(self.shape.domains[0], SuffixKind.DOMAIN))
        if len(holders) == len(claims) and TYPE_CNAME not in self._having:
            return  # all share it, perhaps thousands
        having: set[str] = set()
        winner = ""
        is_service = False
        for count, claim in enumerate(self._resolving(holders)):
            if count % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                yield None
            having.add(claim.publication)
            is_service = is_service or SERVICE_ID in claim.publication  # also of another host
            if (called := self._called(claim)) and not (winner and winner <= called):
                winner = called
        for count, claim in enumerate(claims):
            if count % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                yield None
            is_task = claim.rank in (Rank.TASK, Rank.TASK_HYPHENS)
            if claim.publication in having or (is_task and is_service):
                continue
            if called := self._called(claim):
                loss = Loss(owner, called, winner, claim.rule, claim.publication)
                yield self._with_cause(loss, claim)

    def _is_shared_by_all(self, owner: str) -> bool:
        """Return whether many claims to an owner all have it, without a look at each; or False."""
        claims = self._claims[owner]
        if not isinstance(claims, ManyClaims) or self.absolute_owners or TYPE_CNAME in self._having:
            return False
        chosen = self._chosen(owner, claims, is_domain=True)
        return len(chosen.samples) == len(samples(claims))

    def held_back(self, claim: Claim) -> Departure | None:
        """Return the departure that holds a name back from a running container, or None."""
        project = self._project_of(claim)
        for left in self.handovers.of(claim.owner):
            counts = left.in_domains or (claim.project and left.claim.project)
            if counts and not may_have(claim, project, left):
                return left
        return None

    def _with_cause(self, loss: Loss, claim: Claim) -> Loss:
        """Add the container for which a lost name is held back, if any."""
        left = self.held_back(claim)
        if left is None:
            return loss
        return loss._replace(held_for=str(left), until=self.handovers.until(left))

    def _resolving(self, holders: tuple[Claim, ...]) -> tuple[Claim, ...]:
        """Return the holders that a name resolves to: all with addresses, else one CNAME."""
        if TYPE_CNAME not in self._having:
            return holders
        addressed = tuple(c for c in holders if c.proxy or not self.holder(c).cname)
        if addressed or not holders:
            return addressed
        return (min(holders, key=lambda c: (self.holder(c).container_name, c.publication)),)

    def _called(self, claim: Claim) -> str:
        """Return the name of a claimant for people: a container, or another source.

        "" if it is gone, as the zone may change while losses are listed.
        """
        if claim.publication == HOST_ID:
            return HOST_OWNER
        publication = self._publications.get(claim.publication)
        return (publication.container_name or claim.rule) if publication else ""


def _host(ttl: int) -> Publication:
    """Return the publication of rule 9: the host, which is not a container."""
    return Publication(
        id=HOST_ID,
        container_name="",
        ttl=ttl,
        claims=(Claim(HOST_OWNER, Rank.HOST, "name of the host", HOST_ID),),
        on_host=True,
    )


def next_serial(serial: int, now: float, *, is_tick: bool = False) -> int:
    """Return the time as a serial if that is higher (RFC 1982), else the same serial.

    Args:
        serial: The last one.
        now: Seconds since the epoch.
        is_tick: Return one more if the serial is higher than the time, never 0.
    """
    clock = int(now) & 0xFFFFFFFF or 1
    distance = clock - serial & 0xFFFFFFFF
    if 0 < distance < 0x80000000:
        return clock
    return serial + 1 & 0xFFFFFFFF or 1 if distance and is_tick else serial


def _owners_of(old: Publication | None, new: Publication | None) -> set[str]:
    """Return the owners that are claimed before or after a change."""
    owners = {claim.owner for claim in new.claims} if new is not None else set()
    if old is not None and (new is None or new.claims is not old.claims):
        owners.update([claim.owner for claim in old.claims])
    return owners


def _claim_alike(old: Publication, new: Publication) -> bool:
    """Return whether both are of a running container, and the rules treat their claims alike."""
    return (
        old.is_running
        and new.is_running
        and old.project == new.project
        and _have_alike_before(old, new)
    )


def _is_kept_alike(old: Publication, new: Publication) -> bool:
    """Return whether both certainly have the same owners to keep, as before and after a death."""
    return old.claims is new.claims and _have_alike_before(old, new)


def _have_alike_before(old: Publication, new: Publication) -> bool:
    """Return whether both have the same relative names before each of their names."""
    if old.services is new.services and old.texts is new.texts:  # those of an image, as is usual
        return old.is_wildcard == new.is_wildcard
    return befores(old) == befores(new)


def _has_same_data(old: Publication, new: Publication) -> bool:
    """Return whether only the claims differ, or what is not in any record."""
    return bool(_data_of(old) == _data_of(new))


def _owners_to_keep(publication: Publication, claims: Iterable[Claim] | None = None) -> list[str]:
    """Return the owners to remember when a publication is removed; not bare services.

    A name that is kept includes its services (`names.above_service`).

    Args:
        publication: Running or not.
        claims: Some of its claims; None for all.
    """
    claims = publication.claims if claims is None else claims
    owners = [claim.owner for claim in claims if not claim.project]
    if not (publication.services or publication.texts or publication.is_wildcard):
        return owners
    parts = [part for part in befores(publication) if not _is_service(part)]
    if not parts:
        return owners
    relative = [owner for owner in owners if not owner.endswith(".")]
    return [*owners, *(f"{part}.{owner}" for owner in relative for part in parts)]


@lru_cache(maxsize=1024)  # the exposed ports of images
def _is_service(before: str) -> bool:
    """Return whether a relative name is that of a service, "_80._tcp": two labels."""
    first, _, second = before.partition(".")
    if not (first.startswith("_") and second.startswith("_")):
        return False
    return "." not in second and "\\" not in before


def _count(counts: Counter[Key], keys: Iterable[Key], change: int) -> None:
    """Count one more or one less of some keys; none is left with nothing.

    A Counter's own methods for keys that are new or are removed are slow.
    """
    for key in keys:
        if count := counts.get(key, 0) + change:
            counts[key] = count
        else:
            counts.pop(key, None)

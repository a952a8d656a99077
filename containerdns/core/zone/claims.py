"""The claims to one owner.

Nearly always they are few, and a tuple, in the order of arrival.  But thousands of containers may
share an alias, and a change of one of them must not cost as much as all of them.  The rules of
`handover` look at few properties of a claim: many claims are grouped by these, and one of each
group is judged.

Of very many holders, answers and transfers have the first hundred.  So many claims are sorted by
the ids of their publications: then all processes, and all servers of a fleet, transfer the same.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.zone.policy import Claim, Publication, Rank

MAX_FEW = 32  # claims in a tuple, which each change copies

PublicationOf = Callable[[Claim], Publication]

_place = attrgetter("publication")  # what claims of one kind to one owner are sorted by


class Kind(NamedTuple):
    """What the rules look at; claims of the same kind have a name together, or none has it.

    Attributes:
        rank: The claim's.
        service: The project of a bare Compose service; "" for other claims.
        is_asked_for: The claim's.
        project: The project of its container, if that can matter.
    """

    rank: int
    service: str
    is_asked_for: bool
    project: str


class ManyClaims:
    """More claims than fit a tuple; changed in place, and sorted by publication in each kind."""

    def __init__(self, claims: Iterable[Claim], publication_of: PublicationOf) -> None:
        self._kinds: dict[Claim, Kind] = {}
        self._sorted_kinds: list[Kind] = []
        self._samples: tuple[Claim, ...] | None = None  # until it is known
        self._alike: dict[Kind, list[Claim]] = {}
        self._having: dict[Kind, dict[str, list[Claim]]] = {}  # by what is before the owner
        for claim in claims:
            self.add(claim, publication_of(claim))

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._kinds)

    def add(self, claim: Claim, publication: Publication) -> None:
        """Add a claim of a publication."""
        has_it_anyway = claim.rank <= Rank.LABEL or claim.is_asked_for
        project = "" if has_it_anyway else publication.project
        kind = Kind(claim.rank, claim.project, claim.is_asked_for, project)
        self._kinds[claim] = kind
        self._samples = None
        if kind not in self._alike:
            insort(self._sorted_kinds, kind)
            self._alike[kind], self._having[kind] = [], {}
        insort(self._alike[kind], claim, key=_place)
        for before in befores_of(claim, publication):
            insort(self._having[kind].setdefault(before, []), claim, key=_place)

    def remove(self, claim: Claim, publication: Publication) -> None:
        """Remove a claim of a publication, which is the same as when it was added."""
        kind = self._kinds.pop(claim)
        self._samples = None
        alike, having = self._alike[kind], self._having[kind]
        _remove(alike, claim)
        for before in befores_of(claim, publication):
            _remove(having[before], claim)
            if not having[before]:
                del having[before]
        if not alike:
            del self._alike[kind], self._having[kind]
            del self._sorted_kinds[bisect_left(self._sorted_kinds, kind)]

    def samples(self) -> tuple[Claim, ...]:
        """Return one claim of each kind."""
        if self._samples is None:
            self._samples = tuple([self._alike[kind][0] for kind in self._sorted_kinds])
        return self._samples

    def are_alike(self, claim: Claim, other: Claim) -> bool:
        """Return whether two of the claims are of one kind."""
        return self._kinds[claim] == self._kinds[other]

    def alike(self, claim: Claim) -> Iterable[Claim]:
        """Return the claims of the same kind as one of them."""
        return self._alike[self._kinds[claim]]

    def having(self, claim: Claim, before: str) -> Iterable[Claim]:
        """Return those of the same kind that have a relative name before the owner."""
        return self._having[self._kinds[claim]].get(before, ())

    def befores(self, claim: Claim) -> Iterable[str]:
        """Return the relative names that claims of the same kind have before the owner."""
        return self._having[self._kinds[claim]]


Claims = tuple[Claim, ...] | ManyClaims


class Chosen:
    """Which claims have an owner, as the rules chose them.

    Attributes:
        samples: Of the claims that were judged.
    """

    __slots__ = ("__weakref__", "_above", "_claims", "_having", "_holders", "samples")

    def __init__(self, claims: Claims, samples: tuple[Claim, ...]) -> None:
        """Initialise with claims and the samples of them that were chosen; until these change."""
        self.samples = samples
        self._claims = claims if isinstance(claims, ManyClaims) else None
        self._having: dict[str, tuple[Claim, ...]] = {}
        self._above: frozenset[str] | None = None
        self._holders = samples if self._claims is None else None

    @property
    def holders(self) -> tuple[Claim, ...]:
        """The samples, and all that they stand for; the same tuple each time."""
        if self._holders is None:
            assert self._claims is not None
            self._holders = tuple(chain.from_iterable(map(self._claims.alike, self.samples)))
        return self._holders

    @property
    def is_many(self) -> bool:
        """Whether `having` and `is_above` know more than a look at each holder."""
        return self._claims is not None

    def __contains__(self, claim: Claim) -> bool:
        if self._claims is None:
            return claim in self.holders
        return any(self._claims.are_alike(claim, sample) for sample in self.samples)

    def having(self, before: str) -> tuple[Claim, ...]:
        """Return the holders that have a relative name before the owner, if they are many."""
        assert self._claims is not None
        found = self._having.get(before)
        if found is None:
            of_each = (self._claims.having(sample, before) for sample in self.samples)
            found = tuple(chain.from_iterable(of_each))
            if found:  # else the name is one of countless that do not exist
                self._having[before] = found
        return found

    def befores(self) -> set[str]:
        """Return the relative names that the holders have before the owner, if they are many."""
        assert self._claims is not None
        return {b for sample in self.samples for b in self._claims.befores(sample)}

    def is_above(self, before: str) -> bool:
        """Return whether a name before the owner is above another one, if they are many."""
        assert self._claims is not None
        if self._above is None:
            self._above = frozenset(a for b in self.befores() for a in names.above_owner(b))
        return before in self._above


def _remove(found: list[Claim], claim: Claim) -> None:
    """Remove a claim from sorted ones."""
    place = bisect_left(found, claim.publication, key=_place)
    del found[found.index(claim, place)]


def added(known: Claims, claim: Claim, publication_of: PublicationOf) -> Claims:
    """Return claims with one added."""
    if isinstance(known, ManyClaims):
        known.add(claim, publication_of(claim))
        return known
    if len(known) < MAX_FEW:
        return (*known, claim)
    return ManyClaims((*known, claim), publication_of)


def removed(known: Claims, claim: Claim, publication: Publication) -> Claims:
    """Return claims with one removed, of a publication."""
    if isinstance(known, ManyClaims):
        known.remove(claim, publication)
        return known
    return () if known == (claim,) else tuple([c for c in known if c != claim])


def samples(claims: Claims) -> Sequence[Claim]:
    """Return the claims to be judged: all if they are few, else one of each kind."""
    return claims.samples() if isinstance(claims, ManyClaims) else claims


def befores_of(claim: Claim, publication: Publication) -> tuple[str, ...]:
    """Return the relative names that exist before a claimed name; none for an fqdn."""
    return () if claim.owner.endswith(".") else befores(publication)


def befores(publication: Publication) -> tuple[str, ...]:
    """Return the relative names that exist before each of a publication's names."""
    if not (publication.texts or publication.is_wildcard):
        return tuple(filter(None, publication.services or ()))
    found = dict.fromkeys(
        b for b in (*(publication.texts or ()), *(publication.services or ())) if b
    )
    return (*found, "*") if publication.is_wildcard else tuple(found)

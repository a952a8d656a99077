"""Names in handover: who had a name until lately, and who may have it at once.

When the container that has a name stops or goes, the name passes at once to those who ask for
it by their own name or a label, and to those of the same project and rank: so work blue and
green deployments, replicas and redeploys.  A container that merely *derives* the name, and is
of another project or of a lower rank, gets it only after a while (`--handover`): while alpha's
`db` is redeployed, its clients must not be sent to beta's database.

A `Departure` is what is left of a claim.  It ends when its time is over, or when somebody
claims the name who may have it at once.  The zone asks `holders` whom a name leads to; `Zone`
alone changes this table, whose entries exist only as long as they hold something back.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from containerdns.core.zone.policy import Claim, Rank

MAX_DEPARTURES = 64  # from one owner; of more, the last are kept
# A service's virtual address and its tasks are one holder.
_LEVELS: dict[int, int] = {Rank.TASK: Rank.DERIVED, Rank.TASK_HYPHENS: Rank.HYPHENS}


class Departure(NamedTuple):
    """A claim whose container stopped or went.

    Attributes:
        claim: As it was.
        project: The Compose project or stack of its container; "" for none.
        container_name: The container's.
        since: When it stopped, seconds since the epoch.
        in_domains: It had the name below the domains, and so nobody else gets it there.
        elsewhere: The same for the root and the search domains.
    """

    claim: Claim
    project: str
    container_name: str
    since: float
    in_domains: bool
    elsewhere: bool

    def __str__(self) -> str:
        of_project = f" of project {self.project}" if self.project else ""
        return f"{self.container_name or self.claim.rule}{of_project}"

    def holds_back(self, *, is_domain: bool) -> bool:
        """Return whether it had the name below such a suffix.

        A bare service that several projects claimed had not: its project then merely counts
        as one that has the name.
        """
        return self.in_domains if is_domain else self.elsewhere


def may_have(claim: Claim, project: str, left: Departure) -> bool:
    """Return whether a claim need not wait for the name that a container left.

    Args:
        claim: To the same owner.
        project: Of its container.
        left: What is left of the claim before.
    """
    if claim.rank <= Rank.LABEL or claim.publication == left.claim.publication:
        return True
    if _level(claim.rank) > _level(left.claim.rank):
        return False
    return claim.is_asked_for or project == left.project


def holders(
    claims: Iterable[Claim],
    departures: Iterable[Departure],
    project_of: Callable[[Claim], str],
    *,
    is_domain: bool,
) -> tuple[Claim, ...]:
    """Return those claims to one owner that have it: of the best rank, and held back by nobody.

    A bare service counts below a domain alone, and while one project has it, with those that
    had it until lately.

    Args:
        claims: Of running containers.
        departures: From that owner.
        project_of: Gives the project of a claim's container.
        is_domain: Below a domain, not a search domain or the root.
    """
    left = tuple(departures)
    projects = {c.project for c in claims if c.project}
    projects.update(d.claim.project for d in left if d.claim.project)
    if projects and (not is_domain or len(projects) > 1):
        claims = [c for c in claims if not c.project]
    for departure in left:
        if departure.holds_back(is_domain=is_domain):
            claims = [c for c in claims if may_have(c, project_of(c), departure)]
    best = min((c.rank for c in claims), default=0)
    return tuple(c for c in claims if c.rank == best)


class Handovers:
    """All departures that hold something back.

    Attributes:
        lifetime: How long, in seconds; of those that are under way as well.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self._of: dict[str, tuple[Departure, ...]] = {}
        self._queue: list[tuple[float, str]] = []  # a heap: since when, from which owner

    def __contains__(self, owner: str) -> bool:
        return owner in self._of

    def __len__(self) -> int:
        return len(self._of)

    def of(self, owner: str) -> tuple[Departure, ...]:
        """The departures from an owner."""
        return self._of.get(owner, ())

    def until(self, departure: Departure) -> float:
        """When a departure ends, in seconds since the epoch."""
        return departure.since + self.lifetime

    def items(self) -> Iterator[tuple[str, Departure]]:
        """All departures, each with its owner."""
        return ((owner, d) for owner, found in list(self._of.items()) for d in found)

    def add(self, owner: str, departure: Departure) -> None:
        """Note a departure, in the place of an earlier one of the same container."""
        others = [d for d in self.of(owner) if d.claim != departure.claim]
        self._of[owner] = (*others[1 - MAX_DEPARTURES :], departure)
        heapq.heappush(self._queue, (departure.since, owner))

    def admit(self, owner: str, claim: Claim, project: str) -> None:
        """End the departures from an owner that need not hold back a new claim."""
        found = self._of.get(owner)
        if found is not None:
            self._keep(owner, tuple(d for d in found if not may_have(claim, project, d)))

    def due(self, now: float, most: int) -> list[str]:
        """Return owners with a departure that is over, for `end`; each once.

        Args:
            now: Seconds since the epoch.
            most: The most of them; a later call returns the others.
        """
        over: dict[str, None] = {}
        while self._queue and self._queue[0][0] + self.lifetime <= now and len(over) < most:
            _, owner = heapq.heappop(self._queue)
            if any(self.until(d) <= now for d in self.of(owner)):
                over[owner] = None
        return list(over)

    def end(self, owner: str, now: float) -> None:
        """End the departures from an owner that are over."""
        self._keep(owner, tuple(d for d in self.of(owner) if self.until(d) > now))

    def _keep(self, owner: str, departures: tuple[Departure, ...]) -> None:
        if departures:
            self._of[owner] = departures
        else:
            self._of.pop(owner, None)


def _level(rank: int) -> int:
    return _LEVELS.get(rank, rank)

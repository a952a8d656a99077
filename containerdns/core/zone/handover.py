"""Handover of names: which container had a name, and which may take it at once.

When the container that has a name stops or is removed, the name passes at once to containers
that claim it by their own name or a label, and to those of the same project and rank: this is
how blue-green deployments, replicas and redeploys work.  A container of another project or of
lower rank that merely *derives* the name gets it only later (`--handover`): while alpha's
`db` is redeployed, its clients must not be sent to beta's database.

A `Departure` is what remains of a claim.  It ends when its time is over, or when a container
claims the name that may have it at once.  `holders` decides which claims have a name.  Only
`Zone` changes this table, whose entries exist only as long as they hold something back.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from containerdns.core.zone.policy import Claim, Rank

MAX_DEPARTURES = 64  # per owner; only the last ones are kept
# A service's virtual address and its tasks count as one holder.
_LEVELS: dict[int, int] = {Rank.TASK: Rank.DERIVED, Rank.TASK_HYPHENS: Rank.HYPHENS}


class Departure(NamedTuple):
    """A claim whose container stopped or was removed.

    Attributes:
        claim: The former claim.
        project: The Compose project or stack of its container; "" for none.
        container_name: The container's name.
        since: When it stopped, seconds since the epoch.
        in_domains: It had the name below the domains, so it is held back there.
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
        """Return whether it had the name below this kind of suffix.

        A bare service that several projects claimed did not have it; its project then only
        counts as one of those with the name.
        """
        return self.in_domains if is_domain else self.elsewhere


def may_have(claim: Claim, project: str, left: Departure) -> bool:
    """Return whether a claim may take the name of a departed container at once.

    Args:
        claim: To the same owner.
        project: Of its container.
        left: The departure.
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
    """Return the claims that have an owner: those of the best rank that are not held back.

    A bare service counts only below a domain, and only while exactly one project has it,
    including those that had it until recently.

    Args:
        claims: Those of running containers.
        departures: Those from that owner.
        project_of: Returns the project of a claim's container.
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
    """All departures that hold names back.

    Attributes:
        lifetime: Their duration in seconds, also for existing ones.
        by_owner: The departures from each owner; changed here only.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.by_owner: dict[str, tuple[Departure, ...]] = {}
        self._queue: list[tuple[float, str]] = []  # a heap of (start, owner)

    def __contains__(self, owner: str) -> bool:
        return owner in self.by_owner

    def __len__(self) -> int:
        return len(self.by_owner)

    def of(self, owner: str) -> tuple[Departure, ...]:
        """The departures from an owner."""
        return self.by_owner.get(owner, ())

    def until(self, departure: Departure) -> float:
        """When a departure ends, in seconds since the epoch."""
        return departure.since + self.lifetime

    def items(self) -> Iterator[tuple[str, Departure]]:
        """All departures, each with its owner."""
        return ((owner, d) for owner, found in list(self.by_owner.items()) for d in found)

    def add(self, owner: str, departure: Departure) -> None:
        """Add a departure, replacing an earlier one of the same container."""
        others = self.by_owner.get(owner, ())
        if others:
            others = tuple(d for d in others if d.claim != departure.claim)
        self.by_owner[owner] = (*others[1 - MAX_DEPARTURES :], departure)
        heapq.heappush(self._queue, (departure.since, owner))

    def admit(self, owner: str, claim: Claim, project: str) -> None:
        """End the departures from an owner that do not hold back a new claim."""
        found = self.by_owner.get(owner)
        if found is not None:
            self._keep(owner, tuple(d for d in found if not may_have(claim, project, d)))

    def due(self, now: float, most: int) -> list[str]:
        """Return the owners whose departures are over, for `end`; each once.

        Args:
            now: Seconds since the epoch.
            most: The maximum number; later calls return the others.
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
            self.by_owner[owner] = departures
        else:
            self.by_owner.pop(owner, None)


def _level(rank: int) -> int:
    return _LEVELS.get(rank, rank)

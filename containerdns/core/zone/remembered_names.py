"""The names of removed containers, which are kept from upstreams for a while."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from containerdns.core import names

MAX_REMEMBERED = 100_000  # names; the contract's bound
MAX_EXPIRED_AT_ONCE = 256  # names; many may expire at once after a reload
MIN_STALE = 1024  # stale heap entries before it is rebuilt


class RememberedNames:
    """Owners (relative, or absolute with a final dot) and when they were removed.

    Times are seconds since the epoch, as they outlive the process.  Each owner expires at its
    own time, in any order, since clocks may go back.

    Attributes:
        lifetime: Seconds for which an owner is remembered; a new value also applies to existing
            owners.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self._since: dict[str, float] = {}  # in the order in which they were added
        self._by_time: list[tuple[float, str]] = []  # a heap, which may contain stale owners
        self._above: Counter[str] = Counter()  # counts of the names above them

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, owner: str) -> bool:
        """Return whether an owner is remembered, or expired only recently."""
        return owner in self._since

    def add(self, owners: Iterable[str], now: float) -> None:
        """Remember owners from now on, dropping the oldest if there are too many."""
        if self.lifetime <= 0:
            return
        for owner in owners:
            self._put(owner, now)

    def put(self, owner: str, until: float) -> None:
        """Remember one owner until a time."""
        self._put(owner, until - self.lifetime)

    def _put(self, owner: str, since: float) -> None:
        self.discard(owner)
        self._since[owner] = since
        self._above.update(names.above_owner(owner))
        if len(self._since) > MAX_REMEMBERED:
            self._discard_oldest()
        if len(self._by_time) > 2 * len(self._since) + MIN_STALE:
            self._by_time = [(time, owner) for owner, time in self._since.items()]
            heapq.heapify(self._by_time)
        else:
            heapq.heappush(self._by_time, (since, owner))

    def discard(self, owner: str) -> None:
        """Forget an owner, because a running container has it again."""
        if self._since.pop(owner, None) is None:
            return
        for above in names.above_owner(owner):
            self._above[above] -= 1
            if not self._above[above]:
                del self._above[above]

    def _discard_oldest(self) -> None:
        """Forget the owner that was removed first; a dict would look through all its free slots."""
        while self._by_time:
            since, owner = heapq.heappop(self._by_time)
            if self._since.get(owner) == since:
                self.discard(owner)
                return

    def is_above(self, owner: str) -> bool:
        """Return whether there is a remembered owner below one."""
        return owner in self._above

    def knows_none(self, owners: set[str]) -> bool:
        """Return whether no owner is remembered, nor one below it."""
        return self._since.keys().isdisjoint(owners) and self._above.keys().isdisjoint(owners)

    def holds(self, owner: str, now: float) -> bool:
        """Return whether an owner is remembered."""
        since = self._since.get(owner)
        return since is not None and since + self.lifetime > now

    def until(self, owner: str) -> float:
        """Return until when an owner is ours; 0 if it is not remembered."""
        since = self._since.get(owner)
        return 0.0 if since is None else since + self.lifetime

    def expire(self, now: float) -> list[str]:
        """Remove and return expired owners, a few hundred at a time."""
        over: list[str] = []
        heap = self._by_time
        while heap and heap[0][0] + self.lifetime <= now and len(over) < MAX_EXPIRED_AT_ONCE:
            since, owner = heapq.heappop(heap)
            if self._since.get(owner) == since:
                self.discard(owner)
                over.append(owner)
        return over

    def snapshot(self) -> dict[str, float]:
        """Return a copy of the owners and their removal times, within a millisecond."""
        return self._since.copy()

    def items(self) -> Iterator[tuple[str, float]]:
        """Return owners and expiry times, in the order in which they were added."""
        lifetime = self.lifetime
        return ((owner, since + lifetime) for owner, since in self.snapshot().items())

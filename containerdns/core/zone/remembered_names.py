"""The names of removed containers, which are kept from upstreams for a while."""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from containerdns.core import names
from containerdns.core.pieces import copied, emptied

MAX_REMEMBERED = 100_000  # names; the contract's bound
MAX_EXPIRED_AT_ONCE = 64  # names; thousands may expire together
PERIOD = 60.0  # seconds of removals that are kept together

Tables = tuple[Mapping[str, object], Mapping[str, object]]  # owners, and those above them


class RememberedNames:
    """Owners (relative, or absolute with a final dot) and when they were removed.

    Times are seconds since the epoch, as they outlive the process.  Each owner expires at its
    own time, in any order, since clocks may go back.

    Attributes:
        lifetime: Seconds for which an owner is remembered; a new value also applies to existing
            owners.
        by_owner: When each owner was removed; changed here only.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.by_owner: dict[str, float] = {}  # since when, in the order in which they were added
        self._periods: dict[int, _Period] = {}
        self._order: list[int] = []  # a heap of the keys of all periods, also of empty ones
        self._above: Counter[str] = Counter()  # counts of the names above them
        self._changes = 0

    def __len__(self) -> int:
        return len(self.by_owner)

    def __contains__(self, owner: str) -> bool:
        """Return whether an owner is remembered, or expired only recently."""
        return owner in self.by_owner

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
        if owner in self.by_owner:
            self.discard(owner)
        self._changes += 1
        self.by_owner[owner] = since
        for above in names.above_owner(owner):
            self._above[above] = self._above.get(above, 0) + 1
        key = int(since // PERIOD)
        period = self._periods.get(key)
        if period is None:
            period = self._periods[key] = _Period()
            heapq.heappush(self._order, key)
        period.add(owner, since)
        if len(self.by_owner) > MAX_REMEMBERED:
            self._discard_oldest()

    def discard(self, owner: str) -> None:
        """Forget an owner, because a running container has it again."""
        since = self.by_owner.pop(owner, None)
        if since is None:
            return
        self._changes += 1
        self._periods[int(since // PERIOD)].discard(owner)
        for above in names.above_owner(owner):
            self._above[above] -= 1
            if not self._above[above]:
                del self._above[above]

    def _discard_oldest(self) -> None:
        if (oldest := self._oldest()) is not None:
            self.discard(oldest[1])

    def _oldest(self) -> tuple[float, str] | None:
        """Return the owner that was removed first, and when; drop empty periods."""
        while self._order:
            if (first := self._periods[self._order[0]].first()) is not None:
                return first
            del self._periods[heapq.heappop(self._order)]
        return None

    def is_above(self, owner: str) -> bool:
        """Return whether there is a remembered owner below one."""
        return owner in self._above

    @property
    def tables(self) -> Tables:
        """The owners, and those above them, now and after every change; only to look them up."""
        return self.by_owner, self._above

    def holds(self, owner: str, now: float) -> bool:
        """Return whether an owner is remembered."""
        since = self.by_owner.get(owner)
        return since is not None and since + self.lifetime > now

    def until(self, owner: str) -> float:
        """Return until when an owner is ours; 0 if it is not remembered."""
        since = self.by_owner.get(owner)
        return 0.0 if since is None else since + self.lifetime

    def expire(self, now: float) -> list[str]:
        """Remove and return expired owners, some at a time."""
        over: list[str] = []
        while len(over) < MAX_EXPIRED_AT_ONCE and (oldest := self._oldest()) is not None:
            since, owner = oldest
            if since + self.lifetime > now:
                break
            self.discard(owner)
            over.append(owner)
        return over

    def owners(self) -> Iterator[list[str] | None]:
        """Yield None after each piece of work, and finally the owners at that moment.

        They are in the order in which they were added.
        """
        return copied(self.by_owner, lambda: self._changes)

    def newest(self, most: int) -> list[str]:
        """Return the owners that were added last, the newest first."""
        return list(islice(reversed(self.by_owner), most))

    def items(self) -> Iterator[tuple[str, float] | None]:
        """Yield owners and expiry times, in the order in which they were added.

        None is yielded after other work.  Those that are forgotten meanwhile are left out.
        """
        for found in self.owners():
            if found is None:
                yield None
                continue
            for owner in emptied(found):
                until = self.until(owner)
                yield (owner, until) if until else None


class _Period:
    """Owners that were removed within one period, in order of time.

    An OrderedDict, as a dict would look through the places of all that were discarded.
    """

    __slots__ = ("_is_sorted", "_last", "_since")

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()
        self._last = 0.0
        self._is_sorted = True

    def add(self, owner: str, since: float) -> None:
        self._is_sorted = self._is_sorted and since >= self._last  # clocks may go back
        self._last = since
        self._since[owner] = since

    def discard(self, owner: str) -> None:
        del self._since[owner]

    def first(self) -> tuple[float, str] | None:
        if not self._since:
            return None
        if not self._is_sorted:
            ordered = sorted(self._since.items(), key=lambda item: item[1])
            self._since, self._is_sorted = OrderedDict(ordered), True
            self._last = ordered[-1][1]
        owner = next(iter(self._since))
        return self._since[owner], owner

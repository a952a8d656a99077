"""The names of removed containers, which stay ours for a while."""

from collections.abc import Iterable, Iterator
from itertools import takewhile

REMEMBERED_MOST = 100_000  # names; the contract's bound


class Memory:
    """Owners (relative, or absolute with a final dot) and until when they are ours.

    Times are seconds since the epoch, as they outlive the process.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self._until: dict[str, float] = {}  # in the order of their being remembered

    def __len__(self) -> int:
        return len(self._until)

    def add(self, owners: Iterable[str], now: float) -> None:
        """Remember owners from now on; the oldest make room."""
        if self.lifetime <= 0:
            return
        for owner in owners:
            self.put(owner, now + self.lifetime)

    def put(self, owner: str, until: float) -> None:
        """Remember one owner until a time."""
        self._until.pop(owner, None)
        self._until[owner] = until
        if len(self._until) > REMEMBERED_MOST:
            del self._until[next(iter(self._until))]

    def discard(self, owner: str) -> None:
        """Forget an owner, which is a running container's again."""
        self._until.pop(owner, None)

    def holds(self, owner: str, now: float) -> bool:
        """Tell whether an owner is remembered."""
        until = self._until.get(owner)
        return until is not None and until > now

    def until(self, owner: str) -> float:
        """Return until when an owner is ours; 0 if it is not remembered."""
        return self._until.get(owner, 0.0)

    def expire(self, now: float) -> list[str]:
        """Drop what is over, and give it; the oldest stand first, so that few are looked at."""
        over = [owner for owner, until in takewhile(lambda i: i[1] <= now, self._until.items())]
        for owner in over:
            del self._until[owner]
        return over

    def items(self) -> Iterator[tuple[str, float]]:
        """Owners and until when, oldest first."""
        return iter(list(self._until.items()))

"""How much a count grew within the last day, from samples of it."""

from collections import deque
from typing import Final

DAY: Final = 86400.0  # seconds
INTERVAL: Final = 600.0  # seconds between two samples, and so the error of the day's length


class LastDay:
    """Samples of a count that only grows, over one day and no longer."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def is_due(self, now: float) -> bool:
        """Return whether the next sample should be taken; `now` in seconds of a steady clock."""
        return not self._samples or now - self._samples[-1][0] >= INTERVAL

    def note(self, total: int, now: float) -> None:
        """Add a sample if it is due; forget those that the day no longer needs."""
        if self.is_due(now):
            self._samples.append((now, total))
        while len(self._samples) > 1 and now - self._samples[1][0] >= DAY:
            self._samples.popleft()

    def growth(self, total: int) -> int:
        """Return by how much the count grew since the oldest sample; all of it without any."""
        return total - self._samples[0][1] if self._samples else total

"""Timeouts that nearly never happen, on one timer of the event loop.

Each question has one, and nearly all are answered first.  A timer of the loop each costs as much
as parsing the response: it is made, sorted among the others, and cancelled.
"""

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import Protocol


class Expiring(Protocol):
    """What may be over before its time."""

    def expire(self) -> None:
        """Do what is due, unless it is over."""


class Timeouts:
    """Waiting timeouts, by the loop's clock; those that are over stay until their time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Expiring]] = []
        self._numbers = count()  # so that two of the same time are not compared
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    def add(self, when: float, expiring: Expiring) -> None:
        """Call `expire` of an object at a time."""
        heappush(self._heap, (when, next(self._numbers), expiring))
        if self._timer is None or when < self._wakes_at:
            self._wait_until(when)

    def close(self) -> None:
        """Forget all."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_until(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)
        self._wakes_at = when

    def _expire(self) -> None:
        """Call those that are due; one that raises leaves the others for the next timer."""
        heap, now = self._heap, self._loop.time()
        try:
            while heap and heap[0][0] <= now:
                heappop(heap)[2].expire()
        finally:
            if heap:  # one of these may have been added meanwhile, and not be the first
                self._wait_until(heap[0][0])
            else:
                self._timer = None

"""Many things that become due the same time after each was added, with one timer for all.

Most are over before they are due, such as time limits.  A timer for each would cost more than
what it is for, and each that fires is a pass of the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Later(Generic[Thing]):
    """Calls a function for each thing, some time after it was added, unless it is over."""

    def __init__(
        self, seconds: float, call: Callable[[Thing], None], is_over: Callable[[Thing], bool]
    ) -> None:
        """Initialise without things.

        Args:
            seconds: After which each is due.
            call: Called on the event loop.
            is_over: Whether nothing is to be called; never changes back.
        """
        self._seconds = seconds
        self._call = call
        self._is_over = is_over
        self._things: deque[tuple[float, Thing]] = deque()  # with their times
        self._is_set = False  # the timer

    def add(self, thing: Thing) -> None:
        """Add a thing; this must be called on the event loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        self._things.append((due, thing))
        if not self._is_set:
            self._is_set = True
            loop.call_at(due, self._go_on)

    def _go_on(self) -> None:
        """Call what is due, and set the timer for the next thing that is not over."""
        loop = asyncio.get_running_loop()
        self._is_set = False
        try:
            while self._things:
                due, thing = self._things[0]
                if self._is_over(thing):
                    self._things.popleft()
                elif due <= loop.time():
                    self._things.popleft()
                    self._call(thing)
                else:
                    break
        finally:  # also after an internal error
            if self._things:
                self._is_set = True
                loop.call_at(self._things[0][0], self._go_on)

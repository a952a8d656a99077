"""Turns on the event loop: all long work together gets one short time slice per pass.

DNS shares its thread with work that may be long: sending a zone over HTTP, decoding a listing,
reading many frames over TCP, a reload.  If each took a slice of its own, 64 of them would
delay a query by 64 slices.  So they share one: each pass of the event loop polls the sockets,
answers queries, and lets one piece of work continue.

Turns rotate by the owner of the work (a client's address, an Engine's URL), so that 32
requests of one client together get no more time than one request of another.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final
from weakref import WeakKeyDictionary

MAX_SLICE: Final = 0.0005  # seconds, the same as for UDP; the unit in progress may exceed it


class Turns:
    """The turns of one event loop; use `turns()`, as each instance would add a slice."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()
        self._ends_at: float | None = None  # start of this pass's slice; None if not begun
        self._is_passing = False

    @property
    def is_idle(self) -> bool:
        """Whether no work is active or waiting, so that the loop may sleep."""
        return not self._is_passing

    def is_over(self) -> bool:
        """Return whether the slice of this pass is used up."""
        if self._ends_at is None:
            self._begin()
            return False
        return self._clock() >= self._ends_at

    def call(self, whose: Hashable, callback: Callable[[], object]) -> None:
        """Call a function when its turn comes; for work outside coroutines."""

        def go_on(_: "asyncio.Future[None]") -> None:
            self._begin()
            callback()

        self._queue(whose).add_done_callback(go_on)

    async def take(self, whose: Hashable) -> None:
        """Wait for a turn; long work begins with this."""
        await self._queue(whose)
        self._begin()

    async def offer(self, whose: Hashable) -> None:
        """Let others take a turn if the slice is used up; call this after each small unit."""
        if self.is_over():
            await self.take(whose)

    def _begin(self) -> None:
        self._ends_at = self._clock() + MAX_SLICE
        self._keep_passing()

    def _queue(self, whose: Hashable) -> "asyncio.Future[None]":
        turn = self._loop.create_future()
        self._waiting.setdefault(whose, deque()).append(turn)
        self._keep_passing()
        return turn

    def _keep_passing(self) -> None:
        if not self._is_passing:
            self._is_passing = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        """Let one waiting piece continue in the next pass, after the sockets were polled."""
        self._ends_at = None
        if not self._waiting:
            self._is_passing = False
            return
        while self._waiting and not self._let_go_on():
            pass
        self._loop.call_soon(self._pass)  # after the piece that continues

    def _let_go_on(self) -> bool:
        """Wake the first in the rotation; return whether it was still waiting."""
        whose, queue = self._waiting.popitem(last=False)
        turn = queue.popleft()
        if queue:
            self._waiting[whose] = queue  # after all others
        if turn.done():  # its task was cancelled
            return False
        turn.set_result(None)
        return True


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Return the turns of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(loop)
    return found

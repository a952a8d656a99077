"""An event loop that is never busy with other sockets for long while a DNS query waits.

asyncio's own handles every socket that is ready in one pass: 256 connections that are opened,
written to or closed at the same moment delay a query by all of them, and by the tasks that they
wake.  This one looks at the preferred sockets in each pass, and hands out the events of others a
few at a time, in the order in which they came: fewer while these take long.

Preferred sockets come first.  Only after a pass in which they took long do others come before them:
then queries are answered in every pass anyway, and what takes others several passes, such as
a request over HTTP, would wait for a whole batch of queries in each.

`tasks/turns` does the same for work that is long by itself.
"""

import asyncio
import selectors
import time
from collections import ChainMap, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVarTuple

MAX_EVENTS: Final = 32  # of other sockets, in a pass
LONG_PASS: Final = 0.001  # seconds, without preferred sockets; after a longer one, half the events
MANY_QUERIES: Final = 0.00025  # seconds that preferred sockets took, some 20 or 30 queries

Event = tuple[selectors.SelectorKey, int]
_Ts = TypeVarTuple("_Ts")
FileObject = Any  # with a file descriptor, or one; selectors' own type is private


class Selector(selectors.BaseSelector):
    """Two selectors, of which the first is asked in every pass."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._first = selectors.EpollSelector()
        self._others = selectors.EpollSelector()
        self._first.register(self._others, selectors.EVENT_READ)  # so that one call waits for all
        maps: list[Any] = [self._others.get_map(), self._first.get_map()]
        self._map: Mapping[FileObject, selectors.SelectorKey] = ChainMap(*maps)
        self._preferred: set[int] = set()
        self._preferred_took = 0.0  # seconds of this pass
        self._pending: deque[Event] = deque()
        self._clock = clock
        self._returned_at = clock()
        self._most = MAX_EVENTS

    def prefer(self, fileobj: FileObject) -> None:
        """Report the events of a file first, from its next registration until that ends."""
        self._preferred.add(_descriptor(fileobj))

    def prefers(self, fileobj: FileObject) -> bool:
        """Return whether the events of a file are reported first."""
        return _descriptor(fileobj) in self._preferred

    def time_preferred(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call what handles events of a preferred file; its time is not that of others."""
        began = self._clock()
        callback(*arguments)
        self._preferred_took += self._clock() - began

    def register(self, fileobj: FileObject, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a file."""
        return self._where(fileobj).register(fileobj, events, data)

    def unregister(self, fileobj: FileObject) -> selectors.SelectorKey:
        """Unregister a file; events that were not handed out yet are dropped."""
        key = self._where(fileobj).unregister(fileobj)
        self._preferred.discard(key.fd)
        return key

    def modify(self, fileobj: FileObject, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change the events or the data of a file."""
        return self._where(fileobj).modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[Event]:
        """Return events: all those of preferred files, and some of others."""
        preferred_took, self._preferred_took = self._preferred_took, 0.0
        self._adapt(self._clock() - self._returned_at - preferred_took)
        ready = self._first.select(0 if self._pending else timeout)
        for place, (key, _) in enumerate(ready):
            if key.fileobj is self._others:
                del ready[place]
                if not self._pending:
                    self._pending.extend(self._others.select(0))
                break
        others = self._some_pending() if self._pending else []
        self._returned_at = self._clock()
        return others + ready if preferred_took >= MANY_QUERIES else ready + others

    def close(self) -> None:
        """Close both selectors."""
        self._pending.clear()
        self._first.close()
        self._others.close()

    def get_map(self) -> Mapping[FileObject, selectors.SelectorKey]:
        """Return all registered files."""
        return self._map

    def _where(self, fileobj: FileObject) -> selectors.EpollSelector:
        if self._preferred and _descriptor(fileobj) in self._preferred:
            return self._first
        return self._others

    def _adapt(self, seconds: float) -> None:
        """Change how many events are handed out, by how long those of the last pass took."""
        if seconds > LONG_PASS:
            self._most = max(self._most // 2, 1)
        elif self._most < MAX_EVENTS:
            self._most += 1

    def _some_pending(self) -> list[Event]:
        """Remove and return the events of other files for this pass."""
        registered = self._others.get_map()
        found: list[Event] = []
        while self._pending and len(found) < self._most:
            key, events = self._pending.popleft()
            if registered.get(key.fd) is key:  # else it is found again, if it is still ready
                found.append((key, events))
        return found


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop with such a selector."""

    def __init__(self) -> None:
        self._preferring = Selector()
        super().__init__(self._preferring)

    def prefer(self, preferred: FileObject) -> None:
        """Look at a socket first in each pass; call this before `add_reader`."""
        self._preferring.prefer(preferred)

    def add_reader(self, fd: FileObject, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """Call a function when a file is readable, as asyncio documents it."""
        if self._preferring.prefers(fd):
            super().add_reader(fd, partial(self._preferring.time_preferred, callback, *args))
        else:
            super().add_reader(fd, callback, *args)


def new() -> asyncio.AbstractEventLoop:
    """Return a new event loop; asyncio's own where the system has no epoll."""
    return EventLoop() if hasattr(selectors, "EpollSelector") else asyncio.new_event_loop()


def prefer(preferred: FileObject) -> None:
    """Look at a socket first in each pass of the running loop, if that loop can."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        loop.prefer(preferred)


def _descriptor(fileobj: FileObject) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())

"""An event loop that is never busy with other sockets for long while a DNS query waits.

asyncio's own handles every socket that is ready in one pass: 256 connections that are opened,
written to or closed at the same moment delay a query by all of them, and by the tasks that they
wake.  This one looks at the preferred sockets in each pass, and hands out the events of others a
few at a time, in the order in which they came: fewer while these take long.

Sockets of clients can take turns with all others.  What takes others several passes, such as a
request over HTTP or the inspect of a container, would otherwise wait for a batch of queries in
each.  So after a turn with many queries these sockets are left out until nothing else is ready,
for a limited time.

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
MANY_QUERIES: Final = 0.00025  # seconds of a turn, some 20 or 30 queries; after it, others have one
TURN_OF_OTHERS: Final = 0.001  # seconds, not counting the last pass; HTTP needs 0.8 in five passes

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
        self._in_turn: set[int] = set()  # of these
        self._preferred_took = 0.0  # seconds of this pass
        self._others_until = 0.0  # end of their turn
        self._is_turn_new = False  # the preferred ones that take no turns were not asked in it yet
        self._has_one = False  # this pass has one event, and nothing else is to be called
        self._pending: deque[Event] = deque()
        self._clock = clock
        self._returned_at = clock()
        self._most = MAX_EVENTS

    def prefer(self, fileobj: FileObject, *, in_turn: bool = False) -> None:
        """Report the events of a file first, from its next registration until that ends.

        Args:
            fileobj: The file.
            in_turn: Whether it takes turns with all others.
        """
        descriptor = _descriptor(fileobj)
        self._preferred.add(descriptor)
        if in_turn:
            self._in_turn.add(descriptor)

    def prefers(self, fileobj: FileObject) -> bool:
        """Return whether the events of a file are reported first."""
        return _descriptor(fileobj) in self._preferred

    def takes_turns(self, fileobj: FileObject) -> bool:
        """Return whether a preferred file takes turns with all others."""
        return _descriptor(fileobj) in self._in_turn

    def time_preferred(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call what handles events of a preferred file; its time is not that of others."""
        began = self._clock()
        callback(*arguments)
        self._preferred_took += self._clock() - began

    def time_turn(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Do the same for a file that takes turns; after a long one, it is the others' turn."""
        began = self._clock()
        callback(*arguments)
        ended = self._clock()
        self._preferred_took += ended - began
        if ended - began >= MANY_QUERIES:
            self._others_until = ended + TURN_OF_OTHERS
            self._is_turn_new = True

    def is_alone(self, fileobj: FileObject) -> bool:
        """Return whether only one file, whose event is being handled, is ready."""
        descriptor = _descriptor(fileobj)
        return self._has_one and all(key.fd == descriptor for key, _ in self._first.select(0))

    def register(self, fileobj: FileObject, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a file."""
        return self._where(fileobj).register(fileobj, events, data)

    def unregister(self, fileobj: FileObject) -> selectors.SelectorKey:
        """Unregister a file; events that were not handed out yet are dropped."""
        key = self._where(fileobj).unregister(fileobj)
        self._preferred.discard(key.fd)
        self._in_turn.discard(key.fd)
        return key

    def modify(self, fileobj: FileObject, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change the events or the data of a file."""
        return self._where(fileobj).modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[Event]:
        """Return events: those of preferred files, and some of others.

        Args:
            timeout: Seconds to wait for one; None for no limit, 0 if the event loop has
                something else to do.
        """
        now = self._clock()
        preferred_took, self._preferred_took = self._preferred_took, 0.0
        self._adapt(now - self._returned_at - preferred_took)
        ready = self._first.select(0 if self._pending else timeout)
        for place, (key, _) in enumerate(ready):
            if key.fileobj is self._others:
                del ready[place]
                if not self._pending:
                    self._pending.extend(self._others.select(0))
                break
        others = self._some_pending() if self._pending else []
        if now < self._others_until:
            ready = self._without_turns(ready, is_busy=bool(others) or timeout == 0)
        self._has_one = timeout != 0 and len(ready) == 1 and not others
        self._returned_at = self._clock()
        return ready + others

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

    def _without_turns(self, ready: list[Event], *, is_busy: bool) -> list[Event]:
        """Return the events of preferred files in the turn of others, which may end here.

        Those that take no turns are reported once in it, so that each time there are many.

        Args:
            ready: All events of preferred files.
            is_busy: Whether others have something to do.
        """
        prompt = [event for event in ready if event[0].fd not in self._in_turn]
        is_new, self._is_turn_new = self._is_turn_new, False
        if is_busy or (is_new and prompt):
            return prompt if is_new else []
        self._others_until = 0.0
        return ready

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

    def prefer(self, preferred: FileObject, *, in_turn: bool = False) -> None:
        """Look at a socket first in each pass, or in turn; call this before `add_reader`."""
        self._preferring.prefer(preferred, in_turn=in_turn)

    def is_alone(self, preferred: FileObject) -> bool:
        """Return whether a socket, whose reader has been called, may be read on."""
        return self._preferring.is_alone(preferred)

    def add_reader(self, fd: FileObject, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """Call a function when a file is readable, as asyncio documents it."""
        if self._preferring.takes_turns(fd):
            super().add_reader(fd, partial(self._preferring.time_turn, callback, *args))
        elif self._preferring.prefers(fd):
            super().add_reader(fd, partial(self._preferring.time_preferred, callback, *args))
        else:
            super().add_reader(fd, callback, *args)


def new() -> asyncio.AbstractEventLoop:
    """Return a new event loop; asyncio's own where the system has no epoll."""
    return EventLoop() if hasattr(selectors, "EpollSelector") else asyncio.new_event_loop()


def prefer(preferred: FileObject, *, in_turn: bool = False) -> None:
    """Look at a socket first in each pass of the running loop, if that loop can.

    Args:
        preferred: The socket.
        in_turn: Whether others have their turn after one of this socket that was long.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        loop.prefer(preferred, in_turn=in_turn)


def is_alone(preferred: FileObject) -> bool:
    """Return whether a socket whose reader is being called is all that the running loop has to do.

    The loop can be sure of that only if it prefers the socket.
    """
    loop = asyncio.get_running_loop()
    return isinstance(loop, EventLoop) and loop.is_alone(preferred)


def _descriptor(fileobj: FileObject) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())

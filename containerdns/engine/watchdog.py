"""Whether the stream of events still brings what happens.

A stream that says nothing may be a quiet host, or a connection that a proxy forgot
(umputun/dolce#17, moby/moby#12023).  Only the Engine can tell, so it is asked every so
often for the events of the last moments, and the stream must have brought all of them.

Times of the Engine are needed for that, and its clock may be set.  Moments are therefore
kept on our own monotonic clock, and the Engine's is read off each response anew.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from containerdns.engine.client import EngineClient, Event, EventStream

CHECK_TIMEOUT = 3.0  # seconds; an Engine answers a question about the past at once
MAX_FAILURES = 3  # checks in a row without an answer, before they become rare
RARE_CHECK_EVERY = 30.0  # seconds between checks of an Engine that does not know the past
COSTLY_CHECK = 0.05  # seconds; Podman reads its whole file of events, Docker a list in memory
MAX_COSTLY_SHARE = 0.01  # of the time that costly checks may take
LATE = 0.2  # seconds that an event may be late on the stream
OVERLAP = 1.0  # seconds; an event may be dated a little before it can be asked for
MAX_EVENTS = 2048  # remembered, to know those that the stream brought; the Engine keeps 256

log = logging.getLogger(__name__)


class Watchdog:
    """Remembers the events of a stream, and checks that none is missing.

    Args:
        client: Of the Engine.
        url: Of the Engine, for the log.
        check_every: Seconds between checks.
        deaf: Called with the evidence when the stream is silent; ends the session.
    """

    def __init__(
        self, client: EngineClient, url: str, check_every: float, deaf: Callable[[str], NoReturn]
    ) -> None:
        self._client = client
        self._url = url
        self._check_every = check_every
        self._deaf = deaf
        self._events: dict[tuple[int, str, str], None] = {}  # in the order they came

    def is_new(self, event: Event) -> bool:
        """Remember an event, and return whether it was unknown."""
        key = _key(event)
        if key is None:
            return True
        if key in self._events:
            return False
        self._events[key] = None
        if len(self._events) > MAX_EVENTS:
            del self._events[next(iter(self._events))]
        return True

    async def watch(self, stream: EventStream) -> None:
        """Check for ever.

        An Engine that does not answer in time was stalled, or we were, or its clock was set
        back, so that it waits for the moment that it was asked about, or it does not know the
        past.  If it is gone altogether, `negotiate` says so.

        Raises:
            EngineUnavailable: The Engine is gone.
        """
        clock = asyncio.get_running_loop().time
        if stream.clock is None:
            return  # the comparison every minute must do
        time = _EngineTime(stream.clock - clock())
        checked = clock()  # until when the events are known to have come
        failures, took = 0, 0.0
        while True:
            await asyncio.sleep(self._pause(failures, took))
            asked = clock()
            try:
                async with asyncio.timeout(CHECK_TIMEOUT):
                    dated = await self._check(time.at(checked) - OVERLAP, time.at(asked))
            except TimeoutError:
                failures += 1
                log.debug("Docker %s: no answer about past events", self._url)
                asked = clock()
                version = await self._client.negotiate()
                time.read(version.clock, asked, clock())
                continue
            failures, took = 0, clock() - asked
            if not time.read(dated, asked, clock()):
                checked = asked  # else what was asked about was another time than meant

    def _pause(self, failures: int, took: float) -> float:
        """Return the seconds until the next check; an Engine that works hard for it is spared.

        Args:
            failures: Checks in a row without an answer.
            took: Seconds that the last answer took.
        """
        if failures >= MAX_FAILURES:
            return RARE_CHECK_EVERY
        if took < COSTLY_CHECK:
            return self._check_every
        return max(self._check_every, min(took / MAX_COSTLY_SHARE, RARE_CHECK_EVERY))

    async def _check(self, since: float, until: float) -> float | None:
        """Look for events that the stream has not brought; return the date of the response."""
        missed: list[Event] = []
        async with self._client.events(since, until) as past:
            while events := await past.next():
                missed += [event for event in events if self._is_missing(event)]
        if missed:
            await asyncio.sleep(LATE)
            if any(self._is_missing(event) for event in missed):
                self._deaf(f"it did not bring {len(missed)} events")
        return past.clock

    def _is_missing(self, event: Event) -> bool:
        key = _key(event)
        return key is not None and key not in self._events


@dataclass(slots=True)
class _EngineTime:
    """The Engine's clock as seen from ours, never later than it is there.

    Attributes:
        ahead: Seconds from our clock to the Engine's.
    """

    ahead: float

    def at(self, moment: float) -> float:
        """The Engine's time at a moment of our clock."""
        return moment + self.ahead

    def read(self, dated: float | None, asked: float, answered: float) -> bool:
        """Take in the date of a response, which is cut to the second.

        Returns:
            Whether the clock had been set.
        """
        if dated is None:
            return False
        earliest, latest = dated - answered, dated + 1 - asked
        was_set = self.ahead > latest or self.ahead < earliest - 1
        if was_set or self.ahead < earliest:
            self.ahead = earliest
        return was_set


def _key(event: Event) -> tuple[int, str, str] | None:
    """What distinguishes an event from all others; None if it is dated to the second only."""
    if event.time_ns % 1_000_000_000 == 0:
        return None
    return (event.time_ns, event.action, event.actor_id)

"""Checks that the event stream still delivers events.

A silent stream may mean a quiet host, or a connection that a proxy dropped (umputun/dolce#17,
moby/moby#12023).  Only the Engine knows, so it is regularly asked for its latest events, and
the stream must have delivered all of them.

This needs times by the Engine's clock, which may be set.  Moments are therefore kept on our
own monotonic clock, and the Engine's clock is read from each response.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from containerdns.engine.client import EngineClient, Event, EventStream

CHECK_TIMEOUT = 3.0  # seconds; an Engine returns past events immediately
MAX_FAILURES = 3  # consecutive checks without a response, before they become rare
RARE_CHECK_EVERY = 30.0  # seconds between checks of an Engine that does not return past events
COSTLY_CHECK = 0.05  # seconds; Podman reads its whole event file, Docker a list in memory
MAX_COSTLY_SHARE = 0.01  # share of the time that expensive checks may take
LATE = 0.2  # seconds that an event may be late on the stream
OVERLAP = 1.0  # seconds; an event may be listed a little later than its timestamp
MAX_EVENTS = 2048  # events remembered from the stream; the Engine keeps 256

log = logging.getLogger(__name__)


class Watchdog:
    """Remembers the events of a stream, and checks that none is missing.

    Args:
        client: The Engine's client.
        url: The Engine's URL, for the log.
        check_every: Seconds between checks.
        deaf: Called with the evidence when the stream has missed events; ends the session.
    """

    def __init__(
        self, client: EngineClient, url: str, check_every: float, deaf: Callable[[str], NoReturn]
    ) -> None:
        self._client = client
        self._url = url
        self._check_every = check_every
        self._deaf = deaf
        # Their lines, in order of arrival; a dict would pass over the places of all that are gone.
        self._events: OrderedDict[tuple[int, str, str], int] = OrderedDict()
        self._lines: set[int] = set()

    def is_new(self, event: Event) -> bool:
        """Remember an event, and return whether it is new."""
        key = _key(event)
        if key is None:
            return True
        if key in self._events:
            return False
        self._events[key] = event.line
        self._lines.add(event.line)
        if len(self._events) > MAX_EVENTS:
            self._lines.discard(self._events.popitem(last=False)[1])
        return True

    async def watch(self, stream: EventStream) -> None:
        """Check forever.

        A timeout means that the Engine or this process was stalled, that the Engine's clock
        was set back, so that it waits for the end of the interval, or that it does not
        return past events.  If the Engine is gone, `negotiate` raises.

        Raises:
            EngineUnavailable: The Engine is gone.
        """
        clock = asyncio.get_running_loop().time
        if stream.clock is None:
            return  # rely on the comparison every minute
        time = _EngineTime(stream.clock - clock())
        checked = clock()  # the time until which all events have arrived
        failures, took = 0, 0.0
        while True:
            await asyncio.sleep(self._pause(failures, took))
            asked = clock()
            try:
                async with asyncio.timeout(CHECK_TIMEOUT):
                    dated = await self._check(time.at(checked) - OVERLAP, time.at(asked))
            except TimeoutError:
                failures += 1
                log.debug("Docker %s: no response with past events", self._url)
                asked = clock()
                version = await self._client.negotiate()
                time.read(version.clock, asked, clock())
                continue
            failures, took = 0, clock() - asked
            if time.read(dated, asked, clock()):
                took = 0.0  # the interval was wrong, and the Engine may have waited for its end
            else:
                checked = asked

    def _pause(self, failures: int, took: float) -> float:
        """Return the seconds until the next check, longer if checks are expensive.

        Args:
            failures: Consecutive checks without a response.
            took: Seconds that the last response took.
        """
        if failures >= MAX_FAILURES:
            return RARE_CHECK_EVERY
        if took < COSTLY_CHECK:
            return self._check_every
        return max(self._check_every, min(took / MAX_COSTLY_SHARE, RARE_CHECK_EVERY))

    async def _check(self, since: float, until: float) -> float | None:
        """Look for events that the stream has missed; return the date of the response."""
        missed: list[Event] = []
        async with self._client.events(since, until, self._lines) as past:
            while events := await past.next():
                missed += [event for event in events if self._is_missing(event)]
        if missed:
            await asyncio.sleep(LATE)
            if any(self._is_missing(event) for event in missed):
                self._deaf(f"{len(missed)} found by a check of the past")
        return past.clock

    def _is_missing(self, event: Event) -> bool:
        key = _key(event)
        return key is not None and key not in self._events


@dataclass(slots=True)
class _EngineTime:
    """An estimate of the Engine's clock, never ahead of it.

    Attributes:
        ahead: Seconds from our clock to the Engine's.
    """

    ahead: float

    def at(self, moment: float) -> float:
        """Return the Engine's time at a time of our clock."""
        return moment + self.ahead

    def read(self, dated: float | None, asked: float, answered: float) -> bool:
        """Update the estimate from the date of a response, which is truncated to the second.

        Returns:
            Whether the Engine's clock had been set.
        """
        if dated is None:
            return False
        earliest, latest = dated - answered, dated + 1 - asked
        was_set = self.ahead > latest or self.ahead < earliest - 1
        if was_set or self.ahead < earliest:
            self.ahead = earliest
        return was_set


def _key(event: Event) -> tuple[int, str, str] | None:
    """Return what identifies an event; None if its time is precise to the second only."""
    if event.time_ns % 1_000_000_000 == 0:
        return None
    return (event.time_ns, event.action, event.actor_id)

"""Run the parts of a process beside its DNS sockets, and restart those that fail.

A part is a coroutine that runs until it is cancelled: a watcher, HTTP, the state file, the
connections to upstreams.  An internal error in one of them causes a traceback, a count and a
restart after an increasing pause; it never affects another part or the answers.  Calls in the
middle of other work (to secondaries and workers, in a change of the zone) are wrapped in
`Contained` instead, so that the work continues.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from containerdns.core.counters import Counters
from containerdns.tasks.own_task import in_own_task

FIRST_PAUSE = 0.5  # seconds before the first restart; doubled each time
MAX_PAUSE = 30.0  # seconds; the same as for an unreachable Engine
STABLE_AFTER = 10.0  # seconds of running after which a part counts as working again

log = logging.getLogger(__name__)

Part = Callable[[], Coroutine[Any, Any, object]]


class Pauses:
    """Increasing pauses between the restarts of something that keeps ending."""

    def __init__(self, first: float = FIRST_PAUSE, longest: float = MAX_PAUSE) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def after(self, lifetime: float) -> float:
        """Return the seconds to wait, given how long the last run lasted."""
        if lifetime >= max(STABLE_AFTER, self._next):
            self._next = self._first
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause


class Parts:
    """Runs the parts of one process.

    Attributes:
        failing: The last error of each part that failed and has not yet run for
            `STABLE_AFTER` seconds since.
    """

    def __init__(self, counters: Counters, first_pause: float = FIRST_PAUSE) -> None:
        self.failing: dict[str, str] = {}
        self._counters = counters
        self._first_pause = first_pause

    async def keep(self, name: str, part: Part, *, fatal: type[Exception] | tuple[()] = ()) -> None:
        """Run a part until it returns or is cancelled; restart it after internal errors.

        Args:
            name: For the log, `/readyz` and the metric.
            part: Called for each run.
            fatal: Errors of this class are raised, and end the process.
        """
        pauses = Pauses(self._first_pause)
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            working = loop.call_later(STABLE_AFTER, self.failing.pop, name, None)
            try:
                await in_own_task(part())
            except fatal:
                raise
            except Exception as error:
                pause = pauses.after(loop.time() - begun)
                log.exception("internal error in %s; restarting it in %.1f s", name, pause)
                self._counters.internal_errors += 1
                self._counters.part_restarts[name] += 1
                self.failing[name] = f"{type(error).__name__}: {error}"
            else:
                self.failing.pop(name, None)
                return
            finally:
                working.cancel()
            await asyncio.sleep(pause)


class Contained:
    """Logs and counts an internal error in a block, so that the caller continues.

    A class, as several blocks are entered for each event.
    """

    __slots__ = ("_counters", "_what")

    def __init__(self, counters: Counters, what: str) -> None:
        """Initialise for a block.

        Args:
            counters: `internal_errors` is counted here.
            what: What the block does, for the log.
        """
        self._counters = counters
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._counters.internal_errors += 1
        log.error("internal error in %s", self._what, exc_info=error)
        return True

"""The parts of a process beside its DNS sockets: run each, and restart one that fails.

A part is a coroutine that runs until it is cancelled: a watcher, HTTP, the state file, the
upstreams' connections.  An internal error in one of them is a traceback, a count and a restart
after a pause that grows; it never ends another part, nor the answers.  What a part calls in
the middle of somebody else's work (secondaries and workers, in a change of the zone) is
wrapped in `contained` instead, so that the work goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from containerdns.core.counters import Counters

FIRST_PAUSE = 0.5  # seconds before the first restart; doubled each time
MAX_PAUSE = 30.0  # seconds; as for an Engine that is away
STABLE_AFTER = 10.0  # seconds of running, after which a part counts as working again

log = logging.getLogger(__name__)

Part = Callable[[], Awaitable[object]]


class Pauses:
    """How long to wait before each restart of something that keeps ending."""

    def __init__(self, first: float = FIRST_PAUSE, longest: float = MAX_PAUSE) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def after(self, lifetime: float) -> float:
        """Return the seconds to wait now, given how long the last life lasted."""
        if lifetime >= max(STABLE_AFTER, self._next):
            self._next = self._first
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause


class Parts:
    """Runs the parts of one process.

    Attributes:
        failing: By part, its last error; of those that failed and have not run since for
            `STABLE_AFTER` seconds.
    """

    def __init__(self, counters: Counters, first_pause: float = FIRST_PAUSE) -> None:
        self.failing: dict[str, str] = {}
        self._counters = counters
        self._first_pause = first_pause

    async def keep(self, name: str, part: Part, *, fatal: type[Exception] | tuple[()] = ()) -> None:
        """Run a part until it returns or is cancelled, again after each internal error.

        Args:
            name: For the log, `/readyz` and the metric.
            part: Called for each life.
            fatal: Errors of this class end the process; they are raised.
        """
        pauses = Pauses(self._first_pause)
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            working = loop.call_later(STABLE_AFTER, self.failing.pop, name, None)
            try:
                await part()
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


@contextmanager
def contained(counters: Counters, what: str) -> Iterator[None]:
    """Log and count an internal error in a block, instead of ending what it is part of.

    Args:
        counters: `internal_errors` is counted here.
        what: The work of the block, for the log.
    """
    try:
        yield
    except Exception:
        counters.internal_errors += 1
        log.exception("internal error in %s", what)

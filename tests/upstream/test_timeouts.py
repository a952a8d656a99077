"""Many timeouts on one timer of the event loop."""

import asyncio
from collections.abc import Callable

import pytest

from containerdns.upstream.timeouts import Timeouts


class Noting:
    """Notes when its time has come."""

    def __init__(
        self, name: str, expired: asyncio.Queue[str], then: Callable[[], None] | None = None
    ) -> None:
        self._name = name
        self._expired = expired
        self._then = then

    def expire(self) -> None:
        self._expired.put_nowait(self._name)
        if self._then is not None:
            self._then()


async def first(count: int, expired: asyncio.Queue[str]) -> list[str]:
    async with asyncio.timeout(30):
        return [await expired.get() for _ in range(count)]


async def test_they_expire_in_their_order_and_not_before_their_time() -> None:
    loop, expired = asyncio.get_running_loop(), asyncio.Queue[str]()
    timeouts, now = Timeouts(loop), loop.time()
    for name, seconds in (("third", 0.03), ("first", 0.01), ("second", 0.02), ("fourth", 0.03)):
        timeouts.add(now + seconds, Noting(name, expired))
    timeouts.add(now + 3600, Noting("never", expired))
    assert await first(4, expired) == ["first", "second", "third", "fourth"]
    assert loop.time() >= now + 0.03
    timeouts.close()


async def test_one_may_add_another() -> None:
    loop, expired = asyncio.get_running_loop(), asyncio.Queue[str]()
    timeouts = Timeouts(loop)

    def add() -> None:
        timeouts.add(loop.time(), Noting("second", expired))

    timeouts.add(loop.time(), Noting("first", expired, add))
    assert await first(2, expired) == ["first", "second"]


async def test_one_that_adds_another_delays_none() -> None:
    """A question that went to the next server held up those that were sent after it."""
    loop, expired = asyncio.get_running_loop(), asyncio.Queue[str]()
    timeouts, now = Timeouts(loop), loop.time()

    def add() -> None:
        timeouts.add(now + 3600, Noting("third", expired))

    timeouts.add(now, Noting("first", expired, add))
    timeouts.add(now + 0.01, Noting("second", expired))
    assert await first(2, expired) == ["first", "second"]
    timeouts.close()


async def test_a_fault_in_one_leaves_the_others() -> None:
    loop, expired, faults = asyncio.get_running_loop(), asyncio.Queue[str](), list[object]()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    timeouts = Timeouts(loop)
    fault = RuntimeError("on purpose")

    def fail() -> None:
        raise fault

    timeouts.add(loop.time(), Noting("faulty", expired, fail))
    timeouts.add(loop.time(), Noting("next", expired))
    assert await first(2, expired) == ["faulty", "next"]
    assert faults == [fault]


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_none_expires_after_the_end(seconds: float) -> None:
    loop, expired = asyncio.get_running_loop(), asyncio.Queue[str]()
    timeouts = Timeouts(loop)
    timeouts.add(loop.time() + seconds, Noting("late", expired))
    timeouts.close()
    other = Timeouts(loop)
    other.add(loop.time() + seconds, Noting("other", expired))
    assert await first(1, expired) == ["other"]

"""Many things that become due after the same time, with one timer."""

import asyncio

import pytest

from containerdns.tasks.later import Later

SOON = 0.01  # seconds


async def test_each_is_called_once_in_order_and_not_before_it_is_due() -> None:
    clock = asyncio.get_running_loop().time
    called: list[tuple[int, float]] = []
    all_called = asyncio.Event()

    def call(number: int) -> None:
        called.append((number, clock()))
        if number == 2:
            all_called.set()

    later = Later(SOON, call, lambda _: False)
    due = {}
    for number in range(3):
        due[number] = clock() + SOON
        later.add(number)
        await asyncio.sleep(0.001)
    await asyncio.wait_for(all_called.wait(), 10)
    assert [number for number, _ in called] == [0, 1, 2]
    assert all(when >= due[number] for number, when in called)
    later.add(2)  # the timer is set again
    all_called.clear()
    await asyncio.wait_for(all_called.wait(), 10)


async def test_what_is_over_is_not_called() -> None:
    over = {1}
    called: list[int] = []
    last = asyncio.Event()

    def call(number: int) -> None:
        called.append(number)
        if number == 2:
            last.set()

    later = Later(SOON, call, over.__contains__)
    for number in range(3):
        later.add(number)
    await asyncio.wait_for(last.wait(), 10)
    assert called == [0, 2]


async def test_an_internal_error_ends_neither_the_others_nor_the_timer() -> None:
    """The event loop reports it, as from any callback."""
    reported: list[object] = []
    called = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def call(number: int) -> None:
        if not number:
            raise ValueError(number)
        called.set()

    later = Later(SOON, call, lambda _: False)
    later.add(0)
    later.add(1)
    await asyncio.wait_for(called.wait(), 10)
    assert [type(fault) for fault in reported] == [ValueError]


@pytest.mark.parametrize("count", [1, 1000])
async def test_there_is_one_timer_however_many_there_are(count: int) -> None:
    """A timer for each would be set and cancelled with every inspect."""
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)  # type: ignore[attr-defined]  # what the loop waits for
    later: Later[int] = Later(60.0, lambda _: None, lambda _: False)
    for number in range(count):
        later.add(number)
    assert len(loop._scheduled) == before + 1  # type: ignore[attr-defined]

"""A failure leaves nothing to what comes after it."""

import asyncio
from contextlib import suppress

import pytest

from containerdns.tasks.own_task import in_own_task


async def fail() -> None:
    raise KeyError("web")


async def leave_a_request() -> None:
    """Fail as a group whose task failed while the group waited for it."""
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())


async def test_timeout_after_a_group_that_failed_is_a_timeout() -> None:
    """Up to Python 3.11.2 it was a CancelledError, which ended a watcher without a trace."""
    for _ in range(2):
        await in_own_task(leave_a_request())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()


async def test_cancellation_that_the_work_loses_counts() -> None:
    async def lose_it() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("web") from None

    waiting = asyncio.create_task(in_own_task(lose_it()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_work_that_cancels_itself_has_failed() -> None:
    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="nobody cancelled it"):
        await in_own_task(cancel_itself())

"""Waiting for something that may fail, without what its failure leaves behind."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_own_task(work: Coroutine[Any, Any, T]) -> T:
    """Run something that may fail, and be run again, in a task of its own; wait for it.

    A TaskGroup of which a task failed may leave the task that waits for it with a request to be
    cancelled, or lose such a request (Python 3.11 and 3.12).  Up to 3.11.2, which Debian 12 has,
    each later timeout in that task raises CancelledError rather than TimeoutError.

    Raises:
        asyncio.CancelledError: The task that waits here is cancelled, and for no other reason.
        RuntimeError: The work ended itself with a CancelledError.
    """
    waiting = asyncio.current_task()
    assert waiting is not None
    requests = waiting.cancelling()
    task = asyncio.create_task(work)
    try:
        return await task
    except asyncio.CancelledError as error:
        if waiting.cancelling() > requests:
            raise
        raise RuntimeError("a CancelledError, though nobody cancelled it") from error
    except Exception:
        if waiting.cancelling() > requests:
            raise asyncio.CancelledError from None
        raise

"""Calls in a thread that may never return, as on a disk that hangs, and must not delay the end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Call a function in a thread of its own, and return what it returns.

    Unlike with `asyncio.to_thread`, the process does not wait at its end until the call returns.

    Raises:
        Exception: What the call raises.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # whether or not anybody waits for it any more

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            outcome.set_exception(error)

    Thread(target=run, name=in_thread.__name__, daemon=True).start()
    return await asyncio.wrap_future(outcome)

"""Runs the coroutine tests of this folder, each in an event loop of its own."""

import asyncio
import inspect

import pytest

from tests.timing import WAIT_LONGEST


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 4 * WAIT_LONGEST))
    return True

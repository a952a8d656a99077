"""Fixtures: a private Docker Engine, once for all tests; nothing of it remains.

Coroutine tests run each in an event loop of its own.

Hypothesis tries the same examples on every machine, however slow; `make fuzz` looks for others.
"""

import asyncio
import inspect
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.engine.dockerd import CannotStart, Dockerd, require_machine
from tests.timing import MAX_WAIT

settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), 4 * MAX_WAIT))
    return True


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """A private Engine that runs; under CI=true its absence is an error, else a skip."""
    try:
        require_machine()
    except CannotStart as fault:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(fault))
    daemon = Dockerd()
    try:
        daemon.set_up()
        yield daemon
    finally:
        daemon.tear_down()


@pytest.fixture
def engine(dockerd: Dockerd) -> Iterator[Dockerd]:
    """The private Engine without containers and networks of other tests."""
    dockerd.clear()
    yield dockerd
    if not dockerd.is_up:
        dockerd.start()
    dockerd.clear()

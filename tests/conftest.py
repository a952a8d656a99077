"""Fixtures: a private Docker Engine, once for all tests; nothing remains of what tests start.

Coroutine tests run each in an event loop of its own.

`make test` runs three processes, which take whole files in turn (`--dist loadfile`), each with an
Engine and a network namespace of its own.

Hypothesis tries the same examples on every machine, however slow; `make fuzz` looks for others.
"""

import asyncio
import inspect
import os
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener, install_opener

import pytest
from hypothesis import HealthCheck, settings

from tests import own_network
from tests.engine.dockerd import CannotStart, Dockerd, require_machine
from tests.left_behind import own_folder, wait_for_nothing
from tests.timing import MAX_WAIT

settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same")

MAX_TEST = 15 * MAX_WAIT  # seconds for a coroutine test, which may be tried three times
TESTS = Path(__file__).parent
OWN_NETWORKS = ("127.0.0.1", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
# Variables of the shell that configure this program and others.
SETTINGS = ("CONTAINERDNS_", "DOCKER_", "COMPOSE_", "CONTAINER_", "CONTAINERS_", "ETCD", "NOTIFY_")
# First, as they take longest: those that mostly wait for other programs, in this order, and those
# that compute, so that neither is left to the end, where each process would want a core.
WAITING = (
    *("clients", "vpn", "differential", "test_demo.py", "engine", "test_pages.py", "fleet"),
    *("processes", "upstream"),
)
COMPUTING = ("web", "fuzz", "core/zone", "commands")
WAITING_A_COMPUTING = 2  # files that wait to each that computes


def pytest_configure(config: pytest.Config) -> None:
    """Keep what runs tests apart from the machine; the process that hands them out stays."""
    for variable in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[variable]
    os.environ["no_proxy"] = ",".join((os.environ.get("no_proxy", ""), "localhost", *OWN_NETWORKS))
    install_opener(build_opener(ProxyHandler({})))  # which knows no networks in `no_proxy`
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    if not config.getoption("numprocesses", None):
        own_network.enter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, those that wait and those that compute beside each other."""
    files = dict.fromkeys(item.path for item in items)
    waiting = _of(files, WAITING)
    computing = _of(files, COMPUTING)
    turns = {file: float(n) for n, file in enumerate(waiting)}
    turns |= {file: WAITING_A_COMPUTING * n + 0.5 for n, file in enumerate(computing)}
    items.sort(key=lambda item: turns.get(item.path, float("inf")))


def _of(files: Iterable[Path], places: Sequence[str]) -> list[Path]:
    """Return the files that lie in some places, in the order of these."""
    return [file for place in places for file in files if file.is_relative_to(TESTS / place)]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any], dict[str, Any]]:
    """Escape the surrogates in a report, such as those of a log: xdist sends its text as UTF-8."""
    report = yield
    safe: dict[str, Any] = _without_surrogates(report)
    return safe


def _without_surrogates(found: Any) -> Any:
    match found:
        case str():
            return found.encode(errors="backslashreplace").decode()
        case list() | tuple():
            return [_without_surrogates(item) for item in found]
        case dict():
            return {_without_surrogates(k): _without_surrogates(v) for k, v in found.items()}
        case _:
            return found


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), MAX_TEST))
    return True


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail the last test of the process if anything is left."""
    with own_folder() as folder:
        yield
        left = wait_for_nothing(folder)
        assert not left, "tests left behind: " + "; ".join(left)


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


@pytest.fixture
def swarm(engine: Dockerd) -> Iterator[Dockerd]:
    """The private Engine as the manager of a swarm of one, with an overlay network."""
    engine.api.init_swarm(advertise_addr="127.0.0.1")
    try:
        engine.create_network("overlay", driver="overlay")
        yield engine
    finally:
        engine.api.leave_swarm(force=True)

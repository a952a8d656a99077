"""Fixtures: a private Docker Engine, once for all tests; nothing of it remains."""

import os
from collections.abc import Iterator

import pytest

from tests.engine.dockerd import CannotStart, Dockerd, require_machine


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

"""Fixtures: an upstream that notes what leaks, a server on port 53, and stub resolvers."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.resolvers import Stub, stubs
from tests.engine.running import RecordingUpstream

PUBLIC_ADDRESS = "127.0.0.9"  # where a connection is refused at once
STUBS = ("glibc", "musl", "go", "c-ares")
_numbers = itertools.count(1)


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    """An upstream that says NXDOMAIN for a day to whatever leaks."""
    recording = RecordingUpstream({"public.test-site.example": PUBLIC_ADDRESS})
    yield recording
    recording.close()


@pytest.fixture
def loopback() -> str:
    """An address whose port 53 nobody else has; resolv.conf knows no other port."""
    return f"127.77.{os.getpid() % 250}.{next(_numbers)}"


@pytest.fixture(scope="session")
def all_stubs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stub]:
    """The stub resolvers, built once."""
    return stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(params=STUBS)
def stub(request: pytest.FixtureRequest, all_stubs: dict[str, Stub]) -> Stub:
    """Each stub resolver in turn."""
    return all_stubs[request.param]


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    """Where a test writes its resolv.conf."""
    return tmp_path / "resolv.conf"

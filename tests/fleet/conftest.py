"""Fixtures: an etcd, two Engines, and an upstream."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.running import RecordingUpstream
from tests.fleet.cluster import Cluster
from tests.fleet.running import Engine, simulated


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An etcd that runs."""
    with Cluster() as running:
        yield running


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two Engines."""
    with simulated(tmp_path, "a") as first, simulated(tmp_path, "b") as second:
        yield first, second


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    """An upstream that sees what leaks."""
    recording = RecordingUpstream()
    yield recording
    recording.close()

"""Three members of etcd in network namespaces, and links that are cut between them and hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.running import RecordingUpstream, Running, serving
from tests.fleet.members import Members
from tests.fleet.running import Engine, has, simulated
from tests.timing import wait_until

pytestmark = pytest.mark.engine

LEASE = 6  # seconds


@pytest.fixture(scope="module")
def members() -> Iterator[Members]:
    """Three members that run."""
    with Members() as running:
        yield running


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two Engines, with one container each."""
    with simulated(tmp_path, "a") as first, simulated(tmp_path, "b") as second:
        first.add("web", address="10.1.0.1")
        second.add("other", address="10.2.0.1")
        yield first, second


def of_fleet(url: str, host: str, prefix: str, upstream: RecordingUpstream) -> tuple[str, ...]:
    options = ("--fleet-lease", str(LEASE), "--handover", "0", "--fleet-prefix", prefix)
    forwarding = ("--upstream", f"127.0.0.1:{upstream.port}")
    return ("--fleet", url, "--fleet-host", host, *options, *forwarding)


def both_know_all(*servers: Running) -> bool:
    return all(has(s, "web", "10.1.0.1") and has(s, "other", "10.2.0.1") for s in servers)


def test_host_that_is_cut_off_is_withdrawn_elsewhere_and_keeps_what_it_knows(
    members: Members, engines: tuple[Engine, Engine], upstream: RecordingUpstream
) -> None:
    """The link between a host and its etcd goes down; nothing of it is forwarded meanwhile."""
    a, b = engines
    with (
        serving(*of_fleet(members.url(0), "a", "/cut/", upstream), docker=a.url) as first,
        serving(*of_fleet(members.url(1, 2), "b", "/cut/", upstream), docker=b.url) as second,
    ):
        wait_until(lambda: both_know_all(first, second))
        members.cut(0, from_hosts=True)
        try:
            wait_until(lambda: second.rcode("web.docker") == "NXDOMAIN")
            assert second.rcode("web.localdomain") == second.rcode("web") == "NXDOMAIN"
            wait_until(lambda: first.metric("fleet_connected") == 0)
            assert both_know_all(first)
            b.add("late", address="10.2.0.2")
            wait_until(lambda: has(second, "late", "10.2.0.2"))
        finally:
            members.mend(0)
        wait_until(lambda: both_know_all(first, second) and has(first, "late", "10.2.0.2"))
        assert [name for name in upstream.names() if "web" in name] == []


def test_host_goes_on_with_the_majority_when_its_member_is_alone(
    members: Members, engines: tuple[Engine, Engine], upstream: RecordingUpstream
) -> None:
    """The member answers, but has no leader: the next one is asked, within the lease."""
    a, b = engines
    with (
        serving(*of_fleet(members.url(0, 1), "a", "/alone/", upstream), docker=a.url) as first,
        serving(*of_fleet(members.url(2), "b", "/alone/", upstream), docker=b.url) as second,
    ):
        wait_until(lambda: both_know_all(first, second))
        members.cut(0, from_members=True)
        try:
            wait_until(lambda: not members.is_healthy(0))
            a.add("late", address="10.1.0.2")
            wait_until(lambda: has(second, "late", "10.1.0.2"))
            b.add("later", address="10.2.0.2")
            wait_until(lambda: has(first, "later", "10.2.0.2"))
            assert both_know_all(first, second)
        finally:
            members.mend(0)
            wait_until(lambda: all(members.is_healthy(n) for n in range(3)))


def test_nothing_is_withdrawn_while_most_members_are_dead(
    members: Members, engines: tuple[Engine, Engine], upstream: RecordingUpstream
) -> None:
    """kill -9 of two of three, for longer than a lease; own Engines stay live."""
    a, b = engines
    with (
        serving(*of_fleet(members.url(0, 1, 2), "a", "/few/", upstream), docker=a.url) as first,
        serving(*of_fleet(members.url(2, 1, 0), "b", "/few/", upstream), docker=b.url) as second,
    ):
        wait_until(lambda: both_know_all(first, second))
        members.kill(1)
        members.kill(2)
        wait_until(lambda: first.metric("fleet_connected") == second.metric("fleet_connected") == 0)
        a.add("late", address="10.1.0.2")
        wait_until(lambda: has(first, "late", "10.1.0.2"))
        assert both_know_all(first, second)
        members.start(1)
        members.start(2)
        wait_until(lambda: has(second, "late", "10.1.0.2"))
        assert both_know_all(first, second)
        assert "is gone" not in first.log() + second.log()

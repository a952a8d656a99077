"""One name space over two hosts: two servers, a real etcd, and containers of a real Engine.

The first server follows the Engine; the second has an Engine without containers, so that all
that it knows comes through etcd.
"""

from pathlib import Path

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, serving
from tests.fleet.cluster import Cluster
from tests.fleet.running import quiet_engine
from tests.timing import wait_until

pytestmark = pytest.mark.engine

LEASE = 2  # seconds
OPTIONS = ("--fleet-lease", str(LEASE), "--handover", "0")


def of_fleet(cluster: Cluster, host: str, *more: str) -> tuple[str, ...]:
    return ("--fleet", cluster.url, "--fleet-host", host, *OPTIONS, *more)


def test_container_of_one_host_is_answered_on_the_other(
    engine: Dockerd, cluster: Cluster, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    forwarding = ("--upstream", f"127.0.0.1:{upstream.port}")
    engine.create_network("front")
    engine.run("web", network="front")
    with (
        quiet_engine(tmp_path) as quiet,
        serving(*of_fleet(cluster, "a"), docker=engine.socket_url) as first,
        serving(*of_fleet(cluster, "b", *forwarding), docker=quiet) as second,
    ):
        address = engine.address("web")
        wait_until(lambda: second.addresses("web.docker") == [address])
        assert second.addresses("web") == [address]
        assert second.addresses("web.a.docker") == [address]
        assert first.addresses("web.a.docker") == [address]
        assert second.metric("fleet_connected") == 1
        alive = 'containerdns_fleet_hosts{state="alive"} 1.0'
        wait_until(lambda: alive in second.get("/metrics"))

        engine.run("late", network="front")
        wait_until(lambda: second.addresses("late.docker") == [engine.address("late")])
        engine.remove("web")
        wait_until(lambda: second.rcode("web.docker") == "NXDOMAIN")
        assert second.rcode("web.localdomain", "HTTPS") == "NXDOMAIN"
        assert [name for name in upstream.names() if "web" in name] == []


def test_host_that_dies_is_withdrawn_with_its_lease_and_never_forwarded(
    engine: Dockerd, cluster: Cluster, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    forwarding = ("--upstream", f"127.0.0.1:{upstream.port}")
    engine.create_network("front")
    engine.run("web", network="front")
    with (
        quiet_engine(tmp_path) as quiet,
        serving(*of_fleet(cluster, "b", *forwarding), docker=quiet) as second,
    ):
        with Running(*of_fleet(cluster, "a"), docker=engine.socket_url) as first:
            wait_until(lambda: second.addresses("web.docker") == [engine.address("web")])
            first.kill()
            wait_until(lambda: second.rcode("web.docker") == "NXDOMAIN")
        assert second.rcode("web.localdomain") == "NXDOMAIN"
        assert [name for name in upstream.names() if "web" in name] == []


def test_zone_stands_while_etcd_is_away_and_is_whole_after_its_return(
    engine: Dockerd, cluster: Cluster, tmp_path: Path
) -> None:
    engine.create_network("front")
    engine.run("web", network="front")
    with (
        quiet_engine(tmp_path) as quiet,
        serving(*of_fleet(cluster, "a"), docker=engine.socket_url) as first,
        serving(*of_fleet(cluster, "b"), docker=quiet) as second,
    ):
        wait_until(lambda: second.addresses("web.docker") == [engine.address("web")])
        cluster.kill()
        wait_until(lambda: second.metric("fleet_connected") == 0)
        engine.run("meanwhile", network="front")
        wait_until(lambda: first.addresses("meanwhile.docker") == [engine.address("meanwhile")])
        assert second.addresses("web.docker") == [engine.address("web")]
        cluster.start()
        wait_until(lambda: second.addresses("meanwhile.docker") == [engine.address("meanwhile")])
        assert second.addresses("web.docker") == [engine.address("web")]


def test_killed_dockerd_costs_the_fleet_nothing_and_its_return_is_noticed(
    engine: Dockerd, cluster: Cluster, tmp_path: Path
) -> None:
    """kill -9 of a host's dockerd: its containers run on, and stay in all answers."""
    steady = ("--fleet-lease", "6")
    engine.create_network("front")
    engine.run("web", network="front")
    address = engine.address("web")
    with (
        quiet_engine(tmp_path) as quiet,
        serving(*of_fleet(cluster, "a", *steady), docker=engine.socket_url) as first,
        serving(*of_fleet(cluster, "b", *steady), docker=quiet) as second,
    ):
        wait_until(lambda: second.addresses("web.docker") == [address])
        engine.kill()
        wait_until(lambda: first.metric("docker_connected") == 0)
        assert second.addresses("web.docker") == [address]
        engine.start()
        wait_until(lambda: first.metric("docker_connected") == 1)
        engine.run("late", network="front")
        wait_until(lambda: second.addresses("late.docker") == [engine.address("late")])


def test_second_server_of_a_name_says_so_and_does_not_write(
    engine: Dockerd, cluster: Cluster, tmp_path: Path
) -> None:
    steady = ("--fleet-lease", "6")  # which a busy machine renews in time
    engine.create_network("front")
    engine.run("web", network="front")
    with (
        quiet_engine(tmp_path) as quiet,
        serving(*of_fleet(cluster, "a", *steady), docker=quiet),
        serving(*of_fleet(cluster, "b"), docker=quiet) as reader,
        serving(*of_fleet(cluster, "a", *steady), docker=engine.socket_url) as twin,
    ):
        wait_until(lambda: "already has the name a" in twin.log())
        assert twin.addresses("web.docker") == [engine.address("web")]
        assert reader.rcode("web.docker") == "NXDOMAIN"


def test_server_that_is_started_again_at_once_keeps_its_names_in_the_fleet(
    engine: Dockerd, cluster: Cluster, tmp_path: Path
) -> None:
    engine.create_network("front")
    engine.run("web", network="front")
    with quiet_engine(tmp_path) as quiet, serving(*of_fleet(cluster, "b"), docker=quiet) as second:
        with serving(*of_fleet(cluster, "a"), docker=engine.socket_url):
            wait_until(lambda: second.addresses("web.docker") == [engine.address("web")])
        with serving(*of_fleet(cluster, "a"), docker=engine.socket_url) as first:
            engine.run("late", network="front")
            wait_until(lambda: second.addresses("late.docker") == [engine.address("late")])
            assert second.addresses("web.docker") == [engine.address("web")]
            assert "already has the name" not in first.log()

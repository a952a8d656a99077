"""What a fleet survives: a real etcd in each of its moods, with servers on simulated Engines."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from containerdns.core.zone.fleet import Host, document_of
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress
from containerdns.fleet.etcd import Changes, Etcd, Listing, Value
from containerdns.fleet.reader import Reader
from containerdns.fleet.sink import FleetSink
from tests.certificates import make_certificates
from tests.engine.running import RecordingUpstream, Running, serving
from tests.fleet.cluster import PREFIX, Cluster
from tests.fleet.running import Engine, has, of_fleet, simulated
from tests.timing import wait_until

pytestmark = pytest.mark.engine

SHARED = "172.31.200.{}"  # in a bridge network that each simulated Engine has


@contextlib.contextmanager
def two(cluster: Cluster, engines: tuple[Engine, Engine]) -> Iterator[tuple[Running, Running]]:
    """Servers on two hosts, which both know the container `web` of the first."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    with (
        serving(*of_fleet(cluster, "a"), docker=a.url) as first,
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        wait_until(lambda: has(second, "web", "10.1.0.1"))
        yield first, second


def test_documents_that_cannot_be_read_cost_their_own_names_alone(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """Of another version, no JSON, a name that is none; and keys that nobody of us wrote."""
    a, _ = engines
    with two(cluster, engines) as (first, second):
        [key] = [key for key in cluster.listed() if "/a/c/" in key]
        cluster.put(f"{PREFIX}a/c/{'1' * 64}", '{"version": 99}')
        cluster.put(f"{PREFIX}a/c/{'2' * 64}", "no JSON")
        cluster.put(f"{PREFIX}c/host", json.dumps({"version": 1, "addresses": ["somewhere"]}))
        cluster.put(f"{PREFIX}d/c/{'3' * 64}", "{}")
        cluster.put(f"{PREFIX}odd", "")
        cluster.put(PREFIX, "")
        wait_until(lambda: second.log().count("it is left out") >= 4)
        assert key.startswith(PREFIX)
        assert "version 99" in second.log()
        assert has(second, "web", "10.1.0.1")
        a.add("late", address="10.1.0.2")
        wait_until(lambda: has(second, "late", "10.1.0.2"))
        assert second.metric("fleet_connected") == first.metric("fleet_connected") == 1


async def test_document_that_is_gone_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """A host of another version makes one for each container that it ever has."""
    reader = Reader("/containerdns/", Host("a", (), ()), 10, "auto", cast(FleetSink, Mock()))
    bad = Value(f"{PREFIX}b/c/{'1' * 64}", '{"version": 99}')
    gone = bad._replace(value=None)
    for values, count in ((bad, bad), 1), ((gone, bad), 2):
        await reader.apply(Changes(values, 1))
        assert caplog.text.count("version 99") == count
    await reader.read(Listing((), 1, "cluster"))
    await reader.apply(Changes((bad,), 1))
    assert caplog.text.count("version 99") == 3


def test_idle_fleet_stays_connected_and_compaction_costs_nothing(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    a, b = engines
    with (
        serving(*of_fleet(cluster, "a"), docker=a.url),
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        container = a.add("web", address="10.1.0.1")
        wait_until(lambda: has(second, "web", "10.1.0.1"))
        before = second.metric("fleet_revision")
        cluster.call("/v3/kv/compaction", revision=cluster.revision(), physical=True)
        upstream = RecordingUpstream()  # a moment of silence, longer than the watch waits
        upstream.close()
        subprocess.run(["sleep", "2"], check=True)
        a.remove(container)
        wait_until(lambda: second.rcode("web.docker") == "NXDOMAIN")
        assert "retrying" not in second.log()
        assert second.metric("fleet_revision") > before


def test_disk_quota_that_is_used_up_is_a_clear_line_and_costs_nothing(
    engines: tuple[Engine, Engine],
) -> None:
    """NOSPACE: etcd takes no more writes, but renews leases and is read."""
    with (
        Cluster("--quota-backend-bytes", "200000") as cluster,
        two(cluster, engines) as (first, second),
    ):
        wait_until(lambda: not cluster.has_room())
        engines[0].add("late", address="10.1.0.2")
        wait_until(lambda: "NOSPACE" in first.log())
        assert has(first, "late", "10.1.0.2")
        assert has(second, "web", "10.1.0.1")


def test_stopped_etcd_is_noticed_and_nothing_is_withdrawn(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """SIGSTOP: connections stay open, and nothing comes; as a machine that swaps."""
    a, _ = engines
    with two(cluster, engines) as (first, second):
        cluster.stop()
        wait_until(lambda: second.metric("fleet_connected") == 0)
        wait_until(lambda: first.metric("fleet_connected") == 0)
        a.add("late", address="10.1.0.2")
        wait_until(lambda: has(first, "late", "10.1.0.2"))
        assert has(second, "web", "10.1.0.1")
        cluster.go_on()
        wait_until(lambda: has(second, "late", "10.1.0.2"))
        assert has(second, "web", "10.1.0.1")
        assert second.log().count("retrying") == 1


def test_server_that_was_stopped_loses_its_names_and_gets_them_back(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """SIGSTOP beyond its lease, as a machine that was suspended."""
    with two(cluster, engines) as (first, second):
        first.send_signal(signal.SIGSTOP)
        wait_until(lambda: second.rcode("web.docker") == "NXDOMAIN")
        first.send_signal(signal.SIGCONT)
        wait_until(lambda: has(second, "web", "10.1.0.1"))
        wait_until(lambda: 'fleet_hosts{state="alive"} 1.0' in second.get("/metrics"))


def test_wrong_password_is_a_clear_line_and_the_right_one_heals_it(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    a, _ = engines
    user = tmp_path / "user"
    user.write_text("dns:wrong\n")
    with Cluster() as cluster:
        cluster.enable_users("dns", "READWRITE")
        options = of_fleet(cluster, "a", "--fleet-tls", str(tmp_path))
        with serving(*options, docker=a.url, ready=False) as first:
            wait_until(lambda: "authentication failed" in first.log())
            assert first.metric("fleet_connected") == 0
            user.write_text("dns:secret\n")
            wait_until(lambda: first.metric("fleet_connected") == 1)
            a.add("web", address="10.1.0.1")
            wait_until(lambda: has(first, "web.a", "10.1.0.1"))
            wait_until(lambda: count_containers(cluster, "secret") == 1)


def test_password_is_changed_while_a_fleet_goes_on(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """That makes the tokens of the user invalid, as their age does."""
    a, _ = engines
    user = tmp_path / "user"
    user.write_text("dns:secret\n")
    with Cluster() as cluster:
        cluster.enable_users("dns", "READWRITE")
        options = of_fleet(cluster, "a", "--fleet-tls", str(tmp_path))
        with serving(*options, docker=a.url) as first:
            a.add("web1", address="10.1.0.1")
            wait_until(lambda: count_containers(cluster, "secret") == 1)
            user.write_text("dns:other\n")
            token = cluster.token("root", "secret")
            cluster.call("/v3/auth/user/changepw", token, name="dns", password="other")
            a.add("web2", address="10.1.0.2")
            wait_until(lambda: count_containers(cluster, "other") == 2)
            assert "retrying" not in first.log()
            assert first.metric("fleet_connected") == 1


def count_containers(cluster: Cluster, password: str) -> int:
    """How many containers of the first host the user dns finds."""
    return sum("/a/c/" in key for key in cluster.listed(PREFIX, cluster.token("dns", password)))


def test_fleet_over_tls_with_client_certificates(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    a, b = engines
    tls, strangers = tmp_path / "tls", tmp_path / "strangers"
    for folder in (tls, strangers):
        folder.mkdir()
        make_certificates(folder)
    a.add("web", address="10.1.0.1")
    with (
        Cluster(tls=tls) as cluster,
        serving(*of_fleet(cluster, "a", "--fleet-tls", str(tls)), docker=a.url) as first,
        serving(
            *of_fleet(cluster, "b", "--fleet-tls", str(strangers)), docker=b.url, ready=False
        ) as second,
    ):
        wait_until(lambda: first.metric("fleet_connected") == 1)
        wait_until(lambda: "certificate verify failed" in second.log())
        assert second.metric("fleet_connected") == 0


def test_engine_of_a_host_that_is_lost_yields_on_all_hosts(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """As one of several Engines of one server; alone, its addresses stay."""
    a, b = engines
    grace = ("--engine-grace", "1")
    a.add("web", address="10.1.0.1")
    a.add("alone", address="10.1.0.2")
    b.add("web", address="10.2.0.1")
    with (
        serving(*of_fleet(cluster, "a", *grace), docker=a.url) as first,
        serving(*of_fleet(cluster, "b", *grace), docker=b.url) as second,
    ):
        wait_until(lambda: has(second, "web", "10.1.0.1", "10.2.0.1"))
        wait_until(lambda: has(first, "web", "10.1.0.1", "10.2.0.1"))
        a.vanish()
        wait_until(lambda: has(second, "web", "10.2.0.1") and has(first, "web", "10.2.0.1"))
        assert has(second, "alone", "10.1.0.2")
        assert 'fleet_hosts{state="lost"} 1.0' in second.get("/metrics")
        a.come_back()
        wait_until(lambda: has(second, "web", "10.1.0.1", "10.2.0.1"))


def test_one_of_several_engines_of_a_host_that_is_lost_yields_on_all_hosts(
    cluster: Cluster, engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """Elsewhere its addresses counted as long as the host had one Engine left."""
    a, b = engines
    grace = ("--engine-grace", "1")
    with simulated(tmp_path, "second") as beside:
        a.add("web", address="10.1.0.1")
        beside.remove(beside.add("first"))  # whose id is that of the other Engine's first one
        beside.add("web", address="10.1.1.1")
        beside.add("alone", address="10.1.1.2")
        b.add("own", address="10.2.0.1")
        with (
            serving(*of_fleet(cluster, "a", *grace, "--docker", beside.url), docker=a.url) as first,
            serving(*of_fleet(cluster, "b", *grace), docker=b.url) as second,
        ):
            wait_until(lambda: has(second, "web", "10.1.0.1", "10.1.1.1"))
            beside.vanish()
            wait_until(lambda: has(first, "web", "10.1.0.1"))
            wait_until(lambda: has(second, "web", "10.1.0.1"))
            assert has(second, "alone", "10.1.1.2")
            assert 'fleet_hosts{state="lost"} 0.0' in second.get("/metrics")
            beside.come_back()
            wait_until(lambda: has(second, "web", "10.1.0.1", "10.1.1.1"))


def test_what_is_shown_of_other_hosts_names_them(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """In `/zone`, `explain`, the changes and the log; also of a host that is gone."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    with (
        Running(*of_fleet(cluster, "a"), docker=a.url) as first,
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        wait_until(lambda: has(second, "web", "10.1.0.1"))
        container = a.add("brief", address="10.1.0.2")
        wait_until(lambda: has(second, "brief", "10.1.0.2"))
        zone = second.get_json("/zone?format=json&name=web.docker")
        [record] = [r for r in zone["records"] if r["type"] == "A"]
        assert (record["host"], len(record["id"])) == ("a", 12)
        states = {host["name"]: host["state"] for host in zone["fleet"]["hosts"]}
        assert states == {"a": "alive", "b": "own"}
        assert "fleet: connected" in second.get("/zone")
        assert "on host a" in second.get("/explain?name=web.docker&type=A")
        a.remove(container)
        wait_until(lambda: second.rcode("brief.docker") == "NXDOMAIN")
        assert "it was on host a" in second.get("/explain?name=brief.docker&type=A")
        changes = second.get_json("/changes")["changes"]
        assert {c["host"] for c in changes if c["container"] in ("web", "brief")} == {"a"}
        assert all("on host a" in c["text"] for c in changes if c["container"] == "brief")
        first.kill()
        wait_until(lambda: second.rcode("web.docker") == "NXDOMAIN")
        explained = second.get("/explain?name=web.docker&type=A")
        assert "it was on host a, which the fleet has lost since" in explained


def test_second_server_of_a_name_reads_the_first_and_takes_over_after_it(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """It says so and does not write; what the first one has is answered all the same."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    b.add("other", address="10.2.0.1")
    with Running(*of_fleet(cluster, "a"), docker=a.url) as first:
        wait_until(lambda: any("/a/c/" in key for key in cluster.listed()))
        with serving(*of_fleet(cluster, "a"), docker=b.url) as twin:
            wait_until(lambda: "already has the name a" in twin.log())
            wait_until(lambda: has(twin, "web", "10.1.0.1"))
            assert has(twin, "other", "10.2.0.1")
            assert sum("/a/c/" in key for key in cluster.listed()) == 1
            first.kill()
            wait_until(lambda: "the name a is ours now" in twin.log())
            wait_until(lambda: twin.rcode("web.docker") == "NXDOMAIN")
            assert sum("/a/c/" in key for key in cluster.listed()) == 1


def test_server_whose_name_was_taken_over_in_its_silence_does_not_write_any_more(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """It was stopped, and another one took it for dead: no two write one key."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    b.add("other", address="10.2.0.1")
    with serving(*of_fleet(cluster, "a"), docker=a.url) as first:
        wait_until(lambda: any("/a/c/" in key for key in cluster.listed()))
        first.send_signal(signal.SIGSTOP)
        with serving(*of_fleet(cluster, "a"), docker=b.url) as twin:
            wait_until(lambda: has(twin, "other.a", "10.2.0.1"))
            wait_until(lambda: twin.metric("fleet_connected") == 1)
            first.send_signal(signal.SIGCONT)
            wait_until(lambda: "already has the name a" in first.log())
            wait_until(lambda: has(first, "other", "10.2.0.1"))
            assert has(first, "web", "10.1.0.1")
            assert "already has the name a" not in twin.log()
            assert sum("/a/c/" in key for key in cluster.listed()) == 1


def test_key_is_set_again_only_while_it_goes_with_the_lease_of_before(cluster: Cluster) -> None:
    """A request under way while its server was suspended may come after another took over."""
    key = f"{PREFIX}a/host"

    async def take_over() -> list[int]:
        etcd = Etcd([cluster.url], None)
        ours, theirs = await etcd.grant(30), await etcd.grant(30)
        await etcd.create(key, "first", ours)
        before = await etcd.put_again(key, "again", ours)
        found = await etcd.get(key)
        assert found is not None
        assert (found.value, found.revision) == ("again", before)
        await etcd.replace(key, "theirs", theirs, found.revision)
        late = await etcd.put_again(key, "late", ours)
        assert cluster.value(key) == "theirs"
        await etcd.delete(key)
        deleted = await etcd.put_again(key, "late", ours)
        await etcd.close()
        return [before, late, deleted]

    before, late, deleted = asyncio.run(take_over())
    assert before > 0
    assert (late, deleted, cluster.value(key)) == (0, 0, "")


def test_own_replicas_come_first_and_shared_subnets_are_published_by_their_host(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """Both Engines have one bridge with one subnet, as Docker's own ones everywhere."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    b.add("web", address="10.2.0.1")
    a.add("inner", at=SHARED.format(5))
    left_out = Publication(
        "1" * 64,
        "lonely",
        claims=(Claim("lonely", 0, "container name", ""),),
        addresses=(PublishedAddress(SHARED.format(6), "frontend", "f"),),
    )
    cluster.put(f"{PREFIX}c/host", json.dumps(Host("c", (), (SHARED.format("0/24"),)).document()))
    cluster.put(f"{PREFIX}c/c/{left_out.id}", json.dumps(document_of(left_out, None)))
    with (
        serving(*of_fleet(cluster, "a"), docker=a.url) as first,
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        wait_until(lambda: has(second, "web", "10.1.0.1", "10.2.0.1"))
        wait_until(lambda: has(first, "web", "10.1.0.1", "10.2.0.1"))
        for server, own in ((first, "10.1.0.1"), (second, "10.2.0.1")):
            for _ in range(4):
                assert str(server.ask("web.docker").rr[0].rdata) == own
        assert has(first, "inner", SHARED.format(5))
        wait_until(lambda: has(second, "inner", "192.0.2.1"))
        response = second.ask("_80._tcp.inner.docker", "SRV")
        assert [str(rr.rdata) for rr in response.rr] == ["0 0 18080 inner.docker."]
        wait_until(lambda: second.rcode("lonely.docker") == "NXDOMAIN")
        zone = second.get_json("/zone?format=json")
        [skipped] = [s for s in zone["skipped"] if s["container"] == "lonely"]
        assert "its subnet is another host's, too" in skipped["reason"]
        assert "another host's" in second.get("/explain?name=lonely.docker")
        for server, name in ((first, "web.b"), (second, "web.a")):
            wanted = "10.2.0.1" if name == "web.b" else "10.1.0.1"
            assert has(server, name, wanted)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fleet", "http://etcd:2379"),
        ("fleet", "etcd://user:secret@etcd"),
        ("fleet", "etcd://etcd:99999"),
        ("fleet", "etcd://etcd/path"),
        ("fleet-host", "a.b"),
        ("fleet-lease", "1"),
        ("fleet-lease", "61"),
        ("fleet-tls", "/nowhere"),
        ("fleet-publish", "all"),
    ],
)
def test_wrong_values_stop_the_start_with_one_line(option: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "containerdns", "serve", f"--{option}", value],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"--{option}" in done.stderr
    assert value in done.stderr

"""What operators, proxies and a full disk do to a fleet: a real etcd, simulated Engines."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from containerdns.core.zone.policy import Publication
from containerdns.fleet.etcd import Etcd
from containerdns.fleet.member import Member, OwnHost, Rules
from containerdns.fleet.sink import FleetSink
from tests.engine.running import Running, serving
from tests.fleet.cluster import PREFIX, Cluster
from tests.fleet.running import Engine, has, of_fleet, simulated
from tests.timing import wait_until

pytestmark = pytest.mark.engine

SHORT = ("--fleet-lease", "2")


@pytest.fixture
def fleet(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> Iterator[tuple[Cluster, Running, Running]]:
    """Two servers that know of each other's containers `web` and `own`."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    b.add("own", address="10.2.0.1")
    with (
        serving(*of_fleet(cluster, "a"), docker=a.url) as first,
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        wait_until(lambda: has(second, "web", "10.1.0.1") and has(first, "own", "10.2.0.1"))
        yield cluster, first, second


def keys_of(cluster: Cluster, host: str) -> list[str]:
    """The keys of a host."""
    return [key for key in cluster.listed() if key.startswith(f"{PREFIX}{host}/")]


def test_keys_that_an_operator_deletes_or_edits_are_written_again(
    fleet: tuple[Cluster, Running, Running],
) -> None:
    """`etcdctl del`, and a value typed by hand, which has no lease besides."""
    cluster, first, second = fleet
    wanted = keys_of(cluster, "a")
    [key] = [key for key in wanted if "/c/" in key]
    for gone in wanted:
        cluster.call("/v3/kv/deleterange", key=gone)
        wait_until(lambda: keys_of(cluster, "a") == wanted)
        wait_until(lambda: has(second, "web", "10.1.0.1"))
    for text in ("garbage", "{}", cluster.value(key).replace("10.1.0.1", "10.66.0.1")):
        cluster.put(key, text)
        wait_until(lambda: has(second, "web", "10.1.0.1") and cluster.lease(key) != 0)
        assert "10.66.0.1" not in cluster.value(key)
    cluster.put(f"{PREFIX}a/c/{'9' * 64}", "{}")  # of no container there is
    wait_until(lambda: keys_of(cluster, "a") == wanted)
    assert first.metric("fleet_connected") == 1


def test_whole_prefix_that_an_operator_deletes_is_written_again(
    fleet: tuple[Cluster, Running, Running],
) -> None:
    """`etcdctl del --prefix`: all hosts, and the serial."""
    cluster, first, second = fleet
    wanted = cluster.listed()
    cluster.call("/v3/kv/deleterange", key=PREFIX, range_end=PREFIX[:-1] + "0")
    wait_until(lambda: cluster.listed() == wanted)
    wait_until(lambda: has(second, "web", "10.1.0.1") and has(first, "own", "10.2.0.1"))


def test_lease_that_an_operator_revokes_is_replaced_at_once(
    fleet: tuple[Cluster, Running, Running],
) -> None:
    """`etcdctl lease revoke` deletes all keys of the host; a renewal is seconds away."""
    cluster, first, second = fleet
    [key] = [key for key in keys_of(cluster, "a") if "/c/" in key]
    lease = cluster.lease(key)
    cluster.call("/v3/lease/revoke", ID=lease)
    wait_until(lambda: key in cluster.listed() and cluster.lease(key) not in (0, lease))
    wait_until(lambda: has(second, "web", "10.1.0.1"))
    assert has(first, "web", "10.1.0.1")


def see_renewals(cluster: Cluster, lease: int, count: int) -> None:
    """Wait until a lease was renewed some times."""
    left = [cluster.time_to_live(lease)]

    def has_seen() -> bool:
        left.append(cluster.time_to_live(lease))
        return sum(later > before for before, later in pairwise(left)) >= count

    wait_until(has_seen)


def test_full_disk_withdraws_nothing_and_what_was_missed_comes_after_it(
    engines: tuple[Engine, Engine],
) -> None:
    """NOSPACE: leases are still renewed, so names stay beyond them; a newcomer reads."""
    a, b = engines
    with Cluster("--quota-backend-bytes", "200000") as cluster:
        a.add("web", address="10.1.0.1")
        with (
            serving(*of_fleet(cluster, "a"), docker=a.url) as first,
            serving(*of_fleet(cluster, "b"), docker=b.url) as second,
        ):
            wait_until(lambda: has(second, "web", "10.1.0.1"))
            wait_until(lambda: not cluster.has_room())
            a.add("late", address="10.1.0.2")
            wait_until(lambda: "NOSPACE" in first.log())
            [key] = [key for key in keys_of(cluster, "a") if "/c/" in key]
            see_renewals(cluster, cluster.lease(key), 4)  # longer than a lease
            assert has(second, "web", "10.1.0.1")
            with serving(*of_fleet(cluster, "c"), docker=b.url) as newcomer:
                wait_until(lambda: has(newcomer, "web", "10.1.0.1"))
                assert "NOSPACE" in newcomer.log()
            assert first.log().count("NOSPACE") == 1
            cluster.make_room()
            wait_until(lambda: has(second, "late", "10.1.0.2"))
            assert has(second, "web", "10.1.0.1")


def test_user_who_may_only_read_reads(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    """A clear line, and the names of the others; its own are not known to these."""
    a, b = engines
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "user").write_text("reader:secret\n")
    a.add("web", address="10.1.0.1")
    b.add("own", address="10.2.0.1")
    with Cluster() as cluster, serving(*of_fleet(cluster, "a"), docker=a.url) as first:
        wait_until(lambda: first.metric("fleet_connected") == 1)
        cluster.enable_users("reader", "READ")
        options = of_fleet(cluster, "b", "--fleet-tls", str(folder))
        with serving(*options, docker=b.url) as second:
            wait_until(lambda: has(second, "web", "10.1.0.1"))
            assert second.log().count("permission denied") == 1
            assert second.metric("fleet_connected") == 1
            assert has(second, "own", "10.2.0.1")


async def test_document_that_changes_while_it_is_written_is_written_again() -> None:
    """A container that started again while etcd took the news of its death was lost."""
    alive = Publication("1" * 64, "web")
    written: list[str | None] = []

    class Writing(Etcd):
        async def put_again(self, key: str, value: str, lease: int) -> int:
            return 1

        async def write(self, values: Mapping[str, str | None], lease: int) -> int:
            written.extend(values.values())
            if len(written) == 1:
                member.own_changed([(alive.id, alive, None)])
            return len(written) + 1

    rules = Rules("a", 10, "/containerdns/", "auto", ())
    member = Member(Writing(["etcd://127.0.0.1:1"], None), rules, cast(FleetSink, None), OwnHost)
    member.own_changed([(alive.id, replace(alive, is_running=False), None)])
    await member._write(1)
    assert [json.loads(text or "")["running"] for text in written] == [False, True]


async def test_lease_is_renewed_while_there_is_always_something_to_write() -> None:
    """A busy host with an etcd far away was withdrawn everywhere in the middle of its work."""
    busy = Publication("1" * 64, "web")
    renewed = asyncio.Event()
    written = 0

    class Writing(Etcd):
        async def renew(self, lease: int) -> bool:
            renewed.set()
            return True

        async def write(self, values: Mapping[str, str | None], lease: int) -> int:
            nonlocal written
            written += 1
            member.own_changed([(busy.id, replace(busy, ttl=written), None)])
            await asyncio.sleep(0.001)
            return written

    rules = Rules("a", 2, "/containerdns/", "auto", ())
    member = Member(Writing(["etcd://127.0.0.1:1"], None), rules, cast(FleetSink, None), OwnHost)
    member._may_differ = False
    member._renew_later()
    member.own_changed([(busy.id, busy, None)])
    keeping = asyncio.create_task(member._keep(1))
    async with asyncio.timeout(30 * rules.lease):
        await renewed.wait()
    keeping.cancel()


class Proxy:
    """Before an etcd: it passes everything on, until it holds back what comes from there.

    Attributes:
        url: What `--fleet` takes.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._silent = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"etcd://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def hold_watches(self) -> None:
        """Send nothing more of a watch from now on, and go on with everything else."""
        self._silent.set()

    def close(self) -> None:
        """End all connections."""
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        port = int(self._cluster.url.rpartition(":")[2])
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", port))
                self._open += [client, server]
                watches = threading.Event()
                for source, target, is_request in ((client, server, True), (server, client, False)):
                    passing = threading.Thread(
                        target=self._pass, args=(source, target, watches, is_request), daemon=True
                    )
                    self._threads.append(passing)
                    passing.start()

    def _pass(
        self,
        source: socket.socket,
        target: socket.socket,
        watches: threading.Event,
        is_request: bool,
    ) -> None:
        with suppress(OSError):
            while octets := source.recv(65536):
                if is_request and octets.startswith(b"POST /v3/watch"):
                    watches.set()
                if is_request or not (watches.is_set() and self._silent.is_set()):
                    target.sendall(octets)
            target.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("is_followed", [True, False], ids=["later", "from the start"])
def test_watch_that_a_proxy_holds_back_is_noticed(
    cluster: Cluster, engines: tuple[Engine, Engine], is_followed: bool
) -> None:
    """The connection stays and leases are renewed through it: only the changes do not come."""
    a, b = engines
    proxy = Proxy(cluster)
    try:
        if not is_followed:
            proxy.hold_watches()
        with (
            serving(*of_fleet(cluster, "a", *SHORT), docker=a.url),
            serving("--fleet", f"{proxy.url},{cluster.url}", *AS_B, docker=b.url) as second,
        ):
            if is_followed:
                wait_until(lambda: second.metric("fleet_connected") == 1)
                proxy.hold_watches()
            a.add("web", address="10.1.0.1")
            wait_until(lambda: has(second, "web", "10.1.0.1"))
            assert "watch" in second.log()
    finally:
        proxy.close()


AS_B = ("--fleet-host", "b", "--handover", "0", *SHORT)


def test_members_that_accept_and_say_nothing_or_are_not_there_are_passed_over(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """A proxy that hangs, then a port where nobody listens, then etcd."""
    a, _ = engines
    with socket.create_server(("127.0.0.1", 0)) as hanging, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = [f"etcd://127.0.0.1:{each.getsockname()[1]}" for each in (hanging, closed)]
        members = ",".join([*dead, cluster.url])
        with serving("--fleet", members, *AS_B, docker=a.url) as server:
            wait_until(lambda: server.metric("fleet_connected") == 1)
            a.add("web", address="10.1.0.1")
            wait_until(lambda: len(keys_of(cluster, "b")) == 2)


def test_documents_that_are_too_much_for_one_request_of_etcd_are_written_apart(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """etcd takes 1.5 MiB; ten times 240 kB came as one request, and again and again."""
    a, b = engines
    texts = {f"txt.t{n}": "x" * 4000 for n in range(60)}
    for number in range(10):
        a.add(f"large{number}", address=f"10.1.1.{number + 1}", **texts)
    with (
        serving(*of_fleet(cluster, "a"), docker=a.url) as first,
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        for number in range(10):
            address = f"10.1.1.{number + 1}"
            wait_until(lambda n=number, text=address: has(second, f"large{n}", text))  # type: ignore[misc]
        assert "too large" not in first.log()


def test_container_that_is_too_large_for_etcd_is_left_out_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A letter beyond ASCII is three times as long in a document as in that of the Engine."""
    rules = Rules("a", 10, "/containerdns/", "auto", ())
    member = Member(Etcd(["etcd://127.0.0.1:1"], None), rules, cast(FleetSink, None), OwnHost)
    texts = {f"t{n}": (chr(233) * 2600,) for n in range(100)}
    for is_healthy in (True, False):
        huge = Publication("1" * 64, "huge", texts=texts, is_healthy=is_healthy)
        member.own_changed([(huge.id, huge, None)])
    [record] = caplog.records
    assert "container huge: its texts and names are too large" in record.getMessage()


def test_two_fleets_share_one_etcd_and_a_prefix_needs_no_slashes(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    a, b = engines
    a.add("web", address="10.1.0.1")
    with (
        serving(*of_fleet(cluster, "a", "--fleet-prefix", "one"), docker=a.url),
        serving(*of_fleet(cluster, "b", "--fleet-prefix", "/one/"), docker=b.url) as same,
        serving(*of_fleet(cluster, "a", "--fleet-prefix", "/on"), docker=b.url) as other,
    ):
        wait_until(lambda: has(same, "web", "10.1.0.1"))
        wait_until(lambda: other.metric("fleet_connected") == 1)
        assert has(other, "web")
        assert "already has the name" not in other.log()


def test_server_without_its_docker_reads_the_fleet(cluster: Cluster, tmp_path: Path) -> None:
    """It answers for the others, and its own are unknown."""
    with simulated(tmp_path, "a") as a:
        a.add("web", address="10.1.0.1")
        nowhere = f"unix://{tmp_path}/nowhere.sock"
        with (
            serving(*of_fleet(cluster, "a"), docker=a.url),
            Running(*of_fleet(cluster, "b"), docker=nowhere, ready=False) as second,
        ):
            wait_until(lambda: has(second, "web", "10.1.0.1"))
            hosts = json.loads(second.get("/zone?format=json"))["fleet"]["hosts"]
            assert {"name": "a", "state": "alive"} in hosts

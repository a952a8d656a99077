"""Every server of a fleet gives secondaries the same zone under the same serial."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.engine.running import Running, free_port, serving
from tests.fleet.cluster import PREFIX, Cluster
from tests.fleet.running import Engine, of_fleet
from tests.server import secondaries
from tests.timing import wait_until

pytestmark = pytest.mark.engine


def transferred(server: Running, zone: str = "docker", serial: int | None = None) -> list[str]:
    """The records of a transfer, in their order; whole, or since a serial."""
    kind = "AXFR" if serial is None else f"IXFR={serial}"
    command = ["dig", "@127.0.0.1", "-p", str(server.port), zone, kind, "+noall", "+answer"]
    done = subprocess.run([*command, "+onesoa"], capture_output=True, text=True, check=True)
    return [" ".join(line.split()) for line in done.stdout.splitlines() if not line.startswith(";")]


def serial_of(server: Running, zone: str = "docker") -> int:
    """The serial in the SOA of a zone."""
    response = server.ask(zone, "SOA")
    return int(response.rr[0].rdata.times[0])


def has(server: Running, *names: str) -> bool:
    """Return whether a server answers for all of some names."""
    return all(server.addresses(f"{name}.docker") for name in names)


def settle(*servers: Running) -> int:
    """Wait until all servers have one serial, and give it."""
    wait_until(lambda: len({serial_of(server) for server in servers}) == 1)
    return serial_of(servers[0])


def test_reload_takes_a_serial_only_if_it_changes_the_zone(
    cluster: Cluster, engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """The host's key is written for one; else all secondaries would hear of another log level."""

    def written() -> int:
        found = cluster.call("/v3/kv/range", key=f"{PREFIX}a/host")
        return int(found["kvs"][0]["mod_revision"])

    def reload(settings: str) -> None:
        count = server.log().count("reload: done")
        config.write_text(settings)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: server.log().count("reload: done") > count)

    config = tmp_path / "config.toml"
    config.write_text('log-level = "debug"')
    engine, _ = engines
    engine.add("web", address="10.1.0.1")
    options = of_fleet(cluster, "a", "--config", str(config))
    with serving(*options, docker=engine.url) as server:
        wait_until(lambda: server.metric("fleet_connected") == 1)
        before = written()
        reload('log-level = "info"')
        engine.add("late", address="10.1.0.2")  # written after the host
        wait_until(lambda: sum("/a/c/" in key for key in cluster.listed()) == 2)
        assert written() == before
        reload("negative-ttl = 2")
        wait_until(lambda: written() > before)


def test_servers_give_one_zone_with_one_serial_and_its_differences(
    cluster: Cluster, engines: tuple[Engine, Engine]
) -> None:
    """Also the one that has the containers, and also by IXFR to a client of the other one."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    with (
        serving(*of_fleet(cluster, "a"), docker=a.url) as first,
        serving(*of_fleet(cluster, "b"), docker=b.url) as second,
    ):
        wait_until(lambda: has(second, "web.a"))
        before = settle(first, second)
        whole = transferred(first)
        assert sorted(transferred(second)) == sorted(whole)
        assert any(line.startswith("web.a.docker. 5 IN A") for line in whole)
        assert {line.split()[4] for line in whole if line.startswith("ns.docker.")} == {
            "192.0.2.1",
            "192.0.2.2",
        }
        b.add("late", address="10.2.0.1")
        wait_until(lambda: has(first, "late"))
        after = settle(first, second)
        assert after > before
        assert sorted(transferred(second)) == sorted(transferred(first))
        for server in (first, second):
            steps = transferred(server, serial=before)
            assert steps[1].split()[6] == str(before), "the zone came whole"
            assert any(step.startswith("late.docker.") for step in steps)
            assert not any(step.startswith("web.docker.") for step in steps)
        assert sorted(transferred(second, "catalog.containerdns.invalid")) == sorted(
            transferred(first, "catalog.containerdns.invalid")
        )


def test_serial_never_goes_back(cluster: Cluster, engines: tuple[Engine, Engine]) -> None:
    """Over restarts, and when etcd lost all that it had."""
    a, b = engines
    a.add("web", address="10.1.0.1")
    with serving(*of_fleet(cluster, "b"), docker=b.url) as second:
        with serving(*of_fleet(cluster, "a"), docker=a.url) as first:
            wait_until(lambda: has(second, "web.a"))
            before = settle(first, second)
        wait_until(lambda: serial_of(second) > before)  # a restart is a change of its own
        with serving(*of_fleet(cluster, "a"), docker=a.url) as first:
            wait_until(lambda: has(first, "web.a") and serial_of(first) > before)
            before = settle(first, second)
            cluster.kill()
            cluster.forget()
            a.add("meanwhile", address="10.1.0.2")
            wait_until(lambda: has(first, "meanwhile"))
            assert serial_of(first) == serial_of(second) == before
            cluster.start()
            wait_until(lambda: has(second, "web", "meanwhile"))
            wait_until(lambda: serial_of(first) > before)
            assert settle(first, second) > before
            assert sorted(transferred(second)) == sorted(transferred(first))


@pytest.mark.parametrize("program", sorted(secondaries.OF_PRIMARIES))
def test_secondary_goes_on_from_the_next_primary_by_differences(
    cluster: Cluster, engines: tuple[Engine, Engine], tmp_path: Path, program: str
) -> None:
    """The first one is killed; its own containers leave the secondary with its lease."""
    a, b = engines
    port = free_port()
    notify = ("--notify", f"127.0.0.1:{port}")
    a.add("web", address="10.1.0.1")
    with (
        serving(*of_fleet(cluster, "b", *notify), docker=b.url) as second,
        Running(*of_fleet(cluster, "a", *notify), docker=a.url) as first,
        secondaries.following(
            secondaries.OF_PRIMARIES[program], tmp_path, port, [first.port, second.port]
        ),
    ):
        wait_until(lambda: has(second, "web.a"))
        wait_until(lambda: answer(port, "web.a.docker") == "10.1.0.1")
        before = len(second.log())
        first.kill()
        b.add("late", address="10.2.0.1")
        wait_until(lambda: answer(port, "late.docker") == "10.2.0.1")
        wait_until(lambda: answer(port, "web.docker") == "")
        wait_until(lambda: answer(port, "docker", "SOA").split()[2] == str(serial_of(second)))
        log = second.log()[before:]
        sent = [line for line in log.splitlines() if "IXFR of docker. " in line]
        assert any("differences" in line for line in sent), log
        assert not any("the whole zone" in line for line in sent), sent
        assert "AXFR of docker. " not in log


def answer(port: int, name: str, qtype: str = "A") -> str:
    """The answer of a server of loopback, by dig; "" for none."""
    command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+time=1", "+tries=1", name, qtype]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

"""What an operator does to a running server, and what happens to it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, free_port, serving
from tests.server.test_transfer import knot, nsd

pytestmark = pytest.mark.engine

SEARCH = ("--search-domain", "corp.example")


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    """An upstream that knows one host of the company, and no other."""
    recording = RecordingUpstream({"printer.corp.example": "192.0.2.9"})
    yield recording
    recording.close()


def forwarding(upstream: RecordingUpstream) -> tuple[str, ...]:
    return (*SEARCH, "--upstream", f"127.0.0.1:{upstream.port}")


def test_hangup_reads_the_configuration_again_without_dropping_a_query(
    engine: Dockerd, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    config = tmp_path / "containerdns.toml"
    config.write_text("ttl = 5\n")
    engine.run("web")
    options = ("--config", str(config), *forwarding(upstream))
    with serving(*options, docker=engine.socket_url) as server:
        assert server.ask("web").rr[0].ttl == 5
        config.write_text('ttl = 7\ndomain = ["lab"]\n')
        server.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 2.0
        while server.ask("web").rr[0].ttl != 7:  # a lost query is None, and fails here
            assert time.monotonic() < deadline
        assert server.addresses("web.lab") == [engine.address("web")]
        config.write_text("ttl = 'soon'\n")
        server.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert server.ask("web").rr[0].ttl == 7
        assert "'soon'" in server.log()


def test_state_outlives_the_process(
    engine: Dockerd, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """Names of containers that went before or during a restart are not forwarded after it."""
    state = tmp_path / "state.json"
    options = ("--state", str(state), *forwarding(upstream))
    engine.run("early")
    engine.run("late")
    with serving(*options, docker=engine.socket_url) as server:
        engine.remove("early")
        time.sleep(0.1)
        serial = server.metric("zone_serial")
    engine.remove("late")
    with serving(*options, docker=engine.socket_url) as server:
        assert server.metric("zone_serial") > serial
        for name in ("early", "late"):
            assert server.rcode(f"{name}.corp.example") == "NXDOMAIN"
        assert upstream.names() == []
    state.write_text("{")
    with serving(*options, docker=engine.socket_url) as server:
        assert server.log().count("cannot be read") == 1
        assert server.rcode("late.corp.example") == "NXDOMAIN"  # from the upstream this time
        assert upstream.names() == ["late.corp.example."]


def test_hosts_file_is_read_again_when_it_changes(
    engine: Dockerd, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 nas\nnonsense line\n")
    options = ("--hosts", str(hosts), *forwarding(upstream))
    with serving(*options, docker=engine.socket_url) as server:
        assert server.addresses("nas.docker") == ["192.0.2.1"]
        hosts.write_text("192.0.2.2 nas\n192.0.2.3 files.lan.example\n")
        server.until(["192.0.2.2"], "nas", longest=3.0)
        assert server.addresses("files.lan.example") == ["192.0.2.3"]
        assert "line 2" in server.log()


def test_each_engine_counts_for_itself(engine: Dockerd, upstream: RecordingUpstream) -> None:
    """One Engine is there, one is not: what is known is answered, nothing else is denied."""
    engine.run("web")
    missing = f"unix://{engine.root}/missing.sock"
    options = ("--docker", missing, *forwarding(upstream))
    with serving(*options, docker=engine.socket_url, ready=False) as server:
        address = [engine.address("web")]
        server.until(address, "web.docker")
        assert server.rcode("other.docker") == "SERVFAIL"
        assert server.rcode("printer.corp.example") == "SERVFAIL"
        with pytest.raises(OSError, match="503"):
            server.get("/readyz")
        deadline = time.monotonic() + 12
        while server.rcode("printer.corp.example") == "SERVFAIL":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert server.addresses("printer.corp.example") == ["192.0.2.9"]
        assert server.rcode("unknown.corp.example") == "SERVFAIL"  # not the upstream's NXDOMAIN
        assert server.addresses("web.corp.example") == address
        assert server.get("/readyz")


def test_workers_hear_of_every_change_and_are_replaced(
    engine: Dockerd, upstream: RecordingUpstream
) -> None:
    engine.run("web")
    options = ("--workers", "2", *forwarding(upstream))
    with serving(*options, docker=engine.socket_url) as server:
        workers = _children(server.pid)
        assert len(workers) == 1
        time.sleep(1.0)  # until it listens
        _ask_from_many_ports(server, "web.docker", [engine.address("web")])
        engine.remove("web")
        engine.run("filler")
        engine.run("web")
        time.sleep(0.1)
        _ask_from_many_ports(server, "web.docker", [engine.address("web")])
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + 5
        while not (set(_children(server.pid)) - set(workers)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.5)
        _ask_from_many_ports(server, "web.docker", [engine.address("web")])
        asked = 3 * 24
        deadline = time.monotonic() + 2
        while server.metric("dns_requests_total", proto="udp") < asked * 0.6:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(server.get_json("/queries")["queries"]) > 24
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_second_server_on_the_same_port_is_told_who_has_it(
    engine: Dockerd, upstream: RecordingUpstream
) -> None:
    with (
        serving(*forwarding(upstream), docker=engine.socket_url) as server,
        pytest.raises(AssertionError, match="cannot listen"),
    ):
        Running(
            *("--listen", f"127.0.0.1:{server.port}", *forwarding(upstream)),
            docker=engine.socket_url,
        )


@pytest.mark.parametrize("program", ["nsd", "knotd"])
def test_secondary_follows_within_two_seconds(
    engine: Dockerd, upstream: RecordingUpstream, tmp_path: Path, program: str
) -> None:
    """AXFR at the start, then NOTIFY and IXFR: this is also how the zone leaves the machine."""
    port = free_port()
    options = (*forwarding(upstream), "--notify", f"127.0.0.1:{port}")
    engine.run("first")
    with serving(*options, docker=engine.socket_url) as server:
        configure = nsd if program == "nsd" else knot
        command = configure(tmp_path, port, server.port, has_key=False)
        with (tmp_path / "log").open("w") as log:
            secondary = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(port, "first.docker", engine.address("first"), longest=10.0)
            started = time.monotonic()
            second = engine.run("second")
            _wait_for(port, "second.docker", engine.address(second), longest=5.0)
            lag = time.monotonic() - started
            engine.remove("first")
            started = time.monotonic()
            _wait_for(port, "first.docker", "", longest=5.0)
            print(f"{program}: {lag:.3f} s, {time.monotonic() - started:.3f} s")
            assert lag < 2.5  # with the start of the container
        finally:
            secondary.terminate()
            secondary.wait(10)


def _wait_for(port: int, name: str, address: str, longest: float) -> None:
    deadline = time.monotonic() + longest
    while True:
        command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+time=1", "+tries=1", name]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if found == address:
            return
        assert time.monotonic() < deadline, f"{name}: {found!r}, not {address!r}"


def _ask_from_many_ports(server: Running, name: str, wanted: list[str]) -> None:
    """Ask from so many ports that every process gets some of the queries."""
    for _ in range(24):
        client = type(server.client)(server.port)
        response = client.ask(name)
        client.close()
        assert response is not None
        assert [str(rr.rdata) for rr in response.rr] == wanted


def _children(pid: int) -> list[int]:
    """The processes that a process started; its threads come and go while we look."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (task / "children").read_text().split())
    return found


def test_zone_as_json_has_what_the_contract_says(
    engine: Dockerd, upstream: RecordingUpstream
) -> None:
    container = engine.run("web")
    engine.run("hidden", labels={"containerdns.enable": "false"})
    with serving(*forwarding(upstream), docker=engine.socket_url) as server:
        document = server.get_json("/zone?format=json")
        record = next(r for r in document["records"] if r["name"] == "web.docker.")
        wanted = {
            "type": "A",
            "ttl": 5,
            "data": engine.address(container),
            "container": "web",
            "id": container[:12],
            "network": "bridge",
            "rule": "container name",
        }
        assert wanted.items() <= record.items(), json.dumps(record)
        [skipped] = document["skipped"]
        assert skipped["container"] == "hidden"
        assert skipped["reason"] == "label containerdns.enable=false"

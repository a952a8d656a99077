"""What an operator does to a running server, and what happens to it."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import Client, RecordingUpstream, Running, free_port, serving
from tests.server import secondaries
from tests.timing import MAX_WAIT, assert_within, best_of_three, wait_until

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
        wait_until(lambda: server.ask("web").rr[0].ttl == 7)  # a lost query is None, and fails
        assert server.addresses("web.lab") == [engine.address("web")]
        config.write_text("ttl = 'soon'\n")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: "'soon'" in server.log())
        assert server.ask("web").rr[0].ttl == 7


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
        server.until([], "early")
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
        server.until(["192.0.2.2"], "nas")
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
        wait_until(lambda: server.rcode("printer.corp.example") != "SERVFAIL")
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
        wait_until(lambda: len(_children(server.pid)) == 1)
        workers = _children(server.pid)
        wait_until(lambda: _listeners(server.port) == 2)
        asked = _ask_until_all_say(server, "web.docker", [engine.address("web")])
        engine.remove("web")
        engine.run("filler")
        engine.run("web")
        asked += _ask_until_all_say(server, "web.docker", [engine.address("web")])
        wait_until(lambda: server.metric("dns_requests_total", proto="udp") >= asked)
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: set(_children(server.pid)) - set(workers))
        wait_until(lambda: _listeners(server.port) == 2)
        asked += _ask_until_all_say(server, "web.docker", [engine.address("web")])
        wait_until(lambda: server.metric("dns_requests_total", proto="udp") >= asked)
        wait_until(lambda: len(server.get_json("/queries")["queries"]) > 24)
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


@best_of_three
@pytest.mark.parametrize("program", sorted(secondaries.COMMANDS))
def test_secondary_follows_within_two_seconds(
    engine: Dockerd, upstream: RecordingUpstream, tmp_path: Path, program: str
) -> None:
    """AXFR at the start, then NOTIFY and IXFR: this is also how the zone leaves the machine."""
    port = free_port()
    options = (*forwarding(upstream), "--notify", f"127.0.0.1:{port}")
    engine.clear()
    engine.run("first")
    with serving(*options, docker=engine.socket_url) as server:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        command = secondaries.COMMANDS[program](folder, port, server.port, False)
        with (folder / "log").open("w") as log:
            secondary = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(port, "first.docker", engine.address("first"))
            address = engine.address(engine.run("second"))
            started = time.monotonic()
            _wait_for(port, "second.docker", address)
            came = time.monotonic() - started
            engine.remove("first")
            started = time.monotonic()
            _wait_for(port, "first.docker", "")
            went = time.monotonic() - started
            print(f"{program}: {came:.3f} s, {went:.3f} s")
            assert_within(max(came, went), 2.0)
        finally:
            secondary.terminate()
            secondary.wait(MAX_WAIT)


def _wait_for(port: int, name: str, address: str) -> None:
    command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+time=1", "+tries=1", name]

    def has_come() -> bool:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() == address

    wait_until(has_come)


def _ask_until_all_say(server: Running, name: str, wanted: list[str]) -> int:
    """Ask from so many ports that every process gets some of the queries; how many were answered.

    A process may hear of a change a moment after another one.
    """
    answered = in_a_row = 0
    deadline = time.monotonic() + MAX_WAIT
    while in_a_row < 24:
        client = Client(server.port)
        response = client.ask(name)
        client.close()
        assert response is not None
        answered += 1
        in_a_row = in_a_row + 1 if [str(rr.rdata) for rr in response.rr] == wanted else 0
        assert time.monotonic() < deadline
    return answered


def _listeners(port: int) -> int:
    """How many sockets have a port of UDP over IPv4."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return sum(int(line.split()[1].partition(":")[2], 16) == port for line in lines)


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
